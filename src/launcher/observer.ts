import type { HostFacts } from '../plan/plan.ts'
import type { CgroupDirs } from './cgroup.ts'
import { KernelLog, type RefusedCalls } from './kernel-log.ts'
import { Processes, ProgramDigests, type Look } from './processes.ts'

/** One run, seen from outside. */
export interface Observed {
  /** What runs in it now. */
  look(): Promise<Look>
  /** System calls refused since the last time, each at least that often; null: not recorded on this host. */
  refused(): Record<string, number> | null
  end(): void
}

/** What one Cordon process sees of its runs without asking them. */
export class Observer {
  readonly #kernelLog: KernelLog
  readonly #digests = new ProgramDigests()

  constructor(facts: Pick<HostFacts, 'architecture' | 'runtime'>) {
    this.#kernelLog = new KernelLog(facts)
  }

  get recordsRefusedCalls(): boolean {
    return this.#kernelLog.recorded
  }

  /** @param uid of the run alone @param dirs its cgroup */
  watch(uid: number, dirs: CgroupDirs): Observed {
    const processes = new Processes(dirs, this.#digests)
    const calls = this.#kernelLog.watch(uid)
    return { look: () => processes.look(), refused: () => calls.take(), end: () => calls.end() }
  }

  /** Of a process that has a user of its own and is no run. */
  calls(uid: number): RefusedCalls {
    return this.#kernelLog.watch(uid)
  }

  close(): void {
    this.#kernelLog.close()
  }
}
