/**
 * How fast a plugin's messages are read: a token per message, refilled at a steady rate. Every call is a record, so a flood is
 * slowed down by not reading the socket rather than by dropping calls or records.
 */
export class Pacer {
  readonly #perSecond: number
  readonly #burst: number
  readonly #now: () => number
  #tokens: number
  #at: number

  /** @param now milliseconds, never going back */
  constructor(perSecond: number, burst: number, now: () => number) {
    this.#perSecond = perSecond
    this.#burst = burst
    this.#now = now
    this.#tokens = burst
    this.#at = now()
  }

  /** Take tokens, also more than there are: what one message cost beyond the budget becomes a debt. @returns milliseconds to wait before reading on */
  take(tokens = 1): number {
    const now = this.#now()
    this.#tokens = Math.min(this.#burst, this.#tokens + ((now - this.#at) / 1000) * this.#perSecond) - tokens
    this.#at = now
    return this.#tokens >= 0 ? 0 : Math.ceil((-this.#tokens / this.#perSecond) * 1000)
  }
}
