/**
 * The one JSON text of a value (RFC 8785, JSON Canonicalization Scheme), so that a digest of it means the value and not its spelling.
 * @throws TypeError for what has no canonical form: undefined, functions, NaN, infinities, bigint, lone surrogates (RFC 8785 section 3.2.2)
 */
export function canonicalJson(value: unknown): string {
  if (value === null || typeof value === 'boolean') return String(value)
  if (typeof value === 'string') return text(value)
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) throw new TypeError(`${value} has no canonical JSON form`)
    return JSON.stringify(value) // ECMAScript number form, which RFC 8785 section 3.2.2.3 adopts
  }
  if (Array.isArray(value)) return `[${Array.from(value, canonicalJson).join(',')}]`
  if (typeof value === 'object') {
    // Default sort compares UTF-16 code units, as RFC 8785 section 3.2.3 asks.
    return `{${Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, item]) => `${text(key)}:${canonicalJson(item)}`).join(',')}}`
  }
  throw new TypeError(`a ${typeof value} has no canonical JSON form`)
}

function text(value: string): string {
  if (!value.isWellFormed()) throw new TypeError('a lone surrogate has no canonical JSON form')
  return JSON.stringify(value)
}
