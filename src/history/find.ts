import { crc32 } from 'node:zlib'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { DatabaseSync, SQLInputValue } from 'node:sqlite'
import { CordonError } from '../errors.ts'
import { fieldsOf, parseRecord, type Fields, type LogRecord } from './fields.ts'
import { foldAscii, matcher, piecesOf, sqlGlob, type Filter, type Matcher } from './filter.ts'
import { gramsOf, mayHold } from './grams.ts'
import { openIndex, isDamage, removeIndex } from './index-file.ts'
import { BLOCK_BYTES, updateIndex, type UpdateOptions, type Updated } from './index-update.ts'
import { segmentFiles, type SegmentFile } from './segment-file.ts'

export interface Found {
  /** As the log has it, without its newline. */
  readonly line: string
  readonly record: LogRecord
  readonly fields: Fields
}

export interface Search {
  readonly filter: Filter
  /** `newer`: in the order of the log. `older`: from its end on. */
  readonly order: 'newer' | 'older'
  /** Only records beyond this `seq`, in that direction; null: from the end or the beginning. */
  readonly beyond: number | null
}

export interface HistoryOptions extends UpdateOptions {
  /** `<stateDir>/audit-index` */
  readonly indexDir: string
  /** Told once per search whose index had to be made again, and why. */
  readonly notice: (text: string) => void
}

/** The log changed while it was read; once more is enough unless somebody does it on purpose. */
const ATTEMPTS = 3

/**
 * Records that fit, read from the log itself: the index only says where to look, and what it names wrongly is made again.
 * @returns lines of the log that are no records (a crash leaves some; `audit verify` judges them)
 * @throws CordonError AUDIT_NOT_FOUND, AUDIT_UNAVAILABLE, AUDIT_INDEX
 */
export async function* findRecords(search: Search, options: HistoryOptions): AsyncGenerator<Found, { readonly unreadable: number }> {
  let beyond = search.beyond
  let rebuild = options.rebuild
  for (let attempt = 1; ; attempt++) {
    const index = openIndex(options.indexDir)
    try {
      const updated = await updateIndex(index.db, { ...options, rebuild })
      if (updated.rebuilt !== null && !rebuild) options.notice(`the index did not fit the log (${updated.rebuilt}) and was made again`)
      for await (const found of search_(index.db, { ...search, beyond }, updated, options)) {
        yield found
        beyond = found.fields.seq
      }
      return { unreadable: updated.unreadable }
    } catch (error) {
      const damaged = isDamage(error)
      if (!damaged && !(error instanceof Misfit)) throw error
      if (attempt === ATTEMPTS) throw new CordonError('AUDIT_UNAVAILABLE', 'the audit log changes while it is read', { cause: error })
      options.notice(damaged ? 'the index was damaged and is made again' : 'the index did not fit the log and is made again')
      rebuild = true
      if (damaged) removeIndex(options.indexDir)
    } finally {
      index.close()
    }
  }
}

const TURN_BLOCKS = 16

class Misfit extends Error {}

async function* search_(db: DatabaseSync, search: Search, { tail }: Updated, { dir, signal }: HistoryOptions): AsyncGenerator<Found> {
  const files = await segmentFiles(dir)
  const byFirst = new Map(files.map((file) => [file.first, file]))
  const pick = picker(search)
  let looked = 0
  try {
    if (search.order === 'older') for (const bytes of tailBlocks(files, tail).reverse()) yield* pick(bytes)
    for (const { segment, offset, length, crc } of candidates(db, search)) {
      signal.throwIfAborted()
      const bytes = byFirst.get(segment)?.read(offset, length)
      if (bytes?.length !== length || crc32(bytes) !== crc) throw new Misfit()
      yield* pick(bytes)
      if (++looked % TURN_BLOCKS === 0) await nextTurn() // Ctrl-C
    }
    if (search.order === 'newer') for (const bytes of tailBlocks(files, tail)) yield* pick(bytes)
  } finally {
    for (const file of files) file.close()
  }
}

/** What is in no block yet, whole lines only: the end of one segment, and segments begun since. */
function tailBlocks(files: readonly SegmentFile[], { segment, offset }: Updated['tail']): Buffer[] {
  return files.filter(({ first }) => first >= segment).flatMap((file) => {
    const blocks: Buffer[] = []
    for (let at = file.first === segment ? offset : 0; at < file.size; ) {
      const bytes = file.read(at, Math.min(2 * BLOCK_BYTES, file.size - at))
      const last = bytes.lastIndexOf(0x0a)
      if (last < 0) break // a record that is just being written
      blocks.push(bytes.subarray(0, last + 1))
      at += last + 1
    }
    return blocks
  })
}

interface Candidate {
  readonly segment: number
  readonly offset: number
  readonly length: number
  readonly crc: number
}

/** Blocks that can hold what is asked, in its order. Time, `seq` and text are looked at again record by record. */
function* candidates(db: DatabaseSync, { filter, order, beyond }: Search): Generator<Candidate> {
  const grams = filter.text === null ? [] : piecesOf(filter.text).flatMap((piece) => gramsOf(piece))
  const { sql, values } = conditions(filter, order, beyond)
  const rows = db.prepare(`SELECT b.segment, b.offset, b.length, b.crc${grams.length === 0 ? '' : ', g.bits'} FROM block b ${grams.length === 0 ? '' : 'JOIN grams g ON g.block = b.id '}WHERE ${sql} ORDER BY b.id ${order === 'older' ? 'DESC' : 'ASC'}`)
  for (const row of rows.iterate(...values)) {
    const bits = row['bits']
    if (bits instanceof Uint8Array && !mayHold(bits, grams)) continue
    yield { segment: Number(row['segment']), offset: Number(row['offset']), length: Number(row['length']), crc: Number(row['crc']) }
  }
}

function conditions(filter: Filter, order: Search['order'], beyond: number | null): { sql: string; values: SQLInputValue[] } {
  const parts = ['b.records > 0']
  const values: SQLInputValue[] = []
  const add = (sql: string, ...more: SQLInputValue[]): void => {
    parts.push(sql)
    values.push(...more)
  }
  if (filter.since !== null) add('b.max_ms >= ?', filter.since)
  if (filter.until !== null) add('b.min_ms < ?', filter.until)
  if (beyond !== null) add(order === 'older' ? 'b.first_seq < ?' : 'b.last_seq > ?', beyond)
  const kinds = kindCondition(filter)
  const terms = [['host', filter.hosts], ['client', filter.clients], ['digest', filter.digests.map((start) => `${start}*`)]] as const
  for (const [field, patterns] of terms) {
    if (patterns.length === 0) continue
    const globs = patterns.map(sqlGlob)
    add(`b.id IN (SELECT tb.block FROM term t JOIN kind k ON k.id = t.kind JOIN term_block tb ON tb.term = t.id WHERE t.field = '${field}' AND (${globs.map(() => 't.value GLOB ?').join(' OR ')}) AND ${kinds.sql})`, ...globs, ...kinds.values)
  }
  if (terms.every(([, patterns]) => patterns.length === 0) && kinds.values.length > 0) add(`b.id IN (SELECT kb.block FROM kind k JOIN kind_block kb ON kb.kind = k.id WHERE ${kinds.sql})`, ...kinds.values)
  return { sql: parts.join(' AND '), values }
}

function kindCondition({ plugins, types, outcomes }: Filter): { sql: string; values: SQLInputValue[] } {
  const any = (column: string, patterns: readonly string[]): string => `(${patterns.map(() => `k.${column} GLOB ?`).join(' OR ')})`
  const names = plugins.map((one) => (one === '-' ? '' : sqlGlob(one)))
  const kinds = types.map(sqlGlob)
  const ends = outcomes.map(sqlGlob)
  const parts = [
    ...(names.length === 0 ? [] : [any('plugin', names)]), ...(kinds.length === 0 ? [] : [any('type', kinds)]),
    ...(ends.length === 0 ? [] : [`(${any('outcome', ends)} OR (k.code <> '' AND ${any('code', ends)}))`]),
  ]
  return { sql: parts.length === 0 ? '1' : parts.join(' AND '), values: [...names, ...kinds, ...ends, ...ends] }
}

/** The records of one block that fit, in the order of the search. */
function picker({ filter, order, beyond }: Search): (bytes: Buffer) => Found[] {
  const fits = matcher(filter)
  const { what, folded } = filter.text === null ? { what: surestNeedle(filter), folded: false } : textNeedle(filter.text)
  return (bytes) => {
    const found: Found[] = []
    const searched = !folded ? bytes : Buffer.from(foldAscii(bytes.toString('latin1')), 'latin1')
    for (let from = 0; from < bytes.length; ) {
      const hit = what === null ? from : searched.indexOf(what, from)
      if (hit < 0) break
      const start = bytes.lastIndexOf(0x0a, hit) + 1
      const newline = bytes.indexOf(0x0a, hit)
      const end = newline < 0 ? bytes.length : newline
      const one = judge(bytes.toString('utf8', start, end), fits)
      if (one !== null && (beyond === null || (order === 'older' ? one.fields.seq < beyond : one.fields.seq > beyond))) found.push(one)
      from = end + 1
    }
    return order === 'older' ? found.reverse() : found
  }
}

function judge(line: string, fits: Matcher): Found | null {
  const record = parseRecord(line)
  const fields = record === null ? null : fieldsOf(record)
  return record !== null && fields !== null && fits(line, fields) ? { line, record, fields } : null
}

/** A piece of the text that every fitting line holds. Without letters it needs no folding, which takes most of the time. */
function textNeedle(text: string): { what: Buffer | null; folded: boolean } {
  const longest = (pieces: readonly string[]): string => [...pieces].sort((a, b) => b.length - a.length)[0] ?? ''
  const pieces = piecesOf(text)
  const plain = longest(pieces.flatMap((piece) => piece.split(/[a-z]+/)))
  if (plain.length >= 3) return { what: Buffer.from(plain), folded: false }
  const letters = longest(pieces)
  return { what: letters === '' ? null : Buffer.from(letters), folded: true }
}

/** Bytes that every fitting line holds, so that most others need not be parsed; null: none is sure. */
function surestNeedle({ hosts, digests, clients, types, plugins }: Filter): Buffer | null {
  const only = (list: readonly string[]): string | null => (list.length === 1 && list[0] !== undefined && !list[0].includes('*') ? JSON.stringify(list[0]).slice(1, -1) : null)
  const type = only(types)
  const plugin = plugins[0] === '-' ? null : only(plugins)
  const text = only(hosts) ?? only(digests) ?? only(clients) ?? (type === null ? null : `"type":"${type}"`) ?? (plugin === null ? null : `"plugin":"${plugin}"`)
  return text === null ? null : Buffer.from(text)
}
