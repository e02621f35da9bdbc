import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
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
  await expect.poll(() => existsSync(join(dir, 'checkpoint')), { timeout: 10_000 }).toBe(true) // what follows the seal is done
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
