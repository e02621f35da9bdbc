declare const brand: unique symbol
/**
 * A host name in the one form that is compared anywhere in Cordon: lower-case labels of letters, digits and hyphens (LDH,
 * RFC 952 and RFC 1123 section 2.1), 1 to 63 each, not beginning or ending with a hyphen, at most 253 characters, no dot
 * at the end, and not something that a resolver would take for an address.
 */
export type HostName = string & { readonly [brand]: 'HostName' }

export type NameResult = { readonly ok: true; readonly name: HostName } | { readonly ok: false; readonly why: string }

/** RFC 1035 section 2.3.4: 255 octets on the wire are 253 characters of text. */
const MAX_NAME = 253
const MAX_LABEL = 63

/** @param text attacker-controlled; nothing is trimmed, decoded or mapped but A-Z and one dot at the end */
export function parseHostName(text: string): NameResult {
  if (text.length > MAX_NAME + 1) return refused(`it has ${text.length} characters; a name has at most ${MAX_NAME}`)
  const bare = text.endsWith('.') ? text.slice(0, -1) : text
  return joinLabels(bare.split('.'))
}

/** @param labels each possibly hostile; a dot inside one is refused like every other character */
export function joinLabels(labels: readonly string[]): NameResult {
  if (labels.length === 0 || (labels.length === 1 && labels[0] === '')) return refused('it is empty')
  for (const label of labels) {
    const fault = labelFault(label)
    if (fault !== null) return refused(fault)
  }
  const name = labels.join('.').toLowerCase()
  if (name.length > MAX_NAME) return refused(`it has ${name.length} characters; a name has at most ${MAX_NAME}`)
  // Resolvers read "1.2", "0x7f.1" and their kin as IPv4 addresses (inet_aton(3); WHATWG URL, "ends in a number").
  if (/(?:^|\.)(?:[0-9]+|0x[0-9a-f]*)$/.test(name)) return refused('its last label is a number, so it would be taken for an address')
  return { ok: true, name: name as HostName }
}

/** Only `a-z`, `0-9`, `-` once lower-cased: the test is by ASCII code, so no Unicode case folding can slip a letter in (U+212A). */
function labelFault(label: string): string | null {
  if (label === '') return 'it has an empty label'
  if (label.length > MAX_LABEL) return `a label has ${label.length} characters; a label has at most ${MAX_LABEL}`
  for (let i = 0; i < label.length; i++) {
    const code = label.charCodeAt(i)
    const fine = (code >= 0x61 && code <= 0x7a) || (code >= 0x41 && code <= 0x5a) || (code >= 0x30 && code <= 0x39) || code === 0x2d
    if (!fine) return `it contains ${describe(code)}; a name has letters, digits and hyphens`
  }
  if (label.startsWith('-') || label.endsWith('-')) return 'a label begins or ends with a hyphen'
  return null
}

function describe(code: number): string {
  if (code === 0) return 'a NUL'
  if (code === 0x20) return 'a space'
  if (code === 0x5f) return 'an underscore'
  if (code === 0x25) return 'a percent sign'
  if (code === 0x2a) return 'an asterisk'
  if (code > 0x7e || code < 0x20) return code > 0x7f ? 'a letter outside ASCII (write international names as xn--…)' : 'a control character'
  return `"${String.fromCharCode(code)}"`
}

function refused(why: string): NameResult {
  return { ok: false, why }
}

/** Is `name` one or more labels below `zone`? Never the zone itself, never a suffix inside a label. */
export function isBelowZone(name: string, zone: string): boolean {
  return name.length > zone.length + 1 && name.endsWith(zone) && name.charCodeAt(name.length - zone.length - 1) === 0x2e
}

/** Names that no public resolver may answer, or that mean this machine (RFC 6761, 6762, 7686, 8375, 9476; ICANN .internal 2024). */
const NOT_PUBLIC = ['localhost', 'local', 'internal', 'invalid', 'test', 'onion', 'alt', 'home.arpa', 'localdomain', 'lan', 'home', 'corp']

/** Could the public DNS know this name? What it then resolves to is judged apart. */
export function isPublicName(name: HostName): boolean {
  return name.includes('.') && !NOT_PUBLIC.some((zone) => name === zone || isBelowZone(name, zone))
}
