import type { CordonError } from '../errors.ts'
import type { PreparedEntry, Stamp } from './entry.ts'

export interface Waiter {
  readonly resolve: (done: { readonly seq: number }) => void
  readonly reject: (error: CordonError) => void
}

export interface Queued {
  readonly entry: PreparedEntry
  readonly type: string
  readonly stamp: Stamp
  /** null: nobody waits for it. */
  readonly waiter: Waiter | null
}

/** Records held in memory while the disk is busy. What plugins cause may use three quarters: the launcher's own always find room. */
const MAX_RECORDS = 16_384
const MAX_BYTES = 16 * 1024 * 1024
const PLUGIN_SHARE = 0.75

/** What waits for the disk, in order. Bounded. */
export class RecordQueue {
  #items: Queued[] = []
  #bytes = 0
  #waiting = 0

  get length(): number { return this.#items.length }
  /** How many of them someone waits for. */
  get waiting(): number { return this.#waiting }

  get oldest(): Queued | undefined { return this.#items[0] }

  hasRoom(bytes: number, causedByPlugin: boolean): boolean {
    const share = causedByPlugin ? PLUGIN_SHARE : 1
    return this.#items.length < MAX_RECORDS * share && this.#bytes + bytes <= MAX_BYTES * share
  }

  push(item: Queued): void {
    this.#items.push(item)
    this.#bytes += item.entry.bytes
    if (item.waiter !== null) this.#waiting += 1
  }

  /** The oldest ones that fit into `maxBytes`, at least one if there is any. */
  take(maxBytes: number): Queued[] {
    let bytes = 0
    let n = 0
    for (; n < this.#items.length; n++) {
      const item = this.#items[n]
      if (item === undefined || (n > 0 && bytes + item.entry.bytes > maxBytes)) break
      bytes += item.entry.bytes
    }
    const taken = n === this.#items.length ? this.#items : this.#items.splice(0, n)
    if (taken === this.#items) this.#items = []
    this.#bytes -= bytes
    for (const { waiter } of taken) if (waiter !== null) this.#waiting -= 1
    return taken
  }
}
