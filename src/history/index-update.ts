import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { DatabaseSync } from 'node:sqlite'
import { BlockWriter } from './index-block.ts'
import { clearIndex, transaction } from './index-file.ts'
import { segmentFiles, type SegmentFile } from './segment-file.ts'

/** One look-up reads whole blocks; smaller ones would make the index larger. No line is longer than a quarter of it. */
export const BLOCK_BYTES = 256 * 1024
/** Per transaction: what another `cordon audit query` waits for, and what is done again after Ctrl-C. */
const BLOCKS_AT_ONCE = 64
/** Of what was indexed last in the open segment: if these bytes are others, it is another log. */
const TAIL_BYTES = 4096

export interface UpdateOptions {
  /** `<stateDir>/audit` */
  readonly dir: string
  /** Throw away what there is. */
  readonly rebuild: boolean
  readonly signal: AbortSignal
  /** @param done bytes of the log, of `total` */
  readonly progress: (done: number, total: number) => void
}

export interface Updated {
  /** What did not fit the log and was made again; null: nothing. */
  readonly rebuilt: string | null
  /** Where the lines begin that are in no block yet: less than BLOCK_BYTES, at the end of the newest segment. */
  readonly tail: { readonly segment: number; readonly offset: number }
  /** Lines in blocks that are no records. */
  readonly unreadable: number
}

/**
 * Bring the index up to the end of the log. Several processes may do it at once: each transaction looks where the last one ended.
 * @throws CordonError AUDIT_NOT_FOUND, AUDIT_UNAVAILABLE; errors of SQLite
 */
export async function updateIndex(db: DatabaseSync, { dir, rebuild, signal, progress }: UpdateOptions): Promise<Updated> {
  const writer = new BlockWriter(db)
  let rebuilt = rebuild ? 'asked for' : null
  let changes = -1
  for (let round = 0; ; round++) {
    signal.throwIfAborted()
    const files = await segmentFiles(dir)
    try {
      const done = transaction(db, () => {
        const now = Number(db.prepare('PRAGMA data_version').get()?.['data_version'])
        if (rebuild && round === 0) clearIndex(db)
        if (now !== changes) {
          rebuilt = fit(db, dir, files) ?? rebuilt
          writer.forget()
        }
        changes = now
        return indexSome(db, writer, files)
      })
      if (done.tail !== null) return { rebuilt, tail: done.tail, unreadable: Number(db.prepare('SELECT total(unreadable) AS n FROM block').get()?.['n']) }
      progress(done.bytes, files.reduce((sum, { size }) => sum + size, 0))
    } finally {
      for (const file of files) file.close()
    }
    await nextTurn() // Ctrl-C
  }
}

/**
 * Take out of the index what is not in the log any more, or not as it was.
 * @returns why, in words; null when all of it fits, or only the oldest segments went
 */
function fit(db: DatabaseSync, dir: string, files: readonly SegmentFile[]): string | null {
  const identity = identityOf(dir, files)
  const known = db.prepare('SELECT identity FROM log').get()?.['identity']
  if (known !== identity) {
    const empty = db.prepare('SELECT 1 FROM block LIMIT 1').get() === undefined
    clearIndex(db)
    db.prepare('INSERT INTO log (identity) VALUES (?)').run(identity)
    return known === undefined || empty ? null : 'it is another log'
  }
  const oldest = files[0]?.first ?? 0
  dropBlocks(db, '<', oldest)
  const rows = db.prepare('SELECT first, indexed, closed, stat, tail FROM segment ORDER BY first').all()
  for (const [index, row] of rows.entries()) {
    const first = Number(row['first'])
    const file = files[index]
    const problem = file === undefined || file.first !== first ? 'a segment is missing or new among the older ones'
      : row['closed'] === 1 && row['stat'] !== file.stat ? 'a finished segment was changed'
      : file.size < Number(row['indexed']) ? 'the log was cut'
      : row['closed'] === 0 && row['tail'] !== tailOf(file, Number(row['indexed'])) ? 'the log is another than it was'
      : null
    if (problem === null) continue
    dropBlocks(db, '>=', Math.min(first, file?.first ?? first))
    return problem
  }
  return null
}

/** The genesis record names the first key; where its segment was pruned, seals.jsonl still holds its line (audit/FORMAT.md). */
function identityOf(dir: string, files: readonly SegmentFile[]): string {
  const [oldest] = files
  const bytes = oldest?.first === 0 ? oldest.read(0, 65_536) : attempt(() => readFileSync(`${dir}/seals.jsonl`).subarray(0, 65_536))
  const newline = bytes.indexOf(0x0a)
  return sha256(newline < 0 ? bytes.subarray(0, 0) : bytes.subarray(0, newline))
}

function dropBlocks(db: DatabaseSync, side: '<' | '>=', first: number): void {
  if (db.prepare(`SELECT 1 FROM segment WHERE first ${side} ? LIMIT 1`).get(first) === undefined) return
  const gone = db.prepare(`SELECT min(id) AS least, max(id) AS most FROM block WHERE segment ${side} ?`).get(first)
  if (gone?.['least'] !== null) {
    for (const table of ['kind_block', 'term_block', 'grams']) db.prepare(`DELETE FROM ${table} WHERE block BETWEEN ? AND ?`).run(Number(gone?.['least']), Number(gone?.['most']))
  }
  db.prepare(`DELETE FROM block WHERE segment ${side} ?`).run(first)
  db.prepare(`DELETE FROM segment WHERE first ${side} ?`).run(first)
}

/** @returns bytes of the log that are indexed, and the tail when nothing is left to do */
function indexSome(db: DatabaseSync, writer: BlockWriter, files: readonly SegmentFile[]): { bytes: number; tail: Updated['tail'] | null } {
  const rowOf = db.prepare('SELECT indexed, closed FROM segment WHERE first = ?')
  const save = db.prepare('INSERT INTO segment (first, indexed, closed, stat, tail) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET indexed = excluded.indexed, closed = excluded.closed, stat = excluded.stat, tail = excluded.tail')
  let left = BLOCKS_AT_ONCE
  let bytes = 0
  let tail = { segment: 0, offset: 0 }
  for (const file of files) {
    const row = rowOf.get(file.first)
    const from = Number(row?.['indexed'] ?? 0)
    let at = from
    if (row?.['closed'] !== 1) {
      for (; left > 0; left--) {
        const block = blockAt(file, at)
        if (block === null) break
        writer.add({ segment: file.first, offset: at }, block)
        at += block.length
      }
      const whole = file.closed && at === file.size
      if (at > from || whole || row === undefined) save.run(file.first, at, whole ? 1 : 0, file.stat, tailOf(file, at))
    }
    bytes += at
    tail = { segment: file.first, offset: at }
    if (left === 0) return { bytes, tail: null }
  }
  return { bytes, tail }
}

/** The next whole block; null while there is less than one, unless nothing more will come. */
function blockAt(file: SegmentFile, offset: number): Buffer | null {
  if (file.size - offset < BLOCK_BYTES && !file.closed) return null
  const bytes = file.read(offset, Math.min(BLOCK_BYTES, file.size - offset))
  if (bytes.length === 0) return null
  const last = bytes.lastIndexOf(0x0a)
  // Without any newline it is no record, and the end of a finished segment is taken as it is.
  return last < 0 || (file.closed && offset + bytes.length === file.size) ? bytes : bytes.subarray(0, last + 1)
}

function tailOf(file: SegmentFile, end: number): string {
  return sha256(file.read(Math.max(0, end - TAIL_BYTES), Math.min(end, TAIL_BYTES)))
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

function attempt(read: () => Buffer): Buffer {
  try {
    return read()
  } catch {
    return Buffer.alloc(0) // the log is one without a beginning; `audit verify` says so
  }
}
