import type { PrivateDir } from './private-dir.ts'

const RESERVE = 'reserve'

/** Room on the disk that is kept for the last words of a log, and is given up for them. */
export class Reserve {
  readonly #bytes: number
  /** It was there once: from then on it must be there again before the log goes on. */
  #kept = false

  /** @param bytes 0: none is kept */
  constructor(bytes: number) {
    this.#bytes = bytes
  }

  /** A disk that never had room for it is no reason to refuse; one that has none any more is still full. */
  async keep(top: PrivateDir): Promise<void> {
    if (this.#bytes === 0 || (await top.facts(RESERVE))?.size === this.#bytes) {
      this.#kept = this.#bytes > 0
      return
    }
    try {
      await top.replace(RESERVE, Buffer.alloc(this.#bytes))
      this.#kept = true
    } catch (error) {
      await top.remove(`${RESERVE}.new`).catch(() => undefined) // it would take the room that is left
      if (this.#kept) throw error
    }
  }

  async spend(top: PrivateDir): Promise<void> {
    await top.remove(RESERVE)
  }
}
