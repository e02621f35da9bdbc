/**
 * Refusals as records, without end and yet bounded: in each window the first of each is told at once, repeats are counted and told
 * once when the window ends, and beyond `most` different ones only the sum of the others is kept, for each reason apart: whoever floods
 * with one cannot hide that another was given. Memory does not depend on how many names a plugin invents.
 */
export class Coalescer<Event> {
  readonly #tell: (event: Event, coalesced: number, others: number) => void
  readonly #most: number
  readonly #seen = new Map<string, { event: Event; more: number }>()
  /** By reason, of which there is a closed list. */
  readonly #reasons = new Set<string>()
  readonly #others = new Map<string, { event: Event; count: number }>()

  /**
   * @param tell called with an event, how many besides it this call stands for, and how many of those may be different ones
   * @param most different events per window that are told one by one, besides the first of each reason
   */
  constructor(tell: (event: Event, coalesced: number, others: number) => void, most = 32) {
    this.#tell = tell
    this.#most = most
  }

  /**
   * @param reason of a closed list
   * @param what makes two events of one reason the same; `make` is called only if the event is kept
   */
  note(reason: string, what: string, make: () => Event): void {
    const key = `${reason} ${what}`
    const known = this.#seen.get(key)
    if (known !== undefined) {
      known.more += 1
    } else if (this.#seen.size < this.#most || !this.#reasons.has(reason)) {
      const event = make()
      this.#reasons.add(reason)
      this.#seen.set(key, { event, more: 0 })
      this.#tell(event, 0, 0)
    } else {
      const others = this.#others.get(reason)
      if (others === undefined) this.#others.set(reason, { event: make(), count: 1 })
      else others.count += 1
    }
  }

  /** The window ends: what was counted is told. The first of many different ones stands for them all. */
  flush(): void {
    for (const { event, more } of this.#seen.values()) if (more > 0) this.#tell(event, more - 1, 0)
    for (const { event, count } of this.#others.values()) this.#tell(event, count - 1, count - 1)
    this.#seen.clear()
    this.#reasons.clear()
    this.#others.clear()
  }
}
