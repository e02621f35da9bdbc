const DAY_MS = 86_400_000

/** `EgressMax`: bytes that may leave per UTC day, over all runs of a plugin. Time (ms since 1970) is an argument. */
export class DayBudget {
  readonly #limit: number | null
  #day: string
  #bytes: number

  /**
   * @param spent what earlier runs sent, and on which day. A day further off than tomorrow comes from a clock that was wrong, and would never end: then
   *   the bytes count for today
   */
  constructor(limit: number | null, spent: { readonly day: string; readonly bytes: number }, nowMs: number) {
    this.#limit = limit
    this.#day = spent.day > dayOf(nowMs + DAY_MS) ? dayOf(nowMs) : spent.day
    this.#bytes = spent.bytes
  }

  /** Counts bytes that are about to leave. @returns false when they would not fit: nothing of them may be sent */
  take(bytes: number, nowMs: number): boolean {
    this.#turn(nowMs)
    if (this.#limit !== null && this.#bytes + bytes > this.#limit) return false
    this.#bytes += bytes
    return true
  }

  isSpent(nowMs: number): boolean {
    this.#turn(nowMs)
    return this.#limit !== null && this.#bytes >= this.#limit
  }

  spent(nowMs: number): { readonly day: string; readonly bytes: number } {
    this.#turn(nowMs)
    return { day: this.#day, bytes: this.#bytes }
  }

  /** A clock that steps back does not give the day's bytes a second time. */
  #turn(nowMs: number): void {
    const day = dayOf(nowMs)
    if (day <= this.#day) return
    this.#day = day
    this.#bytes = 0
  }
}

function dayOf(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10)
}
