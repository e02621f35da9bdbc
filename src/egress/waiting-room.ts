/**
 * At most `open` at once, and as many again that wait for a place. What is over the limit is accepted and left unread, which the other side
 * cannot tell from the kernel's own queue (it completes the handshake there too); beyond that it is turned away.
 *
 * Not accepting at all is beyond Node: libuv stops polling a listener only while an accepted socket is not taken, and Node takes each one
 * before any of our code runs; `maxConnections` accepts and closes; readStop() does nothing for a listener; and a handle can only be closed,
 * which drops the kernel's queue with it. So the room is bounded, and the pace at which openings reach it too (plan/nftables.ts).
 */
export class WaitingRoom<T> {
  readonly #limit: number
  readonly #admit: (one: T) => void
  readonly #waiting: { readonly one: T; readonly since: number }[] = []
  #open = 0

  constructor(limit: number, admit: (one: T) => void) {
    this.#limit = limit
    this.#admit = admit
  }

  get open(): number {
    return this.#open
  }

  get waiting(): number {
    return this.#waiting.length
  }

  /** @returns false when there is no room left even to wait */
  enter(one: T, nowMs: number): boolean {
    if (this.#open < this.#limit) {
      this.#open += 1
      this.#admit(one)
      return true
    }
    if (this.#waiting.length >= this.#limit) return false
    this.#waiting.push({ one, since: nowMs })
    return true
  }

  /** One of those inside has left. */
  leave(): void {
    this.#open -= 1
    const next = this.#waiting.shift()
    if (next === undefined) return
    this.#open += 1
    this.#admit(next.one)
  }

  /** Those that have waited since before `sinceMs` (or all), taken out. */
  drop(sinceMs = Infinity): T[] {
    const dropped: T[] = []
    while (this.#waiting.length > 0 && (this.#waiting[0]?.since ?? 0) < sinceMs) {
      const first = this.#waiting.shift()
      if (first !== undefined) dropped.push(first.one)
    }
    return dropped
  }
}
