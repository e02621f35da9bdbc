import { isUtf8 } from 'node:buffer'

/** Without its newline; tlog-tiles keeps lengths in 16 bits. */
export const MAX_LINE_BYTES = 65_535

/**
 * One line of the log, looked at byte by byte: is it a record in exactly the form of FORMAT.md, "Record"? Without
 * JSON.parse, because half a million lines per second leave two microseconds for each. On purpose not the writer's code.
 */
export class RecordScanner {
  /** Of the line that `scan` accepted last; positions are in the buffer that it was given. */
  seq = 0
  monoMs = 0
  timeMs = 0
  bootStart = 0
  bootEnd = 0
  prevStart = 0
  typeStart = 0
  typeEnd = 0
  #b: Uint8Array = new Uint8Array()
  #at = 0
  #number = 0
  /** The text before #at held an escape or a byte beyond ASCII. */
  #wide = false
  #notAscii = false

  /** @param bytes attacker-controlled; the byte at `end` must exist (the newline) */
  scan(bytes: Uint8Array, start: number, end: number): boolean {
    this.#b = bytes
    this.#at = start
    this.#notAscii = false
    if (!this.#literal(BOOT)) return false
    this.bootStart = this.#at + 1
    if (!this.#text()) return false
    this.bootEnd = this.#at - 1
    if (!this.#literal(CLASS_UID) || !this.#count() || !this.#literal(DATA) || this.#b[this.#at] !== OPEN_BRACE || !this.#value(1)) return false
    if (!this.#literal(MONO) || !this.#count()) return false
    this.monoMs = this.#number
    if (!this.#literal(ORIGIN) || !this.#text() || !this.#literal(PLUGIN) || !this.#textOrNull() || !this.#literal(POLICY) || !this.#textOrNull()) return false
    if (!this.#literal(PREV)) return false
    this.prevStart = this.#at
    for (let i = 0; i < 64; i++) if (HEX_VALUE[this.#b[this.#at++] ?? 0] === NO_HEX) return false
    if (!this.#literal(RUN) || !this.#textOrNull() || !this.#literal(SEQ) || !this.#count()) return false
    this.seq = this.#number
    if (!this.#literal(TIME)) return false
    this.timeMs = instant(this.#b, this.#at)
    this.#at += 24
    if (Number.isNaN(this.timeMs) || !this.#literal(TYPE)) return false
    this.typeStart = this.#at + 1
    if (!this.#text()) return false
    this.typeEnd = this.#at - 1
    return this.#literal(END) && this.#at === end && (!this.#notAscii || isUtf8(bytes.subarray(start, end)))
  }

  #literal(expected: Uint8Array): boolean {
    const b = this.#b
    const at = this.#at
    for (let i = 0; i < expected.length; i++) if (b[at + i] !== expected[i]) return false
    this.#at = at + expected.length
    return true
  }

  /** A text that is not empty. */
  #text(): boolean {
    const start = this.#at
    return this.#string() && this.#at > start + 2
  }

  #textOrNull(): boolean {
    return this.#b[this.#at] === QUOTE ? this.#string() : this.#literal(NULL)
  }

  #count(): boolean {
    return this.#b[this.#at] !== MINUS && this.#integer()
  }

  /** @param level of the container that would begin here; the record itself is 0 */
  #value(level: number): boolean {
    switch (this.#b[this.#at]) {
      case QUOTE: return this.#string()
      case OPEN_BRACE: return level < MAX_LEVELS && this.#object(level)
      case OPEN_BRACKET: return level < MAX_LEVELS && this.#array(level)
      case 0x74: return this.#literal(TRUE)
      case 0x66: return this.#literal(FALSE)
      case 0x6e: return this.#literal(NULL)
      default: return this.#integer()
    }
  }

  #object(level: number): boolean {
    const b = this.#b
    if (b[++this.#at] === CLOSE_BRACE) return ++this.#at > 0
    let keyStart = -1
    let keyEnd = -1
    let keyWide = false
    for (;;) {
      const start = this.#at
      this.#wide = false
      if (b[start] !== QUOTE || !this.#string()) return false
      const end = this.#at
      if (keyStart >= 0 && !(this.#wide || keyWide ? wideLess(b, keyStart, keyEnd, start, end) : plainLess(b, keyStart + 1, keyEnd - 1, start + 1, end - 1))) return false
      keyStart = start
      keyEnd = end
      keyWide = this.#wide
      if (b[this.#at++] !== COLON || !this.#value(level + 1)) return false
      const next = b[this.#at++]
      if (next === CLOSE_BRACE) return true
      if (next !== COMMA) return false
    }
  }

  #array(level: number): boolean {
    const b = this.#b
    if (b[++this.#at] === CLOSE_BRACKET) return ++this.#at > 0
    for (;;) {
      if (!this.#value(level + 1)) return false
      const next = b[this.#at++]
      if (next === CLOSE_BRACKET) return true
      if (next !== COMMA) return false
    }
  }

  /** RFC 8785 section 3.2.2.2: the short escapes where there are some, `\u00xx` in lower case for other controls, nothing else. */
  #string(): boolean {
    const b = this.#b
    let at = this.#at
    if (b[at] !== QUOTE) return false
    for (;;) {
      const c = b[++at] ?? 0
      if (c === QUOTE) {
        this.#at = at + 1
        return true
      }
      if (c === BACKSLASH) {
        this.#wide = true
        const escaped = b[++at]
        if (escaped === 0x75) {
          if (b[at + 1] !== 0x30 || b[at + 2] !== 0x30) return false
          const code = (HEX_VALUE[b[at + 3] ?? 0] ?? NO_HEX) * 16 + (HEX_VALUE[b[at + 4] ?? 0] ?? NO_HEX)
          if (code >= 0x20 || SHORT_CONTROLS.has(code)) return false
          at += 4
        } else if (SHORT_ESCAPES[escaped ?? 0] !== 1) return false
      } else if (c < 0x20) return false
      else if (c >= 0x80) {
        this.#wide = true
        this.#notAscii = true
      }
    }
  }

  #integer(): boolean {
    const b = this.#b
    let at = this.#at
    const negative = b[at] === MINUS
    if (negative) at += 1
    const start = at
    let value = 0
    for (let digit = (b[at] ?? 0) - 0x30; digit >= 0 && digit <= 9; digit = (b[++at] ?? 0) - 0x30) value = value * 10 + digit
    const digits = at - start
    if (digits === 0 || digits > 16 || value > Number.MAX_SAFE_INTEGER) return false
    if (b[start] === 0x30 && (digits > 1 || negative)) return false
    this.#number = value
    this.#at = at
    return true
  }
}

/** What is wrong with a line that is no record; slow, and only for the message. */
export function explainLine(line: Buffer): string {
  if (!isUtf8(line)) return 'the line is not UTF-8'
  let value: unknown
  try {
    value = JSON.parse(line.toString('utf8'))
  } catch {
    return 'the line is not JSON' // which is the answer
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return 'the line is not a JSON object'
  const keys = Object.keys(value)
  if (keys.length !== KEYS.length || !KEYS.every((key) => keys.includes(key))) return `the record does not have exactly the fields ${KEYS.join(', ')}`
  return 'the record is not in the canonical form of version 1, or a field is not of its type'
}

const KEYS = ['boot', 'class_uid', 'data', 'mono_ms', 'origin', 'plugin', 'policy', 'prev', 'run', 'seq', 'time', 'type', 'v']
const ascii = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text))
const BOOT = ascii('{"boot":')
const CLASS_UID = ascii(',"class_uid":')
const DATA = ascii(',"data":')
const MONO = ascii(',"mono_ms":')
const ORIGIN = ascii(',"origin":')
const PLUGIN = ascii(',"plugin":')
const POLICY = ascii(',"policy":')
const PREV = ascii(',"prev":"')
const RUN = ascii('","run":')
const SEQ = ascii(',"seq":')
const TIME = ascii(',"time":"')
const TYPE = ascii('","type":')
const END = ascii(',"v":1}')
const NULL = ascii('null')
const TRUE = ascii('true')
const FALSE = ascii('false')
const QUOTE = 0x22
const BACKSLASH = 0x5c
const COMMA = 0x2c
const COLON = 0x3a
const MINUS = 0x2d
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d
/** Containers in each other, the record itself included. */
const MAX_LEVELS = 32
const SHORT_CONTROLS = new Set([8, 9, 10, 12, 13])
const SHORT_ESCAPES = new Uint8Array(256)
for (const c of '"\\bfnrt') SHORT_ESCAPES[c.charCodeAt(0)] = 1
const NO_HEX = 99
const HEX_VALUE = new Uint8Array(256).fill(NO_HEX)
for (const [value, c] of [...'0123456789abcdef'].entries()) HEX_VALUE[c.charCodeAt(0)] = value

function plainLess(b: Uint8Array, aStart: number, aEnd: number, start: number, end: number): boolean {
  const common = Math.min(aEnd - aStart, end - start)
  for (let i = 0; i < common; i++) {
    const difference = (b[aStart + i] ?? 0) - (b[start + i] ?? 0)
    if (difference !== 0) return difference < 0
  }
  return aEnd - aStart < end - start
}

/** Keys are sorted by UTF-16 code units (RFC 8785 section 3.2.3), which is what `<` compares. */
function wideLess(b: Uint8Array, aStart: number, aEnd: number, start: number, end: number): boolean {
  const text = (from: number, to: number): string => JSON.parse(Buffer.from(b.subarray(from, to)).toString('utf8')) as string
  return text(aStart, aEnd) < text(start, end)
}

const MONTH_DAYS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]

/** `2026-11-20T12:00:00.000Z` at that place, as milliseconds since the epoch; NaN if it is none. */
function instant(b: Uint8Array, at: number): number {
  const number = (from: number, digits: number): number => {
    let value = 0
    for (let i = 0; i < digits; i++) {
      const digit = (b[at + from + i] ?? 0) - 0x30
      if (digit < 0 || digit > 9) return Number.NaN
      value = value * 10 + digit
    }
    return value
  }
  if (b[at + 4] !== MINUS || b[at + 7] !== MINUS || b[at + 10] !== 0x54 || b[at + 13] !== COLON || b[at + 16] !== COLON || b[at + 19] !== 0x2e || b[at + 23] !== 0x5a) return Number.NaN
  const year = number(0, 4)
  const month = number(5, 2)
  const day = number(8, 2)
  const hour = number(11, 2)
  const minute = number(14, 2)
  const second = number(17, 2)
  const leap = year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0)
  const days = (MONTH_DAYS[month - 1] ?? 0) + (leap && month === 2 ? 1 : 0)
  if (!(day >= 1 && day <= days && hour <= 23 && minute <= 59 && second <= 59)) return Number.NaN
  return dayNumber(year, month, day) * 86_400_000 + hour * 3_600_000 + minute * 60_000 + second * 1000 + number(20, 3)
}

/** Days since 1970-01-01 in the proleptic Gregorian calendar, counting years from March. */
function dayNumber(year: number, month: number, day: number): number {
  const y = month <= 2 ? year - 1 : year
  const dayOfYear = Math.floor((153 * (month + (month > 2 ? -3 : 9)) + 2) / 5) + day - 1
  return y * 365 + Math.floor(y / 4) - Math.floor(y / 100) + Math.floor(y / 400) + dayOfYear - 719_468
}
