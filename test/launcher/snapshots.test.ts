import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { AuditEvent } from '../../src/audit/record.ts'
import type { Difference } from '../../src/launcher/comparison.ts'
import type { LaunchHost } from '../../src/launcher/host.ts'
import type { GatedRun } from '../../src/launcher/sandbox.ts'
import type { Look } from '../../src/launcher/processes.ts'
import { watchResources } from '../../src/launcher/snapshots.ts'
import { pluginPlan, policyOf, UNIFIED } from '../plan/plans.ts'

const MiB = 2 ** 20
const { limits } = policyOf('plugin: demo\nexecutable: { path: /opt/demo }\nlimits: { MemoryMax: 100M, TasksMax: 20 }\n')

let dir: string
let records: AuditEvent[]
let violated: (readonly Difference[])[]
let look: Look
let refused: (Record<string, number> | null)[]
beforeEach(() => {
  vi.useFakeTimers()
  dir = mkdtempSync(join(tmpdir(), 'cordon-snapshots-'))
  mkdirSync(`${dir}/leaf`)
  records = []
  violated = []
  look = { names: [], more: 0, fresh: [] }
  refused = []
})
afterEach(() => {
  vi.useRealTimers()
  rmSync(dir, { recursive: true })
})

/** The files of a cgroup as a kernel would show them. */
function cgroup(memoryMiB: number, tasks = 2, throttledUs = 0): void {
  writeFileSync(`${dir}/leaf/memory.current`, `${memoryMiB * MiB}\n`)
  writeFileSync(`${dir}/leaf/pids.current`, `${tasks}\n`)
  writeFileSync(`${dir}/leaf/cpu.stat`, `usage_usec 100\nnr_throttled 1\nthrottled_usec ${throttledUs}\n`)
}

function watch(attest: () => Difference[] = () => [], sampleMs?: number): () => Promise<void> {
  const tree = { version: 2, dirs: () => new Map([['unified', `${dir}/leaf`]]) }
  return watchResources({
    host: { tree, observer: { watch: () => ({ look: async () => look, refused: () => refused.shift() ?? {}, end: () => {} }) } } as unknown as LaunchHost, group: 'demo', plugin: 'demo', limits,
    run: { plan: pluginPlan(UNIFIED), attestAgain: attest } as unknown as GatedRun,
    audit: { append: () => Promise.reject(new Error('nothing here is awaited')), note: (event) => void records.push(event) },
    violated: (differences) => void violated.push(differences),
    ...(sampleMs === undefined ? {} : { sampleMs }),
  })
}

test('a sample every 10 s, a record every 60 s with least, mean and most', async () => {
  cgroup(10)
  const end = watch()
  await vi.advanceTimersByTimeAsync(30_000)
  cgroup(40)
  await vi.advanceTimersByTimeAsync(29_000)
  expect(records).toEqual([])
  await vi.advanceTimersByTimeAsync(1000)
  expect(records).toMatchObject([{ type: 'resources.snapshot', plugin: 'demo', samples: 6, memory_bytes: { min: 10 * MiB, mean: 25 * MiB, max: 40 * MiB }, tasks: { min: 2, mean: 2, max: 2 } }])
  await end()
  expect(records).toHaveLength(1)
})

test.each([
  ['nine tenths of its memory', () => cgroup(91)],
  ['nine tenths of its tasks', () => cgroup(10, 19)],
  ['throttled for more than a tenth of the time', () => cgroup(10, 2, 1_000_001)],
])('%s is trouble, and on record with the next sample', async (_, trouble) => {
  cgroup(10)
  const end = watch()
  trouble()
  await vi.advanceTimersByTimeAsync(10_000)
  expect(records).toHaveLength(1)
  await end()
})

test('the sample after trouble is on record too, and then none before the minute is over', async () => {
  cgroup(10)
  const end = watch()
  cgroup(95)
  await vi.advanceTimersByTimeAsync(10_000)
  cgroup(10)
  await vi.advanceTimersByTimeAsync(50_000)
  expect(records).toMatchObject([{ memory_bytes: { max: 95 * MiB } }, { memory_bytes: { max: 10 * MiB }, samples: 1 }])
  await end()
  expect(records).toMatchObject([{}, {}, { samples: 4 }])
})

test('a kill for want of memory is trouble, and counted', async () => {
  cgroup(10)
  writeFileSync(`${dir}/leaf/memory.events`, 'oom 0\noom_kill 0\n')
  const end = watch()
  writeFileSync(`${dir}/leaf/memory.events`, 'oom 1\noom_kill 2\n')
  await vi.advanceTimersByTimeAsync(10_000)
  expect(records).toMatchObject([{ oom_kills: 2 }])
  await end()
})

test('names of processes are in the record; programs that were not seen before are told at once, and once', async () => {
  cgroup(10)
  const program = (path: string) => ({ path, sha256: 'ab'.repeat(32), bytes: 5 })
  const end = watch()
  look = { names: [{ name: 'demo', count: 2 }], more: 3, fresh: [program('/plugin/demo')] }
  await vi.advanceTimersByTimeAsync(10_000)
  look = { names: [{ name: 'miner', count: 1 }], more: 0, fresh: [program('/tmp/miner')] }
  await vi.advanceTimersByTimeAsync(10_000)
  expect(records).toMatchObject([{ type: 'programs.seen', programs: [{ path: '/plugin/demo' }] }, { type: 'programs.seen', plugin: 'demo', programs: [{ path: '/tmp/miner' }] }])
  look = { ...look, fresh: [] }
  await vi.advanceTimersByTimeAsync(40_000)
  expect(records.slice(2)).toMatchObject([{ type: 'resources.snapshot', samples: 6, processes: [{ name: 'miner', count: 1 }], processes_more: 0 }])
  await end()
})

test('refused system calls come with each record, also where the run was too short for a sample; without any there is none', async () => {
  cgroup(10)
  refused = [{ bpf: 3, ptrace: 1 }]
  const end = watch()
  await end()
  expect(records).toEqual([{ type: 'seccomp.refused', plugin: 'demo', run: expect.any(String) as string, calls: { bpf: 3, ptrace: 1 } }])
  refused = [null]
  await watch()()
  expect(records).toHaveLength(1)
})

test('the last samples of a short run are on record', async () => {
  cgroup(10)
  const end = watch()
  await vi.advanceTimersByTimeAsync(10_000)
  expect(records).toEqual([])
  await end()
  expect(records).toMatchObject([{ samples: 1 }])
  await vi.advanceTimersByTimeAsync(60_000)
  expect(records).toHaveLength(1)
})

test('each sample attests again, at the interval that it is given, and tells what differs', async () => {
  cgroup(10)
  const difference = { what: 'pids.max', expected: '20', found: 'max' }
  let found: Difference[] = []
  const end = watch(() => found, 200)
  await vi.advanceTimersByTimeAsync(1000)
  expect(violated).toEqual([])
  found = [difference]
  await vi.advanceTimersByTimeAsync(200)
  expect(violated).toEqual([[difference]])
  await end()
})

test('a process that is gone is no violation', async () => {
  cgroup(10)
  const end = watch(() => {
    throw new Error('ESRCH')
  })
  await vi.advanceTimersByTimeAsync(60_000)
  expect([violated, records]).toEqual([[], []])
  await end()
})
