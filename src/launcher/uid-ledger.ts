import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import * as z from 'zod'
import { isPluginName, type PluginName } from '../base/ids.ts'
import { CordonError } from '../errors.ts'

/**
 * The append-only record of every uid ever given out, one JSON line each. Several processes may append (`serve` and `run`):
 * whoever's line comes first in the file has the number, and a loser appends again. So no lock is needed.
 * A crash may leave half a line at the end; the next record then starts on a new line and says how long the remnant is.
 */
const RECORD = z.strictObject({
  v: z.literal(1),
  uid: z.int().min(1).max(0x7fff_fffe),
  /** null: an ephemeral uid of `cordon run`. */
  name: z.custom<PluginName>((v) => typeof v === 'string' && isPluginName(v)).nullable(),
  at: z.string().max(40),
  nonce: z.string().regex(/^[0-9a-f]{16}$/),
  remnant: z.int().min(0).max(1000).optional(),
})
type LedgerRecord = z.infer<typeof RECORD>

export interface Ledger {
  /** Highest uid in the file; 0 when it is empty. */
  readonly highest: number
  readonly byName: ReadonlyMap<string, LedgerRecord>
  readonly byUid: ReadonlyMap<number, LedgerRecord>
  /** Bytes of an unfinished last line: its number was never handed out, because the record comes first. */
  readonly remnant: number
}

/** 60,000 numbers at 130 bytes fit; more means that something else writes there. */
const MAX_LEDGER_BYTES = 16 * 1024 * 1024
const REMNANT = '{"v":1,"uid":'

/** @throws CordonError USERS_CORRUPT for anything that this file's writer would not have written */
export function parseLedger(text: string): Ledger {
  const byName = new Map<string, LedgerRecord>()
  const byUid = new Map<number, LedgerRecord>()
  const lines = text.split('\n')
  const last = lines.pop() ?? ''
  let broken: { line: string; number: number } | null = null
  for (const [index, line] of lines.entries()) {
    const record = parseLine(line)
    if (record === null && broken === null && looksCut(line)) {
      broken = { line, number: index + 1 }
      continue
    }
    if (record === null) throw corrupt(`line ${index + 1} is not a record`)
    // An empty line is half of what a reader left that mistook another's unfinished append for a remnant.
    if ((broken !== null && broken.line !== '' && record.remnant !== broken.line.length) || (broken === null && record.remnant !== undefined)) {
      throw corrupt(`line ${broken?.number ?? index + 1} is not a record, and the next one does not account for it`)
    }
    broken = null
    if (byUid.has(record.uid)) continue // it lost against an earlier line
    byUid.set(record.uid, record)
    if (record.name !== null && !byName.has(record.name)) byName.set(record.name, record)
  }
  if (broken !== null) throw corrupt(`line ${broken.number} is not a record`)
  if (!looksCut(last)) throw corrupt('its last line has no end and does not look like a record that a crash cut short')
  return { highest: topOf(byUid), byName, byUid, remnant: last.length }
}

/** A file that does not exist yet is an empty ledger. */
export async function readLedger(path: string): Promise<Ledger> {
  const handle = await openLedger(path, constants.O_RDONLY)
  if (handle === null) return parseLedger('')
  try {
    return parseLedger(await readAll(handle))
  } finally {
    await handle.close()
  }
}

/**
 * Append one record, durable before this returns, and read the file back.
 * @returns the ledger after it, and whether our line is the first for this uid (and, with a name, for this name)
 */
export async function appendRecord(path: string, uid: number, name: PluginName | null, remnant: number): Promise<{ ledger: Ledger; won: boolean }> {
  const record: LedgerRecord = { v: 1, uid, name, at: new Date().toISOString(), nonce: randomBytes(8).toString('hex'), ...(remnant > 0 ? { remnant } : {}) }
  const handle = await openLedger(path, constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT)
  if (handle === null) throw corrupt('it vanished while it was being written')
  try {
    const line = Buffer.from(`${remnant > 0 ? '\n' : ''}${JSON.stringify(record)}\n`)
    const { bytesWritten } = await handle.write(line)
    if (bytesWritten !== line.length) throw corrupt('only a part of a record could be written (is the disk full?)')
    await handle.sync()
  } finally {
    await handle.close()
  }
  const directory = await open(dirname(path))
  await directory.sync().finally(() => directory.close())
  const ledger = await readLedger(path)
  const won = ledger.byUid.get(uid)?.nonce === record.nonce && (name === null || ledger.byName.get(name)?.nonce === record.nonce)
  return { ledger, won }
}

async function openLedger(path: string, flags: number): Promise<FileHandle | null> {
  let handle: FileHandle
  try {
    handle = await open(path, flags | constants.O_NOFOLLOW | constants.O_NONBLOCK, 0o600)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null
    throw new CordonError('USERS_CORRUPT', 'uids.jsonl cannot be opened, or is a link', { cause: error })
  }
  const stat = await handle.stat()
  if (!stat.isFile() || stat.uid !== process.geteuid?.() || (stat.mode & 0o077) !== 0 || stat.nlink !== 1 || stat.size > MAX_LEDGER_BYTES) {
    await handle.close()
    throw corrupt('it must be a regular file of root with mode 0600, one link and at most 16 MiB')
  }
  return handle
}

async function readAll(handle: FileHandle): Promise<string> {
  const text = (await handle.readFile()).toString('latin1')
  if (text.length > MAX_LEDGER_BYTES) throw corrupt('it grew over 16 MiB')
  return text
}

function parseLine(line: string): LedgerRecord | null {
  if (line.length > 1000) return null
  try {
    return RECORD.safeParse(JSON.parse(line)).data ?? null
  } catch {
    return null // not JSON: the caller says which line
  }
}

/** The beginning of a record, or nothing at all. */
function looksCut(line: string): boolean {
  return line.length < 1000 && /^[\x20-\x7e]*$/.test(line) && (REMNANT.startsWith(line) || line.startsWith(REMNANT))
}

/** Not Math.max(...keys): 60,000 arguments come close to the limit of the stack. */
function topOf(byUid: ReadonlyMap<number, unknown>): number {
  let top = 0
  for (const uid of byUid.keys()) if (uid > top) top = uid
  return top
}

function corrupt(what: string): CordonError<'USERS_CORRUPT'> {
  return new CordonError('USERS_CORRUPT', `uids.jsonl: ${what}`)
}
