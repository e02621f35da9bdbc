/** A token bucket. Time (milliseconds, monotonic) is an argument. */
export class Rate {
  readonly #burst: number
  readonly #perSecond: number
  #tokens: number
  #at = -Infinity

  constructor(burst: number, perSecond: number) {
    this.#burst = burst
    this.#perSecond = perSecond
    this.#tokens = burst
  }

  take(nowMs: number): boolean {
    if (nowMs > this.#at) {
      if (this.#at !== -Infinity) this.#tokens = Math.min(this.#burst, this.#tokens + ((nowMs - this.#at) * this.#perSecond) / 1000)
      this.#at = nowMs
    }
    if (this.#tokens < 1) return false
    this.#tokens -= 1
    return true
  }
}
