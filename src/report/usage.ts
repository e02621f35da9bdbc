import type { LogRecord } from '../history/fields.ts'
import { number } from './describe.ts'

/** Highest value of each stretch of time; null where nothing was measured. */
export interface Curve {
  readonly values: (number | null)[]
  /** Of the policy in force, by stretch. */
  readonly limits: (number | null)[]
}

export interface Usage {
  readonly plugin: string
  /** Bytes. */
  readonly memory: Curve
  /** Percent of one CPU. */
  readonly cpu: Curve
  /** Processes and threads. */
  readonly tasks: Curve
  /** When it was killed. */
  readonly kills: number[]
}

export interface LimitsThen {
  readonly MemoryMax: number
  readonly CPUQuota: number
  readonly TasksMax: number
}

/** As many points as a curve is wide: memory does not grow with the time that a report covers. */
export const POINTS = 480
const MAX_PLUGINS = 64
const MAX_KILLS = 200

/** What each plugin used, from its snapshots. */
export class Usages {
  readonly #since: number
  readonly #step: number
  readonly #limitsOf: (digest: string) => LimitsThen | null
  readonly #plugins = new Map<string, Usage>()
  readonly #current = new Map<string, { limits: LimitsThen | null; atMs: number | null }>()

  /** @param limitsOf of a policy by its digest; null when it is not known any more */
  constructor(since: number, until: number, limitsOf: (digest: string) => LimitsThen | null) {
    this.#since = since
    this.#step = Math.max(1, (until - since) / POINTS)
    this.#limitsOf = limitsOf
  }

  get all(): readonly Usage[] {
    return [...this.#plugins.values()].filter(({ memory, tasks, cpu, kills }) => kills.length > 0 || [memory, tasks, cpu].some(({ values }) => values.some((value) => value !== null)))
  }

  /** A policy that came into force before the report begins. */
  limit(plugin: string, digest: string): void {
    this.#current.set(plugin, { limits: this.#limitsOf(digest), atMs: null })
  }

  add({ type, plugin, policy, data }: LogRecord, ms: number): void {
    if (plugin === null) return
    if (type === 'plugin.start') this.#current.set(plugin, { limits: policy === null ? null : this.#limitsOf(policy), atMs: ms })
    if (type === 'policy.loaded' && typeof data['policy_digest'] === 'string') this.#current.set(plugin, { limits: this.#limitsOf(data['policy_digest']), atMs: this.#current.get(plugin)?.atMs ?? null })
    if (type === 'resources.snapshot') this.#sample(plugin, data, ms)
    if ((type === 'plugin.exited' && number(data, 'oom_kills') > 0) || type === 'isolation.violated') {
      const usage = this.#of(plugin)
      if (usage !== null && usage.kills.length < MAX_KILLS) usage.kills.push(ms)
    }
  }

  #sample(plugin: string, data: LogRecord['data'], ms: number): void {
    const usage = this.#of(plugin)
    if (usage === null) return
    const { limits, atMs } = this.#current.get(plugin) ?? { limits: null, atMs: null }
    const cpuUs = typeof data['cpu_us'] === 'number' ? data['cpu_us'] : null
    this.#mark(usage.memory, ms, most(data['memory_bytes']), limits?.MemoryMax ?? null)
    this.#mark(usage.tasks, ms, most(data['tasks']), limits?.TasksMax ?? null)
    // Since the snapshot before, or the start of the run; the first one that is seen has neither.
    this.#mark(usage.cpu, ms, cpuUs === null || atMs === null || ms - atMs < 500 ? null : cpuUs / (ms - atMs) / 10, limits?.CPUQuota ?? null)
    this.#current.set(plugin, { limits, atMs: ms })
  }

  #mark({ values, limits }: Curve, ms: number, value: number | null, limit: number | null): void {
    const at = Math.min(POINTS - 1, Math.max(0, Math.floor((ms - this.#since) / this.#step)))
    if (value !== null) values[at] = Math.max(values[at] ?? 0, value)
    if (limit !== null) limits[at] = limit
  }

  #of(plugin: string): Usage | null {
    const known = this.#plugins.get(plugin)
    if (known !== undefined) return known
    if (this.#plugins.size >= MAX_PLUGINS) return null
    const usage: Usage = { plugin, memory: curve(), cpu: curve(), tasks: curve(), kills: [] }
    this.#plugins.set(plugin, usage)
    return usage
  }
}

function curve(): Curve {
  return { values: Array.from({ length: POINTS }, () => null), limits: Array.from({ length: POINTS }, () => null) }
}

function most(spread: unknown): number | null {
  return typeof spread === 'object' && spread !== null && 'max' in spread && typeof spread.max === 'number' ? spread.max : null
}
