import { existsSync, writeFileSync } from 'node:fs'
import { CordonError } from '../errors.ts'
import { sharesFromWeight } from '../plan/oci.ts'
import type { PlanCgroup } from '../plan/plan.ts'
import type { CgroupDirs } from './cgroup.ts'

/** The kernel's own; a group outlives its runs, so a weight that a policy no longer names is taken back. */
const DEFAULT_WEIGHT = 100

/**
 * A weight counts among siblings (cgroup-v2.rst, "Weights"), and a run has none: it is the one leaf of its plugin's lasting group. So the
 * group, which stands beside those of the other plugins and of our own processes, gets the weights of the run.
 * @param dirs of the group
 * @throws CordonError LAUNCH_CGROUP
 */
export function shareGroup(version: 1 | 2, dirs: CgroupDirs, cgroup: PlanCgroup): void {
  const [cpu, io] = [cgroup.cpuWeight ?? DEFAULT_WEIGHT, cgroup.ioWeight ?? DEFAULT_WEIGHT]
  const set = (controller: string, file: string, value: string): void => {
    const path = `${dirs.get(controller) ?? ''}/${file}`
    if (!dirs.has(controller) || !existsSync(path)) return // the plan refused what this host has not, or its policy does without
    try {
      writeFileSync(path, value)
    } catch (error) {
      throw new CordonError('LAUNCH_CGROUP', `${path}: ${error instanceof Error ? error.message : String(error)}`, { cause: error })
    }
  }
  if (version === 2) {
    set('unified', 'cpu.weight', String(cpu))
    set('unified', 'io.weight', `default ${io}`)
  } else {
    set('cpu', 'cpu.shares', String(sharesFromWeight(cpu)))
    set('blkio', 'blkio.weight', String(Math.min(1000, Math.max(10, io)))) // as oci.ts has it for the leaf
  }
}
