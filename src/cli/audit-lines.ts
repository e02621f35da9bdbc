import type { FileHandle } from 'node:fs/promises'

const BLOCK_BYTES = 64 * 1024
/** How far back `audit tail` looks for lines that fit its filter. */
export const LOOK_BACK_BYTES = 256 * 1024 * 1024
/** A longer line is no record; it is passed on cut, and the reader shows it as such. */
const LINE_BYTES = 65_535

/** Whole lines before `end`, newest first, without their newlines. What stands behind the last newline is left out. */
export async function* linesBackward(handle: FileHandle, end: number): AsyncGenerator<string> {
  const floor = Math.max(0, end - LOOK_BACK_BYTES)
  let rest: Buffer = Buffer.alloc(0)
  let sawNewline = false
  for (let at = end; at > floor; ) {
    const from = Math.max(floor, at - BLOCK_BYTES)
    const block = Buffer.alloc(at - from)
    const { bytesRead } = await handle.read(block, 0, block.length, from)
    if (bytesRead < block.length) return // the file was cut underneath
    at = from
    rest = Buffer.concat([block, rest])
    for (let newline = rest.lastIndexOf(0x0a); newline >= 0; newline = rest.lastIndexOf(0x0a)) {
      if (sawNewline) yield text(rest.subarray(newline + 1))
      sawNewline = true
      rest = rest.subarray(0, newline)
    }
    if (rest.length > 2 * LINE_BYTES) rest = rest.subarray(0, LINE_BYTES)
  }
  if (sawNewline && floor === 0) yield text(rest)
}

/** Whole lines from `start` on, oldest first, and where the last of them ends. */
export async function linesForward(handle: FileHandle, start: number): Promise<{ readonly lines: string[]; readonly next: number }> {
  const block = Buffer.alloc(16 * BLOCK_BYTES)
  const { bytesRead } = await handle.read(block, 0, block.length, start)
  const last = block.subarray(0, bytesRead).lastIndexOf(0x0a)
  if (last < 0) return { lines: [], next: bytesRead === block.length ? start + bytesRead : start } // a whole block without a newline is no record: passed over
  const lines = []
  for (let at = 0; at <= last; ) {
    const newline = block.indexOf(0x0a, at)
    lines.push(text(block.subarray(at, newline)))
    at = newline + 1
  }
  return { lines, next: start + last + 1 }
}

function text(bytes: Buffer): string {
  return bytes.subarray(0, LINE_BYTES).toString('utf8')
}
