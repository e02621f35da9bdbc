import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { printable } from '../../base/printable.ts'
import { readGenesis, type Genesis } from './genesis.ts'
import { cosignedAt, MAX_CHECKPOINT_BYTES, readCheckpoint, signedBy, type Checkpoint, type VerifierKey } from './note.ts'
import { LineReader } from './lines.ts'
import { findSavedCheckpoints } from './saved.ts'
import { readSmallFile } from './tiles.ts'
import type { Head, Witnessed } from './verdict.ts'

export interface VerifyOptions {
  readonly head?: Head
  /** Fingerprint that the operator noted: `SHA256:…`. */
  readonly pin?: string
  readonly witnesses?: readonly VerifierKey[]
  /** Texts in which saved checkpoints stand. */
  readonly saved?: readonly string[]
  readonly now?: Now
  readonly signal?: AbortSignal
  /** Bytes read, and bytes in all. */
  readonly onProgress?: (done: number, total: number) => void
}

/** For ages: the wall clock, and the monotonic one of the boot that it belongs to. */
export interface Now {
  readonly wallMs: number
  readonly boot: string | null
  readonly monoMs: number
}

export function thisMoment(): Now {
  let boot = null
  try {
    boot = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim()
  } catch {
    // not Linux, or a restricted /proc: ages go by the wall clock
  }
  return { wallMs: Date.now(), boot, monoMs: Number(process.hrtime.bigint() / 1_000_000n) }
}

/** What someone says of the log: at this size it had this root. */
export interface Claim {
  readonly size: number
  /** Hex. */
  readonly root: string
  /** For messages: `checkpoint`, `witnessed/NAME`, or the file that --with named. */
  readonly source: string
  readonly saved: boolean
}

export interface Evidence {
  readonly genesis: Genesis | null
  /** Signed by the log key, ascending by size. */
  readonly claims: readonly Claim[]
  /** The file `checkpoint`; its epoch signature is checked when the walk has come to its seal. */
  readonly disk: Checkpoint | null
  readonly diskFault: string | null
  readonly savedFault: string | null
  readonly witnessed: readonly Witnessed[]
  readonly notes: readonly string[]
}

/** `records/NNNNNNNNNNNNNNNN.jsonl` */
export const SEGMENT = /^[0-9]{16}\.jsonl$/

/** Nothing can be compared with a text that holds no checkpoint of this log. */
export class SavedError extends Error {}

/** Keys and name of the log in that directory, as its first record says them; null: there is none. */
export function readGenesisOf(dir: string): Genesis | null {
  for (const path of [join(dir, 'seals.jsonl'), join(dir, 'records', `${'0'.repeat(16)}.jsonl`)]) {
    const line = readFirstLine(path)
    const genesis = line === null ? null : readGenesis(line)
    if (genesis !== null) return genesis
  }
  return null
}

function readFirstLine(path: string): Buffer | null {
  try {
    const reader = new LineReader(path, 128 * 1024, 128 * 1024)
    try {
      return reader.next() === 'line' ? Buffer.from(reader.buffer.subarray(reader.start, reader.end)) : null
    } finally {
      reader.close()
    }
  } catch {
    return null // the walk comes to the same file, and names what is wrong with it
  }
}

/** @throws SavedError, errno errors of the files that the operator named */
export function collectCheckpoints(dir: string, options: VerifyOptions): Evidence {
  const genesis = readGenesisOf(dir)
  const notes: string[] = []
  const claims: Claim[] = []
  const witnesses = options.witnesses ?? []
  const seen = new Map<string, Witnessed>()
  const note = (checkpoint: Checkpoint): void => {
    for (const witness of witnesses) {
      const time = cosignedAt(checkpoint, witness)
      if (time !== null && checkpoint.size >= (seen.get(witness.name)?.size ?? -1)) seen.set(witness.name, { name: witness.name, size: checkpoint.size, time: isoSeconds(time), verified: true })
    }
  }
  const file = readSmallFile(join(dir, 'checkpoint'), MAX_CHECKPOINT_BYTES)
  const { disk, fault: diskFault } = readDisk(file, genesis)
  if (disk !== null) claims.push({ size: disk.size, root: disk.root, source: 'checkpoint', saved: false })
  for (const name of namesIn(join(dir, 'witnessed')).slice(0, 100)) {
    const source = `witnessed/${printable(name, 80)}`
    const bytes = readSmallFile(join(dir, 'witnessed', name), MAX_CHECKPOINT_BYTES)
    const checkpoint = Buffer.isBuffer(bytes) ? readCheckpoint(bytes) : null
    if (checkpoint === null || genesis === null || checkpoint.origin !== genesis.origin || !signedBy(checkpoint, genesis.origin, genesis.logKey)) {
      notes.push(`${source} is no checkpoint that this log's key signed; it was not counted`)
      continue
    }
    claims.push({ size: checkpoint.size, root: checkpoint.root, source, saved: false })
    note(checkpoint)
    if (witnesses.length === 0) seen.set(name, { name: printable(name, 80), size: checkpoint.size, time: null, verified: false })
  }
  for (const name of namesIn(join(dir, 'records')).filter((one) => !SEGMENT.test(one)).slice(0, 10)) notes.push(`records/${printable(name, 80)} is not of the log; it was not read`)
  const savedFault = collectSaved(options.saved ?? [], genesis, witnesses, { claims, note, notes })
  claims.sort((a, b) => a.size - b.size)
  return { genesis, claims, disk, diskFault, savedFault, witnessed: [...seen.values()], notes }
}

function readDisk(file: Buffer | string | null, genesis: Genesis | null): { readonly disk: Checkpoint | null; readonly fault: string | null } {
  if (file === null) return { disk: null, fault: null }
  const disk = typeof file === 'string' ? null : readCheckpoint(file)
  if (disk === null) return { disk: null, fault: typeof file === 'string' ? file : 'it is no signed checkpoint (c2sp.org/tlog-checkpoint)' }
  if (genesis === null) return { disk: null, fault: 'it is there, and no first record that names the key of its log' }
  if (disk.origin !== genesis.origin) return { disk: null, fault: `it is of another log, ${printable(disk.origin, 80)}` }
  if (!signedBy(disk, genesis.origin, genesis.logKey)) return { disk: null, fault: 'it is not signed by the log key' }
  return { disk, fault: null }
}

function collectSaved(paths: readonly string[], genesis: Genesis | null, witnesses: readonly VerifierKey[],
  into: { readonly claims: Claim[]; readonly note: (checkpoint: Checkpoint) => void; readonly notes: string[] }): string | null {
  const foreign = new Set<string>()
  let good = 0
  let unsigned = 0
  for (const path of paths) {
    findSavedCheckpoints(path, witnesses.map(({ name }) => name), (found) => {
      if (genesis === null || found.origin !== genesis.origin) {
        if (foreign.size < 100) foreign.add(found.origin)
        return
      }
      if (!found.signatures.some((one) => signedBy({ ...found, signatures: [one] }, genesis.origin, genesis.logKey))) {
        unsigned += 1
        return
      }
      good += 1
      into.claims.push({ size: found.size, root: found.root, source: printable(path, 200), saved: true })
      into.note(found)
    })
  }
  if (unsigned > 0) into.notes.push(`${unsigned} saved checkpoint${unsigned === 1 ? ' has' : 's have'} no valid signature of this log's key and ${unsigned === 1 ? 'was' : 'were'} not counted`)
  if (paths.length === 0 || good > 0) return null
  const names = paths.map((path) => printable(path, 200)).join(', ')
  if (foreign.size > 0 && unsigned === 0) return `${names} holds checkpoints of ${[...foreign].slice(0, 3).join(', ')} and none of this log${genesis === null ? '' : ` (${genesis.origin})`}: this is not the log that they were saved from`
  throw new SavedError(`${names}: ${unsigned === 0 ? 'no checkpoint stands in it' : 'no checkpoint in it has a valid signature of this log\'s key'}`)
}

function namesIn(path: string): string[] {
  try {
    return readdirSync(path).filter((name) => !name.startsWith('.')).sort()
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'ENOENT' || code === 'ENOTDIR') return []
    throw error
  }
}

/** null beyond the year 9999: a signed number, and no time. */
function isoSeconds(seconds: number): string | null {
  return seconds < 253_402_300_800 ? new Date(seconds * 1000).toISOString() : null
}
