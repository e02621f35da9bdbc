/** One line of a log, without its newline. */
export interface Line {
  /** From 1. */
  readonly number: number
  readonly offset: number
  /** Bytes of the line, also when it was too long to keep. */
  readonly length: number
  /** Longer than KEEP_BYTES: `bytes` holds only its beginning. */
  readonly partial: boolean
  readonly bytes: Buffer
}

/** Twice what the writer can leave behind in one crash (1 MiB without a newline), so that torn bytes can still be hashed. */
const KEEP_BYTES = 2 * 1024 * 1024

/** Chunks in, lines out; keeps at most one line, and of that KEEP_BYTES. */
export class LineSplitter {
  #held: Buffer[] = []
  #heldBytes = 0
  #length = 0
  #offset = 0
  #number = 1

  /** What stands behind the last newline, if anything. */
  rest(): Line | null {
    return this.#length === 0 ? null : this.#finish()
  }

  *push(chunk: Buffer): Generator<Line> {
    let start = 0
    for (let end = chunk.indexOf(0x0a); end >= 0; end = chunk.indexOf(0x0a, start)) {
      this.#hold(chunk.subarray(start, end))
      yield this.#finish()
      start = end + 1
    }
    this.#hold(chunk.subarray(start))
  }

  #hold(part: Buffer): void {
    this.#length += part.length
    const room = KEEP_BYTES - this.#heldBytes
    if (room <= 0 || part.length === 0) return
    const kept = Buffer.from(part.subarray(0, room)) // a copy: the caller's chunk is reused
    this.#held.push(kept)
    this.#heldBytes += kept.length
  }

  #finish(): Line {
    const bytes = Buffer.concat(this.#held)
    const line = { number: this.#number, offset: this.#offset, length: this.#length, partial: this.#length > KEEP_BYTES, bytes }
    this.#offset += this.#length + 1
    this.#number += 1
    this.#held = []
    this.#heldBytes = 0
    this.#length = 0
    return line
  }
}
