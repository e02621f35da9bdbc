import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { verifyLog } from '../../src/audit/verify/log.ts'
import { logPath, openLog, tempDir } from './kit.ts'
import { loose } from './loose.ts'

/** mulberry32: the moments of death are the same in each run as far as a clock allows. */
function random(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

test('a writer killed at 20 random moments loses no acknowledged record, and its log is whole or tells the torn line', async () => {
  const dir = join(tempDir(), 'audit')
  mkdirSync(dir, { mode: 0o700 })
  const next = random(20)
  let acknowledged = 0
  for (let round = 0; round < 20; round++) {
    const child = spawn(process.execPath, [join(import.meta.dirname, 'writing-child.ts'), dir], { stdio: ['ignore', 'pipe', 'inherit'], env: {} })
    let out = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text))
    const closed = once(child, 'close')
    const least = round % 2 === 0 ? 1 : 12 // at least so many, however slow the disk is
    while (out.split('\n').length <= least) await once(child.stdout, 'data')
    await sleep(next() * 120)
    child.kill('SIGKILL')
    await closed
    const seqs = out.split('\n').slice(0, -1).map(Number)
    acknowledged += seqs.length

    const log = await openLog({ dir })
    await log.append(loose({ type: 'daemon.started', round }), 'launcher')
    await log.close()
    const result = await verifyLog(dir)
    expect(result.firstBad).toBeNull()
    expect(['whole', 'gap']).toContain(result.verdict)
    expect(result.gaps.every((gap) => gap.reason === 'torn-line')).toBe(true)
    const written = new Set(readFileSync(logPath(dir), 'utf8').split('\n').flatMap((line) => /"seq":(\d+),"time"/.exec(line)?.[1] ?? []).map(Number))
    expect(seqs.filter((seq) => !written.has(seq))).toEqual([])
  }
  expect(acknowledged).toBeGreaterThan(100)
})
