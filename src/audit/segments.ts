import { constants } from 'node:fs'
import { open, readdir, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'

/*
 * Reading a log in the order it was written, across its segments (FORMAT.md). It shows and does not judge: what was changed looks
 * like any other line here; `audit verify` tells, and shares none of this.
 */
export const RECORDS_DIR = 'records'
const NAME = /^(\d{16})\.jsonl$/

export interface Segment {
  /** `seq` of its first record, and its name. */
  readonly first: number
  readonly path: string
}

/** A place between two lines. It stays valid while the log grows; where its segment was pruned, the oldest one left follows. */
export interface Cursor {
  readonly segment: number
  /** Bytes from the segment's start. */
  readonly offset: number
}

const LOG_START: Cursor = { segment: 0, offset: 0 }

/** Whole lines, each with its newline. */
export interface Block {
  readonly segment: number
  /** Of `bytes` in that segment. */
  readonly offset: number
  /** Valid until the reader's next call. */
  readonly bytes: Buffer
}

export interface LogLine {
  /** Without its newline; cut after LINE_BYTES: a longer one is no record, and the reader shows it as such. */
  readonly text: string
  readonly at: Cursor
  /** Its whole length, without its newline. */
  readonly bytes: number
}

const LINE_BYTES = 65_535
const BLOCK_BYTES = 1024 * 1024
const BACK_BLOCK_BYTES = 64 * 1024
/** How far back `linesBackward` goes. */
const LOOK_BACK_BYTES = 256 * 1024 * 1024

export function segmentName(first: number): string {
  return `${String(first).padStart(16, '0')}.jsonl`
}

/** @returns null for another file */
export function segmentFirst(name: string): number | null {
  const digits = NAME.exec(name)?.[1]
  return digits === undefined ? null : Number(digits)
}

/**
 * @param dir `<stateDir>/audit`
 * @returns oldest first, at least one
 * @throws CordonError AUDIT_NOT_FOUND, AUDIT_UNAVAILABLE
 */
export async function listSegments(dir: string): Promise<Segment[]> {
  const place = join(dir, RECORDS_DIR)
  const names = await readdir(place).catch((error: unknown) => {
    throw notReadable(error, place)
  })
  const segments = names.flatMap((name) => {
    const first = segmentFirst(name)
    return first === null ? [] : [{ first, path: join(place, name) }]
  })
  if (segments.length === 0) throw new CordonError('AUDIT_NOT_FOUND', `there is no audit log in ${printable(place)}`)
  return segments.sort((a, b) => a.first - b.first)
}

/** Behind the last whole line. A record that is just being written comes after it. */
export async function endOfLog(dir: string): Promise<Cursor> {
  const newest = (await listSegments(dir)).at(-1)
  if (newest === undefined) return LOG_START
  const handle = await openSegment(newest.path)
  try {
    const { size } = await handle.stat()
    const from = Math.max(0, size - LINE_BYTES - 1)
    const block = Buffer.alloc(size - from)
    await handle.read(block, 0, block.length, from)
    return { segment: newest.first, offset: from + block.lastIndexOf(0x0a) + 1 }
  } finally {
    await handle.close()
  }
}

/** The log from one place on, a block at a time; at its end it can be asked again for what was written since. */
export class LogReader {
  readonly #dir: string
  #at: Cursor
  #handle: FileHandle | null = null
  #buffer: Buffer | null = null

  constructor(dir: string, from: Cursor = LOG_START) {
    this.#dir = dir
    this.#at = from
  }

  /** Behind what `next` returned last. */
  get cursor(): Cursor {
    return this.#at
  }

  /** @returns null at the end, for now @throws CordonError AUDIT_NOT_FOUND, AUDIT_UNAVAILABLE */
  async next(): Promise<Block | null> {
    for (;;) {
      const handle = this.#handle ?? (await this.#open())
      const block = await this.#read(handle)
      if (block !== null) return block
      const newer = (await listSegments(this.#dir)).find(({ first }) => first > this.#at.segment)
      if (newer === undefined) return null
      const last = await this.#read(handle) // written before the newer one was begun
      if (last !== null) return last
      await this.close()
      this.#at = { segment: newer.first, offset: 0 }
    }
  }

  /** What is read is no longer what lies there (replaced, or cut): begin anew. @returns whether it was */
  async restartIfReplaced(): Promise<boolean> {
    if (this.#handle === null) return false
    // Gone or not to be had for now: what was open stays open, and the next look may find it.
    const there = await openSegment(join(this.#dir, RECORDS_DIR, segmentName(this.#at.segment))).catch(() => null)
    if (there === null) return false
    const [mine, now] = await Promise.all([this.#handle.stat({ bigint: true }), there.stat({ bigint: true })]).finally(() => there.close())
    if (now.ino === mine.ino && now.dev === mine.dev && Number(now.size) >= this.#at.offset) return false
    await this.close()
    this.#at = LOG_START
    return true
  }

  async close(): Promise<void> {
    await this.#handle?.close()
    this.#handle = null
  }

  async #open(): Promise<FileHandle> {
    const segments = await listSegments(this.#dir)
    const wanted = segments.find(({ first }) => first >= this.#at.segment)
    if (wanted === undefined) throw new CordonError('AUDIT_NOT_FOUND', `there is no segment ${segmentName(this.#at.segment)} in ${printable(this.#dir)}`)
    if (wanted.first !== this.#at.segment) this.#at = { segment: wanted.first, offset: 0 } // pruned
    return (this.#handle = await openSegment(wanted.path))
  }

  async #read(handle: FileHandle): Promise<Block | null> {
    const { segment, offset } = this.#at
    const buffer = (this.#buffer ??= Buffer.alloc(BLOCK_BYTES))
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, offset)
    const last = buffer.subarray(0, bytesRead).lastIndexOf(0x0a)
    if (last < 0 && bytesRead < buffer.length) return null
    // A whole block without a newline is no record: passed over.
    const bytes = buffer.subarray(0, last < 0 ? 0 : last + 1)
    this.#at = { segment, offset: offset + (last < 0 ? bytesRead : bytes.length) }
    return { segment, offset, bytes }
  }
}

export function* linesOf({ segment, offset, bytes }: Block): Generator<LogLine> {
  for (let at = 0; at < bytes.length; ) {
    const end = bytes.indexOf(0x0a, at)
    yield { text: text(bytes.subarray(at, end)), at: { segment, offset: offset + at }, bytes: end - at }
    at = end + 1
  }
}

/** Whole lines before `end` (which is behind a newline), newest first, LOOK_BACK_BYTES far. */
export async function* linesBackward(dir: string, end: Cursor): AsyncGenerator<string> {
  let left = LOOK_BACK_BYTES
  const segments = await listSegments(dir)
  for (const { first, path } of segments.reverse()) {
    if (first > end.segment || left <= 0) continue
    const handle = await openSegment(path)
    try {
      const size = first === end.segment ? end.offset : (await handle.stat()).size
      yield* backwardIn(handle, size, Math.max(0, size - left))
      left -= size
    } finally {
      await handle.close()
    }
  }
}

async function* backwardIn(handle: FileHandle, end: number, floor: number): AsyncGenerator<string> {
  let rest: Buffer = Buffer.alloc(0)
  let sawNewline = false
  for (let at = end; at > floor; ) {
    const from = Math.max(floor, at - BACK_BLOCK_BYTES)
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

function text(bytes: Buffer): string {
  return bytes.subarray(0, LINE_BYTES).toString('utf8')
}

/** @throws CordonError AUDIT_NOT_FOUND, AUDIT_UNAVAILABLE */
export async function openSegment(path: string): Promise<FileHandle> {
  try {
    // O_NONBLOCK: a named pipe in place of a segment must not make the command wait for a writer.
    const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    if ((await handle.stat()).isFile()) return handle
    await handle.close()
    throw new CordonError('AUDIT_UNAVAILABLE', `${printable(path)} is not a regular file`)
  } catch (error) {
    throw notReadable(error, path)
  }
}

function notReadable(error: unknown, path: string): CordonError {
  if (error instanceof CordonError) return error
  const code = (error as NodeJS.ErrnoException).code
  if (code === 'ENOENT') return new CordonError('AUDIT_NOT_FOUND', `there is no audit log at ${printable(path)}`, { cause: error })
  return new CordonError('AUDIT_UNAVAILABLE', `cannot read ${printable(path)}: ${code ?? 'error'}${code === 'EACCES' ? '; only root may read it' : ''}`, { cause: error })
}
