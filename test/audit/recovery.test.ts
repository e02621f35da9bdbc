import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { examine } from './examine.ts'
import { logPath, openLog, tempDir } from './kit.ts'
import { loose } from './loose.ts'

/** A log of one daemon that was killed behind its sixth act: the seal of its start is its newest. */
async function killed(): Promise<{ dir: string; path: string; bytes: Buffer; starts: number[] }> {
  const dir = tempDir()
  const log = await openLog({ dir, mode: 'daemon' })
  for (let i = 0; i < 6; i++) await log.append(loose({ type: 'admin.act', who: `user ${i}`, i }), 'operator')
  await expect.poll(() => existsSync(join(dir, 'checkpoint'))).toBe(true) // what follows the seal is done
  const left = tempDir()
  for (const end of ['', '-keys']) execFileSync('/usr/bin/cp', ['-aT', `${dir}${end}`, `${left}${end}`])
  await log.close()
  const path = logPath(left)
  const bytes = readFileSync(path)
  const starts = [0]
  for (let at = bytes.indexOf(10); at >= 0; at = bytes.indexOf(10, at + 1)) starts.push(at + 1)
  return { dir: left, path, bytes, starts }
}

async function goOn(dir: string): Promise<number> {
  const log = await openLog({ dir })
  const { seq } = await log.append(loose({ type: 'admin.act', on: 1 }), 'launcher')
  await log.close()
  return seq
}

describe('after a crash', () => {
  test('what was acknowledged stays, and the first seal is made with the key that the last one announced', async () => {
    const { dir, bytes, path } = await killed()
    expect(await goOn(dir)).toBe(9)
    expect(readFileSync(path).subarray(0, bytes.length).equals(bytes)).toBe(true)
    const { problems, seals, tornTold } = examine(dir)
    expect(problems).toEqual([])
    expect([seals.length, tornTold]).toEqual([2, 0])
  })

  const tears: [string, (b: Buffer, starts: number[]) => Buffer, number][] = [
    ['half a record', (b, s) => b.subarray(0, (s[7] ?? 0) + 100), 8],
    ['half a character', (b, s) => Buffer.concat([b.subarray(0, s[7]), Buffer.from([0xe2, 0x82])]), 8],
    ['zeros that a power cut left, with a newline among them', (b, s) => Buffer.concat([b.subarray(0, s[7]), Buffer.alloc(5000), Buffer.from('\n'), Buffer.alloc(200_000)]), 8],
    ['zeros, then records that were never acknowledged', (b, s) => Buffer.concat([b.subarray(0, s[6]), Buffer.alloc((s[7] ?? 0) - (s[6] ?? 0)), b.subarray(s[7])]), 7],
  ]
  test.each(tears)('%s: the writer keeps the bytes, tells their length and hash, and goes on; so it does when it is killed again', async (_name, tear, seq) => {
    const { dir, path, bytes, starts } = await killed()
    const torn = tear(bytes, starts)
    writeFileSync(path, torn)
    const log = await openLog({ dir })
    expect(await log.append(loose({ type: 'admin.act' }), 'launcher')).toEqual({ seq })
    const after = readFileSync(path)
    expect(after.subarray(0, torn.length).equals(torn)).toBe(true)
    expect(examine(dir)).toMatchObject({ problems: [], tornTold: 1, tornEnd: false })
    await log.close()

    const again = await killed()
    writeFileSync(again.path, Buffer.concat([tear(again.bytes, again.starts), Buffer.from('\n{"boot":"half of the gap rec')]))
    await goOn(again.dir)
    expect(examine(again.dir)).toMatchObject({ problems: [], tornTold: 1, tornEnd: false })
  })

  test('a record that lacks only its newline gets one, and is no gap', async () => {
    const { dir, path, bytes } = await killed()
    truncateSync(path, bytes.length - 1)
    expect(await goOn(dir)).toBe(9)
    expect(examine(dir)).toMatchObject({ problems: [], tornTold: 0 })
  })

  test('a log whose sealed end was cut off is not gone on with', async () => {
    const { dir, path, starts } = await killed()
    truncateSync(path, starts[2])
    await expect(goOn(dir)).rejects.toMatchObject({ code: 'AUDIT_KEYS' })
  })

  test('a record that was changed behind the last seal is not built upon', async () => {
    const { dir, path, bytes } = await killed()
    writeFileSync(path, bytes.toString().replace('user 3', 'user x'))
    await expect(goOn(dir)).rejects.toMatchObject({ code: 'AUDIT_UNAVAILABLE', message: expect.stringContaining('does not follow the one before it') as string })
  })

  test('nothing but torn bytes of the very first record: the log begins anew', async () => {
    const dir = tempDir()
    writeFileSync(logPath(dir), '{"boot":"x","cla', { mode: 0o600 })
    expect(await goOn(dir)).toBe(1)
    expect(examine(dir)).toMatchObject({ problems: [], tornTold: 0, tornEnd: false })
  })

  test('a file that is no log at all is left as it is', async () => {
    const dir = tempDir()
    writeFileSync(logPath(dir), 'x'.repeat(10_000), { mode: 0o600 })
    await expect(goOn(dir)).rejects.toMatchObject({ code: 'AUDIT_UNAVAILABLE' })
    expect(readFileSync(logPath(dir), 'utf8')).toBe('x'.repeat(10_000))
  })
})

describe('where the checkpoint is lost', () => {
  /** Several segments and full tiles, without a checkpoint, and with an early record of the first segment that is another one now. */
  async function spoiled(): Promise<{ dir: string; mend(): void }> {
    const dir = tempDir()
    const log = await openLog({ dir, mode: 'daemon', segmentBytes: 60_000 })
    for (let n = 0; n < 35; n++) await Promise.all(Array.from({ length: 20 }, (_, i) => log.append(loose({ type: 'admin.act', i }), 'operator')))
    await log.close()
    rmSync(join(dir, 'checkpoint'))
    const path = logPath(dir)
    const whole = readFileSync(path)
    const other = Buffer.from(whole)
    other.write('OPERATOR', other.indexOf('"operator"', 4000) + 1)
    writeFileSync(path, other)
    return { dir, mend: () => writeFileSync(path, whole) }
  }

  test('the tiles give the tree at the start of the newest segment: nothing older is read, and the root is the right one', async () => {
    const { dir, mend } = await spoiled()
    const before = examine(dir)
    expect(before.segments.length).toBeGreaterThan(3)
    expect(before.problems).not.toEqual([])
    await goOn(dir)
    mend()
    expect(examine(dir).problems).toEqual([]) // its newest seal signs the root of all records
    expect(existsSync(join(dir, 'checkpoint'))).toBe(true)
  })

  test('without the tiles all records are read again, and what does not follow is not built upon', async () => {
    const { dir, mend } = await spoiled()
    rmSync(join(dir, 'tile'), { recursive: true })
    await expect(openLog({ dir })).rejects.toMatchObject({ code: 'AUDIT_UNAVAILABLE', message: expect.stringContaining('does not follow') as string })
    mend()
    await goOn(dir)
    expect(examine(dir).problems).toEqual([])
  })

  test('a tile that is cut or another one is not believed: then the records tell', async () => {
    for (const spoil of [(tile: Buffer) => tile.subarray(0, 10), (tile: Buffer) => Buffer.alloc(tile.length, 7)]) {
      const { dir, mend } = await spoiled()
      // Segments that begin below 256 need the first, all others the unfinished ones above it.
      for (const tile of [join(dir, 'tile/0/000'), ...readdirSync(join(dir, 'tile/1/000.p')).map((name) => join(dir, 'tile/1/000.p', name))]) {
        writeFileSync(tile, spoil(readFileSync(tile)))
      }
      await expect(openLog({ dir })).rejects.toMatchObject({ message: expect.stringContaining('does not follow') as string })
      mend()
      await goOn(dir)
      expect(examine(dir).problems).toEqual([])
    }
  })
})

describe('a torn key file', () => {
  test.each([['epoch-1.key', 0], ['epoch-1.key', 16], ['log.key', 31], ['salt', 5]] as const)('%s of %i bytes: the log is not gone on with, and nothing of it is touched', async (name, length) => {
    const { dir, path, bytes } = await killed()
    const key = join(`${dir}-keys`, name)
    const seed = readFileSync(key)
    writeFileSync(key, Buffer.concat([seed, seed]).subarray(0, length))
    await expect(openLog({ dir })).rejects.toMatchObject({ code: 'AUDIT_KEYS', message: expect.stringContaining(`${name} has ${length} bytes`) as string })
    expect(readFileSync(path).equals(bytes)).toBe(true)
    expect(readFileSync(key)).toHaveLength(length)
    writeFileSync(key, seed)
    await goOn(dir)
    expect(examine(dir).problems).toEqual([])
  })

  test('half of the next key, which a crash left before it got its name, goes', async () => {
    const { dir } = await killed()
    writeFileSync(join(`${dir}-keys`, 'epoch-2.key.new'), Buffer.alloc(9), { mode: 0o600 })
    await goOn(dir)
    expect(readdirSync(`${dir}-keys`).sort()).toEqual(['epoch-2.key', 'log.key', 'salt'])
    expect(examine(dir).problems).toEqual([])
  })
})

test('the clock of another boot may begin anew, that of the same boot does not go back', async () => {
  const dir = tempDir()
  for (const [bootId, now] of [['a', 100], ['a', 50], ['b', 1]] as const) {
    const log = await openLog({ dir, bootId, clock: { wallMs: () => 0, monoMs: () => now } })
    await log.append(loose({ type: 'admin.act' }), 'launcher')
    await log.close()
  }
  const { problems, records } = examine(dir)
  expect(problems).toEqual([])
  expect(records.filter(({ type }) => type === 'admin.act').map(({ mono_ms }) => mono_ms)).toEqual([100, 100, 1])
})
