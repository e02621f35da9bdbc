/** Of one turn of the loop; the events of everybody else come between two. */
const TURN_MS = 1
/** Of one, at a time; beyond it `later` refuses. */
const MAX_WAITING = 1024

/**
 * What many have to do on one thread, each in turn and never long at a time. A listener hands over at once all that has gathered at it,
 * so without this one plugin that opens hundreds of connections at a stroke makes another's wait until they are all dealt with.
 */
export class Turns {
  readonly #waiting = new Map<object, (() => void)[]>()
  readonly #now: () => number
  #soon = false

  /** @param now monotonic ms */
  constructor(now: () => number) {
    this.#now = now
  }

  /**
   * @param whose what shares a turn @param work must not throw
   * @returns false: too much of it waits already
   */
  later(whose: object, work: () => void): boolean {
    const mine = this.#waiting.get(whose)
    if (mine === undefined) this.#waiting.set(whose, [work])
    else if (mine.length >= MAX_WAITING) return false
    else mine.push(work)
    this.#arm()
    return true
  }

  /** All that it waits with is done now: it ends. */
  finish(whose: object): void {
    const works = this.#waiting.get(whose) ?? []
    this.#waiting.delete(whose)
    for (const work of works) work()
  }

  #arm(): void {
    if (this.#soon) return
    this.#soon = true
    setImmediate(() => {
      this.#soon = false
      this.#turn()
      if (this.#waiting.size > 0) this.#arm()
    })
  }

  #turn(): void {
    const until = this.#now() + TURN_MS
    for (const [whose, works] of this.#waiting) {
      const work = works.shift()
      this.#waiting.delete(whose)
      if (works.length > 0) this.#waiting.set(whose, works) // behind the others, where this loop comes by again
      work?.()
      if (this.#now() >= until) return
    }
  }
}
