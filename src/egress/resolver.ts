import { Resolver } from 'node:dns/promises'
import type { HostName } from '../base/host-name.ts'
import type { ReasonCode } from './reasons.ts'

/** What a real name resolved to, unjudged; or why it did not. */
export type Resolved = { readonly addresses: readonly string[] } | { readonly failed: Extract<ReasonCode, 'resolve-failed' | 'resolve-timeout' | 'resolve-empty' | 'too-many-resolves'> }

export interface ResolverOptions {
  /** The host's resolvers as they are now, as resolver.setServers() takes them. */
  readonly servers: () => readonly string[]
  /** Of one name, for both families together. */
  readonly timeoutMs?: number
  /** Names being resolved at once for this run, and as many again may wait. */
  readonly concurrent?: number
  /** Monotonic milliseconds. */
  readonly now: () => number
}

const TIMEOUT_MS = 5000
const CONCURRENT = 16
/** So that a thousand connections in a second to one name are not two thousand questions; short enough to follow a moved service. */
const CACHE_MS = 5000
const CACHE_NAMES = 32
/** More addresses of one name are not tried anyway. */
const MAX_ADDRESSES = 16

interface Entry { readonly addresses: readonly string[]; readonly until: number }

/**
 * Resolves real names for one run when it connects. Each name has a c-ares channel of its own, so that a name whose servers do not answer
 * delays nobody, and cancelling one question leaves the others. Answers are attacker-controlled: whoever dials judges each
 * address anew, also those that come from the short memory here.
 */
export class RunResolver {
  readonly #options: Required<ResolverOptions>
  readonly #cache = new Map<string, Entry>()
  readonly #underWay = new Map<string, Promise<Resolved>>()
  readonly #channels = new Set<Resolver>()
  readonly #waiting: (() => void)[] = []
  #closed = false

  constructor(options: ResolverOptions) {
    this.#options = { timeoutMs: TIMEOUT_MS, concurrent: CONCURRENT, ...options }
  }

  resolve(name: HostName): Promise<Resolved> {
    const known = this.#cache.get(name)
    if (known !== undefined && known.until > this.#options.now()) return Promise.resolve(known)
    const underWay = this.#underWay.get(name)
    if (underWay !== undefined) return underWay
    if (this.#closed || this.#waiting.length >= this.#options.concurrent) return Promise.resolve({ failed: 'too-many-resolves' })
    const started = this.#ask(name).finally(() => this.#underWay.delete(name))
    this.#underWay.set(name, started)
    return started
  }

  /** Nothing is asked any more, and what is under way fails. */
  close(): void {
    this.#closed = true
    for (const channel of this.#channels) channel.cancel()
    for (const wake of this.#waiting.splice(0)) wake()
  }

  async #ask(name: HostName): Promise<Resolved> {
    if (this.#channels.size >= this.#options.concurrent) await new Promise<void>((wake) => this.#waiting.push(wake))
    if (this.#closed) return { failed: 'resolve-failed' }
    const { timeoutMs, servers, now } = this.#options
    const channel = new Resolver({ timeout: Math.max(250, Math.floor(timeoutMs / 3)), tries: 2 })
    this.#channels.add(channel)
    let late = false
    const timer = setTimeout(() => {
      late = true
      channel.cancel()
    }, timeoutMs)
    try {
      channel.setServers(servers())
      // A trailing dot: the name is whole, no search domain of the host is tried.
      const answers = await Promise.allSettled([channel.resolve4(`${name}.`), channel.resolve6(`${name}.`)])
      const addresses = answers.flatMap((answer) => (answer.status === 'fulfilled' ? answer.value : [])).slice(0, MAX_ADDRESSES)
      if (addresses.length > 0) {
        this.#keep(name, { addresses, until: now() + CACHE_MS })
        return { addresses }
      }
      const codes = answers.map((answer) => (answer.status === 'rejected' ? String((answer.reason as NodeJS.ErrnoException).code) : 'ENODATA'))
      if (late || codes.includes('ETIMEOUT')) return { failed: 'resolve-timeout' }
      return { failed: codes.every((code) => code === 'ENODATA' || code === 'ENOTFOUND') ? 'resolve-empty' : 'resolve-failed' }
    } finally {
      clearTimeout(timer)
      this.#channels.delete(channel)
      this.#waiting.shift()?.()
    }
  }

  #keep(name: string, entry: Entry): void {
    this.#cache.delete(name)
    this.#cache.set(name, entry)
    const [oldest] = this.#cache.keys()
    if (this.#cache.size > CACHE_NAMES && oldest !== undefined) this.#cache.delete(oldest)
  }
}
