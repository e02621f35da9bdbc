import type { NamedMemory } from '../audit/named.ts'
import type { AuditSink } from '../audit/record.ts'
import type { PluginName } from '../base/ids.ts'
import { collect, type InUse } from './collect.ts'
import { readHostFigures } from './figures.ts'
import type { LaunchHost } from './host.ts'
import type { RefusedCalls } from './kernel-log.ts'

const HOST_FIGURES_MS = 60_000
const LIST_DATA_MS = 86_400_000
/** Retention removes records when a segment ends; logs of single runs go at any time. */
const COLLECT_MS = 86_400_000

export interface HousekeepingDeps {
  readonly host: LaunchHost
  readonly audit: AuditSink
  /** The program that reads the host's figures, unprivileged. */
  readonly figures: string
  readonly stopping: AbortSignal
  running(): readonly PluginName[]
  inUse(): InUse
  log(message: string): void
}

/** What the daemon does time and again, whatever its plugins do; nothing of it failing stops anything. */
export class Housekeeping {
  readonly #deps: HousekeepingDeps
  readonly #ownCalls: readonly { readonly subject: 'gateway' | 'door'; readonly calls: RefusedCalls }[]
  readonly #named: NamedMemory = new Map()
  #timers: NodeJS.Timeout[] = []
  #collecting: Promise<void> | null = null

  constructor(deps: HousekeepingDeps) {
    this.#deps = deps
    const { observer, users: { own } } = deps.host
    this.#ownCalls = (['gateway', 'door'] as const).map((subject) => ({ subject, calls: observer.calls(own[subject]) }))
  }

  begin(): void {
    this.#timers = [
      setInterval(() => void this.#recordHostFigures(), HOST_FIGURES_MS),
      setInterval(() => void this.#listData(), LIST_DATA_MS),
      setInterval(() => this.collectSoon(), COLLECT_MS),
    ]
    this.collectSoon()
    void this.#recordHostFigures()
  }

  /** Begins nothing any more. */
  stop(): void {
    for (const timer of this.#timers) clearInterval(timer)
  }

  /** Resolves when nothing is being removed any more. */
  async settled(): Promise<void> {
    await this.#collecting
  }

  /** One at a time; what comes up meanwhile is found by the next one. */
  collectSoon(): void {
    const { host: { config: { stateDir } }, audit, inUse, stopping, log } = this.#deps
    this.#collecting ??= collect({ stateDir, audit, memory: this.#named, inUse, signal: stopping }).then(({ programs, policies }) => {
      if (programs.length + policies.length > 0) log(`removed what no record names any more: ${programs.length} programs, ${policies.length} compiled policies`)
    }, (error: unknown) => {
      if (!stopping.aborted) log(`old programs and policies could not be removed: ${error instanceof Error ? error.message : String(error)}`)
    }).finally(() => { this.#collecting = null })
  }

  /** What our own unprivileged processes were refused: nothing that they do asks for more than once, at their start. */
  recordOwnCalls(): void {
    for (const { subject, calls } of this.#ownCalls) {
      const refused = calls.take() ?? {}
      if (Object.keys(refused).length > 0) this.#deps.audit.note({ type: 'seccomp.refused', subject, calls: refused }, 'launcher')
    }
  }

  /** One after the other; a plugin that runs for months is to be compared with yesterday, too. */
  async #listData(): Promise<void> {
    const { host, running, log } = this.#deps
    for (const name of running()) {
      await host.listings.keep(name).catch((error: unknown) => log(`${name}: its data were not listed: ${String(error)}`))
    }
  }

  async #recordHostFigures(): Promise<void> {
    const { host, audit, figures: script, stopping, log } = this.#deps
    this.recordOwnCalls()
    try {
      const figures = await readHostFigures({ uid: host.users.own.figuresChild, script, stateDir: host.config.stateDir }, stopping)
      audit.note({ type: 'host.snapshot', load1_centi: Math.round(figures.load1 * 100), cpu_percent: Math.round(figures.cpuPercent), cpus: figures.cpuCount, memory_bytes: figures.memoryBytes, memory_available_bytes: figures.memoryAvailableBytes, disk_available_bytes: figures.disk?.availableBytes ?? null }, 'launcher')
    } catch (error) {
      if (!stopping.aborted) log(`host figures: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
}
