import { createHash } from 'node:crypto'
import { CordonError } from '../errors.ts'
import { entryHash, GENESIS_HASH } from './entry.ts'
import type { LogFile } from './log-file.ts'

/** Where an existing log ends, and what stands behind its last whole record. */
export interface LogTail {
  readonly nextSeq: number
  readonly lastHash: string
  readonly boot: string | null
  readonly monoMs: number
  readonly torn: Torn | null
}

/** Bytes that are no record: a crash in the middle of a write. They stay where they are; a `gap` record vouches for them. */
export interface Torn {
  readonly offset: number
  readonly bytes: number
  /** Hex SHA-256 of those bytes. */
  readonly sha256: string
  readonly endsLine: boolean
}

/** A commit writes at most MAX_BATCH_BYTES (log.ts), so this always reaches back to the record before two torn ones. */
export const TAIL_BYTES = 4 * 1024 * 1024

/**
 * @param size length of the file as the caller found it
 * @throws CordonError AUDIT_UNAVAILABLE when no whole record is within TAIL_BYTES of the end
 */
export async function readTail(file: LogFile, size: number): Promise<LogTail> {
  const from = Math.max(0, size - TAIL_BYTES)
  const bytes = await file.read(from, size - from)
  for (let end = bytes.lastIndexOf(0x0a); end >= 0; end = end === 0 ? -1 : bytes.lastIndexOf(0x0a, end - 1)) {
    const start = end === 0 ? 0 : bytes.lastIndexOf(0x0a, end - 1) + 1
    if (start === 0 && from > 0) break // its beginning is not in the window
    const line = bytes.subarray(start, end)
    const head = parseHead(line)
    if (head === null) continue
    return { nextSeq: head.seq + 1, lastHash: entryHash(line), boot: head.boot, monoMs: head.mono_ms, torn: describeTorn(bytes.subarray(end + 1), from + end + 1) }
  }
  if (from > 0) throw new CordonError('AUDIT_UNAVAILABLE', `the last ${TAIL_BYTES} bytes of the log hold no whole record; it does not end where Cordon stopped writing`)
  return { nextSeq: 0, lastHash: GENESIS_HASH, boot: null, monoMs: 0, torn: describeTorn(bytes, 0) }
}

function describeTorn(bytes: Buffer, offset: number): Torn | null {
  if (bytes.length === 0) return null
  return { offset, bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex'), endsLine: bytes.at(-1) === 0x0a }
}

interface Head { readonly seq: number; readonly boot: string; readonly mono_ms: number }

function parseHead(line: Buffer): Head | null {
  try {
    const value = JSON.parse(line.toString('utf8')) as Partial<Head> | null
    if (value === null || typeof value.boot !== 'string') return null
    const { seq, boot, mono_ms } = value
    return Number.isSafeInteger(seq) && Number.isSafeInteger(mono_ms) ? { seq: seq as number, boot, mono_ms: mono_ms as number } : null
  } catch {
    return null // not a record: the caller looks further back and vouches for these bytes
  }
}
