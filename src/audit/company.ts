import type { RecordQueue } from './queue.ts'

/** The longest wait of a record that nobody awaits, and the company that ends it. */
const LINGER_MS = 5
export const LINGER_RECORDS = 64
/**
 * A commit costs far more than what it carries: one for each of a thousand connections a second takes processor time that then nobody else
 * has. So where BUSY_RECORDS that somebody awaits have come within BUSY_MS, they wait for company as well, at most GATHER_MS after the commit
 * before. Half as many do not: there the wait was felt by whoever else opens a connection (a tenth took 5.6 ms instead of 3.3), and a burst
 * gathers by itself while the commit before it is on its way.
 */
const GATHER_MS = 3
const GATHER_RECORDS = 16
const BUSY_RECORDS = 128
const BUSY_MS = 128

/** How long what has gathered waits for company before it goes to the disk. Time (milliseconds, monotonic) is an argument. */
export class Company {
  #committedAt = 0
  /** When the last BUSY_RECORDS that somebody awaits came, in a ring. */
  readonly #came: number[] = Array<number>(BUSY_RECORDS).fill(-Infinity)
  #cameAt = 0

  /** A record came that somebody awaits. */
  awaited(nowMs: number): void {
    this.#came[this.#cameAt] = nowMs
    this.#cameAt = (this.#cameAt + 1) % BUSY_RECORDS
  }

  committed(nowMs: number): void {
    this.#committedAt = nowMs
  }

  /** A record that someone awaits goes at once, unless many do; the others wait a moment. @param beganMs of this wait @returns not above 0: it is over */
  waitMs({ length, waiting }: Pick<RecordQueue, 'length' | 'waiting'>, beganMs: number, nowMs: number): number {
    if (length >= LINGER_RECORDS || waiting >= GATHER_RECORDS) return 0
    if (waiting === 0) return beganMs + LINGER_MS - nowMs
    const busy = nowMs - (this.#came[this.#cameAt] ?? 0) < BUSY_MS
    return busy ? this.#committedAt + GATHER_MS - nowMs : 0
  }
}
