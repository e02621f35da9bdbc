import type { LogRecord } from './fields.ts'
import { EVERYTHING } from './filter.ts'
import { findRecords, type HistoryOptions } from './find.ts'

/** What was changed on top of a policy from the terminal. */
export interface Change {
  readonly ms: number
  readonly act: string
  readonly destination: string
  /** When it ends by itself; null: with the next policy. */
  readonly untilMs: number | null
  readonly reason: string
  readonly who: string
}

/** How long one policy was in force. */
export interface Period {
  readonly plugin: string
  readonly digest: string
  readonly file: string
  readonly fromMs: number
  readonly fromSeq: number
  /** Who brought it, as far as the records tell. */
  readonly broughtBy: string
  /** null: it still is. */
  toMs: number | null
  /** What took its place, in words; null: nothing has. */
  endedBy: string | null
  readonly changes: Change[]
}

/** An operator's act and what follows from it are this close together. */
const FOLLOWS_MS = 60_000
const MAX_PERIODS = 1000
const MAX_CHANGES = 1000

/**
 * Which policy held when, oldest first; of more than MAX_PERIODS the newest.
 * @throws CordonError AUDIT_NOT_FOUND, AUDIT_UNAVAILABLE, AUDIT_INDEX
 */
export async function policyPeriods(plugin: string, options: HistoryOptions): Promise<Period[]> {
  const periods = new Periods(plugin)
  const filter = { ...EVERYTHING, plugins: [plugin, '-'], types: ['policy.loaded', 'policy.removed', 'egress.applied', 'admin.act', 'daemon.started'] }
  for await (const { record, fields } of findRecords({ filter, order: 'newer', beyond: null }, options)) periods.add(record, fields.ms)
  return periods.all
}

class Periods {
  readonly all: Period[] = []
  readonly #plugin: string
  /** The latest act or start that can have brought a policy. */
  #cause: { ms: number; text: string } | null = null

  constructor(plugin: string) {
    this.#plugin = plugin
  }

  add({ type, seq, plugin, data }: LogRecord, ms: number): void {
    const now = this.all.at(-1)
    const current = now?.toMs === null ? now : undefined
    if (type === 'daemon.started') {
      this.#cause = { ms, text: 'the start of the daemon, which read it from its file' }
    } else if (type === 'admin.act' && (plugin === this.#plugin || plugin === null)) {
      if (data['act'] === 'apply' || data['act'] === 'reload') this.#cause = { ms, text: `${text(data['who'])} (cordon ${data['act'] === 'apply' ? 'policy apply' : 'reload'})` }
    } else if (plugin !== this.#plugin) {
      return
    } else if (type === 'policy.removed') {
      if (current !== undefined) {
        current.toMs = ms
        current.endedBy = `its file was removed${this.#by(ms)}`
      }
    } else if (type === 'egress.applied') {
      if (typeof data['act'] === 'string' && current !== undefined && current.changes.length < MAX_CHANGES) {
        const until = Date.parse(text(data['until']))
        current.changes.push({ ms, act: data['act'], destination: text(data['destination']), untilMs: Number.isNaN(until) ? null : until, reason: text(data['reason']), who: text(data['who']) })
      }
    } else if (type === 'policy.loaded') {
      const digest = text(data['policy_digest'])
      if (current?.digest === digest) return // the daemon was started again
      const by = this.#by(ms)
      if (current !== undefined) {
        current.toMs = ms
        current.endedBy = `policy ${digest.slice(0, 12)} took its place${by}`
      }
      if (this.all.length === MAX_PERIODS) this.all.shift()
      this.all.push({ plugin: this.#plugin, digest, file: text(data['file']), fromMs: ms, fromSeq: seq, broughtBy: by === '' ? 'not recorded' : by.slice(', by '.length), toMs: null, endedBy: null, changes: [] })
    }
  }

  #by(ms: number): string {
    return this.#cause !== null && ms - this.#cause.ms <= FOLLOWS_MS ? `, by ${this.#cause.text}` : ''
  }
}

/** What the terminal had changed and still held at that time: of one destination the last word. */
export function changesAt({ changes }: Period, ms: number): Change[] {
  const last = new Map<string, Change>()
  for (const change of changes) {
    if (change.ms > ms) break
    const key = change.act.startsWith('learn') ? 'learn' : change.destination
    last.delete(key)
    last.set(key, change)
  }
  return [...last.values()].filter(({ act, untilMs }) => act !== 'learn ended' && (untilMs === null || untilMs > ms))
}

export function periodAt(periods: readonly Period[], ms: number): Period | null {
  return periods.findLast(({ fromMs, toMs }) => fromMs <= ms && (toMs === null || toMs > ms)) ?? null
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : ''
}
