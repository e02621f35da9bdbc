/**
 * Canonical JSON (RFC 8785) for the subset that records use: strings, safe integers, booleans, null, arrays, objects.
 * What two serialisers could write differently is refused instead of guessed at: floats, unsafe integers, undefined,
 * lone surrogates (RFC 8785 section 3.2.2.2), objects that are not plain.
 * @throws TypeError that names the path of the value
 */
export function canonicalJson(value: unknown): string {
  return plain(value, 0) ?? write(value, '$', 0)
}

/** As `write` without keeping the path for an error's sake: every record comes by here. @returns null where `write` has something to refuse */
function plain(value: unknown, depth: number): string | null {
  switch (typeof value) {
    case 'string':
      return value.isWellFormed() ? JSON.stringify(value) : null
    case 'number':
      return Number.isSafeInteger(value) ? String(value) : null
    case 'boolean':
      return value ? 'true' : 'false'
    case 'object':
      if (value === null) return 'null'
      return depth >= MAX_DEPTH ? null : Array.isArray(value) ? plainArray(value, depth) : plainObject(value, depth)
    default:
      return null
  }
}

function plainArray(items: readonly unknown[], depth: number): string | null {
  let text = '['
  for (let i = 0; i < items.length; i++) {
    const item = plain(items[i], depth + 1)
    if (item === null) return null
    text += i === 0 ? item : `,${item}`
  }
  return `${text}]`
}

function plainObject(object: object, depth: number): string | null {
  const prototype: unknown = Object.getPrototypeOf(object)
  if (prototype !== Object.prototype && prototype !== null) return null
  let text = '{'
  for (const key of Object.keys(object).sort()) {
    const item = key.isWellFormed() ? plain((object as Readonly<Record<string, unknown>>)[key], depth + 1) : null
    if (item === null) return null
    text += `${text.length === 1 ? '' : ','}${JSON.stringify(key)}:${item}`
  }
  return `${text}}`
}

/** Deeper values are a defect of the caller, not data; the limit keeps the recursion far from the stack's end. */
export const MAX_DEPTH = 64

function write(value: unknown, at: string, depth: number): string {
  if (depth > MAX_DEPTH) throw new TypeError(`${at} is nested deeper than ${MAX_DEPTH} levels`)
  switch (typeof value) {
    case 'string':
      return writeString(value, at)
    case 'number':
      if (!Number.isSafeInteger(value)) throw new TypeError(`${at} is ${value}; only integers up to 2^53-1 are accepted`)
      return String(value) // -0 becomes "0", as RFC 8785 section 3.2.2.3 asks
    case 'boolean':
      return value ? 'true' : 'false'
    case 'object':
      if (value === null) return 'null'
      return Array.isArray(value) ? writeArray(value, at, depth) : writeObject(value, at, depth)
    default:
      throw new TypeError(`${at} is of type ${typeof value}, which JSON does not have`)
  }
}

function writeString(text: string, at: string): string {
  if (!text.isWellFormed()) throw new TypeError(`${at} holds a lone surrogate, which UTF-8 cannot carry`)
  // RFC 8785 takes its string form from ECMAScript's own JSON.stringify.
  return JSON.stringify(text)
}

function writeArray(items: readonly unknown[], at: string, depth: number): string {
  const parts: string[] = []
  for (let i = 0; i < items.length; i++) parts.push(write(items[i], `${at}[${i}]`, depth + 1))
  return `[${parts.join(',')}]`
}

function writeObject(object: object, at: string, depth: number): string {
  const prototype: unknown = Object.getPrototypeOf(object)
  if (prototype !== Object.prototype && prototype !== null) throw new TypeError(`${at} is not a plain object`)
  // The default order compares UTF-16 code units, which is the order of RFC 8785 section 3.2.3.
  const entries = Object.entries(object).sort(([a], [b]) => (a < b ? -1 : 1))
  return `{${entries.map(([key, item]) => `${writeString(key, at)}:${write(item, `${at}.${key.slice(0, 40)}`, depth + 1)}`).join(',')}}`
}
