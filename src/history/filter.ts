import type { Fields } from './fields.ts'

/** What to look for. Within one list any may fit; an empty list asks nothing; every list must fit. */
export interface Filter {
  /** ms since 1970, inclusive; null: no bound. */
  readonly since: number | null
  /** Exclusive. */
  readonly until: number | null
  /** Patterns: `*` stands for any text. Plugin `-`: records about no plugin. */
  readonly plugins: readonly string[]
  readonly types: readonly string[]
  /** An outcome (fields.ts), or the code that a record gives. */
  readonly outcomes: readonly string[]
  readonly hosts: readonly string[]
  readonly clients: readonly string[]
  /** Beginnings of hex digests. */
  readonly digests: readonly string[]
  /** Stands somewhere in the record's line, its `prev` left out; A-Z and a-z are the same. */
  readonly text: string | null
  /** false: records of type `seal` only where a type fits them; they come every few seconds. */
  readonly seals: boolean
}

export const EVERYTHING: Filter = { since: null, until: null, plugins: [], types: [], outcomes: [], hosts: [], clients: [], digests: [], text: null, seals: true }

export type Matcher = (line: string, fields: Fields) => boolean

/** @returns a test of one record; pure */
export function matcher(filter: Filter): Matcher {
  const any = (patterns: readonly string[]): ((value: string) => boolean) => {
    const tests = patterns.map(globTest)
    return tests.length === 0 ? () => true : (value) => tests.some((test) => test(value))
  }
  const plugin = any(filter.plugins.map((one) => (one === '-' ? '' : one)))
  const type = any(filter.types)
  const outcome = any(filter.outcomes)
  const host = any(filter.hosts)
  const client = any(filter.clients)
  const needles = filter.text === null ? null : needlesOf(filter.text)
  return (line, fields) =>
    (filter.since === null || fields.ms >= filter.since) && (filter.until === null || fields.ms < filter.until)
    && plugin(fields.plugin) && type(fields.type) && (filter.seals || filter.types.length > 0 || fields.type !== 'seal') && (filter.outcomes.length === 0 || outcome(fields.outcome) || (fields.code !== '' && outcome(fields.code)))
    && (filter.hosts.length === 0 || fields.hosts.some(host)) && (filter.clients.length === 0 || fields.clients.some(client))
    && (filter.digests.length === 0 || fields.digests.some((digest) => filter.digests.some((start) => digest.startsWith(start))))
    && (needles === null || holds(foldAscii(withoutPrev(line)), needles))
}

function holds(line: string, needles: readonly string[]): boolean {
  return needles.some((needle) => line.includes(needle))
}

/** As a piece of the record's line, or as it stands inside one of its texts. */
function needlesOf(text: string): readonly string[] {
  return [...new Set([foldAscii(text), foldAscii(JSON.stringify(text).slice(1, -1))])]
}

/** Texts that a line with either of them holds. */
export function piecesOf(text: string): readonly string[] {
  return foldAscii(text).split(/["\\\p{Cc}\p{Surrogate}]/u).filter((piece) => piece !== '')
}

/** Only A-Z: the index folds bytes, and both must agree. */
export function foldAscii(text: string): string {
  return text.replace(/[A-Z]+/g, (upper) => upper.toLowerCase())
}

const PREV = '"prev":"'

/** Behind `data` only the envelope follows, so the last one is the envelope's own. Its hash would match any short hex text. */
function prevAt(line: string): number {
  const at = line.lastIndexOf(PREV)
  return at < 0 ? line.length : at + PREV.length
}

function withoutPrev(line: string): string {
  const at = prevAt(line)
  return `${line.slice(0, at)}${line.slice(at + 64)}`
}

/** `*` stands for any text, and nothing else is special. */
export function globTest(pattern: string): (value: string) => boolean {
  if (!pattern.includes('*')) return (value) => value === pattern
  const parts = pattern.split('*')
  const [first = '', last = ''] = [parts[0], parts.at(-1)]
  const middle = parts.slice(1, -1).filter((part) => part !== '')
  // No regular expression: both pattern and value may be long, and this takes time in proportion to them.
  return (value) => {
    if (value.length < first.length + last.length || !value.startsWith(first) || !value.endsWith(last)) return false
    const end = value.length - last.length
    let at = first.length
    for (const part of middle) {
      const found = value.indexOf(part, at)
      if (found < 0 || found + part.length > end) return false
      at = found + part.length
    }
    return true
  }
}

/** The same pattern for SQLite's GLOB, in which `?` and `[` mean something too (sqlite.org/lang_expr.html). */
export function sqlGlob(pattern: string): string {
  return pattern.replace(/[?[]/g, (c) => `[${c}]`)
}
