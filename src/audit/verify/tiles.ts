import { closeSync, constants, fstatSync, openSync, readdirSync, readSync } from 'node:fs'
import { join } from 'node:path'
import { TILE_HASHES, type Hash } from './tree.ts'

const HASH_BYTES = 32

/** `x001/x234/067`, c2sp.org/tlog-tiles "Merkle Tree". */
export function tilePath(level: number, index: number): string {
  const parts = [String(index % 1000).padStart(3, '0')]
  for (let n = Math.floor(index / 1000); n > 0; n = Math.floor(n / 1000)) parts.unshift(`x${String(n % 1000).padStart(3, '0')}`)
  return `${level}/${parts.join('/')}`
}

/** Errno of an open that met a symbolic link, a socket or a device that is not there; ENOTSUP is LineReader's own. */
export const NOT_A_FILE: ReadonlySet<string> = new Set(['ELOOP', 'ENXIO', 'ENODEV', 'ENOTSUP'])

/** A small regular file. @returns null: there is none; a text: why it cannot be one of ours. @throws other errno errors */
export function readSmallFile(path: string, maxBytes: number): Buffer | string | null {
  let fd: number
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? ''
    if (code === 'ENOENT' || code === 'ENOTDIR') return null
    if (NOT_A_FILE.has(code)) return 'it is no regular file'
    throw error
  }
  try {
    const stats = fstatSync(fd)
    if (!stats.isFile()) return 'it is no regular file'
    if (stats.size > maxBytes) return `it has ${stats.size} bytes, at most ${maxBytes} are expected`
    const bytes = Buffer.alloc(stats.size)
    return bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, 0))
  } finally {
    closeSync(fd)
  }
}

/** The widths for which partial tiles of this place lie there, ascending. */
function partialWidths(root: string, level: number, index: number): number[] {
  let names: string[]
  try {
    names = readdirSync(join(root, `${tilePath(level, index)}.p`))
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'ENOENT' || code === 'ENOTDIR') return []
    throw error
  }
  return names.filter((name) => /^[1-9][0-9]{0,2}$/.test(name) && Number(name) < TILE_HASHES).map(Number).sort((a, b) => a - b)
}

/** Why a tile cannot be used; the file is relative to the log's directory. */
export interface TileFault {
  readonly file: string
  readonly problem: string
}

/** At least `width` hashes of one tile, from the full one or the narrowest partial one that is wide enough. */
export function readTile(root: string, level: number, index: number, width: number): Buffer | TileFault {
  const name = tilePath(level, index)
  const full = readSmallFile(join(root, name), TILE_HASHES * HASH_BYTES)
  if (typeof full === 'string') return { file: `tile/${name}`, problem: full }
  if (full !== null && isWhole(full, TILE_HASHES)) return full
  for (const w of partialWidths(root, level, index)) {
    if (w < width) continue
    const partial = readSmallFile(join(root, `${name}.p/${w}`), TILE_HASHES * HASH_BYTES)
    if (typeof partial === 'string') return { file: `tile/${name}.p/${w}`, problem: partial }
    if (partial !== null && isWhole(partial, w)) return partial
  }
  return { file: `tile/${name}`, problem: full === null ? 'it is missing' : `it has ${full.length} bytes, expected ${TILE_HASHES * HASH_BYTES}` }
}

/** Leaf hashes out of the tiles of level 0, for records that were removed. */
export function* tileLeaves(root: string, count: number): Generator<Hash, TileFault | null> {
  for (let index = 0; index * TILE_HASHES < count; index++) {
    const width = Math.min(TILE_HASHES, count - index * TILE_HASHES)
    const tile = readTile(root, 0, index, width)
    if (!Buffer.isBuffer(tile)) return { ...tile, problem: `${tile.problem}, and the records that it stands for were removed` }
    for (let i = 0; i < width; i++) yield tile.toString('latin1', i * HASH_BYTES, (i + 1) * HASH_BYTES)
  }
  return null
}

/**
 * Compares what lies under `tile/` with what the records give. Every tile there must be right; those that the checkpoint
 * on disk needs must be there.
 */
export class TileCheck {
  /** The first thing that is wrong. */
  fault: { readonly seq: number; readonly file: string; readonly problem: string } | null = null
  readonly #root: string
  readonly #needed: number

  /** @param needed tree size of the checkpoint on disk, 0 if there is none */
  constructor(root: string, needed: number) {
    this.#root = root
    this.#needed = needed
  }

  /** @param hashes all that this tree has for the tile, 1 to 256; `grown`: the log went on since, so wider ones prove nothing */
  compare(level: number, index: number, hashes: Buffer, grown = false): void {
    if (this.fault !== null) return
    const name = tilePath(level, index)
    const width = hashes.length / HASH_BYTES
    const full = readSmallFile(join(this.#root, name), TILE_HASHES * HASH_BYTES)
    const wanted = Math.min(width, Math.max(0, Math.floor(this.#needed / TILE_HASHES ** level) - index * TILE_HASHES))
    let widest = 0
    if (full !== null && (isWhole(full, TILE_HASHES) || wanted === TILE_HASHES)) {
      this.#same(level, index, name, TILE_HASHES, full, hashes, grown)
      widest = TILE_HASHES
    }
    for (const w of partialWidths(this.#root, level, index)) {
      if (this.fault !== null) return
      const file = readSmallFile(join(this.#root, `${name}.p/${w}`), TILE_HASHES * HASH_BYTES)
      if (file === null) continue // the writer has just replaced it
      if (!isWhole(file, w) && w !== wanted) continue // under way, or what a crash left: no checkpoint needs it yet
      this.#same(level, index, `${name}.p/${w}`, w, file, hashes, grown)
      widest = Math.max(widest, w)
    }
    if (widest < wanted) this.#fail(level, index, `${name}${wanted < TILE_HASHES ? `.p/${wanted}` : ''}`, 'the tile is missing, although the checkpoint needs it')
  }

  /** Behind the last one nothing may lie: it would stand for records that are gone. */
  beyond(level: number, index: number): void {
    if (this.fault !== null) return
    const name = tilePath(level, index)
    if (readSmallFile(join(this.#root, name), TILE_HASHES * HASH_BYTES) !== null || partialWidths(this.#root, level, index).length > 0) this.#fail(level, index, name, BEYOND)
  }

  #same(level: number, index: number, name: string, width: number, file: Buffer | string, hashes: Buffer, grown: boolean): void {
    if (typeof file === 'string') return this.#fail(level, index, name, file)
    if (file.length !== width * HASH_BYTES) return this.#fail(level, index, name, `the tile has ${file.length} bytes, expected ${width * HASH_BYTES}`)
    const common = Math.min(file.length, hashes.length)
    if (file.compare(hashes, 0, common, 0, common) !== 0) this.#fail(level, index, name, 'the tile does not hold the hashes of the records')
    else if (file.length > hashes.length && !grown) this.#fail(level, index, name, BEYOND)
  }

  #fail(level: number, index: number, name: string, problem: string): void {
    this.fault ??= { seq: index * TILE_HASHES ** (level + 1), file: `tile/${name}`, problem }
  }
}

function isWhole(file: Buffer | string, width: number): boolean {
  return typeof file === 'string' || file.length === width * HASH_BYTES
}

const BEYOND = 'the tile lies beyond the end of the log: records are missing there'
