import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { HASH_BYTES, leafHash, TILE_WIDTH, Tree, type Tile } from '../../src/audit/tree.ts'
import { tilePath } from '../../src/audit/tiles.ts'

const sha = (...parts: Uint8Array[]): Buffer => createHash('sha256').update(Buffer.concat(parts)).digest()

/** RFC 6962 section 2.1 word for word, over leaf hashes. */
function naive(leaves: readonly Buffer[]): Buffer {
  if (leaves.length === 0) return sha()
  if (leaves.length === 1) return leaves[0] ?? Buffer.alloc(0)
  let k = 1
  while (k * 2 < leaves.length) k *= 2
  return sha(Buffer.of(1), naive(leaves.slice(0, k)), naive(leaves.slice(k)))
}

const leafOf = (i: number): Buffer => sha(Buffer.from(`leaf ${i}`))
const leaves = (n: number): Buffer[] => Array.from({ length: n }, (_, i) => leafOf(i))

describe('the tree', () => {
  // The inputs and roots of certificate-transparency's own tests (merkletree/merkle_tree_test.cc).
  const inputs = ['', '00', '10', '2021', '3031', '40414243', '5051525354555657', '606162636465666768696a6b6c6d6e6f']
  test.each([
    [0, 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'],
    [1, '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d'],
    [2, 'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125'],
    [3, 'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77'],
    [4, 'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7'],
    [5, '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4'],
    [6, '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef'],
    [7, 'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c'],
    [8, '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328'],
  ])('of %i known leaves has the known root', (n, root) => {
    const tree = new Tree()
    for (const input of inputs.slice(0, n)) tree.append(Buffer.from(leafHash(Buffer.from(input, 'hex')), 'hex'))
    expect([tree.size, tree.root()]).toEqual([n, root])
  })

  test('has the root of the naive definition, at any size and however the leaves arrive', () => {
    fc.assert(fc.property(fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 6 }), (batches) => {
      const tree = new Tree()
      for (const n of batches) tree.append(Buffer.concat(Array.from({ length: n }, (_, i) => leafOf(tree.size + i))))
      expect(tree.root()).toBe(naive(leaves(tree.size)).toString('hex'))
    }), { seed: 6962, numRuns: 60 })
  })

  test('its tiles are those of tlog-tiles: each hash is the root of its own perfect tree', () => {
    const n = TILE_WIDTH * TILE_WIDTH + 3 * TILE_WIDTH + 7
    const tree = new Tree()
    const all = leaves(n)
    tree.append(Buffer.concat(all))
    const tiles = new Map([...tree.takeFull(), ...tree.partial()].map((tile) => [tilePath(tile.level, tile.index, tile.bytes.length / HASH_BYTES), tile]))
    expect(tiles.size).toBe(256 + 3 + 1 + 1 + 1 + 1)
    expect([...tiles.keys()].filter((path) => path.includes('.p'))).toEqual(['0/259.p/7', '1/001.p/3', '2/000.p/1'])
    expect(tiles.get('0/003')?.bytes.equals(Buffer.concat(all.slice(768, 1024)))).toBe(true)
    expect(tiles.get('1/000')?.bytes.subarray(32, 64).equals(naive(all.slice(256, 512)))).toBe(true)
    expect(tiles.get('2/000.p/1')?.bytes.equals(naive(all.slice(0, 65_536)))).toBe(true)
    expect(tree.takeFull()).toEqual([])
  })

  test('comes back from its tiles, and goes on as if it had never gone', async () => {
    await fc.assert(fc.asyncProperty(fc.integer({ min: 0, max: 70_000 }), fc.integer({ min: 0, max: 600 }), async (n, more) => {
      const tree = new Tree()
      const stored = new Map<string, Tile>()
      tree.append(Buffer.concat(leaves(n)))
      for (const tile of [...tree.takeFull(), ...tree.partial()]) stored.set(`${tile.level}/${tile.index}`, tile)
      const again = await Tree.load(n, (level, index) => Promise.resolve(stored.get(`${level}/${index}`)?.bytes ?? null))
      const rest = Buffer.concat(Array.from({ length: more }, (_, i) => leafOf(n + i)))
      for (const one of [tree, again]) one?.append(rest)
      expect([again?.size, again?.root(), again?.takeFull().map(({ level, index }) => [level, index])]).toEqual([tree.size, tree.root(), tree.takeFull().map(({ level, index }) => [level, index])])
    }), { seed: 6962, numRuns: 12 })
  })

  test('does not come back while a tile is missing or too short', async () => {
    expect(await Tree.load(300, () => Promise.resolve(null))).toBeNull()
    expect(await Tree.load(300, (_level, _index, width) => Promise.resolve(Buffer.alloc((width - 1) * HASH_BYTES)))).toBeNull()
  })
})

test.each([
  [0, 0, 256, '0/000'], [1, 12, 256, '1/012'], [0, 999, 3, '0/999.p/3'], [0, 1000, 256, '0/x001/000'], [2, 1234067, 1, '2/x001/x234/067.p/1'],
])('tile %i/%i of width %i lies at %s', (level, index, width, path) => {
  expect(tilePath(level, index, width)).toBe(path)
})
