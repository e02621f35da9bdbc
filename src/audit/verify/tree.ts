import { hash } from 'node:crypto'

/*
 * RFC 6962 section 2.1. Hashes are strings of 32 characters with one byte in each: of all forms the one that node:crypto makes fastest.
 */
export type Hash = string

export const EMPTY_ROOT: Hash = hash('sha256', '', 'binary')
export const toHex = (value: Hash): string => Buffer.from(value, 'latin1').toString('hex')
export const fromHex = (value: string): Hash => Buffer.from(value, 'hex').toString('latin1')

/** @param bytes 0x00 and the record */
export function leafHash(bytes: Uint8Array): Hash {
  return hash('sha256', bytes, 'binary')
}

const NODE = Buffer.alloc(65)
NODE[0] = 1

export function nodeHash(left: Hash, right: Hash): Hash {
  NODE.write(left, 1, 'latin1')
  NODE.write(right, 33, 'latin1')
  return hash('sha256', NODE, 'binary')
}

export const TILE_HASHES = 256

/** Grows leaf by leaf, knows the root at any moment, and tells each tile (c2sp.org/tlog-tiles) when it is full. Memory: log2 of the size. */
export class Tree {
  size = 0
  /** Perfect subtrees, one for each bit of the size; the index is the height. */
  readonly #peaks: Hash[] = []
  readonly #tiles: { readonly bytes: Buffer; width: number; index: number }[] = []
  readonly #onTile: (level: number, index: number, hashes: Buffer) => void

  /** @param onTile its buffer is reused afterwards */
  constructor(onTile: (level: number, index: number, hashes: Buffer) => void = () => {}) {
    this.#onTile = onTile
  }

  push(leaf: Hash): void {
    this.#intoTile(0, leaf)
    let subtree = leaf
    let height = 0
    for (let n = this.size; n % 2 === 1; n = (n - 1) / 2) {
      subtree = nodeHash(this.#peaks[height] ?? '', subtree)
      height += 1
      if (height % 8 === 0) this.#intoTile(height / 8, subtree)
    }
    this.#peaks[height] = subtree
    this.size += 1
  }

  root(): Hash {
    let root: Hash | null = null
    for (let height = 0, n = this.size; n > 0; height += 1, n = Math.floor(n / 2)) {
      if (n % 2 === 0) continue
      const peak = this.#peaks[height] ?? ''
      root = root === null ? peak : nodeHash(peak, root)
    }
    return root ?? EMPTY_ROOT
  }

  /** The tiles that are not full, lowest level first. */
  partialTiles(): { readonly level: number; readonly index: number; readonly hashes: Buffer }[] {
    return this.#tiles.map(({ bytes, width, index }, level) => ({ level, index, hashes: bytes.subarray(0, width * 32) }))
  }

  #intoTile(level: number, value: Hash): void {
    const tile = (this.#tiles[level] ??= { bytes: Buffer.alloc(TILE_HASHES * 32), width: 0, index: 0 })
    tile.bytes.write(value, tile.width * 32, 'latin1')
    tile.width += 1
    if (tile.width < TILE_HASHES) return
    this.#onTile(level, tile.index, tile.bytes)
    tile.width = 0
    tile.index += 1
  }
}
