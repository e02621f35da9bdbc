/** An IP address as 4 or 16 bytes in network order. */
export type IpBytes = Uint8Array

export interface Cidr {
  readonly base: IpBytes
  readonly prefix: number
}

/**
 * The usual spelling only: four decimal numbers without leading zeros, or IPv6 of RFC 4291 section 2.2, without a zone.
 * @returns null for everything else; the many other spellings are egress/names.ts' affair
 */
export function parseIp(text: string): IpBytes | null {
  return text.includes(':') ? parseIpv6(text) : parseIpv4(text)
}

function parseIpv4(text: string): IpBytes | null {
  if (!/^(?:(?:0|[1-9][0-9]{0,2})(?:\.|$)){4}$/.test(text) || text.endsWith('.')) return null
  const numbers = text.split('.').map(Number)
  return numbers.some((number) => number > 255) ? null : Uint8Array.from(numbers)
}

function parseIpv6(text: string): IpBytes | null {
  if (text.length > 45) return null
  // The last 32 bits may be written as an IPv4 address; as two groups they are like the rest.
  const colon = text.lastIndexOf(':')
  const tail = text.slice(colon + 1)
  let groupsText = text
  if (tail.includes('.')) {
    const four = parseIpv4(tail)
    if (four === null) return null
    groupsText = `${text.slice(0, colon + 1)}${hex(four, 0)}:${hex(four, 2)}`
  }
  const halves = groupsText.split('::')
  if (halves.length > 2) return null
  const [head, rest] = halves.map((half) => (half === '' ? [] : half.split(':')))
  if (head === undefined) return null
  const count = head.length + (rest?.length ?? 0)
  if (rest === undefined ? count !== 8 : count > 7) return null
  const groups = [...head, ...(rest === undefined ? [] : [...Array.from({ length: 8 - count }, () => '0'), ...rest])]
  if (!groups.every((group) => /^[0-9a-fA-F]{1,4}$/.test(group))) return null
  const bytes = new Uint8Array(16)
  groups.forEach((group, index) => {
    const value = Number.parseInt(group, 16)
    bytes[2 * index] = value >> 8
    bytes[2 * index + 1] = value & 0xff
  })
  return bytes
}

function hex(bytes: IpBytes, at: number): string {
  return (((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0)).toString(16)
}

/** RFC 5952 for IPv6 (lower case, the longest run of zeros as `::`, IPv4-mapped with dots). */
export function formatIp(bytes: IpBytes): string {
  if (bytes.length === 4) return [...bytes].join('.')
  const mapped = mappedIpv4(bytes)
  if (mapped !== null) return `::ffff:${formatIp(mapped)}`
  const groups = Array.from({ length: 8 }, (_, index) => hex(bytes, 2 * index))
  let best = { at: -1, length: 1 } // a single zero group is not shortened
  for (let at = 0; at < 8; at++) {
    let length = 0
    while (groups[at + length] === '0') length++
    if (length > best.length) best = { at, length }
  }
  if (best.at < 0) return groups.join(':')
  return `${groups.slice(0, best.at).join(':')}::${groups.slice(best.at + best.length).join(':')}`
}

/** ::ffff:a.b.c.d is a.b.c.d to every socket (RFC 4291 section 2.5.5.2). @returns its four bytes, else null */
function mappedIpv4(bytes: IpBytes): IpBytes | null {
  const mapped = bytes.length === 16 && bytes.subarray(0, 10).every((byte) => byte === 0) && bytes[10] === 0xff && bytes[11] === 0xff
  return mapped ? bytes.slice(12) : null
}

/** The same address in its shortest family: IPv4-mapped becomes IPv4. */
export function unmapped(bytes: IpBytes): IpBytes {
  return mappedIpv4(bytes) ?? bytes
}

/** False between the families. */
export function inCidr(address: IpBytes, { base, prefix }: Cidr): boolean {
  if (address.length !== base.length) return false
  const whole = prefix >> 3
  for (let i = 0; i < whole; i++) if (address[i] !== base[i]) return false
  const rest = prefix & 7
  return rest === 0 || (((address[whole] ?? 0) ^ (base[whole] ?? 0)) >> (8 - rest)) === 0
}

export type CidrResult = { readonly ok: true; readonly cidr: Cidr } | { readonly ok: false; readonly why: string }

/** `10.0.5.7/32`, `2001:db8::/48`: the usual spelling, no bit set beyond the prefix, so that what is read is what holds. */
export function parseCidr(text: string): CidrResult {
  const [address, length, more] = text.split('/')
  const base = address === undefined ? null : parseIp(address)
  if (base === null || more !== undefined) return no('expected an address block such as 10.0.5.7/32 or 2001:db8::/48')
  const bits = base.length * 8
  if (length === undefined) return no(`expected an address block; for this address alone write ${formatIp(base)}/${bits}`)
  if (!/^(?:0|[1-9][0-9]{0,2})$/.test(length) || Number(length) > bits) return no(`expected a length of 0 to ${bits} behind the slash`)
  const prefix = Number(length)
  if (mappedIpv4(base) !== null) return no(`expected IPv4 in its own spelling, as in ${formatIp(unmapped(base))}/${Math.max(0, prefix - 96)}`)
  const masked = base.map((byte, index) => byte & (0xff << (8 - Math.min(8, Math.max(0, prefix - 8 * index)))))
  if (masked.some((byte, index) => byte !== base[index])) {
    return no(`expected no bit beyond /${prefix}; write ${formatIp(masked)}/${prefix} for the block or ${formatIp(base)}/${bits} for the address`)
  }
  return { ok: true, cidr: { base, prefix } }
}

/** Is every address of `inner` in `outer`? */
export function covers(outer: Cidr, inner: Cidr): boolean {
  return outer.prefix <= inner.prefix && inCidr(inner.base, outer)
}

/** The block that holds an address, by prefix length: `192.0.2.77`, 24 gives 192.0.2.0/24. */
export function blockOf(address: IpBytes, prefix: number): Cidr {
  return { base: address.map((byte, i) => byte & (0xff00 >> Math.min(8, Math.max(0, prefix - i * 8)))), prefix }
}

export function formatCidr({ base, prefix }: Cidr): string {
  return `${formatIp(base)}/${prefix}`
}

function no(why: string): CidrResult {
  return { ok: false, why }
}
