import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test, vi } from 'vitest'
import { checkProof, consistent, leafOf, rootOfPath } from '../../src/audit/verify/proof.ts'
import { proveRecord } from '../../src/audit/verify/prove.ts'
import { TileHashes } from '../../src/audit/verify/tile-hashes.ts'
import { toHex } from '../../src/audit/verify/tree.ts'
import { askPython } from './both.ts'
import { Forge, keyOf, leaf, treeHash } from './forge.ts'
import { tempDir } from './kit.ts'

vi.setConfig({ testTimeout: 60_000 }) // other processes take part, on a machine that may be busy

const binary = (bytes: Buffer): string => bytes.toString('latin1')

/** One log for all: more than one full tile, and removed segments. */
const forge = new Forge().record('log.opened', { pid: 1 }).seal('open').records(300).rotate().records(400).seal().records(9)
const dir = (): string => forge.write(tempDir())

describe('hashes out of tiles', () => {
  test('roots, inclusion and consistency at every size around the corners are those of RFC 6962, and verify', () => {
    const tiles = new TileHashes(join(dir(), 'tile'))
    const leaves = forge.lines.slice(0, forge.checkpointSize).map(leaf)
    const sizes = [1, 2, 3, 4, 5, 7, 8, 9, 255, 256, 257, 303, 511, 512, 513, forge.checkpointSize]
    for (const size of sizes) {
      const root = treeHash(leaves.slice(0, size))
      expect(toHex(tiles.root(size))).toBe(root.toString('hex'))
      for (const index of [0, 1, 2, 3, 6, 254, 255, 256, 302, size - 1].filter((one) => one < size)) {
        const path = tiles.inclusion(index, size)
        const own = binary(leaves[index] ?? Buffer.alloc(0))
        expect(rootOfPath(own, index, size, path)).toBe(binary(root))
        expect(rootOfPath(own, index, size, [...path, path[0] ?? own])).not.toBe(binary(root))
        if (path.length > 0) expect(rootOfPath(own, index, size, path.slice(1))).not.toBe(binary(root))
        if (size > 1) expect(rootOfPath(own, (index + 1) % size, size, path)).not.toBe(binary(root))
      }
      for (const old of sizes.filter((one) => one <= size)) {
        const proof = tiles.consistency(old, size)
        const oldRoot = binary(treeHash(leaves.slice(0, old)))
        expect(consistent(old, oldRoot, size, binary(root), proof), `${old} to ${size}`).toBe(true)
        expect(consistent(old, oldRoot, size, binary(leaf('x')), proof)).toBe(false)
        expect(consistent(old, binary(leaf('x')), size, binary(root), proof)).toBe(false)
        expect(consistent(old, oldRoot, size, binary(root), [...proof, binary(leaf('x'))])).toBe(false)
        for (let i = 0; i < proof.length; i++) expect(consistent(old, oldRoot, size, binary(root), proof.with(i, binary(leaf('x'))))).toBe(false)
      }
    }
    expect(consistent(5, '', 4, '', [])).toBe(false)
  })

  test('a tile that is missing or short is named', () => {
    const made = dir()
    const tiles = new TileHashes(join(made, 'tile'))
    writeFileSync(join(made, 'tile/0/000'), 'short')
    expect(() => tiles.inclusion(3, 300)).toThrow(/tile\/0\/000: it has 5 bytes/)
    rmSync(join(made, 'tile/0/001'))
    expect(() => new TileHashes(join(made, 'tile')).inclusion(257, 512)).toThrow(/tile\/0\/001: it is missing/)
  })
})

describe('a proof', () => {

  test.each([0, 1, 2, 150, 255, 256, 303, 500, forge.checkpointSize - 1])('of record %i holds in both verifiers, with nothing but the fingerprint', async (seq) => {
    const proof = await proveRecord(dir(), seq)
    const proved = checkProof(proof, forge.fingerprint)
    expect(proved).toMatchObject({ index: seq, record: forge.lines[seq], checkpoint: { size: forge.checkpointSize } })
    const file = join(tempDir(), 'proof')
    writeFileSync(file, proof)
    expect(await askPython({ proof: file, key: forge.fingerprint })).toMatchObject({ verdict: 'whole', proved: { index: seq, record: forge.lines[seq], fingerprint: forge.fingerprint } })
    expect(checkProof(proof, new Forge('b').fingerprint)).toMatch(/expected/)
    expect(await askPython({ proof: file, key: new Forge('b').fingerprint })).toMatchObject({ verdict: 'tampered' })
  })

  test('each byte flipped: none holds, in either', async () => {
    const proof = await proveRecord(dir(), 150)
    const file = join(tempDir(), 'proof')
    // The epoch key's signature on the checkpoint is beside the point here: the log key's is what counts.
    const bytes = Buffer.from(proof.slice(0, proof.lastIndexOf('— ')))
    for (let at = 0; at < bytes.length; at += at < 60 ? 1 : 7) {
      const changed = Buffer.from(bytes)
      changed[at] = (changed[at] ?? 0) ^ 1
      expect(checkProof(changed.toString('utf8'), forge.fingerprint), `byte ${at}`).toBeTypeOf('string')
      writeFileSync(file, changed)
      expect(await askPython({ proof: file, key: forge.fingerprint }), `byte ${at}`).toMatchObject({ verdict: 'tampered' })
    }
  })

  test('made up by someone with the log key, or another one: does not hold', async () => {
    const other = new Forge('other').record().seal('open').records(300).seal()
    const proof = await proveRecord(other.write(tempDir()), 5)
    expect(checkProof(proof, forge.fingerprint)).toMatch(/first key/)
    // The first record with the right first key and a log key of one's own; the first seal cannot be had.
    const posing = new Forge('log')
    posing.lines[0] = (posing.lines[0] ?? '').replace(posing.log.raw.toString('hex'), keyOf('mine').raw.toString('hex'))
    posing.seal('open', keyOf('mine')).records(5).seal('close', keyOf('mine'))
    await expect(proveRecord(posing.write(tempDir()), 3)).rejects.toThrow()
  })

  test('stays valid, and can still be made for what is left, when old segments are removed', async () => {
    const old = new Forge().record('log.opened', { pid: 1 }).seal('open').records(300).rotate().records(400).seal()
    const before = await proveRecord(old.write(tempDir()), 100)
    old.rotate().prune().records(3).seal()
    const after = old.write(tempDir())
    expect(checkProof(before, old.fingerprint)).toMatchObject({ index: 100 })
    await expect(proveRecord(after, 100)).rejects.toThrow(/removed by retention/)
    expect(checkProof(await proveRecord(after, 600), old.fingerprint)).toMatchObject({ index: 600, record: old.lines[600] })
    await expect(proveRecord(after, 99_999)).rejects.toThrow(/is not in the log/)
    await expect(proveRecord(old.record().write(tempDir()), old.lines.length - 1)).rejects.toThrow(/not covered/)
  })

  test('carries the cosignature of a witness if one covers the record', async () => {
    const files = dir()
    const cosigned = forge.cosigned('w.example', keyOf('w'))
    writeFileSync(join(files, 'checkpoint'), forge.checkpoint())
    mkdirSync(join(files, 'witnessed'))
    writeFileSync(join(files, 'witnessed/w'), cosigned)
    expect(await proveRecord(files, 3)).toContain('— w.example ')
    writeFileSync(join(files, 'witnessed/w'), forge.cosigned('w.example', keyOf('w'), 3))
    expect(await proveRecord(files, 2)).toContain('— w.example ')
    expect(await proveRecord(files, 3)).not.toContain('w.example')
    expect(readFileSync(join(files, 'checkpoint'), 'utf8')).toBe(forge.checkpoint())
    expect(leafOf(forge.lines[3] ?? '')).toBe(binary(leaf(forge.lines[3] ?? '')))
  })
})
