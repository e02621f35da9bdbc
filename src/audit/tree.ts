import { hash } from 'node:crypto'

/*
 * The tree of RFC 6962 section 2.1 over the records, kept as its hash tiles (c2sp.org/tlog-tiles, height 8): of each level only the
 * tile that is not full yet is in memory, and the right edge, hence every root, follows from these.
 */
export const HASH_BYTES = 32
export const TILE_WIDTH = 256
export const TILE_BYTES = TILE_WIDTH * HASH_BYTES

/** Hashes of one tile, the first `bytes.length / HASH_BYTES` of its 256. */
export interface Tile {
  readonly level: number
  readonly index: number
  readonly bytes: Buffer
}

interface Level {
  /** The tile that is being filled. */
  readonly hashes: Buffer
  width: number
}

/** RFC 6962 section 2.1: leaves and inner nodes are told apart by the first byte of what is hashed. */
export function leafHash(record: Uint8Array): string {
  const bytes = Buffer.allocUnsafe(record.length + 1)
  bytes[0] = 0
  bytes.set(record, 1)
  return hash('sha256', bytes, 'hex')
}

export class Tree {
  readonly #levels: Level[] = []
  readonly #node = Buffer.alloc(1 + 2 * HASH_BYTES, 1)
  readonly #work = Buffer.alloc(TILE_BYTES)
  #full: Tile[] = []
  #size = 0

  /** Number of leaves. */
  get size(): number {
    return this.#size
  }

  /**
   * The tree of `size` leaves out of its tiles. Whether they are the right ones shows only in the root.
   * @param read gives at least `width` hashes, or null
   * @returns null when a tile is missing
   */
  static async load(size: number, read: (level: number, index: number, width: number) => Promise<Buffer | null>): Promise<Tree | null> {
    const tree = new Tree()
    tree.#size = size
    for (let level = 0, count = size; count > 0; level++, count = Math.floor(count / TILE_WIDTH)) {
      const width = count % TILE_WIDTH
      const hashes = Buffer.alloc(TILE_BYTES)
      if (width > 0) {
        const tile = await read(level, Math.floor(count / TILE_WIDTH), width)
        if (tile === null || tile.length < width * HASH_BYTES) return null
        tile.copy(hashes, 0, 0, width * HASH_BYTES)
      }
      tree.#levels.push({ hashes, width })
    }
    return tree
  }

  /** @param leaves leaf hashes, one after the other */
  append(leaves: Buffer): void {
    for (let at = 0; at < leaves.length; at += HASH_BYTES) {
      this.#push(0, (hashes, offset) => leaves.copy(hashes, offset, at, at + HASH_BYTES))
      this.#size += 1
    }
  }

  /** Tiles that became full since the last call. */
  takeFull(): Tile[] {
    const full = this.#full
    this.#full = []
    return full
  }

  get fullCount(): number {
    return this.#full.length
  }

  /** Copies of the tiles that are not full. */
  partial(): Tile[] {
    return this.#levels.flatMap(({ hashes, width }, level) => (width === 0 ? [] : [{
      level, index: Math.floor(this.#size / TILE_WIDTH ** (level + 1)), bytes: Buffer.from(hashes.subarray(0, width * HASH_BYTES)),
    }]))
  }

  /** Hex MTH of all leaves. */
  root(): string {
    let root: string | null = null
    for (const { hashes, width } of this.#levels) {
      // The perfect trees of this level, the smallest of which stands rightmost.
      for (let end = width; end > 0; ) {
        const perfect = end & -end
        const peak = this.#perfect(hashes, end - perfect, perfect)
        root = root === null ? peak : this.#pair(peak, root)
        end -= perfect
      }
    }
    return root ?? hash('sha256', '', 'hex')
  }

  #push(level: number, put: (hashes: Buffer, offset: number) => void): void {
    const target = (this.#levels[level] ??= { hashes: Buffer.alloc(TILE_BYTES), width: 0 })
    put(target.hashes, target.width * HASH_BYTES)
    target.width += 1
    if (target.width < TILE_WIDTH) return
    const root = this.#perfect(target.hashes, 0, TILE_WIDTH)
    this.#full.push({ level, index: (this.#size + 1) / TILE_WIDTH ** (level + 1) - 1, bytes: Buffer.from(target.hashes) })
    target.width = 0
    this.#push(level + 1, (hashes, offset) => hashes.write(root, offset, 'hex'))
  }

  /** Root of `count` (a power of two) hashes from number `first` on. */
  #perfect(hashes: Buffer, first: number, count: number): string {
    const work = this.#work
    hashes.copy(work, 0, first * HASH_BYTES, (first + count) * HASH_BYTES)
    for (let n = count; n > 1; n /= 2) {
      for (let i = 0; i < n / 2; i++) {
        work.copy(this.#node, 1, 2 * i * HASH_BYTES, 2 * (i + 1) * HASH_BYTES)
        work.write(hash('sha256', this.#node, 'hex'), i * HASH_BYTES, 'hex')
      }
    }
    return work.toString('hex', 0, HASH_BYTES)
  }

  #pair(left: string, right: string): string {
    this.#node.write(left, 1, 'hex')
    this.#node.write(right, 1 + HASH_BYTES, 'hex')
    return hash('sha256', this.#node, 'hex')
  }
}
