import { BatchEncoder } from '../../src/audit/encode.ts'
import type { PreparedEntry } from '../../src/audit/entry.ts'

const encoder = new BatchEncoder()

/** One record as the log writes it, without its newline, and its leaf hash. @param prev hex hash of the record before it */
export function chained(entry: PreparedEntry, seq: number, prev: string): { readonly bytes: Buffer; readonly hash: string } {
  const { bytes, hash } = encoder.encode([entry], seq, prev, false)
  return { bytes: Buffer.from(bytes.subarray(0, -1)), hash }
}
