import { createHash, createPublicKey, verify } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { canonicalJson } from '../../src/base/canonical-json.ts'
import { tilePath } from '../../src/audit/tiles.ts'

/*
 * What FORMAT.md demands of a log on the disk, checked by the plainest code: for the tests of the writer. What a verifier makes of a log
 * that was changed is none of its business.
 */
export interface Found {
  /** What contradicts the format. Empty: nothing. */
  readonly problems: string[]
  readonly records: readonly Rec[]
  readonly seals: readonly Rec[]
  /** Torn regions that a `gap` record vouches for, and whether the log ends in one that nobody told of yet. */
  readonly tornTold: number
  readonly tornEnd: boolean
  readonly segments: readonly number[]
}

export interface Rec {
  readonly seq: number
  readonly type: string
  readonly prev: string
  readonly boot: string
  readonly mono_ms: number
  readonly data: Readonly<Record<string, unknown>>
}

const sha = (...parts: Uint8Array[]): Buffer => createHash('sha256').update(Buffer.concat(parts)).digest()

/** @param first records before it were pruned */
export function examine(dir: string): Found {
  const problems: string[] = []
  const records: Rec[] = []
  const leaves: Buffer[] = []
  const names = existsSync(join(dir, 'records')) ? readdirSync(join(dir, 'records')).sort() : []
  let prev = '0'.repeat(64)
  let tornTold = 0
  let tornEnd = false
  for (const name of names) {
    const bytes = readFileSync(join(dir, 'records', name))
    if (Number(name.slice(0, 16)) !== records.length) problems.push(`${name} begins with record ${records.length}`)
    if (records.length > 0 && records.at(-1)?.type !== 'seal') problems.push(`${name} does not begin behind a seal`)
    let torn = -1
    for (let at = 0; at < bytes.length; ) {
      const newline = bytes.indexOf(0x0a, at)
      const line = bytes.subarray(at, newline < 0 ? bytes.length : newline)
      const record = parse(line)
      if (record !== null && record.seq === records.length && record.prev === prev) {
        if (torn >= 0) {
          const told = record.data['torn'] as { offset?: number; bytes?: number; sha256?: string } | undefined
          const region = bytes.subarray(torn, torn + (told?.bytes ?? 0))
          if (record.type !== 'gap' || told?.offset !== torn || told.sha256 !== createHash('sha256').update(region).digest('hex')
            || (torn + region.length !== at && torn + region.length + 1 !== at)) problems.push(`${name}: nobody tells of the torn bytes at ${torn}`)
          else tornTold += 1
          torn = -1
        }
        const last = records.at(-1)
        if (last !== undefined && last.boot === record.boot && last.mono_ms > record.mono_ms) problems.push(`record ${record.seq}: mono_ms falls`)
        if (canonicalJson(record) !== line.toString()) problems.push(`record ${record.seq} is not canonical`)
        records.push(record)
        leaves.push(sha(Buffer.of(0), line))
        prev = leaves.at(-1)?.toString('hex') ?? ''
      } else if (torn < 0) torn = at
      at = newline < 0 ? bytes.length : newline + 1
    }
    if (torn >= 0) tornEnd = true
    if (torn >= 0 && name !== names.at(-1)) problems.push(`${name} ends with torn bytes`)
  }
  const seals = records.filter(({ type }) => type === 'seal')
  if (records[0] !== undefined && records[0].type !== 'log.created') problems.push('the first record is not log.created')
  problems.push(...sealProblems(records, seals, leaves), ...checkpointProblems(dir, records, seals, leaves))
  return { problems, records, seals, tornTold, tornEnd, segments: names.map((name) => Number(name.slice(0, 16))) }
}

function parse(line: Buffer): Rec | null {
  try {
    const value = JSON.parse(line.toString()) as Rec | null
    return value !== null && typeof value.seq === 'number' && typeof value.data === 'object' ? value : null
  } catch {
    return null
  }
}

function sealProblems(records: readonly Rec[], seals: readonly Rec[], leaves: readonly Buffer[]): string[] {
  const problems: string[] = []
  let key = String(records[0]?.data['first_key'])
  let before = '0'.repeat(64)
  for (const [epoch, seal] of seals.entries()) {
    const { sig, ...data } = seal.data
    const say = (what: string): number => problems.push(`seal ${epoch} at ${seal.seq}: ${what}`)
    if (data['epoch'] !== epoch || data['size'] !== seal.seq) say(`epoch ${String(data['epoch'])}, size ${String(data['size'])}`)
    if (data['prev_seal'] !== before) say('prev_seal')
    if (data['root'] !== rootOf(leaves.slice(0, seal.seq)).toString('hex')) say('root')
    const signed = Buffer.from(`cordon-seal/v1\n${canonicalJson({ ...seal, data })}`)
    if (!verify(null, signed, publicKey(key), Buffer.from(String(sig), 'hex'))) say('signature')
    key = String(data['next_key'])
    before = leaves[seal.seq]?.toString('hex') ?? ''
  }
  return problems
}

function checkpointProblems(dir: string, records: readonly Rec[], seals: readonly Rec[], leaves: readonly Buffer[]): string[] {
  if (!existsSync(join(dir, 'checkpoint'))) return []
  const note = readFileSync(join(dir, 'checkpoint'), 'utf8')
  const split = note.indexOf('\n\n')
  const text = note.slice(0, split + 1)
  const [origin = '', sizeText = '', root = ''] = text.split('\n')
  const size = Number(sizeText)
  const problems: string[] = []
  if (origin !== records[0]?.data['origin']) problems.push('checkpoint: origin')
  const seal = seals.find(({ seq }) => seq === size - 1)
  if (seal === undefined) return [...problems, `checkpoint: size ${size} ends with no seal`]
  if (root !== rootOf(leaves.slice(0, size)).toString('base64')) problems.push('checkpoint: root')
  const expected: readonly [string, string][] = [[origin, String(records[0]?.data['log_key'])], [`${origin}/epoch`, String(seal.data['next_key'])]]
  const lines = note.slice(split + 2).split('\n').slice(0, -1)
  for (const [i, [name, key]] of expected.entries()) {
    const match = /^— (\S+) (\S+)$/.exec(lines[i] ?? '')
    const bytes = Buffer.from(match?.[2] ?? '', 'base64')
    const id = sha(Buffer.from(`${name}\n`), Buffer.of(1), Buffer.from(key, 'hex')).subarray(0, 4)
    if (match?.[1] !== name || !bytes.subarray(0, 4).equals(id) || !verify(null, Buffer.from(text), publicKey(key), bytes.subarray(4))) problems.push(`checkpoint: signature ${i}`)
  }
  return [...problems, ...tileProblems(dir, leaves.slice(0, size))]
}

function tileProblems(dir: string, leaves: readonly Buffer[]): string[] {
  const problems: string[] = []
  for (let level = 0, hashes = leaves; hashes.length > 0; level++) {
    const next: Buffer[] = []
    for (let index = 0; index * 256 < hashes.length; index++) {
      const tile = hashes.slice(index * 256, index * 256 + 256)
      const path = join(dir, 'tile', tilePath(level, index, tile.length))
      if (!existsSync(path) || !readFileSync(path).equals(Buffer.concat(tile))) problems.push(`tile ${path} is missing or wrong`)
      if (tile.length === 256) next.push(rootOf(tile))
    }
    hashes = next
  }
  return problems
}

/** RFC 6962 section 2.1. */
export function rootOf(leaves: readonly Buffer[]): Buffer {
  if (leaves.length <= 1) return leaves[0] ?? sha()
  let k = 1
  while (k * 2 < leaves.length) k *= 2
  return sha(Buffer.of(1), rootOf(leaves.slice(0, k)), rootOf(leaves.slice(k)))
}

function publicKey(hex: string) {
  return createPublicKey({ key: Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), Buffer.from(hex, 'hex')]), format: 'der', type: 'spki' })
}
