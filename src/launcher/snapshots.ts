import type { AuditSink } from '../audit/record.ts'
import type { Limits } from '../policy/policy.ts'
import type { Difference } from './comparison.ts'
import { readCgroupFigures, type CgroupFigures } from './cgroup-figures.ts'
import type { LaunchHost } from './host.ts'
import type { Look } from './processes.ts'
import type { GatedRun } from './sandbox.ts'

/** A sample every 10 s; a record every 60 s with min, mean and max, or at once in trouble, and with the sample after it. */
const SAMPLE_MS = 10_000
const SAMPLES_PER_RECORD = 6
/** Trouble: this share of MemoryMax or TasksMax, or throttled for a tenth of the time. */
const NEAR_LIMIT = 0.9

export interface ResourceWatch {
  readonly host: Pick<LaunchHost, 'tree' | 'observer'>
  readonly group: string
  readonly plugin: string
  readonly run: GatedRun
  readonly audit: AuditSink
  readonly limits: Limits
  violated(differences: readonly Difference[]): void
  /** Between two samples; default 10 s. */
  readonly sampleMs?: number
}

/**
 * Watch one run: figures, processes, programs and refused system calls into the audit trail, and the attestation of cgroup and network again at each
 * sample.
 * @returns ends the watch with a last record
 */
export function watchResources(watch: ResourceWatch): () => Promise<void> {
  const { tree, observer } = watch.host
  const sampleMs = watch.sampleMs ?? SAMPLE_MS
  const { runId, user } = watch.run.plan
  const dirs = tree.dirs(watch.group, runId)
  const observed = observer.watch(user.uid, dirs)
  let samples: CgroupFigures[] = []
  let reported: CgroupFigures = readCgroupFigures(tree.version, dirs)
  let seen: Look | null = null
  let troubled = false
  let looking: Promise<void> | null = null

  const record = (): void => {
    const calls = observed.refused() ?? {}
    if (Object.keys(calls).length > 0) watch.audit.note({ type: 'seccomp.refused', plugin: watch.plugin, run: runId, calls }, 'launcher')
    if (samples.length === 0) return
    const last = samples[samples.length - 1] ?? reported
    const spread = (of: (f: CgroupFigures) => number | null) => {
      const values = samples.map(of).filter((v) => v !== null)
      if (values.length === 0) return null
      return { min: Math.min(...values), mean: Math.round(values.reduce((a, b) => a + b, 0) / values.length), max: Math.max(...values) }
    }
    const since = (of: (f: CgroupFigures) => number | null): number | null => {
      const [now, before] = [of(last), of(reported)]
      return now === null ? null : Math.max(0, now - (before ?? 0))
    }
    watch.audit.note({
      type: 'resources.snapshot', plugin: watch.plugin, run: runId,
      memory_bytes: spread((f) => f.memoryBytes), tasks: spread((f) => f.tasks), memory_peak_bytes: last.memoryPeakBytes,
      cpu_us: since((f) => f.cpuUsageUs), throttled_us: since((f) => f.cpuThrottledUs), throttled_periods: since((f) => f.cpuThrottledPeriods),
      io_read_bytes: since((f) => f.ioReadBytes), io_write_bytes: since((f) => f.ioWriteBytes), oom_kills: since((f) => f.oomKills),
      memory_pressure_us: since((f) => f.memoryPressureUs), cpu_pressure_us: since((f) => f.cpuPressureUs), samples: samples.length,
      processes: seen?.names ?? [], processes_more: seen?.more ?? 0,
    }, 'launcher')
    reported = last
    samples = []
  }

  const look = async (due: boolean): Promise<void> => {
    seen = await observed.look()
    if (seen.fresh.length > 0) watch.audit.note({ type: 'programs.seen', plugin: watch.plugin, run: runId, programs: seen.fresh }, 'launcher')
    if (due) record()
  }

  const sample = (): void => {
    let differences: Difference[]
    try {
      differences = watch.run.attestAgain()
    } catch {
      return // the process is gone; its exit is on its way
    }
    if (differences.length > 0) return watch.violated(differences)
    const figures = readCgroupFigures(tree.version, dirs)
    const trouble = isTrouble(figures, samples[samples.length - 1] ?? reported, watch.limits, sampleMs)
    const due = samples.push(figures) >= SAMPLES_PER_RECORD || trouble || troubled // and how it was right after
    troubled = trouble
    if (looking !== null) return due ? record() : undefined // a large program is still being read
    // It ended while it was looked at: the figures are recorded all the same.
    looking = look(due).catch(() => record()).finally(() => { looking = null })
  }

  const timer = setInterval(sample, sampleMs)
  return async () => {
    clearInterval(timer)
    await looking
    record()
    observed.end()
  }
}

/** Near a limit, held back for a tenth of the time, or killed for want of memory. */
function isTrouble(now: CgroupFigures, before: CgroupFigures, limits: Limits, sampleMs: number): boolean {
  const throttled = (now.cpuThrottledUs ?? 0) - (before.cpuThrottledUs ?? 0)
  const killed = (now.oomKills ?? 0) > (before.oomKills ?? 0)
  return killed || (now.memoryBytes ?? 0) > limits.MemoryMax * NEAR_LIMIT || (now.tasks ?? 0) > limits.TasksMax * NEAR_LIMIT || throttled > sampleMs * 100
}
