import { joinLabels, parseHostName, type HostName } from '../base/host-name.ts'
import { parseIp, unmapped, type IpBytes } from '../base/ip-address.ts'
import { printable } from '../base/printable.ts'

/** What stands where a host is expected. `why` and `shown` are printable. */
export type HostText =
  | { readonly kind: 'name'; readonly name: HostName }
  | { readonly kind: 'address'; readonly address: IpBytes; readonly shown: string }
  | { readonly kind: 'refused'; readonly why: string; readonly shown: string }

export type HostAndPort = HostText & { readonly port: number | null }

/** Longer than any name and any address; the rest of a longer text is not looked at. */
const MAX_TEXT = 300
/** 255 octets on the wire hold at most 127 labels (RFC 1035 section 3.1). */
const MAX_LABELS = 127

/**
 * The name of a DNS question, by its labels as they stood on the wire.
 * @param labels without length octets and without the root; attacker-controlled. A dot, NUL or any other byte in a label is
 *   refused, so two ways to cut the bytes cannot give the same name
 */
export function nameFromLabels(labels: readonly Uint8Array[]): HostText {
  if (labels.length > MAX_LABELS) return refused(`it has ${labels.length} labels`, '')
  const texts = labels.map(latin1)
  return fromResult(joinLabels(texts), texts.join('.'))
}

/**
 * A name as one run of bytes, such as the server name of a TLS hello (RFC 6066 section 3).
 * @param bytes attacker-controlled
 */
export function hostFromBytes(bytes: Uint8Array): HostText {
  if (bytes.length > MAX_TEXT) return refused(`it has ${bytes.length} bytes`, latin1(bytes.subarray(0, 80)))
  return hostFromText(latin1(bytes))
}

/**
 * A host in text: a name, or an address in any spelling that some client or resolver takes for one. Addresses are told
 * apart so that `http://2130706433/` is judged as 127.0.0.1 and never as a name.
 * @param text attacker-controlled; one character stands for one byte
 */
export function hostFromText(text: string): HostText {
  if (text.length > MAX_TEXT) return refused(`it has ${text.length} characters`, text)
  if (text.startsWith('[')) {
    const address = text.endsWith(']') ? parseIp(text.slice(1, -1)) : null
    return address?.length === 16 ? { kind: 'address', address: unmapped(address), shown: text } : refused('it begins like an address in brackets and is none', text)
  }
  if (text.includes(':')) {
    const address = parseIp(text)
    return address === null ? refused('it contains a colon and is no address', text) : { kind: 'address', address: unmapped(address), shown: text }
  }
  const four = looseIpv4(text)
  if (four !== null) return { kind: 'address', address: four, shown: text }
  return fromResult(parseHostName(text), text)
}

/**
 * The value of a Host header or the authority of a request target (RFC 9110 section 7.2): host, then perhaps `:port`.
 * Userinfo, percent-encoding and blanks are refused by what a name may contain.
 * @param text attacker-controlled
 */
export function hostAndPort(text: string): HostAndPort {
  const match = /^(\[[^\]]*\]|[^:]*)(?::([0-9]*))?$/s.exec(text.slice(0, MAX_TEXT + 8))
  if (match?.[1] === undefined) return { ...refused('expected HOST or HOST:PORT', text), port: null }
  const digits = match[2]
  // RFC 3986 section 3.2.3: an empty port is the default one.
  const port = digits === undefined || digits === '' ? null : Number(digits)
  if (digits !== undefined && (digits.length > 5 || (port !== null && (port < 1 || port > 65_535)))) return { ...refused('its port is none', text), port: null }
  return { ...hostFromText(match[1]), port }
}

/**
 * IPv4 as inet_aton(3) and browsers read it (WHATWG URL, "IPv4 parser"): one to four numbers, decimal, octal (0…) or hex
 * (0x…), the last of which fills what is left. One dot at the end is passed over, as browsers do.
 */
function looseIpv4(text: string): IpBytes | null {
  const parts = (text.endsWith('.') ? text.slice(0, -1) : text).split('.')
  if (parts.length > 4) return null
  const numbers = parts.map(looseNumber)
  const last = numbers.at(-1)
  if (last === undefined || last === null || numbers.some((number) => number === null)) return null
  const before = numbers.slice(0, -1) as number[]
  if (before.some((number) => number > 255) || last >= 256 ** (5 - numbers.length)) return null
  const value = before.reduce((sum, number, index) => sum + number * 256 ** (3 - index), last)
  return Uint8Array.from([value / 2 ** 24, value / 2 ** 16, value / 2 ** 8, value].map((byte) => Math.floor(byte) % 256))
}

function looseNumber(part: string): number | null {
  if (part.length > 16) return null
  if (/^0[xX][0-9a-fA-F]*$/.test(part)) return part.length === 2 ? 0 : Number.parseInt(part.slice(2), 16)
  if (/^0[0-7]+$/.test(part)) return Number.parseInt(part, 8)
  return /^(?:0|[1-9][0-9]*)$/.test(part) ? Number.parseInt(part, 10) : null
}

function fromResult(result: ReturnType<typeof parseHostName>, text: string): HostText {
  return result.ok ? { kind: 'name', name: result.name } : refused(result.why, text)
}

/** Byte for byte, so that what is judged is what was on the wire: no decoding, no replacement characters. */
function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
}

function refused(why: string, text: string): HostText & { readonly kind: 'refused' } {
  return { kind: 'refused', why, shown: printable(text, 80) }
}
