import type { AuditSink } from '../audit/record.ts'
import type { Limits } from '../policy/policy.ts'
import type { Difference } from './attest.ts'
import { readCgroupFigures, type CgroupFigures } from './cgroup-figures.ts'
import type { LaunchHost } from './host.ts'
import type { GatedRun } from './sandbox.ts'

/** A sample every 10 s; a record every 60 s with min, mean and max, or at once around trouble. */
const SAMPLE_MS = 10_000
const SAMPLES_PER_RECORD = 6
/** Trouble: this share of MemoryMax or TasksMax, or throttled for a tenth of the time. */
const NEAR_LIMIT = 0.9

export interface ResourceWatch {
  readonly host: LaunchHost
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
 * Watch one run: resource figures into the audit trail, and the attestation of cgroup and network again at each sample.
 * @returns ends the watch with a last record
 */
export function watchResources(watch: ResourceWatch): () => Promise<void> {
  const { tree } = watch.host
  const sampleMs = watch.sampleMs ?? SAMPLE_MS
  const dirs = tree.dirs(watch.group, watch.run.plan.runId)
  let samples: CgroupFigures[] = []
  let reported: CgroupFigures = readCgroupFigures(tree.version, dirs)

  const record = (): void => {
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
      type: 'resources.snapshot', plugin: watch.plugin, run: watch.run.plan.runId,
      memory_bytes: spread((f) => f.memoryBytes), tasks: spread((f) => f.tasks), memory_peak_bytes: last.memoryPeakBytes,
      cpu_us: since((f) => f.cpuUsageUs), throttled_us: since((f) => f.cpuThrottledUs), throttled_periods: since((f) => f.cpuThrottledPeriods),
      io_read_bytes: since((f) => f.ioReadBytes), io_write_bytes: since((f) => f.ioWriteBytes),
      memory_pressure_us: since((f) => f.memoryPressureUs), cpu_pressure_us: since((f) => f.cpuPressureUs), samples: samples.length,
    }, 'launcher')
    reported = last
    samples = []
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
    const previous = samples[samples.length - 1] ?? reported
    samples.push(figures)
    if (samples.length >= SAMPLES_PER_RECORD || isTrouble(figures, previous, watch.limits, sampleMs)) record()
  }

  const timer = setInterval(sample, sampleMs)
  return async () => {
    clearInterval(timer)
    record()
  }
}

function isTrouble(now: CgroupFigures, before: CgroupFigures, limits: Limits, sampleMs: number): boolean {
  const throttled = (now.cpuThrottledUs ?? 0) - (before.cpuThrottledUs ?? 0)
  return (now.memoryBytes ?? 0) > limits.MemoryMax * NEAR_LIMIT || (now.tasks ?? 0) > limits.TasksMax * NEAR_LIMIT || throttled > sampleMs * 100
}
