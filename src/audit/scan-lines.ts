import type { LogFile } from './log-file.ts'

/** One line that ends with a newline, without it. */
export interface ScannedLine {
  readonly bytes: Buffer
  /** Of its first byte, and behind its newline. */
  readonly start: number
  readonly end: number
}

const BLOCK_BYTES = 64 * 1024
const MAX_BLOCK_BYTES = 1024 * 1024

/**
 * The finished lines of `file` up to `size`, in either direction; what stands behind the last newline is left out. A line may be as long
 * as what a crash tears; lines are the caller's to judge.
 * @param from where to begin, forward: the start of a line
 */
export async function* scanLines(file: LogFile, size: number, direction: 'forward' | 'backward', from = 0): AsyncGenerator<ScannedLine> {
  yield* direction === 'forward' ? forward(file, size, from) : backward(file, size)
}

async function* forward(file: LogFile, size: number, from: number): AsyncGenerator<ScannedLine> {
  let rest: Buffer = Buffer.alloc(0)
  let restAt = from
  for (let at = from, block = BLOCK_BYTES; at < size; block = Math.min(MAX_BLOCK_BYTES, block * 4)) {
    const bytes = await file.read(at, Math.min(block, size - at))
    if (bytes.length === 0) return
    at += bytes.length
    const all = rest.length === 0 ? bytes : Buffer.concat([rest, bytes])
    let start = 0
    for (let newline = all.indexOf(0x0a, rest.length); newline >= 0; newline = all.indexOf(0x0a, start)) {
      yield { bytes: all.subarray(start, newline), start: restAt + start, end: restAt + newline + 1 }
      start = newline + 1
    }
    rest = all.subarray(start)
    restAt += start
  }
}

async function* backward(file: LogFile, size: number): AsyncGenerator<ScannedLine> {
  /** From `at` up to the newline that ends it; null before the first newline was seen. */
  let rest: Buffer = Buffer.alloc(0)
  let end: number | null = null
  for (let at = size, block = BLOCK_BYTES; at > 0; block = Math.min(MAX_BLOCK_BYTES, block * 4)) {
    const from = Math.max(0, at - block)
    const bytes = await file.read(from, at - from)
    if (bytes.length < at - from) return // cut underneath: the caller compares sizes
    at = from
    rest = Buffer.concat([bytes, rest])
    for (let newline = rest.lastIndexOf(0x0a); newline >= 0; newline = rest.lastIndexOf(0x0a)) {
      if (end !== null) yield { bytes: rest.subarray(newline + 1), start: at + newline + 1, end }
      end = at + newline + 1
      rest = rest.subarray(0, newline)
    }
  }
  if (end !== null) yield { bytes: rest, start: 0, end }
}
