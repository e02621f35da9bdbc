/**
 * Addresses that stand for names inside one run: 198.18.0.0/15 (RFC 2544, never routed on the Internet) without its first /24, where the
 * namespace's own 198.18.0.1 lies. An address is given to one name only and never taken back while the run lives, so a program
 * that keeps an old answer still means the name that it asked for.
 */
export const SYNTHETIC_COUNT = 2 ** 17 - 256
const FIRST = 0xc612_0100 // 198.18.1.0

export class SyntheticPool {
  readonly #limit: number
  readonly #byName = new Map<string, number>()
  readonly #names: string[] = []

  /** @param limit names that one run may have; each costs memory for as long as the run lives (at most about 0.5 KiB) */
  constructor(limit: number) {
    this.#limit = Math.min(limit, SYNTHETIC_COUNT)
  }

  get size(): number {
    return this.#names.length
  }

  has(name: string): boolean {
    return this.#byName.has(name)
  }

  /** @returns the address of this name, a new one if need be; null when there is none left */
  addressOf(name: string): string | null {
    let index = this.#byName.get(name)
    if (index === undefined) {
      if (this.#names.length >= this.#limit) return null
      index = this.#names.length
      this.#names.push(name)
      this.#byName.set(name, index)
    }
    const value = FIRST + index
    return `${value >>> 24}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}`
  }

  /** @returns null for an address that was never given out in this run */
  nameOf(address: string): string | null {
    const value = parseV4(address)
    return value === null || value < FIRST ? null : (this.#names[value - FIRST] ?? null)
  }
}

/** Inside 198.18.0.0/15, whether given out or not. */
export function isSynthetic(address: string): boolean {
  const value = parseV4(address)
  return value !== null && value >= 0xc612_0000 && value <= 0xc613_ffff
}

/** @param address as the kernel writes it */
function parseV4(address: string): number | null {
  const parts = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(address)?.slice(1).map(Number)
  if (parts === undefined || parts.some((part) => part > 255)) return null
  return parts.reduce((value, part) => value * 256 + part, 0)
}
