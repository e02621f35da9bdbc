import { readTile, tilePath } from './tiles.ts'
import { EMPTY_ROOT, nodeHash, type Hash } from './tree.ts'

/** A tile is not as it must be, so nothing can be proved from it. */
export class TileError extends Error {}

/** Roots and proofs (RFC 6962 section 2.1) out of the tiles of one log; what they prove is checked by who gets them. */
export class TileHashes {
  readonly #root: string
  /** A proof reads each tile for several hashes. */
  readonly #known = new Map<string, Buffer>()

  /** @param root the directory `tile` */
  constructor(root: string) {
    this.#root = root
  }

  /** MTH(D[0:size]). @throws TileError, errno errors */
  root(size: number): Hash {
    return size === 0 ? EMPTY_ROOT : this.#range(0, size)
  }

  /** PATH(index, D[size]), from the leaf's sibling up. */
  inclusion(index: number, size: number): Hash[] {
    const path: Hash[] = []
    for (let lo = 0, hi = size; hi - lo > 1; ) {
      const k = lo + split(hi - lo)
      path.unshift(index < k ? this.#range(k, hi) : this.#range(lo, k))
      if (index < k) hi = k
      else lo = k
    }
    return path
  }

  /** PROOF(oldSize, D[size]); empty for nothing and for the same. */
  consistency(oldSize: number, size: number): Hash[] {
    return oldSize === 0 || oldSize === size ? [] : this.#subproof(oldSize, 0, size, true)
  }

  #subproof(m: number, lo: number, hi: number, complete: boolean): Hash[] {
    if (lo + m === hi) return complete ? [] : [this.#range(lo, hi)]
    const k = split(hi - lo)
    return m <= k ? [...this.#subproof(m, lo, lo + k, complete), this.#range(lo + k, hi)] : [...this.#subproof(m - k, lo + k, hi, false), this.#range(lo, lo + k)]
  }

  /** MTH(D[lo:hi]), where `lo` is a multiple of the largest power of two in it. */
  #range(lo: number, hi: number): Hash {
    const count = hi - lo
    const k = count === 1 ? 1 : split(count)
    return count === k || count === 2 * k ? this.#perfect(lo, count) : nodeHash(this.#perfect(lo, k), this.#range(lo + k, hi))
  }

  /** A perfect subtree: `count` is a power of two. */
  #perfect(lo: number, count: number): Hash {
    const height = Math.round(Math.log2(count))
    const level = Math.floor(height / 8)
    const width = 2 ** (height % 8)
    const start = lo / 256 ** level
    const index = Math.floor(start / 256)
    const tile = this.#tile(level, index, (start % 256) + width)
    let row: Hash[] = []
    for (let i = 0; i < width; i++) row.push(tile.toString('latin1', ((start % 256) + i) * 32, ((start % 256) + i + 1) * 32))
    while (row.length > 1) row = row.flatMap((left, i) => (i % 2 === 0 ? [nodeHash(left, row[i + 1] ?? '')] : []))
    return row[0] ?? ''
  }

  #tile(level: number, index: number, width: number): Buffer {
    const name = tilePath(level, index)
    const known = this.#known.get(name)
    if (known !== undefined && known.length >= width * 32) return known
    const tile = readTile(this.#root, level, index, width)
    if (!Buffer.isBuffer(tile)) throw new TileError(`${tile.file}: ${tile.problem}`)
    if (this.#known.size > 4096) this.#known.clear()
    this.#known.set(name, tile)
    return tile
  }
}

/** The largest power of two smaller than n. */
function split(n: number): number {
  let k = 1
  while (k * 2 < n) k *= 2
  return k
}
