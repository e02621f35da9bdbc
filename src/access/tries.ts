/** Wrong tokens that one address may send per window. */
const TRIES_PER_WINDOW = 10
const WINDOW_MS = 60_000
/** Addresses remembered; the one that failed longest ago goes first. Bounds memory against a caller with many addresses. */
const ADDRESSES_MAX = 1024

/**
 * Slows guessing down. While an address is shut even the right token is not looked at, or the limit would limit nothing.
 * Not a wall: the token has 256 bits; this keeps the log and the CPU free.
 */
export class FailedTries {
  readonly #seen = new Map<string, { failed: number; until: number }>()

  /** @returns seconds to wait, 0 when the address may try */
  waitSeconds(address: string, now: number): number {
    const entry = this.#seen.get(keyOf(address))
    if (entry === undefined || entry.until <= now || entry.failed < TRIES_PER_WINDOW) return 0
    return Math.ceil((entry.until - now) / 1000)
  }

  failed(address: string, now: number): void {
    const key = keyOf(address)
    const entry = this.#seen.get(key)
    const next = entry === undefined || entry.until <= now ? { failed: 1, until: now + WINDOW_MS } : { failed: entry.failed + 1, until: entry.until }
    this.#seen.delete(key)
    this.#seen.set(key, next)
    if (this.#seen.size > ADDRESSES_MAX) for (const oldest of this.#seen.keys()) { this.#seen.delete(oldest); break }
  }

  get size(): number {
    return this.#seen.size
  }
}

/** One subscriber has a whole IPv6 /64, so that is what is counted; IPv4 (mapped or not) goes by the full address. */
function keyOf(address: string): string {
  const plain = address.toLowerCase().replace(/%.*$/, '').replace(/^::ffff:(?=\d+\.)/, '')
  if (!plain.includes(':')) return plain
  const [head = '', tail = ''] = plain.split('::', 2)
  const left = head === '' ? [] : head.split(':')
  const right = tail === '' ? [] : tail.split(':')
  const groups = plain.includes('::') ? [...left, ...new Array<string>(Math.max(0, 8 - left.length - right.length)).fill('0'), ...right] : left
  return groups.slice(0, 4).map((g) => g.replace(/^0+(?=.)/, '')).join(':')
}
