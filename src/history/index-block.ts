import { crc32 } from 'node:zlib'
import type { DatabaseSync, StatementSync } from 'node:sqlite'
import { fieldsOf, parseRecord, type Fields } from './fields.ts'
import { addGrams, GRAM_BYTES } from './grams.ts'

/** Ids that are remembered while a log is indexed; more are asked for again. A plugin can invent names without end. */
const REMEMBERED = 200_000

export interface Place {
  /** `first` of its segment. */
  readonly segment: number
  readonly offset: number
}

/** Writes blocks into the index, inside transactions of the caller. */
export class BlockWriter {
  readonly #kinds: Ids
  readonly #terms: Ids
  readonly #block: StatementSync
  readonly #grams: StatementSync
  readonly #kindBlock: StatementSync
  readonly #termBlock: StatementSync

  constructor(db: DatabaseSync) {
    // DO UPDATE, for DO NOTHING returns no row of what is there (sqlite.org/lang_returning.html).
    this.#kinds = new Ids(db.prepare('INSERT INTO kind (plugin, type, outcome, code) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET code = code RETURNING id'))
    this.#terms = new Ids(db.prepare('INSERT INTO term (field, value, kind) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET kind = kind RETURNING id'))
    this.#block = db.prepare('INSERT INTO block (segment, offset, length, crc, first_seq, last_seq, records, unreadable, min_ms, max_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)')
    this.#grams = db.prepare('INSERT INTO grams (block, bits) VALUES (?, ?)')
    this.#kindBlock = db.prepare('INSERT OR IGNORE INTO kind_block (kind, block) VALUES (?, ?)')
    this.#termBlock = db.prepare('INSERT OR IGNORE INTO term_block (term, block) VALUES (?, ?)')
  }

  /** What was remembered may be gone: another process changed the index. */
  forget(): void {
    this.#kinds.forget()
    this.#terms.forget()
  }

  /** @param bytes whole lines; attacker-controlled if the log was changed */
  add({ segment, offset }: Place, bytes: Buffer): void {
    const bits = new Uint8Array(GRAM_BYTES)
    const kinds = new Set<number>()
    const terms = new Set<number>()
    const seen = { records: 0, unreadable: 0, firstSeq: Number.MAX_SAFE_INTEGER, lastSeq: -1, minMs: Number.MAX_SAFE_INTEGER, maxMs: -Number.MAX_SAFE_INTEGER }
    for (const { fields, from, to, prev } of recordsIn(bytes)) {
      addGrams(bits, bytes, from, prev)
      addGrams(bits, bytes, prev + 64, to)
      if (fields === null) {
        seen.unreadable += 1
        continue
      }
      seen.records += 1
      seen.firstSeq = Math.min(seen.firstSeq, fields.seq)
      seen.lastSeq = Math.max(seen.lastSeq, fields.seq)
      seen.minMs = Math.min(seen.minMs, fields.ms)
      seen.maxMs = Math.max(seen.maxMs, fields.ms)
      const kind = this.#kindOf(fields)
      kinds.add(kind)
      for (const value of fields.hosts) terms.add(this.#termOf('host', value, kind))
      for (const value of fields.clients) terms.add(this.#termOf('client', value, kind))
      for (const value of fields.digests) terms.add(this.#termOf('digest', value, kind))
    }
    const { lastInsertRowid } = this.#block.run(segment, offset, bytes.length, crc32(bytes), seen.firstSeq, seen.lastSeq, seen.records, seen.unreadable, seen.minMs, seen.maxMs)
    const block = Number(lastInsertRowid)
    this.#grams.run(block, bits)
    for (const kind of kinds) this.#kindBlock.run(kind, block)
    for (const term of terms) this.#termBlock.run(term, block)
  }

  #kindOf({ plugin, type, outcome, code }: Fields): number {
    const key = `${plugin}\0${type}\0${outcome}\0${code}`
    return this.#kinds.known(key) ?? this.#kinds.of(key, [plugin, type, outcome, code])
  }

  #termOf(field: 'host' | 'client' | 'digest', value: string, kind: number): number {
    const key = `${field}\0${kind}\0${value}`
    return this.#terms.known(key) ?? this.#terms.of(key, [field, value, kind])
  }
}

export interface Line {
  /** null: no record. */
  readonly fields: Fields | null
  /** Bytes, without the newline. */
  readonly from: number
  readonly to: number
  /** Where the 64 digits of the envelope's `prev` begin; `to` if there is none. */
  readonly prev: number
}

function* recordsIn(bytes: Buffer): Generator<Line> {
  for (let from = 0; from < bytes.length; ) {
    const newline = bytes.indexOf(0x0a, from)
    const to = newline < 0 ? bytes.length : newline
    const record = parseRecord(bytes.toString('utf8', from, to))
    const at = bytes.lastIndexOf(PREV, to)
    yield { fields: record === null ? null : fieldsOf(record), from, to, prev: at < from ? to : Math.min(to, at + PREV.length) }
    from = to + 1
  }
}

const PREV = Buffer.from('"prev":"')

/** Ids by what they stand for, as long as nobody else changes the index. */
class Ids {
  readonly #statement: StatementSync
  readonly #known = new Map<string, number>()

  constructor(statement: StatementSync) {
    this.#statement = statement
  }

  /** @param key says the same as `values`, as one text */
  of(key: string, values: readonly (string | number)[]): number {
    const id = Number(this.#statement.get(...values)?.['id'])
    if (this.#known.size >= REMEMBERED) this.#known.clear()
    this.#known.set(key, id)
    return id
  }

  known(key: string): number | undefined {
    return this.#known.get(key)
  }

  forget(): void {
    this.#known.clear()
  }
}
