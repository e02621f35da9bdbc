import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as breathe } from 'node:timers/promises'
import { readGenesis } from './genesis.ts'
import { LineReader } from './lines.ts'
import { MAX_CHECKPOINT_BYTES, parseCheckpoint, signedBy, type Checkpoint } from './note.ts'
import { checkProof, formatProof } from './proof.ts'
import { RecordScanner } from './scan.ts'
import { readSmallFile } from './tiles.ts'
import { TileHashes } from './tile-hashes.ts'
import { toHex } from './tree.ts'

/** Why a record cannot be proved. */
export class ProveError extends Error {
  readonly kind: 'absent' | 'unsealed' | 'broken'
  constructor(kind: 'absent' | 'unsealed' | 'broken', message: string) {
    super(message)
    this.kind = kind
  }
}

/** What all proofs of one log share, read once. */
export interface Prover {
  /**
   * A proof for one record, self-contained: it stays valid when the record is removed by retention.
   * @param line the record as the log has it, without its newline
   * @throws ProveError, TileError, errno errors
   */
  prove(seq: number, line: string): string
}

/** @param dir as `<stateDir>/audit` @throws ProveError, TileError, errno errors */
export async function openProver(dir: string, signal?: AbortSignal): Promise<Prover> {
  const names = segmentNames(dir)
  const begin = oldestOf(names) === 0 ? join(dir, 'records', names[0] ?? '') : join(dir, 'seals.jsonl')
  const first = await findLine(begin, (scanner) => scanner.seq === 0, signal)
  const genesis = first === null ? null : readGenesis(first)
  if (first === null || genesis === null) throw new ProveError('broken', 'the log does not begin with log.created')
  const seal = await findLine(begin, (_, type) => type === 'seal', signal)
  const tiles = new TileHashes(join(dir, 'tile'))
  const trusted = (one: Checkpoint): boolean => one.origin === genesis.origin && signedBy(one, genesis.origin, genesis.logKey)
  return {
    prove: (seq, line) => {
      const checkpoint = bestCheckpoint(dir, seq, trusted)
      if (seal === null || checkpoint === null) throw new ProveError('unsealed', `record ${seq} is not covered by a checkpoint yet`)
      const { size } = (JSON.parse(seal.toString('utf8')) as { readonly data: { readonly size: number } }).data
      const proof = formatProof({
        genesis: first.toString('utf8'), genesisPath: tiles.inclusion(0, size), seal: seal.toString('utf8'), record: line,
        index: seq, path: tiles.inclusion(seq, checkpoint.size), checkpoint: checkpoint.note,
      })
      const checked = checkProof(proof, genesis.fingerprint)
      if (typeof checked === 'string') throw new ProveError('broken', checked)
      return proof
    },
  }
}

/** `Prover.prove` for a record that is looked for in the log. */
export async function proveRecord(dir: string, seq: number, signal?: AbortSignal): Promise<string> {
  const prover = await openProver(dir, signal)
  const names = segmentNames(dir)
  const segment = names.findLast((name) => Number(name.slice(0, 16)) <= seq)
  const record = segment === undefined ? null : await findLine(join(dir, 'records', segment), (scanner) => scanner.seq === seq, signal)
  const oldest = oldestOf(names)
  if (record === null) throw new ProveError('absent', `record ${seq} is not in the log${seq < oldest ? `: records up to ${oldest - 1} were removed by retention` : ''}`)
  return prover.prove(seq, record.toString('utf8'))
}

function segmentNames(dir: string): string[] {
  return readdirSync(join(dir, 'records')).filter((name) => /^[0-9]{16}\.jsonl$/.test(name)).sort()
}

function oldestOf(names: readonly string[]): number {
  return Number(names[0]?.slice(0, 16) ?? Number.NaN)
}

/** The one that most people stand behind: witnessed if one is there that covers the record, otherwise the log's own. */
function bestCheckpoint(dir: string, seq: number, trusted: (checkpoint: Checkpoint) => boolean): (Checkpoint & { readonly note: string }) | null {
  const files = ['checkpoint', ...witnessedNames(dir).map((name) => `witnessed/${name}`)]
  const tiles = new TileHashes(join(dir, 'tile'))
  let best: (Checkpoint & { readonly note: string }) | null = null
  for (const file of files) {
    const bytes = readSmallFile(join(dir, file), MAX_CHECKPOINT_BYTES)
    const note = Buffer.isBuffer(bytes) ? bytes.toString('utf8') : ''
    const checkpoint = parseCheckpoint(note)
    if (checkpoint === null || checkpoint.size <= seq || !trusted(checkpoint)) continue
    const better = best === null || checkpoint.signatures.length > best.signatures.length || (checkpoint.signatures.length === best.signatures.length && checkpoint.size > best.size)
    if (better && toHex(tiles.root(checkpoint.size)) === checkpoint.root) best = { ...checkpoint, note }
  }
  return best
}

function witnessedNames(dir: string): string[] {
  try {
    return readdirSync(join(dir, 'witnessed')).filter((name) => !name.startsWith('.')).slice(0, 100)
  } catch {
    return [] // nobody was asked
  }
}

async function findLine(path: string, wanted: (scanner: RecordScanner, type: string) => boolean, signal?: AbortSignal): Promise<Buffer | null> {
  const reader = new LineReader(path)
  const scanner = new RecordScanner()
  try {
    for (let lines = 0; ; lines++) {
      const kind = reader.next()
      if (kind !== 'line') return null
      if (lines % 50_000 === 49_999) {
        await breathe()
        signal?.throwIfAborted()
      }
      if (!scanner.scan(reader.buffer, reader.start, reader.end)) continue
      if (wanted(scanner, reader.buffer.toString('latin1', scanner.typeStart, scanner.typeEnd))) return Buffer.from(reader.buffer.subarray(reader.start, reader.end))
    }
  } finally {
    reader.close()
  }
}
