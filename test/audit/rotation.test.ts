import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { AuditLogOptions } from '../../src/audit/log-options.ts'
import { NODE_FS } from '../../src/audit/log-file.ts'
import type { CordonError } from '../../src/errors.ts'
import { verifyLog } from '../../src/audit/verify/log.ts'
import { examine } from './examine.ts'
import { openLog, tempDir } from './kit.ts'
import { loose } from './loose.ts'

const DAY_MS = 86_400_000
const big = loose({ type: 'admin.act', text: 'x'.repeat(1000) })

async function write(options: Partial<AuditLogOptions> & { dir: string }, n: number): Promise<void> {
  const log = await openLog(options)
  for (let i = 0; i < n; i++) await log.append(big, 'operator')
  await log.close()
}

const segments = (dir: string): string[] => readdirSync(join(dir, 'records')).sort()

describe('rotation', () => {
  test('a segment ends at its size, behind a seal, and the chain goes on in the next one, also across restarts', async () => {
    const dir = tempDir()
    for (let round = 0; round < 3; round++) await write({ dir, mode: round === 1 ? 'run' : 'daemon', segmentBytes: 20_000 }, 50)
    const found = examine(dir)
    expect(found.problems).toEqual([])
    expect(found.segments.length).toBeGreaterThan(6)
    expect(found.seals.filter(({ data }) => data['why'] === 'rotate').length).toBe(found.segments.length - 1)
    for (const name of segments(dir)) expect(statSync(join(dir, 'records', name)).size).toBeLessThan(24_000)
    expect(await verifyLog(dir)).toMatchObject({ verdict: 'whole' })
  })

  test('a segment ends at its age', async () => {
    const dir = tempDir()
    let now = 1e12
    const clock = { wallMs: () => now, monoMs: () => 5 }
    const log = await openLog({ dir, clock, segmentAgeMs: 7 * DAY_MS })
    await log.append(big, 'operator')
    now += 6 * DAY_MS
    await log.append(big, 'operator')
    expect(segments(dir)).toHaveLength(1)
    now += DAY_MS
    await log.append(big, 'operator')
    await log.append(big, 'operator')
    await log.close()
    expect(segments(dir)).toHaveLength(2)
    expect(examine(dir).problems).toEqual([])
  })
})

describe('retention', () => {
  const small: Partial<AuditLogOptions> = { segmentBytes: 20_000, retention: { keepMs: 400 * DAY_MS, maxBytes: 100_000 } }

  test('the oldest segments go when all are too large, are told and sealed before, and what is left verifies', async () => {
    const dir = tempDir()
    const removed: number[] = []
    const bytes = new Map<number, Buffer>()
    const log = await openLog({ dir, mode: 'daemon', ...small, onPruned: (pruned) => Array.isArray(pruned) && removed.push(...pruned.map(({ first }) => first)) })
    for (let i = 0; i < 300; i++) {
      await log.append(big, 'operator')
      for (const name of segments(dir)) if (!bytes.has(Number(name.slice(0, 16)))) bytes.set(Number(name.slice(0, 16)), Buffer.alloc(0))
    }
    await expect.poll(() => removed.length, { timeout: 20_000 }).toBeGreaterThan(3)
    await log.close()
    const left = segments(dir).map((name) => Number(name.slice(0, 16)))
    expect(removed).toEqual([...bytes.keys()].slice(0, removed.length))
    expect(left).not.toContain(0)
    const all = segments(dir).map((name) => readFileSync(join(dir, 'records', name), 'utf8')).join('') + readFileSync(join(dir, 'seals.jsonl'), 'utf8')
    for (const first of removed) expect(all).toContain(`"first":${first},`)
    const result = await verifyLog(dir)
    expect(result).toMatchObject({ verdict: 'whole', firstBad: null })
    // The next writer finds its way without the records that are gone.
    await write({ dir, mode: 'daemon', ...small }, 30)
    expect(await verifyLog(dir)).toMatchObject({ verdict: 'whole', firstBad: null })
  })

  test('records that are too old go, also when there are few', async () => {
    const dir = tempDir()
    let now = 1e12
    const clock = { wallMs: () => now, monoMs: () => 5 }
    for (let day = 0; day < 12; day++) {
      now += 2 * DAY_MS
      await write({ dir, mode: 'daemon', clock, segmentAgeMs: DAY_MS, retention: { keepMs: 10 * DAY_MS, maxBytes: 1e9 } }, 2)
    }
    const age = (): number => now - Date.parse((JSON.parse(readFileSync(join(dir, 'records', segments(dir)[0] ?? ''), 'utf8').split('\n')[0] ?? '') as { time: string }).time)
    const log = await openLog({ dir, mode: 'daemon', clock, segmentAgeMs: DAY_MS, retention: { keepMs: 10 * DAY_MS, maxBytes: 1e9 } })
    await expect.poll(() => age() / DAY_MS, { timeout: 20_000 }).toBeLessThan(16)
    await log.close()
    expect(age() / DAY_MS).toBeGreaterThan(8)
    expect((await verifyLog(dir)).firstBad).toBeNull()
  })

  test('what a record says of a removed segment is true', async () => {
    const dir = tempDir()
    const copies = new Map<number, Buffer>()
    const fs = { ...NODE_FS, unlink: async (path: string) => {
      const name = /(\d{16})\.jsonl$/.exec(path)?.[1]
      if (name !== undefined) copies.set(Number(name), readFileSync(path))
      await NODE_FS.unlink(path)
    } }
    await write({ dir, mode: 'daemon', ...small, fs }, 200)
    expect(copies.size).toBeGreaterThan(1)
    const text = segments(dir).map((name) => readFileSync(join(dir, 'records', name), 'utf8')).join('') + readFileSync(join(dir, 'seals.jsonl'), 'utf8')
    for (const [first, copy] of copies) expect(text).toContain(`"first":${first},"last_leaf":"${leafOfLast(copy)}","next":${[...copies.keys(), Number.NaN].find((other) => other > first) ?? Number(segments(dir)[0]?.slice(0, 16))},"sha256":"${createHash('sha256').update(copy).digest('hex')}"`)
    const kept = readFileSync(join(dir, 'seals.jsonl'), 'utf8').split('\n').slice(0, -1)
    const expected = [...copies.values()].flatMap((copy) => copy.toString().split('\n').filter((line) => /"type":"(log\.created|seal|log\.pruned)","v":1\}$/.test(line)))
    expect(kept).toEqual(expected)
  })

  test('killed between two of its steps, it goes on where it was', async () => {
    const dir = tempDir()
    let allowed = 0
    const fs = { ...NODE_FS, unlink: async (path: string) => {
      if (path.endsWith('.jsonl') && allowed-- <= 0) throw Object.assign(new Error('EIO: injected'), { code: 'EIO' })
      await NODE_FS.unlink(path)
    } }
    const told: (CordonError | null)[] = []
    await write({ dir, mode: 'daemon', ...small, fs, onPruned: (pruned) => told.push(Array.isArray(pruned) ? null : pruned as CordonError) }, 200)
    expect(told.some((one) => one?.message.includes('EIO'))).toBe(true)
    expect(segments(dir)[0]).toBe('0000000000000000.jsonl')
    expect(await verifyLog(dir)).toMatchObject({ verdict: 'whole', firstBad: null })
    writeFileSync(join(dir, 'seals.jsonl'), `${readFileSync(join(dir, 'seals.jsonl'), 'utf8')}{"boot":"half of what`)
    await write({ dir, mode: 'daemon', ...small }, 100)
    expect(segments(dir)[0]).not.toBe('0000000000000000.jsonl')
    expect(await verifyLog(dir)).toMatchObject({ verdict: 'whole', firstBad: null })
  })
})

function leafOfLast(segment: Buffer): string {
  const line = segment.toString().split('\n').at(-2) ?? ''
  return createHash('sha256').update(Buffer.concat([Buffer.of(0), Buffer.from(line)])).digest('hex')
}
