import { expect, test } from 'vitest'
import { CordonError } from '../../src/errors.ts'
import { compileCgroup } from '../../src/plan/limits.ts'
import type { HostFacts, PlanCgroup } from '../../src/plan/plan.ts'
import { FULL, HYBRID, policyOf, UNIFIED } from './plans.ts'

const ALL = policyOf(FULL)
const cgroup = (facts: HostFacts, unenforced = ALL.unenforced, limits = ALL.limits): PlanCgroup => compileCgroup(limits, unenforced, facts, '/plugins/demo/x')
const refusal = (facts: HostFacts, unenforced = ALL.unenforced): string => {
  try {
    cgroup(facts, unenforced)
  } catch (error) {
    if (error instanceof CordonError && error.code === 'PLAN_UNENFORCEABLE') return error.message
    throw error
  }
  return 'accepted'
}

test("systemd's names become the kernel's numbers", () => {
  expect(cgroup(UNIFIED)).toEqual({
    path: '/plugins/demo/x', version: 2, memoryMaxBytes: 512 * 2 ** 20, memoryHighBytes: 400 * 2 ** 20, cpuQuotaUs: 30_000, cpuPeriodUs: 20_000, cpuWeight: 200,
    ioWeight: 50, ioBandwidth: { device: '254:0', readBps: 10_000_000, writeBps: 5_000_000 }, tasksMax: 40,
  })
})

test('the smallest CPU quota is one that the kernel takes', () => {
  expect(cgroup(UNIFIED, [], { ...ALL.limits, CPUQuota: 1 }).cpuQuotaUs).toBe(1000) // cgroup-v2.rst: at least 1 ms
})

test.each([[1, 100_000], [5, 100_000], [10, 50_000], [25, 20_000], [50, 20_000], [400, 20_000]])('a CPU quota of %i%% is exactly that, in periods of %i µs: short, but no shorter than what the kernel hands out at once', (percent, period) => {
  const { cpuQuotaUs, cpuPeriodUs } = cgroup(UNIFIED, [], { ...ALL.limits, CPUQuota: percent })
  expect(cpuPeriodUs).toBe(period)
  expect(cpuQuotaUs).toBe((percent * period) / 100)
})

test.each([
  ['MemoryHigh on a hybrid host', HYBRID, 'MemoryHigh (needs unified cgroup v2)'],
  ['IOWeight where the kernel has none', { ...UNIFIED, ioWeight: false }, 'IOWeight (this kernel has no io.weight)'],
  ['bandwidth where the state directory is on no disk', { ...UNIFIED, stateDevice: null }, 'IOReadBandwidthMax'],
  ['bandwidth without the io controller', { ...UNIFIED, controllers: ['cpu', 'memory', 'pids'] }, 'IOWriteBandwidthMax'],
  ['memory without its controller', { ...UNIFIED, controllers: ['cpu', 'pids', 'io'] }, 'the memory controller'],
  ['CPU without its controller', { ...UNIFIED, controllers: ['memory', 'pids', 'io'] }, 'the cpu controller'],
  ['tasks without their controller', { ...UNIFIED, controllers: ['memory', 'cpu', 'io'] }, 'the pids controller'],
] as const)('what cannot be enforced is refused by name: %s', (_, facts, named) => {
  expect(refusal(facts)).toContain(named)
})

test('every missing wall is named at once', () => {
  const found = refusal({ ...HYBRID, ioWeight: false, stateDevice: null })
  for (const wall of ['MemoryHigh', 'IOWeight', 'IOReadBandwidthMax', 'IOWriteBandwidthMax']) expect(found).toContain(wall)
})

test('a missing wall that the policy names is left out, and no other', () => {
  const bare = { ...HYBRID, ioWeight: false, stateDevice: null }
  expect(cgroup(bare, ['MemoryHigh', 'IOWeight', 'IOReadBandwidthMax', 'IOWriteBandwidthMax'])).toMatchObject({ memoryHighBytes: null, ioWeight: null, ioBandwidth: null, memoryMaxBytes: 512 * 2 ** 20, tasksMax: 40 })
  expect(refusal(bare, ['MemoryHigh', 'IOWeight', 'IOReadBandwidthMax'])).toContain('IOWriteBandwidthMax')
})

test('accepting to miss a wall does not take it away where the host has it', () => {
  expect(cgroup(UNIFIED, ['MemoryHigh', 'IOWeight', 'IOReadBandwidthMax', 'IOWriteBandwidthMax', 'CPUWeight'])).toEqual(cgroup(UNIFIED, []))
})

test('the controllers that every plan needs cannot be waived', () => {
  expect(refusal({ ...UNIFIED, controllers: ['cpu', 'io', 'pids'] }, ['MemoryHigh', 'IOWeight', 'CPUWeight'])).toContain('the memory controller')
})
