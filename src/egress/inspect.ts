import type { HostName } from '../base/host-name.ts'
import { HelloReader } from './client-hello.ts'
import { HttpHosts } from './http-host.ts'
import { REASONS, type ReasonCode } from './reasons.ts'
import { decideHello, type Hello, type Permit } from './rules.ts'

export interface Refusal {
  readonly code: ReasonCode
  readonly say: string
  /** Of a refused HTTP request, printable. */
  readonly host: string | null
}

/** What may be sent on of the plugin's bytes, unchanged. */
export interface Inspected {
  readonly pass: readonly Buffer[]
  readonly refused: Refusal | null
}

/** Seen so far, for the record. */
export interface Seen {
  sni: string | null
  ech: boolean
  alpn: readonly string[]
  requests: number
}

/**
 * Looks at what a plugin sends over one connection, as its rule wants it: the TLS hello, the Host of plain HTTP on port 80, or nothing. It holds
 * back what is not judged yet (at most one hello or one head and the chunk that it came in) and changes no byte.
 */
export class Inspector {
  readonly #permit: Permit
  readonly #meant: HostName | null
  readonly #port: number
  readonly seen: Seen = { sni: null, ech: false, alpn: [], requests: 0 }
  #stage: 'first' | 'hello' | 'http' | 'open'
  #hello = new HelloReader()
  #http: HttpHosts | null = null
  /** Copied together: kept one by one, a hello of single bytes would take a few hundred times its size. */
  #held = Buffer.alloc(0)
  #heldBytes = 0

  /** @param meant the name that was looked up; null where a literal address was dialled, whose bytes nobody can compare with anything */
  constructor(permit: Permit, meant: HostName | null, port: number) {
    this.#permit = permit
    this.#meant = meant
    this.#port = port
    this.#stage = permit.tls === 'off' || meant === null ? 'open' : 'first'
  }

  /**
   * Must the first bytes be judged before anything is dialled? Not under `auto`, where the other side may be the one that speaks first;
   * there the name was checked, and the plugin's bytes wait for their judgement while the other side's pass.
   */
  get waits(): boolean {
    return this.#stage === 'first' && (this.#permit.tls === 'require' || this.#port === 80)
  }

  /** Are bytes held back that a client should have completed by now? */
  get pending(): boolean {
    return this.#heldBytes > 0 || (this.#http?.heldBytes ?? 0) > 0
  }

  feed(bytes: Buffer): Inspected {
    if (this.#stage === 'first' && bytes.length > 0) this.#stage = this.#permit.tls === 'auto' && this.#port === 80 && bytes[0] !== 22 ? 'http' : 'hello'
    switch (this.#stage) {
      case 'first':
      case 'open':
        return { pass: [bytes], refused: null }
      case 'hello':
        return this.#feedHello(bytes)
      case 'http':
        return this.#feedHttp(bytes)
      default:
        return this.#stage satisfies never
    }
  }

  /** The plugin has ended its side, or nothing came in time: is what is missing a fault? */
  end(why: 'end' | 'timeout'): Refusal | null {
    if (this.#stage === 'open' || (this.#stage === 'http' && !this.pending && this.seen.requests > 0)) return null
    if (this.waits && why === 'end') return this.#refusal('plugin-left')
    const http = this.#stage === 'http' || (this.#stage === 'first' && this.#permit.tls === 'auto' && this.#port === 80)
    if (http) return this.#refusal(why === 'timeout' ? 'http-timeout' : 'http-malformed')
    if (this.pending) return this.#refusal(why === 'timeout' ? 'tls-timeout' : 'tls-malformed')
    return this.#judge({ kind: 'silent' })
  }

  #feedHello(bytes: Buffer): Inspected {
    const step = this.#hello.feed(bytes)
    if (step.kind === 'more') {
      this.#hold(bytes)
      return NOTHING
    }
    if (step.kind === 'hello') Object.assign(this.seen, { sni: step.sni, ech: step.ech, alpn: step.alpn })
    if (step.kind === 'refused') this.seen.sni = step.sni
    const refused = this.#judge(step)
    const before = this.#held.subarray(0, this.#heldBytes)
    const pass = refused !== null ? [] : before.length === 0 ? [bytes] : [before, bytes]
    this.#held = Buffer.alloc(0)
    this.#heldBytes = 0
    if (refused === null) this.#stage = 'open'
    return { pass, refused }
  }

  /** At most MAX_HELLO_RAW_BYTES: beyond it the reader says so. */
  #hold(bytes: Buffer): void {
    if (this.#heldBytes + bytes.length > this.#held.length) {
      const grown = Buffer.alloc(Math.max(1024, 2 * (this.#heldBytes + bytes.length)))
      this.#held.copy(grown, 0, 0, this.#heldBytes)
      this.#held = grown
    }
    bytes.copy(this.#held, this.#heldBytes)
    this.#heldBytes += bytes.length
  }

  #feedHttp(bytes: Buffer): Inspected {
    this.#http ??= new HttpHosts(this.#meant ?? '', this.#port)
    const { pass, refused } = this.#http.feed(bytes)
    this.seen.requests = this.#http.requests
    return { pass, refused: refused === null ? null : { ...this.#refusal(refused.code), host: refused.host } }
  }

  #judge(hello: Hello): Refusal | null {
    const verdict = decideHello(this.#permit, this.#meant, hello)
    return verdict.verdict === 'allow' ? null : { code: verdict.code, say: verdict.say, host: null }
  }

  #refusal(code: ReasonCode): Refusal {
    return { code, say: `${this.#meant ?? ''}: ${REASONS[code]}`, host: null }
  }
}

const NOTHING: Inspected = { pass: [], refused: null }
