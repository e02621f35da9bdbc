import type { LogRecord } from '../history/fields.ts'
import { number, word } from './describe.ts'

export interface Run {
  readonly id: string
  readonly plugin: string | null
  startMs: number | null
  endMs: number | null
  sha256: string | null
  policy: string | null
  /** Why it ended, in the words of whoever ended it; null: it had not by the end of the report. */
  cause: string | null
  /** The kernel or Cordon killed it. */
  killed: boolean
  asked: boolean
}

const MAX_RUNS = 1000

/** Each run with what began and what ended it. */
export class Runs {
  readonly #runs = new Map<string, Run>()
  leftOut = 0

  get all(): readonly Run[] {
    return [...this.#runs.values()]
  }

  add(record: LogRecord, ms: number): void {
    const { type, plugin, policy, data } = record
    if (record.run === null || plugin === null || !BEGIN_OR_END.has(type)) return
    const run = this.#of(record.run, plugin)
    if (run === null) return
    switch (type) {
      case 'plugin.start':
        run.startMs = ms
        run.sha256 = word(data, 'sha256')
        run.policy = policy
        break
      case 'plugin.stop':
        run.asked = true
        run.cause ??= `stopped: ${word(data, 'reason')}`
        break
      case 'isolation.violated':
        run.killed = true
        run.cause = 'killed: a wall did not stand as planned'
        break
      case 'plugin.quarantined':
        run.cause = `quarantined by ${word(data, 'who')}: ${word(data, 'reason')}`
        break
      case 'plugin.refused':
        run.cause = `refused: ${word(data, 'message')}`
        break
      case 'plugin.failed':
        run.cause ??= word(data, 'reason')
        break
      case 'plugin.exited':
        run.endMs = ms
        run.startMs ??= ms - number(data, 'seconds') * 1000
        if (number(data, 'oom_kills') > 0) {
          run.killed = true
          run.cause = 'killed by the kernel: it used up its memory (MemoryMax)'
        } else {
          run.cause ??= word(data, 'reason')
        }
        break
    }
  }

  #of(id: string, plugin: string): Run | null {
    const known = this.#runs.get(id)
    if (known !== undefined) return known
    if (this.#runs.size >= MAX_RUNS) {
      this.leftOut += 1
      return null
    }
    const run: Run = { id, plugin, startMs: null, endMs: null, sha256: null, policy: null, cause: null, killed: false, asked: false }
    this.#runs.set(id, run)
    return run
  }
}

const BEGIN_OR_END: ReadonlySet<string> = new Set(['plugin.start', 'plugin.stop', 'plugin.exited', 'plugin.failed', 'plugin.refused', 'plugin.quarantined', 'isolation.violated'])
