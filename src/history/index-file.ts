import { lstatSync, mkdirSync, rmSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'

/** Raised with every change of the tables or of what fields.ts finds: an older index is thrown away. */
const FORMAT = 2
const NAME = 'index.sqlite'
/** Another `cordon audit query` holds the lock for one transaction at a time. */
const BUSY_MS = 30_000

/**
 * The log cut into blocks of whole lines, and which values stand in which block (README.md). `kind` is plugin, type, outcome and
 * code together, and a `term` is a value in records of one kind: so a block that is named for all that was asked holds such a record.
 */
const SCHEMA = `
  CREATE TABLE segment (first INTEGER PRIMARY KEY, indexed INTEGER NOT NULL, closed INTEGER NOT NULL, stat TEXT NOT NULL, tail TEXT NOT NULL);
  CREATE TABLE block (id INTEGER PRIMARY KEY, segment INTEGER NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL, crc INTEGER NOT NULL,
    first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL, records INTEGER NOT NULL, unreadable INTEGER NOT NULL, min_ms INTEGER NOT NULL, max_ms INTEGER NOT NULL);
  CREATE INDEX block_segment ON block (segment);
  CREATE TABLE grams (block INTEGER PRIMARY KEY, bits BLOB NOT NULL);
  CREATE TABLE kind (id INTEGER PRIMARY KEY, plugin TEXT NOT NULL, type TEXT NOT NULL, outcome TEXT NOT NULL, code TEXT NOT NULL, UNIQUE (plugin, type, outcome, code));
  CREATE TABLE kind_block (kind INTEGER NOT NULL, block INTEGER NOT NULL, PRIMARY KEY (kind, block)) WITHOUT ROWID;
  CREATE TABLE term (id INTEGER PRIMARY KEY, field TEXT NOT NULL, value TEXT NOT NULL, kind INTEGER NOT NULL, UNIQUE (field, value, kind));
  CREATE TABLE term_block (term INTEGER NOT NULL, block INTEGER NOT NULL, PRIMARY KEY (term, block)) WITHOUT ROWID;
  CREATE TABLE log (identity TEXT NOT NULL);
  PRAGMA user_version = ${FORMAT};
`
const TABLES = ['segment', 'block', 'grams', 'kind', 'kind_block', 'term', 'term_block', 'log'] as const

export interface IndexFile {
  readonly db: DatabaseSync
  close(): void
}

/**
 * Open the index, or begin one. What lies there and is none (damaged, of another version) is removed: it can be made again.
 * @param dir `<stateDir>/audit-index`
 * @throws CordonError AUDIT_INDEX
 */
export function openIndex(dir: string): IndexFile {
  requirePrivate(dir)
  try {
    return open(dir)
  } catch (error) {
    if (!isDamage(error)) throw cannot(dir, error)
    removeIndex(dir)
    try {
      return open(dir)
    } catch (again) {
      throw cannot(dir, again)
    }
  }
}

export function removeIndex(dir: string): void {
  for (const suffix of ['', '-wal', '-shm']) rmSync(`${dir}/${NAME}${suffix}`, { force: true })
}

/** Inside a transaction of the caller. */
export function clearIndex(db: DatabaseSync): void {
  for (const table of TABLES) db.exec(`DELETE FROM ${table}`)
}

/** One transaction; what `work` throws undoes it. */
export function transaction<T>(db: DatabaseSync, work: () => T): T {
  db.exec('BEGIN IMMEDIATE')
  try {
    const result = work()
    db.exec('COMMIT')
    return result
  } catch (error) {
    db.exec('ROLLBACK')
    throw error
  }
}

/** SQLITE_CORRUPT or SQLITE_NOTADB (sqlite.org/rescode.html): only the index; the log is another file. */
export function isDamage(error: unknown): boolean {
  const code = error instanceof Error && 'errcode' in error && typeof error.errcode === 'number' ? error.errcode & 0xff : 0
  return code === 11 || code === 26
}

function open(dir: string): IndexFile {
  const db = new DatabaseSync(`${dir}/${NAME}`, { timeout: BUSY_MS })
  try {
    db.exec('PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -65536; PRAGMA temp_store = MEMORY')
    const version = (): unknown => db.prepare('PRAGMA user_version').get()?.['user_version']
    if (version() !== FORMAT) {
      transaction(db, () => {
        if (version() === FORMAT) return // another process was faster
        for (const row of db.prepare('SELECT name FROM sqlite_schema WHERE type = \'table\'').all()) db.exec(`DROP TABLE "${String(row['name']).replaceAll('"', '""')}"`)
        db.exec(SCHEMA)
      })
    }
    return { db, close: () => db.close() }
  } catch (error) {
    db.close()
    throw error
  }
}

/** It names hosts, clients and programs, as the log does: root's alone. */
function requirePrivate(dir: string): void {
  try {
    mkdirSync(dir, { recursive: true, mode: 0o700 })
    const found = lstatSync(dir)
    if (!found.isDirectory() || found.uid !== process.geteuid?.() || (found.mode & 0o077) !== 0) {
      throw new CordonError('AUDIT_INDEX', `${printable(dir)} is not a directory of your own with mode 0700`)
    }
  } catch (error) {
    throw error instanceof CordonError ? error : cannot(dir, error)
  }
}

function cannot(dir: string, error: unknown): CordonError {
  return new CordonError('AUDIT_INDEX', `${printable(dir)}: ${printable(error instanceof Error ? error.message : String(error))}`, { cause: error })
}
