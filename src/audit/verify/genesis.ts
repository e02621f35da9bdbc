import { fingerprint, originOf } from './keys.ts'
import { RecordScanner } from './scan.ts'

/** What the first record says; believed as far as the first seal covers it and the operator pinned its key. */
export interface Genesis {
  readonly firstKey: Buffer
  readonly logKey: Buffer
  readonly origin: string
  readonly fingerprint: string
  readonly intervalS: number
}

/** @param line attacker-controlled @returns null when it is no `log.created` record */
export function readGenesis(line: Buffer): Genesis | null {
  const padded = Buffer.concat([line, Buffer.of(0x0a)])
  const scanner = new RecordScanner()
  if (!scanner.scan(padded, 0, line.length) || scanner.seq !== 0) return null
  const record = JSON.parse(line.toString('utf8')) as { readonly type: string; readonly data: Readonly<Record<string, unknown>> }
  return record.type === 'log.created' ? genesisOf(record.data) : null
}

export function genesisOf(data: Readonly<Record<string, unknown>>): Genesis | null {
  const { first_key: first, interval_s: intervalS, log_key: log, origin } = data
  if (Object.keys(data).length !== 4 || !isKey(first) || !isKey(log) || !isInterval(intervalS)) return null
  const firstKey = Buffer.from(first, 'hex')
  return origin === originOf(firstKey) ? { firstKey, logKey: Buffer.from(log, 'hex'), origin, fingerprint: fingerprint(firstKey), intervalS } : null
}

/** A seal's own claims, in the shape that FORMAT.md gives them. */
export interface SealData {
  readonly epoch: number
  readonly intervalS: number
  readonly nextKey: string
  readonly prevSeal: string
  readonly root: string
  readonly sig: string
  readonly size: number
  readonly why: string
}

const WHYS = ['open', 'interval', 'count', 'rotate', 'close', 'ask']

export function sealOf(data: Readonly<Record<string, unknown>>): SealData | null {
  const { epoch, interval_s: intervalS, next_key: nextKey, prev_seal: prevSeal, root, sig, size, why } = data
  if (Object.keys(data).length !== 8 || !isCount(epoch) || !isCount(size) || !isInterval(intervalS)) return null
  if (!isKey(nextKey) || !isKey(prevSeal) || !isKey(root) || typeof sig !== 'string' || !/^[0-9a-f]{128}$/.test(sig)) return null
  return typeof why === 'string' && WHYS.includes(why) ? { epoch, intervalS, nextKey, prevSeal, root, sig, size, why } : null
}

export interface PrunedData {
  readonly first: number
  readonly next: number
  readonly lastLeaf: string
}

export function prunedOf(data: Readonly<Record<string, unknown>>): PrunedData | null {
  const { bytes, first, last_leaf: lastLeaf, next, sha256 } = data
  if (Object.keys(data).length !== 5 || !isCount(bytes) || !isCount(first) || !isCount(next) || !isKey(lastLeaf) || !isKey(sha256)) return null
  return first < next ? { first, next, lastLeaf } : null
}

/** 32 bytes as hex: a key or a hash. */
function isKey(value: unknown): value is string {
  return typeof value === 'string' && /^[0-9a-f]{64}$/.test(value)
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

function isInterval(value: unknown): value is number {
  return isCount(value) && value >= 1 && value <= 86_400
}
