import { CordonError } from '../errors.ts'

/** Longest line including its newline (protocol 4.4); an `openapi` document can be large. */
export const MAX_LINE_BYTES = 2 * 1024 * 1024

/** A handshake is two lines; whatever follows is log text. */
const LINES = 2

/**
 * The first two lines of a plugin's stdout, bounded in bytes and time. Bytes are copied into one growing buffer: a plugin that
 * writes one byte at a time must not cost an object per byte. Holds at most two lines of MAX_LINE_BYTES.
 */
export class LineReader {
  readonly #lines: Buffer[] = []
  #found = 0
  #handedOut = 0
  #partial = Buffer.alloc(0)
  #size = 0
  #ended = false
  #failure: CordonError | null = null
  #wake: () => void = () => {}

  /** @param bytes any chunk of stdout; attacker-controlled. Everything after the second line is dropped. */
  push(bytes: Buffer): void {
    let rest = bytes
    while (rest.length > 0 && this.#found < LINES && this.#failure === null) {
      const newline = rest.indexOf(0x0a)
      const piece = newline === -1 ? rest : rest.subarray(0, newline + 1)
      this.#append(piece)
      if (newline !== -1 && this.#failure === null) this.#finishLine(this.#size - 1)
      rest = rest.subarray(piece.length)
    }
    this.#wake()
  }

  /** stdout was closed; bytes after the last newline count as a line (protocol 4.4). */
  end(): void {
    this.#ended = true
    if (this.#size > 0 && this.#found < LINES && this.#failure === null) this.#finishLine(this.#size)
    this.#wake()
  }

  /**
   * The next line, without its newline.
   * @param what named in the error: `hello`, `ready`
   * @throws CordonError HANDSHAKE_TOO_LONG, HANDSHAKE_NO_OUTPUT (closed without one byte), HANDSHAKE_EOF, HANDSHAKE_TIMEOUT;
   *         the signal's reason when it is aborted
   */
  async next(what: string, ms: number, signal: AbortSignal): Promise<Buffer> {
    let late = false
    const timer = setTimeout(() => {
      late = true
      this.#wake()
    }, ms)
    const onAbort = (): void => this.#wake()
    signal.addEventListener('abort', onAbort)
    try {
      for (;;) {
        signal.throwIfAborted()
        const line = this.#lines.shift()
        if (line !== undefined) {
          this.#handedOut += 1
          return line
        }
        if (this.#failure !== null) throw this.#failure
        if (this.#ended) throw this.#endedBefore(what)
        if (late) throw new CordonError('HANDSHAKE_TIMEOUT', `no complete \`${what}\` line on stdout within ${ms / 1000} s (${this.#size} bytes of one came)`)
        await new Promise<void>((resolve) => (this.#wake = resolve))
      }
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
      this.#wake = () => {}
    }
  }

  #append(piece: Buffer): void {
    const needed = this.#size + piece.length
    if (needed > MAX_LINE_BYTES) {
      this.#failure = new CordonError('HANDSHAKE_TOO_LONG', `line ${this.#found + 1} of stdout is longer than ${MAX_LINE_BYTES} bytes`)
      this.#partial = Buffer.alloc(0)
      this.#size = 0
      return
    }
    if (needed > this.#partial.length) {
      const grown = Buffer.alloc(Math.min(MAX_LINE_BYTES, Math.max(needed, this.#partial.length * 2, 1024)))
      this.#partial.copy(grown, 0, 0, this.#size)
      this.#partial = grown
    }
    piece.copy(this.#partial, this.#size)
    this.#size = needed
  }

  #finishLine(length: number): void {
    this.#lines.push(this.#partial.subarray(0, length))
    this.#found += 1
    this.#partial = Buffer.alloc(0)
    this.#size = 0
  }

  #endedBefore(what: string): CordonError {
    if (this.#handedOut === 0) {
      return new CordonError('HANDSHAKE_NO_OUTPUT', `stdout was closed without a single byte, where the \`${what}\` line was expected: a legacy or incompatible SDK, or a crash at start`)
    }
    return new CordonError('HANDSHAKE_EOF', `stdout was closed before the \`${what}\` line`)
  }
}
