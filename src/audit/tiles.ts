import { basename, dirname } from 'node:path'
import { errnoOf } from './log-file.ts'
import type { PrivateDir } from './private-dir.ts'
import { HASH_BYTES, TILE_BYTES, TILE_WIDTH, type Tile } from './tree.ts'

/** c2sp.org/tlog-tiles: `<L>/<N>`, N in groups of three digits; a tile that is not full lies beside it in `<N>.p/<W>`. */
export function tilePath(level: number, index: number, width: number): string {
  const digits = String(index)
  const groups = digits.padStart(Math.ceil(digits.length / 3) * 3, '0').match(/\d{3}/g) ?? []
  const n = groups.map((group, i) => (i < groups.length - 1 ? `x${group}` : group)).join('/')
  return `${level}/${n}${width === TILE_WIDTH ? '' : `.p/${width}`}`
}

/** More than a busy host fills between two seals. */
const SYNCED_TILES = 32
/** Tiles that a rebuilt tree may hold before they are written. */
export const MAX_PENDING_TILES = 64

/** The hash tiles on disk, below `tile/`. They follow from the records, and stay when those are pruned. */
export class TileStore {
  readonly #dir: PrivateDir
  /** Width of the partial tiles that lie there, by their directory. */
  readonly #partial = new Map<string, number>()
  /** Of these, the ones that were written here for the checkpoint that holds now. */
  #standing: ReadonlyMap<string, number> = new Map()

  constructor(dir: PrivateDir) {
    this.#dir = dir
  }

  /**
   * Few tiles are durable when it resolves, so that a start after a power cut finds them. Those of a burst are left to the kernel, which
   * writes them within half a minute: an fsync each would cost more than the records, and they can be made from these at any time.
   */
  async write(tiles: readonly Tile[]): Promise<void> {
    const durable = tiles.length <= SYNCED_TILES
    const byFolder = Map.groupBy(tiles, ({ level, index, bytes }) => dirname(tilePath(level, index, bytes.length / HASH_BYTES)))
    for (const [path, group] of byFolder) {
      await this.#within(path, true, async (folder) => {
        for (const { level, index, bytes } of group) {
          const width = bytes.length / HASH_BYTES
          // The same hashes, for the checkpoint that holds now: written again, they would be missing for a moment, or after a crash.
          if (width < TILE_WIDTH && this.#standing.get(path) === width) continue
          await folder.write(basename(tilePath(level, index, width)), bytes, durable)
        }
        if (durable) await folder.sync()
      })
    }
  }

  /** The tiles over these leaves, before their records go: from then on nothing else gives their hashes. */
  async makeDurable(first: number, next: number): Promise<void> {
    for (let level = 0, span = TILE_WIDTH; level === 0 || span <= next; level++, span *= TILE_WIDTH) {
      for (let index = Math.floor(first / span); index * span < next; index++) {
        const path = tilePath(level, index, TILE_WIDTH)
        // The last one may not be full; then it is a partial one of a checkpoint, which is durable.
        await this.#within(dirname(path), false, async (folder) => {
          await folder.syncFile(basename(path))
          await folder.sync()
        })
      }
    }
  }

  /** What a wider tile stands for goes, once a checkpoint asks for that one. @param tiles of the new checkpoint */
  async dropOlder(tiles: readonly Tile[]): Promise<void> {
    const now = new Map(tiles.map(({ level, index, bytes }) => {
      const path = tilePath(level, index, bytes.length / HASH_BYTES)
      return [dirname(path), Number(basename(path))]
    }))
    for (const [path, width] of this.#partial) {
      if (now.get(path) === width) continue
      await this.#within(path, false, (folder) => folder.remove(String(width)))
      this.#partial.delete(path)
      if (!now.has(path)) await this.#within(dirname(path), false, (parent) => parent.removeDir(basename(path)))
    }
    for (const [path, width] of now) if (path.endsWith('.p')) this.#partial.set(path, width)
    this.#standing = now
  }

  /** At least `width` hashes of a tile. The one that a checkpoint asks for goes first: a wider one may be half written. */
  async read(level: number, index: number, width: number): Promise<Buffer | null> {
    if (width < TILE_WIDTH) {
      const path = tilePath(level, index, width)
      const exact = await this.#get(path)
      if (exact !== null) {
        this.#partial.set(dirname(path), width)
        return exact
      }
    }
    const full = await this.#get(tilePath(level, index, TILE_WIDTH))
    if (full !== null && full.length === TILE_BYTES) return full
    const parent = dirname(tilePath(level, index, 1))
    const names = (await this.#within(parent, false, (folder) => folder.list())) ?? []
    const wider = names.find((name) => /^\d{1,3}$/.test(name) && Number(name) > width)
    return wider === undefined ? null : this.#get(`${parent}/${wider}`)
  }

  #get(path: string): Promise<Buffer | null> {
    return this.#within(dirname(path), false, (folder) => folder.read(basename(path), TILE_BYTES))
  }

  /** @returns null where it is absent and shall not be made */
  async #within<T>(path: string, create: boolean, use: (folder: PrivateDir) => Promise<T>): Promise<T | null> {
    const folder = await this.#open(path, create)
    if (folder === null) return null
    try {
      return await use(folder)
    } finally {
      await folder.close()
    }
  }

  async #open(path: string, create: boolean): Promise<PrivateDir | null> {
    let folder: PrivateDir | null = null
    for (const name of path.split('/')) {
      const parent: PrivateDir = folder ?? this.#dir
      try {
        folder = await parent.subdir(name, false).catch(async (error: unknown) => {
          if (errnoOf(error) !== 'ENOENT') throw error
          if (!create) return null
          const made = await parent.subdir(name, true)
          await parent.sync()
          return made
        })
      } finally {
        if (parent !== this.#dir) await parent.close()
      }
      if (folder === null) return null
    }
    return folder
  }
}
