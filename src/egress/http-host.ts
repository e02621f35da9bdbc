import { printable } from '../base/printable.ts'
import { hostAndPort } from './names.ts'

/** What may be sent on of the bytes so far, unchanged; once `refused` is set nothing more ever passes. */
export interface HttpStep {
  readonly pass: readonly Buffer[]
  readonly refused: HttpRefusal | null
}

/** `host` is what the request named, printable. */
export interface HttpRefusal {
  readonly code: HttpFault
  readonly host: string | null
}

export type HttpFault =
  | 'http-malformed' | 'http-head-too-large' | 'http-upgrade' | 'http-connect' | 'http-body-ambiguous' | 'http-no-host' | 'http-host-several' | 'http-host-other'

/** Request line and headers together; nginx and Node refuse beyond 8 to 32 KiB themselves. */
export const MAX_HEAD_BYTES = 32 * 1024
/** A chunk-size line with its extensions, or one trailer line. */
export const MAX_LINE_BYTES = 4096
const MAX_TRAILERS = 64
const STEP_BYTES = 512

const CRLF = Buffer.from('\r\n')
const HEAD_END = Buffer.from('\r\n\r\n')
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/
const FIELD_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/
/** RFC 3986 section 2 and a few that browsers send raw; no space, no control, nothing above ASCII. */
const TARGET = /^[\x21-\x7e]+$/

type State =
  | { readonly kind: 'head' } | { readonly kind: 'chunk-size' } | { readonly kind: 'chunk-end' } | { readonly kind: 'trailer' } | { readonly kind: 'ended' }
  | { readonly kind: 'body'; left: number; readonly then: 'head' | 'chunk-end' }

/**
 * The requests of one plain HTTP/1.x connection (RFC 9112), read only so far as to see the Host of each. A head is held back until
 * it is whole and its Host is `name` (and the dialled port); bodies pass as they come, counted exactly, so that no part of a body can be
 * taken for a request or the other way round. Where two servers could read a message differently it is refused rather than guessed at:
 * bare CR or LF, folded headers, more than one length, both lengths. The bytes are attacker-controlled; nothing throws.
 */
export class HttpHosts {
  readonly #name: string
  readonly #port: number
  #state: State = { kind: 'head' }
  #held = Buffer.alloc(0)
  #size = 0
  #trailers = 0
  #refused: HttpRefusal | null = null
  /** Requests whose Host was accepted. */
  requests = 0

  /**
   * @param name canonical name that the connection was opened to
   * @param port that was dialled; a Host may repeat it
   */
  constructor(name: string, port: number) {
    this.#name = name
    this.#port = port
  }

  /** Bytes that are held back until their line or head is whole. */
  get heldBytes(): number {
    return this.#size
  }

  feed(bytes: Buffer): HttpStep {
    const pass: Buffer[] = []
    let at = 0
    while (at < bytes.length && this.#refused === null) {
      if (this.#state.kind === 'body') {
        const part = bytes.subarray(at, at + Math.min(bytes.length - at, this.#state.left))
        this.#state.left -= part.length
        pass.push(part)
        at += part.length
        if (this.#state.left === 0) this.#state = { kind: this.#state.then }
        continue
      }
      const used = this.#hold(bytes, at)
      at += used.bytes
      if (used.text !== null) {
        const fault = this.#judge(used.text)
        if (fault === null) pass.push(used.raw)
        else this.#refused = fault
      } else if (this.#size >= this.#limit()) {
        this.#refused = fault(this.#state.kind === 'chunk-end' ? 'http-malformed' : 'http-head-too-large')
      }
    }
    if (this.#refused !== null) {
      this.#held = Buffer.alloc(0)
      this.#size = 0
    }
    return { pass, refused: this.#refused }
  }

  #limit(): number {
    if (this.#state.kind === 'chunk-end') return CRLF.length
    return this.#state.kind === 'head' ? MAX_HEAD_BYTES : MAX_LINE_BYTES
  }

  /** Moves bytes into the held part up to the end of the head or line; `text` once that end has come. Looks at each byte once. */
  #hold(bytes: Buffer, at: number): { readonly bytes: number; readonly text: string | null; readonly raw: Buffer } {
    const end = this.#state.kind === 'head' ? HEAD_END : CRLF
    const room = this.#limit() - this.#size
    if (this.#size === 0) {
      const found = bytes.subarray(at, at + room).indexOf(end)
      if (found !== -1) {
        const raw = bytes.subarray(at, at + found + end.length)
        return { bytes: raw.length, text: raw.toString('latin1', 0, found), raw }
      }
    }
    // Small steps once something is held: what is copied beyond the end is copied in vain.
    const part = bytes.subarray(at, at + (this.#size === 0 ? room : Math.min(room, STEP_BYTES)))
    const before = this.#size
    this.#grow(part.length)
    part.copy(this.#held, before)
    const found = this.#held.subarray(0, before + part.length).indexOf(end, Math.max(0, before - end.length + 1))
    if (found === -1) {
      this.#size += part.length
      return { bytes: part.length, text: null, raw: EMPTY }
    }
    const whole = found + end.length
    const raw = Buffer.from(this.#held.subarray(0, whole))
    this.#size = 0
    if (this.#held.length > 8192) this.#held = Buffer.alloc(0)
    return { bytes: whole - before, text: raw.toString('latin1', 0, found), raw }
  }

  #grow(more: number): void {
    if (this.#size + more <= this.#held.length) return
    const grown = Buffer.alloc(Math.min(MAX_HEAD_BYTES, Math.max(1024, 2 * (this.#size + more))))
    this.#held.copy(grown, 0, 0, this.#size)
    this.#held = grown
  }

  #judge(text: string): HttpRefusal | null {
    switch (this.#state.kind) {
      case 'head':
        return this.#judgeHead(text)
      case 'chunk-size':
        return this.#judgeChunkSize(text)
      case 'chunk-end':
        if (text !== '') return fault('http-malformed')
        this.#state = { kind: 'chunk-size' }
        return null
      case 'trailer':
        return this.#judgeTrailer(text)
      default:
        return fault('http-malformed')
    }
  }

  #judgeHead(text: string): HttpRefusal | null {
    const [requestLine = '', ...lines] = text.split('\r\n')
    const request = /^(\S+) (\S+) HTTP\/1\.([01])$/.exec(requestLine)
    const [, method = '', target = '', minor] = request ?? []
    if (request === null || !TOKEN.test(method) || !TARGET.test(target)) return fault('http-malformed')
    if (method === 'CONNECT') return fault('http-connect', target)

    const fields = new Map<string, string[]>()
    for (const line of lines) {
      const field = parseField(line)
      if (field === null) return fault('http-malformed')
      const values = fields.get(field.name)
      if (values === undefined) fields.set(field.name, [field.value])
      else values.push(field.value)
    }
    const hosts = fields.get('host') ?? []
    if (hosts.length > 1) return fault('http-host-several', hosts.join(', '))
    const [host] = hosts
    if (host === undefined || host === '') return fault('http-no-host')
    const other = this.#judgeHost(host)
    if (other !== null) return other
    const wrongTarget = this.#judgeTarget(method, target)
    if (wrongTarget !== null) return wrongTarget
    // After either the connection may speak something that this reader does not understand.
    if (fields.has('upgrade') || fields.has('http2-settings') || namesOption(fields.get('connection'), 'upgrade')) return fault('http-upgrade', host)

    const lengths = fields.get('content-length')
    const codings = fields.get('transfer-encoding')
    if (lengths !== undefined && codings !== undefined) return fault('http-body-ambiguous', host)
    if (codings !== undefined) {
      if (codings.length !== 1 || codings[0]?.toLowerCase() !== 'chunked' || minor !== '1') return fault('http-body-ambiguous', host)
      this.#state = { kind: 'chunk-size' }
    } else if (lengths !== undefined) {
      const [length = ''] = lengths
      if (lengths.length !== 1 || !/^[0-9]{1,15}$/.test(length)) return fault('http-body-ambiguous', host)
      if (Number(length) > 0) this.#state = { kind: 'body', left: Number(length), then: 'head' }
    }
    this.requests += 1
    return null
  }

  /** RFC 9112 section 3.2: in absolute form the target's authority rules over the Host, so both must be ours. */
  #judgeTarget(method: string, target: string): HttpRefusal | null {
    if (target.startsWith('/')) return null
    if (target === '*') return method === 'OPTIONS' ? null : fault('http-malformed')
    const absolute = /^http:\/\/([^/?#]*)(?:[/?].*)?$/i.exec(target)
    if (absolute === null) return fault('http-malformed')
    return this.#judgeHost(absolute[1] ?? '')
  }

  #judgeHost(text: string): HttpRefusal | null {
    const host = hostAndPort(text)
    return host.kind === 'name' && host.name === this.#name && (host.port ?? this.#port) === this.#port ? null : fault('http-host-other', text)
  }

  #judgeChunkSize(text: string): HttpRefusal | null {
    const match = /^([0-9a-fA-F]{1,12})(?:;[\t\x20-\x7e]*)?$/.exec(text)
    if (match === null) return fault('http-malformed')
    const size = Number.parseInt(match[1] ?? '', 16)
    this.#trailers = 0
    this.#state = size === 0 ? { kind: 'trailer' } : { kind: 'body', left: size, then: 'chunk-end' }
    return null
  }

  #judgeTrailer(text: string): HttpRefusal | null {
    if (text === '') {
      this.#state = { kind: 'head' }
      return null
    }
    const field = parseField(text)
    this.#trailers += 1
    if (field === null || this.#trailers > MAX_TRAILERS || FRAMING.has(field.name)) return fault('http-malformed')
    return null
  }
}

const EMPTY = Buffer.alloc(0)
/** RFC 9110 section 6.5.1: these never stand in a trailer, and a server that merged them would read another message. */
const FRAMING = new Set(['host', 'content-length', 'transfer-encoding', 'connection', 'upgrade'])

function fault(code: HttpFault, host: string | null = null): HttpRefusal {
  return { code, host: host === null ? null : printable(host, 80) }
}

/** RFC 9112 section 5: no space before the colon, no folded line, no control character. */
function parseField(line: string): { readonly name: string; readonly value: string } | null {
  const colon = line.indexOf(':')
  if (colon < 1) return null
  const name = line.slice(0, colon)
  const value = line.slice(colon + 1)
  if (!TOKEN.test(name) || !FIELD_VALUE.test(value)) return null
  return { name: name.toLowerCase(), value: value.replace(/^[\t ]+|[\t ]+$/g, '') }
}

function namesOption(values: readonly string[] | undefined, option: string): boolean {
  return (values ?? []).some((value) => value.toLowerCase().split(',').some((one) => one.trim() === option))
}
