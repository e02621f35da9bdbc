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
  /** The last record is whole but for its newline, which the next commit writes first. */
  readonly unended: boolean
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
    return beyond(bytes.subarray(end + 1), from + end + 1, { nextSeq: head.seq + 1, lastHash: entryHash(line), boot: head.boot, monoMs: head.mono_ms })
  }
  if (from > 0) throw new CordonError('AUDIT_UNAVAILABLE', `the last ${TAIL_BYTES} bytes of the log hold no whole record; it does not end where Cordon stopped writing`)
  return beyond(bytes, 0, { nextSeq: 0, lastHash: GENESIS_HASH, boot: null, monoMs: 0 })
}

/** What stands behind the last line that is a record: nothing, one more record that lacks its newline, or torn bytes. */
function beyond(rest: Buffer, offset: number, end: Omit<LogTail, 'torn' | 'unended'>): LogTail {
  if (rest.length === 0) return { ...end, torn: null, unended: false }
  const head = parseHead(rest)
  if (head !== null && head.seq === end.nextSeq && head.prev === end.lastHash && rest.at(-1) !== 0x0a) {
    return { nextSeq: head.seq + 1, lastHash: entryHash(rest), boot: head.boot, monoMs: head.mono_ms, torn: null, unended: true }
  }
  const torn = { offset, bytes: rest.length, sha256: createHash('sha256').update(rest).digest('hex'), endsLine: rest.at(-1) === 0x0a }
  return { ...end, torn, unended: false }
}

interface Head { readonly seq: number; readonly prev: string; readonly boot: string; readonly mono_ms: number }

function parseHead(line: Buffer): Head | null {
  try {
    const value = JSON.parse(line.toString('utf8')) as Partial<Head> | null
    if (value === null || typeof value.boot !== 'string' || typeof value.prev !== 'string') return null
    const { seq, prev, boot, mono_ms } = value
    return Number.isSafeInteger(seq) && Number.isSafeInteger(mono_ms) ? { seq: seq as number, prev, boot, mono_ms: mono_ms as number } : null
  } catch {
    return null // not a record: the caller looks further back and vouches for these bytes
  }
}
