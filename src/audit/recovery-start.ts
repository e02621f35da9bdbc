import { CordonError } from '../errors.ts'
import { readCheckpoint } from './checkpoint.ts'
import { GENESIS_HASH } from './entry.ts'
import type { PrivateDir } from './private-dir.ts'
import { parseHead, sealOf, type LastSeal } from './record-head.ts'
import { scanLines } from './scan-lines.ts'
import { segmentName } from './segments.ts'
import { MAX_PENDING_TILES, type TileStore } from './tiles.ts'
import { HASH_BYTES, leafHash, TILE_WIDTH, Tree } from './tree.ts'

const CHECKPOINT_BYTES = 4096

/** From here on the records are read again. */
export interface Start {
  readonly tree: Tree
  readonly hash: string
  readonly seal: LastSeal | null
  /** Index into the segments, and where in it the record after the tree begins. */
  readonly at: number
  readonly offset: number
  readonly boot: string | null
  readonly monoMs: number
}

/**
 * The latest place to read on from: the newest checkpoint, where its tiles and the records agree with it; the start of a segment whose tree
 * the seal before it tells; or the oldest record there is.
 * @param firsts `seq` of the first record of each segment, in order
 * @throws CordonError AUDIT_UNAVAILABLE
 */
export async function findStart(top: PrivateDir, records: PrivateDir, tiles: TileStore, firsts: readonly number[]): Promise<Start> {
  return (await fromCheckpoint(top, records, tiles, firsts)) ?? (await fromSegment(records, tiles, firsts)) ?? (await fromOldest(tiles, firsts[0] ?? 0))
}

async function fromCheckpoint(top: PrivateDir, records: PrivateDir, tiles: TileStore, firsts: readonly number[]): Promise<Start | null> {
  const note = await top.read('checkpoint', CHECKPOINT_BYTES)
  const checkpoint = note === null ? null : readCheckpoint(note.toString('utf8'))
  if (checkpoint === null || checkpoint.size === 0) return null
  const at = firsts.findLastIndex((first) => first < checkpoint.size)
  const first = firsts[at]
  if (first === undefined) return null
  const tree = await Tree.load(checkpoint.size, (level, index, width) => tiles.read(level, index, width))
  if (tree === null || tree.root() !== checkpoint.root) return null
  const file = await records.openAppend(segmentName(first), false)
  try {
    const { size } = await file.stat()
    for await (const { bytes, end } of scanLines(file, size, 'backward')) {
      const head = parseHead(bytes)
      if (head === null || head.seq > checkpoint.size - 1) continue
      const seal = head.seq === checkpoint.size - 1 ? sealOf(head, leafHash(bytes)) : null
      return seal === null ? null : { tree, hash: seal.hash, seal, at, offset: end, boot: head.boot, monoMs: head.mono_ms }
    }
    return null
  } finally {
    await file.close()
  }
}

/** The tree at the start of the newest segment that its tiles still give: the seal before it, the last record of another one, tells its root. */
async function fromSegment(records: PrivateDir, tiles: TileStore, firsts: readonly number[]): Promise<Start | null> {
  for (let at = firsts.length - 1; at > 0; at--) {
    const first = firsts[at] ?? 0
    const before = await records.openAppend(segmentName(firsts[at - 1] ?? 0), false)
    try {
      for await (const { bytes } of scanLines(before, (await before.stat()).size, 'backward')) {
        const head = parseHead(bytes)
        const leaf = leafHash(bytes)
        const seal = head === null || head.seq !== first - 1 ? null : sealOf(head, leaf)
        const tree = seal === null ? null : await Tree.load(first - 1, (level, index, width) => tiles.read(level, index, width))
        if (head === null || seal === null || tree === null || tree.root() !== head.data['root']) break
        tree.append(Buffer.from(leaf, 'hex'))
        return { tree, hash: leaf, seal, at, offset: 0, boot: head.boot, monoMs: head.mono_ms }
      }
    } finally {
      await before.close()
    }
  }
  return null
}

/** Records that were pruned are in the tree by their tiles alone. */
async function fromOldest(tiles: TileStore, first: number): Promise<Start> {
  const tree = new Tree()
  let leaves = Buffer.alloc(0)
  for (let index = 0; index * TILE_WIDTH < first; index++) {
    const width = Math.min(TILE_WIDTH, first - index * TILE_WIDTH)
    const tile = await tiles.read(0, index, width)
    if (tile === null) throw new CordonError('AUDIT_UNAVAILABLE', `the records before ${first} were pruned, and tile/0 does not hold their hashes`)
    leaves = Buffer.from(tile.subarray(0, width * HASH_BYTES))
    tree.append(leaves)
    if (tree.fullCount > MAX_PENDING_TILES) await tiles.write(tree.takeFull())
  }
  return { tree, hash: first === 0 ? GENESIS_HASH : leaves.toString('hex', leaves.length - HASH_BYTES), seal: null, at: 0, offset: 0, boot: null, monoMs: 0 }
}
