import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'

/** Longest line that can still be told from damage of other kinds; a commit of the writer is at most 1 MiB. */
const WINDOW_BYTES = 4 * 1024 * 1024

/**
 * Lines of one file, one after another, out of one reused window. The byte before each line may be overwritten: it is the
 * newline before it (or spare), and becomes the 0x00 of RFC 6962's leaf hash without a copy.
 */
export class LineReader {
  readonly buffer: Buffer
  /** The current line in `buffer`, without its newline. */
  start = 1
  end = 1
  /** Of the current line in the file; its number counts from 1. */
  offset = 0
  number = 0
  readonly #fd: number
  readonly #limit: number
  #next = 1
  #filled = 1
  #read = 0

  /** @param limit bytes of the file that count; what is appended later is not looked at. @throws errno errors; ENOTSUP when it is no regular file */
  constructor(path: string, limit = Number.MAX_SAFE_INTEGER, windowBytes = WINDOW_BYTES) {
    // O_NONBLOCK: a FIFO in place of the file must not hold us up.
    this.#fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    const stats = fstatSync(this.#fd)
    if (!stats.isFile()) {
      closeSync(this.#fd)
      throw Object.assign(new Error(`${path} is no regular file`), { code: 'ENOTSUP' })
    }
    this.#limit = Math.min(limit, stats.size)
    this.buffer = Buffer.allocUnsafe(Math.min(windowBytes, this.#limit) + 2)
  }

  /** Bytes consumed so far, for progress and for yielding. */
  get position(): number {
    return this.offset + (this.end - this.start)
  }

  /** @returns `line`: one stands there; `rest`: bytes without a newline at the end; `long`: they do not fit the window; `none`: the file has ended */
  next(): 'line' | 'rest' | 'long' | 'none' {
    this.offset += this.#next - (this.number === 0 ? 1 : this.start)
    this.start = this.#next
    this.number += 1
    let searched = this.#next
    for (;;) {
      const newline = this.buffer.indexOf(0x0a, searched)
      if (newline >= 0 && newline < this.#filled) {
        this.end = newline
        this.#next = newline + 1
        return 'line'
      }
      searched = this.#filled
      if (this.#read >= this.#limit) break
      if (this.start > 1) {
        this.buffer.copyWithin(1, this.start, this.#filled)
        searched -= this.start - 1
        this.#filled -= this.start - 1
        this.start = 1
      }
      const room = this.buffer.length - this.#filled
      if (room <= 0) {
        this.end = this.#filled
        return 'long'
      }
      const got = readSync(this.#fd, this.buffer, this.#filled, Math.min(room, this.#limit - this.#read), this.#read)
      if (got === 0) break
      this.#read += got
      this.#filled += got
    }
    this.end = this.#filled
    this.#next = this.#filled
    return this.end > this.start ? 'rest' : 'none'
  }

  close(): void {
    closeSync(this.#fd)
  }
}
