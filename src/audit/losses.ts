import { isAuditType } from './catalogue.ts'
import type { LauncherEvent } from './record.ts'

/** Why records are missing. Each becomes the `reason` of a `gap` record; two more come from budget.ts and tail.ts. */
export type LossReason = 'unavailable' | 'queue-full' | 'bad-event'

interface Loss {
  /** Acts that happened without their record, per type. */
  readonly lost: Map<string, number>
  /** Acts that were refused because their record could not be written, per type. */
  readonly refused: Map<string, number>
  sinceMs: number
  detail: string
}

/** Counts of what could not be recorded, kept until a `gap` record that tells them is durable. Bounded: types are a closed list. */
export class Losses {
  #byReason = new Map<LossReason, Loss>()

  get size(): number {
    return this.#byReason.size
  }

  total(): number {
    let sum = 0
    for (const loss of this.#byReason.values()) for (const counts of [loss.lost, loss.refused]) for (const n of counts.values()) sum += n
    return sum
  }

  add(reason: LossReason, type: string, kind: 'lost' | 'refused', wallMs: number, detail: string): void {
    let loss = this.#byReason.get(reason)
    if (loss === undefined) this.#byReason.set(reason, (loss = { lost: new Map(), refused: new Map(), sinceMs: wallMs, detail }))
    bump(loss[kind], isAuditType(type) ? type : '(unknown)', 1)
  }

  /** Hand over what there is; `putBack` it if the gap records could not be written either. */
  take(): Losses {
    const taken = new Losses()
    taken.#byReason = this.#byReason
    this.#byReason = new Map()
    return taken
  }

  putBack(taken: Losses): void {
    const newer = this.#byReason
    this.#byReason = taken.#byReason
    for (const [reason, loss] of newer) {
      const older = this.#byReason.get(reason)
      if (older === undefined) this.#byReason.set(reason, loss)
      else for (const kind of ['lost', 'refused'] as const) for (const [type, n] of loss[kind]) bump(older[kind], type, n)
    }
  }

  gaps(): LauncherEvent[] {
    return [...this.#byReason].map(([reason, loss]) => ({
      type: 'gap', reason, detail: loss.detail, since: new Date(loss.sinceMs).toISOString(),
      lost: Object.fromEntries(loss.lost), refused: Object.fromEntries(loss.refused),
    }))
  }
}

function bump(counts: Map<string, number>, type: string, by: number): void {
  counts.set(type, (counts.get(type) ?? 0) + by)
}
