import type { LogFile } from './log-file.ts'

/** What a log is gone on with needs of a record; whether it is a good one is the verifier's question. */
export interface RecordHead {
  readonly seq: number
  readonly prev: string
  readonly boot: string
  readonly mono_ms: number
  readonly time: string
  readonly type: string
  readonly data: Readonly<Record<string, unknown>>
}

/** The newest seal. */
export interface LastSeal {
  readonly epoch: number
  readonly seq: number
  /** Leaf hash of the seal. */
  readonly hash: string
  /** Hex, the public key of the next epoch. */
  readonly nextKey: string
  readonly why: string
}

/** @returns null for what is no record: the caller looks further and vouches for these bytes */
export function parseHead(line: Buffer): RecordHead | null {
  try {
    const value = JSON.parse(line.toString('utf8')) as Partial<RecordHead> | null
    if (value === null || typeof value.boot !== 'string' || typeof value.prev !== 'string' || typeof value.type !== 'string') return null
    if (!Number.isSafeInteger(value.seq) || !Number.isSafeInteger(value.mono_ms) || typeof value.data !== 'object') return null
    return value as RecordHead
  } catch {
    return null // as said above
  }
}

/** @param leaf hash of the record @returns null where it is no seal */
export function sealOf({ type, seq, data }: RecordHead, leaf: string): LastSeal | null {
  const { epoch, next_key: nextKey, why } = data
  if (type !== 'seal' || typeof epoch !== 'number' || typeof nextKey !== 'string' || typeof why !== 'string') return null
  return { epoch, seq, hash: leaf, nextKey, why }
}

/** @returns the head of the first record in a segment; null where none is there, or no whole one */
export async function firstHead(file: LogFile): Promise<RecordHead | null> {
  const bytes = await file.read(0, 65_536)
  const end = bytes.indexOf(0x0a)
  return parseHead(bytes.subarray(0, end < 0 ? bytes.length : end))
}
