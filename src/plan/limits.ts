import { CordonError } from '../errors.ts'
import type { Limits, Unenforceable } from '../policy/policy.ts'
import type { HostFacts, PlanCgroup } from './plan.ts'

/**
 * CPU bandwidth (cgroup-v2.rst, "CPU Interface Files"). With the kernel's usual 100 ms a plugin with half a core runs for 50 ms without a pause,
 * and whoever shares the processor with it waits that long; it also stands still that long itself. So periods are short, but for small
 * quotas not so short that one of them is less than the slice that the kernel hands out at once (sched-bwc.rst, 5 ms).
 */
const CPU_PERIOD_US = { least: 20_000, most: 100_000, slice: 5000 } as const

/**
 * A service's OOMScoreAdjust must not reach a plugin (Nomad issue 10663), and when the whole host runs out of memory a plugin should go
 * before the host's own services. Not 0: crun 1.8 takes that for "not given" and leaves the launcher's.
 */
export const OOM_SCORE_ADJ = 100

/**
 * systemd's names to kernel numbers. A wall that this host cannot give is refused unless the policy lists it under `unenforced`.
 * @throws CordonError PLAN_UNENFORCEABLE naming every missing wall at once
 */
export function compileCgroup(limits: Limits, unenforced: readonly Unenforceable[], facts: HostFacts, path: string): PlanCgroup {
  const unified = facts.cgroupVersion === 2
  const missing: string[] = []
  const need = (wall: Unenforceable, wanted: boolean, has: boolean, why: string): boolean => {
    if (!wanted || has) return wanted
    if (!unenforced.includes(wall)) missing.push(`${wall} (${why})`)
    return false
  }
  for (const controller of ['memory', 'cpu', 'pids'] as const) {
    if (!facts.controllers.includes(controller)) missing.push(`the ${controller} controller (not available below our cgroup)`)
  }
  const io = facts.controllers.includes('io') || facts.controllers.includes('blkio')
  const disk = 'the state directory is on no single block device, or there is no io controller'
  const high = need('MemoryHigh', limits.MemoryHigh !== null, unified, 'needs unified cgroup v2')
  const ioWeight = need('IOWeight', limits.IOWeight !== null, facts.ioWeight, 'this kernel has no io.weight')
  const read = need('IOReadBandwidthMax', limits.IOReadBandwidthMax !== null, io && facts.stateDevice !== null, disk)
  const write = need('IOWriteBandwidthMax', limits.IOWriteBandwidthMax !== null, io && facts.stateDevice !== null, disk)
  if (missing.length > 0) {
    throw new CordonError('PLAN_UNENFORCEABLE', `this host cannot enforce ${missing.join(', ')}`)
  }
  return {
    path,
    version: facts.cgroupVersion,
    memoryMaxBytes: limits.MemoryMax,
    memoryHighBytes: high ? limits.MemoryHigh : null,
    ...bandwidth(limits.CPUQuota),
    cpuWeight: limits.CPUWeight,
    ioWeight: ioWeight ? limits.IOWeight : null,
    ioBandwidth: facts.stateDevice !== null && (read || write)
      ? { device: facts.stateDevice, readBps: read ? limits.IOReadBandwidthMax : null, writeBps: write ? limits.IOWriteBandwidthMax : null }
      : null,
    tasksMax: limits.TasksMax,
  }
}

/** @param percent of one CPU */
function bandwidth(percent: number): Pick<PlanCgroup, 'cpuQuotaUs' | 'cpuPeriodUs'> {
  const { least, most, slice } = CPU_PERIOD_US
  const cpuPeriodUs = Math.min(most, Math.max(least, Math.ceil((slice * 100) / percent)))
  return { cpuQuotaUs: Math.max(1000, Math.round((percent * cpuPeriodUs) / 100)), cpuPeriodUs } // 1 ms is the least that the kernel takes
}
