import { genesisOf, sealOf, type Genesis } from './genesis.ts'
import { verifies } from './keys.ts'
import { parseCheckpoint, signedBy, strictBase64, type Checkpoint } from './note.ts'
import { RecordScanner } from './scan.ts'
import { EMPTY_ROOT, fromHex, leafHash, nodeHash, toHex, type Hash } from './tree.ts'

/** c2sp.org/tlog-witness allows no more lines; a tree of 2^63 leaves needs as many. */
export const MAX_PROOF_HASHES = 63
export const MAX_PROOF_BYTES = 1024 * 1024

/** RFC 9162 section 2.1.3.2. @returns the root that the path leads to; null: it is too long or too short */
export function rootOfPath(leaf: Hash, index: number, size: number, path: readonly Hash[]): Hash | null {
  if (index >= size) return null
  let fn = index
  let sn = size - 1
  let root = leaf
  for (const sibling of path) {
    if (sn === 0) return null
    if (fn % 2 === 1 || fn === sn) {
      root = nodeHash(sibling, root)
      while (fn % 2 === 0 && fn !== 0) {
        fn = half(fn)
        sn = half(sn)
      }
    } else root = nodeHash(root, sibling)
    fn = half(fn)
    sn = half(sn)
  }
  return sn === 0 ? root : null
}

/** RFC 9162 section 2.1.4.2: is the second tree the first one with leaves appended? */
export function consistent(oldSize: number, oldRoot: Hash, size: number, root: Hash, proof: readonly Hash[]): boolean {
  if (oldSize > size) return false
  if (oldSize === 0) return proof.length === 0 && oldRoot === EMPTY_ROOT
  if (oldSize === size) return proof.length === 0 && oldRoot === root
  const power = Number.isInteger(Math.log2(oldSize)) && 2 ** Math.log2(oldSize) === oldSize
  const [first, ...rest] = power ? [oldRoot, ...proof] : proof
  if (first === undefined) return false
  let fn = oldSize - 1
  let sn = size - 1
  while (fn % 2 === 1) {
    fn = half(fn)
    sn = half(sn)
  }
  let fr = first
  let sr = first
  for (const c of rest) {
    if (sn === 0) return false
    if (fn % 2 === 1 || fn === sn) {
      fr = nodeHash(c, fr)
      sr = nodeHash(c, sr)
      while (fn % 2 === 0 && fn !== 0) {
        fn = half(fn)
        sn = half(sn)
      }
    } else sr = nodeHash(sr, c)
    fn = half(fn)
    sn = half(sn)
  }
  return sn === 0 && fr === oldRoot && sr === root
}

function half(n: number): number {
  return Math.floor(n / 2)
}

/** What a proof needs besides the path: FORMAT.md, "Proof". Lines are records without their newline. */
export interface ProofParts {
  readonly genesis: string
  readonly genesisPath: readonly Hash[]
  /** The seal of epoch 0. */
  readonly seal: string
  readonly record: string
  readonly index: number
  readonly path: readonly Hash[]
  /** A whole signed note. */
  readonly checkpoint: string
}

export function formatProof(parts: ProofParts): string {
  const base64 = (value: Hash): string => Buffer.from(value, 'latin1').toString('base64')
  const extra = JSON.stringify({ genesis: parts.genesis, genesis_proof: parts.genesisPath.map(base64), record: parts.record, seal: parts.seal })
  return `c2sp.org/tlog-proof@v1\nextra ${Buffer.from(extra).toString('base64')}\nindex ${parts.index}\n${parts.path.map((one) => `${base64(one)}\n`).join('')}\n${parts.checkpoint}`
}

export interface Proved {
  readonly index: number
  readonly genesis: Genesis
  readonly record: string
  readonly checkpoint: Checkpoint
}

const PROOF = /^c2sp\.org\/tlog-proof@v1\nextra ([A-Za-z0-9+/]+={0,2})\nindex (0|[1-9][0-9]{0,15})\n((?:[A-Za-z0-9+/]{43}=\n){0,63})\n([\s\S]*)$/

/**
 * From the first key to the record: it signed the first seal, which covers the first record, which names the log key, which
 * signed the checkpoint, whose tree holds the record.
 * @param text attacker-controlled @param pin fingerprint of the first key; without it anybody could have made the whole
 * @returns what was proved, or what is wrong
 */
export function checkProof(text: string, pin: string | null): Proved | string {
  const match = text.length > MAX_PROOF_BYTES ? null : PROOF.exec(text)
  const carried = match === null ? null : readExtra(match[1] ?? '')
  if (match === null || carried === null) return 'it is no proof that Cordon wrote (c2sp.org/tlog-proof with its extra data)'
  const index = Number(match[2])
  const path = hashes((match[3] ?? '').split('\n').slice(0, -1))
  const checkpoint = parseCheckpoint(match[4] ?? '')
  const [first, seal, record] = [carried.genesis, carried.seal, carried.record].map(open)
  if (first == null || seal == null || record == null) return 'what it carries are no records'
  const genesis = first.type === 'log.created' && first.seq === 0 ? genesisOf(first.data) : null
  if (genesis === null || checkpoint === null || path === null) return 'it does not hold together: no log.created, checkpoint or hashes'
  if (pin !== null && genesis.fingerprint !== pin) return `it is of the log with the first key ${genesis.fingerprint}, expected ${pin}`
  const claims = seal.type === 'seal' ? sealOf(seal.data) : null
  if (claims === null || claims.epoch !== 0 || !sealSigned(Buffer.from(carried.seal), claims.sig, genesis.firstKey)) return 'its first seal is not signed by the first key'
  if (rootOfPath(leafOf(carried.genesis), 0, claims.size, carried.genesisPath) !== fromHex(claims.root)) return 'its first seal does not cover its first record'
  if (checkpoint.origin !== genesis.origin || !signedBy(checkpoint, genesis.origin, genesis.logKey)) return 'its checkpoint is not signed by the log key'
  const root = rootOfPath(leafOf(carried.record), index, checkpoint.size, path)
  if (record.seq !== index || root === null || toHex(root) !== checkpoint.root) return 'the record is not at that place in the log that the checkpoint is of'
  return { index, genesis, record: carried.record, checkpoint }
}

export function leafOf(line: string): Hash {
  return leafHash(Buffer.from(`\0${line}`))
}

/** @param line the whole record @param sig hex, as it stands in the record */
export function sealSigned(line: Buffer, sig: string, key: Uint8Array): boolean {
  const cut = Buffer.from(`"sig":"${sig}",`)
  const at = line.indexOf(cut)
  return at >= 0 && verifies(key, Buffer.concat([Buffer.from('cordon-seal/v1\n'), line.subarray(0, at), line.subarray(at + cut.length)]), Buffer.from(sig, 'hex'))
}

function readExtra(base64: string): { readonly genesis: string; readonly genesisPath: readonly Hash[]; readonly record: string; readonly seal: string } | null {
  let value: unknown
  try {
    value = JSON.parse(strictBase64(base64)?.toString('utf8') ?? '')
  } catch {
    return null // not JSON: the caller says that the extra data is not what a proof carries
  }
  if (typeof value !== 'object' || value === null || Object.keys(value).sort().join() !== 'genesis,genesis_proof,record,seal') return null
  const { genesis, genesis_proof: proof, record, seal } = value as Record<string, unknown>
  if (typeof genesis !== 'string' || typeof record !== 'string' || typeof seal !== 'string' || !Array.isArray(proof) || proof.length > MAX_PROOF_HASHES) return null
  const genesisPath = hashes(proof as unknown[])
  return genesisPath === null ? null : { genesis, genesisPath, record, seal }
}

function hashes(texts: readonly unknown[]): Hash[] | null {
  const found: Hash[] = []
  for (const text of texts) {
    const bytes = typeof text === 'string' ? strictBase64(text) : null
    if (bytes?.length !== 32) return null
    found.push(bytes.toString('latin1'))
  }
  return found
}

/** @returns null when the line is no record */
function open(line: string): { readonly seq: number; readonly type: string; readonly data: Readonly<Record<string, unknown>> } | null {
  const bytes = Buffer.from(`${line}\n`)
  if (bytes.length > 65_536 || !new RecordScanner().scan(bytes, 0, bytes.length - 1)) return null
  return JSON.parse(line) as { seq: number; type: string; data: Record<string, unknown> }
}
