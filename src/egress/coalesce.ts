/**
 * Refusals as records, without end and yet bounded: in each window the first of a kind is told at once, repeats are counted and told
 * once when the window ends, and beyond `kinds` different ones only the sum of the others is kept. Memory does not depend on how
 * many names a plugin invents.
 */
export class Coalescer<Event> {
  readonly #tell: (event: Event, coalesced: number, others: number) => void
  readonly #kinds: number
  readonly #seen = new Map<string, { event: Event; more: number }>()
  #others: { event: Event; count: number } | null = null

  /**
   * @param tell  called with an event, how many besides it this call stands for, and how many of those may be different ones
   * @param kinds different events per window that are told one by one
   */
  constructor(tell: (event: Event, coalesced: number, others: number) => void, kinds = 32) {
    this.#tell = tell
    this.#kinds = kinds
  }

  /** @param key what makes two events the same; `make` is called only if the event is kept */
  note(key: string, make: () => Event): void {
    const known = this.#seen.get(key)
    if (known !== undefined) {
      known.more += 1
    } else if (this.#seen.size < this.#kinds) {
      const event = make()
      this.#seen.set(key, { event, more: 0 })
      this.#tell(event, 0, 0)
    } else if (this.#others === null) {
      this.#others = { event: make(), count: 1 }
    } else {
      this.#others.count += 1
    }
  }

  /** The window ends: what was counted is told. The first of many different ones stands for them all. */
  flush(): void {
    for (const { event, more } of this.#seen.values()) if (more > 0) this.#tell(event, more - 1, 0)
    this.#seen.clear()
    if (this.#others !== null) this.#tell(this.#others.event, this.#others.count - 1, this.#others.count - 1)
    this.#others = null
  }
}
