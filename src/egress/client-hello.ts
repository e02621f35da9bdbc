import { printable } from '../base/printable.ts'
import { hostFromBytes } from './names.ts'

/**
 * What a connection's first bytes say, before any of them is passed on.
 * `sni` is canonical lower case; `ech` tells that an encrypted hello is inside (or the GREASE that looks like one).
 */
export type HelloStep =
  | { readonly kind: 'more' }
  | { readonly kind: 'hello'; readonly sni: string | null; readonly ech: boolean; readonly alpn: readonly string[] }
  | { readonly kind: 'not-tls' }
  /** `sni` is what stood there, printable, for the record only. */
  | { readonly kind: 'refused'; readonly code: HelloFault; readonly sni: string | null }

export type HelloFault = 'tls-malformed' | 'tls-oversized' | 'tls-sslv2' | 'sni-malformed' | 'sni-several'

/** The hello itself; the largest honest ones (post-quantum key shares, session tickets) are near 2 KiB, OpenSSL's own limit is 16 KiB. */
export const MAX_HELLO_BYTES = 16 * 1024
/** With record headers: beyond it somebody spreads the hello over more records than any client does. */
export const MAX_HELLO_RAW_BYTES = 20 * 1024

const RECORD_HANDSHAKE = 22
const MAX_RECORD_BYTES = 16_384 // RFC 8446 section 5.1
const CLIENT_HELLO = 1
const MAX_ALPN = 16
const EXTENSION = { serverName: 0, alpn: 16, ech: 0xfe0d } as const

const MORE: HelloStep = Object.freeze({ kind: 'more' })
const NOT_TLS: HelloStep = Object.freeze({ kind: 'not-tls' })

/**
 * Reads a TLS ClientHello (RFC 8446 sections 4.1.2 and 5.1) from bytes as they come, whatever their cuts into segments and records.
 * Work is linear in the bytes, memory at most MAX_HELLO_BYTES; it never throws. Once it has said something other than `more`,
 * it says the same for ever. The bytes are attacker-controlled, and the reader keeps none for the caller.
 */
export class HelloReader {
  #done: HelloStep | null = null
  #raw = 0
  readonly #header: number[] = []
  /** Bytes of the current record's payload that are still to come. */
  #left = 0
  #body = Buffer.alloc(0)
  #size = 0

  feed(bytes: Uint8Array): HelloStep {
    if (this.#done !== null) return this.#done
    const step = this.#read(bytes)
    if (step.kind !== 'more') {
      this.#done = step
      this.#body = Buffer.alloc(0)
    }
    return step
  }

  #read(bytes: Uint8Array): HelloStep {
    let at = 0
    while (at < bytes.length) {
      if (this.#raw >= MAX_HELLO_RAW_BYTES) return refused('tls-oversized')
      if (this.#left === 0) {
        this.#header.push(bytes[at] ?? 0)
        this.#raw += 1
        at += 1
        const fault = this.#judgeHeader()
        if (fault !== null) return fault
        continue
      }
      const part = bytes.subarray(at, at + Math.min(this.#left, MAX_HELLO_RAW_BYTES - this.#raw))
      const fault = this.#keep(part)
      if (fault !== null) return fault
      at += part.length
      this.#raw += part.length
      this.#left -= part.length
      const length = this.#length()
      if (length === null || this.#size < length) continue
      // Another message behind the hello in the same record: no client sends one, and not every server reads it the same way.
      if (this.#size > length || this.#left > 0) return refused('tls-malformed')
      return parseHello(this.#body.subarray(4, length))
    }
    return MORE
  }

  /** Decides on each byte of a record header as it comes, so that what is not TLS need not send five bytes to be known. */
  #judgeHeader(): HelloStep | null {
    const [type, major, third, high, low] = this.#header
    const first = this.#raw === this.#header.length
    if (this.#header.length === 1 && type !== RECORD_HANDSHAKE && (!first || ((type ?? 0) & 0x80) === 0)) return first ? NOT_TLS : refused('tls-malformed')
    if (type !== RECORD_HANDSHAKE) {
      // SSLv2 (RFC 6101 appendix E): a two-byte length with the top bit, CLIENT-HELLO 1, then the version.
      if (this.#header.length === 3 && third !== CLIENT_HELLO) return NOT_TLS
      if (this.#header.length < 5) return null
      return high === 3 || (high === 0 && low === 2) ? refused('tls-sslv2') : NOT_TLS
    }
    if (this.#header.length === 2 && major !== 3) return first ? NOT_TLS : refused('tls-malformed')
    if (this.#header.length < 5) return null
    const length = ((high ?? 0) << 8) | (low ?? 0)
    if (length === 0 || length > MAX_RECORD_BYTES) return refused('tls-malformed') // empty handshake records are forbidden
    this.#left = length
    this.#header.length = 0
    return null
  }

  #keep(part: Uint8Array): HelloStep | null {
    if (this.#size + part.length > this.#body.length) {
      const grown = Buffer.alloc(Math.min(MAX_HELLO_BYTES, Math.max(1024, 2 * (this.#size + part.length))))
      this.#body.copy(grown, 0, 0, this.#size)
      this.#body = grown
    }
    this.#body.set(part.subarray(0, this.#body.length - this.#size), this.#size)
    this.#size += part.length
    if (this.#body[0] !== CLIENT_HELLO) return refused('tls-malformed')
    const length = this.#length()
    if (this.#size > MAX_HELLO_BYTES || (length !== null && length > MAX_HELLO_BYTES)) return refused('tls-oversized')
    return null
  }

  /** Of the handshake message with its own four-byte header; null until that is there. */
  #length(): number | null {
    return this.#size < 4 ? null : 4 + this.#body.readUIntBE(1, 3)
  }
}

function refused(code: HelloFault, sni: string | null = null): HelloStep & { readonly kind: 'refused' } {
  return { kind: 'refused', code, sni }
}

/** Reads vectors of one message; a read past its end gives null, which callers turn into `tls-malformed`. */
class Cursor {
  readonly bytes: Buffer
  at = 0

  constructor(bytes: Buffer) {
    this.bytes = bytes
  }

  get left(): number {
    return this.bytes.length - this.at
  }

  uint(size: 1 | 2): number | null {
    if (this.left < size) return null
    const value = this.bytes.readUIntBE(this.at, size)
    this.at += size
    return value
  }

  /** A vector with a length prefix of `size` bytes. */
  vector(size: 1 | 2): Buffer | null {
    const length = this.uint(size)
    return length === null ? null : this.take(length)
  }

  take(length: number): Buffer | null {
    if (this.left < length) return null
    this.at += length
    return this.bytes.subarray(this.at - length, this.at)
  }
}

/** @param bytes the ClientHello without its handshake header */
function parseHello(bytes: Buffer): HelloStep {
  const malformed = refused('tls-malformed')
  const hello = new Cursor(bytes)
  if (hello.take(2 + 32) === null) return malformed // legacy_version, random
  const session = hello.vector(1)
  const ciphers = hello.vector(2)
  const compressions = hello.vector(1)
  if (session === null || session.length > 32 || ciphers === null || ciphers.length < 2 || ciphers.length % 2 !== 0) return malformed
  if (compressions === null || compressions.length === 0) return malformed
  if (hello.left === 0) return { kind: 'hello', sni: null, ech: false, alpn: [] } // TLS 1.2 and older may have no extensions
  const list = hello.vector(2)
  if (list === null || hello.left > 0) return malformed

  const extensions = new Cursor(list)
  const seen = new Set<number>()
  let sni: string | null = null
  let ech = false
  let alpn: readonly string[] = []
  while (extensions.left > 0) {
    const type = extensions.uint(2)
    const body = extensions.vector(2)
    // Two of one type are forbidden (RFC 8446 section 4.2), and servers differ in which one they take.
    if (type === null || body === null || seen.has(type)) return malformed
    seen.add(type)
    if (type === EXTENSION.serverName) {
      const name = parseServerName(body)
      if (typeof name !== 'string') return name
      sni = name
    } else if (type === EXTENSION.alpn) {
      const protocols = parseAlpn(body)
      if (protocols === null) return malformed
      alpn = protocols
    } else if (type === EXTENSION.ech) {
      ech = true
    }
  }
  return { kind: 'hello', sni, ech, alpn }
}

/** RFC 6066 section 3: one entry of type host_name, ASCII without a dot at the end, never an address. */
function parseServerName(body: Buffer): string | (HelloStep & { readonly kind: 'refused' }) {
  const outer = new Cursor(body)
  const list = outer.vector(2)
  if (list === null || outer.left > 0 || list.length === 0) return refused('tls-malformed')
  const entries = new Cursor(list)
  const type = entries.uint(1)
  const bytes = entries.vector(2)
  if (type !== 0 || bytes === null) return refused('tls-malformed')
  const host = hostFromBytes(bytes)
  if (entries.left > 0) return refused('sni-several', printable(bytes.toString('latin1'), 80))
  if (host.kind !== 'name' || bytes.at(-1) === 0x2e) return refused('sni-malformed', host.kind === 'name' ? printable(bytes.toString('latin1'), 80) : host.shown)
  return host.name
}

function parseAlpn(body: Buffer): string[] | null {
  const outer = new Cursor(body)
  const list = outer.vector(2)
  if (list === null || outer.left > 0) return null
  const names = new Cursor(list)
  const protocols: string[] = []
  while (names.left > 0) {
    const name = names.vector(1)
    if (name === null || name.length === 0) return null
    // For the record only; GREASE values (RFC 8701) are no text.
    if (protocols.length < MAX_ALPN && /^[\x21-\x7e]{1,32}$/.test(name.toString('latin1'))) protocols.push(name.toString('latin1'))
  }
  return protocols
}
