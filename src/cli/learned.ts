import { attemptOf, attemptText, othersOf, timesOf, type AttemptRecord, type EgressRecord } from '../egress/record.ts'
import { BY_RULES } from '../egress/replay.ts'
import type { ObservedLimit, OtherRight, RefusedUse } from '../egress/suggest.ts'
import type { Policy } from '../policy/policy.ts'
import { egressRecord, type LogRecord } from './audit-history.ts'

/** Records of connections that are weighed; twice as many are held at once, some 100 MiB. Of more, the newest count. */
const MAX_RECORDS = 100_000
/** Destinations with their reason that are counted one by one. */
const MAX_REFUSED = 1000

/** Permissions by the channel call that needs them (protocol 10.3); `api_call` may need either of two. */
const CALLS: ReadonlyMap<string, readonly string[]> = new Map(Object.entries({
  get_project: ['projects_read'], list_projects: ['projects_read'], get_environment: ['environments_read'], list_environments: ['environments_read'],
  get_deployment: ['deployments_read'], get_last_deployment: ['deployments_read'], list_deployments: ['deployments_read'], api_call: ['api_read', 'api_write'], generate_ai: ['ai_generate'],
}))

/** What the log tells of one plugin's needs, collected record by record. */
export class Learned {
  #records: EgressRecord[] = []
  #first: string | null = null
  #restarts = 0
  #ran: boolean
  #dropped = 0
  readonly #calls = new Map<string, number>()
  readonly #paths = new Map<string, number>()
  readonly #bytesByDay = new Map<string, number>()
  readonly #publicPaths: readonly string[]
  readonly #refused = new Map<string, RefusedUse>()
  #refusedMore = 0
  #memory = 0
  #tasks = 0

  /**
   * @param publicPaths of the policy; requests are counted for these alone
   * @param ran had it run before the period? Then its first start in it is a restart
   */
  constructor(publicPaths: readonly string[], ran = false) {
    this.#publicPaths = publicPaths
    this.#ran = ran
  }

  add(record: LogRecord): void {
    const { type, time, run, data } = record
    this.#first ??= time
    if (type === 'plugin.start' && this.#ran) this.#restarts += 1
    this.#ran ||= run !== null
    if (type === 'resources.snapshot') {
      this.#memory = Math.max(this.#memory, integer(data['memory_peak_bytes']), peak(data['memory_bytes']))
      this.#tasks = Math.max(this.#tasks, peak(data['tasks']))
    } else if (type === 'channel.call') {
      for (const permission of CALLS.get(textOf(data['method'])) ?? []) raise(this.#calls, permission, 1)
    } else if (type === 'http.request') {
      const path = textOf(data['path'])
      for (const prefix of this.#publicPaths) if (path === prefix || path.startsWith(`${prefix.replace(/\/$/, '')}/`)) raise(this.#paths, prefix, 1)
    } else {
      const egress = egressRecord(record)
      if (egress === null) return
      if (egress.type !== 'egress.opened' && egress.type !== 'egress.closed') return this.#refuse(egress) // apart: a flood of refusals must not push out what was used
      if (egress.type === 'egress.closed') raise(this.#bytesByDay, time.slice(0, 10), egress.bytesOut)
      this.#records.push(egress)
      if (this.#records.length > 2 * MAX_RECORDS) this.#cut()
    }
  }

  #refuse(record: Exclude<AttemptRecord, { type: 'egress.opened' }>): void {
    this.#refusedMore += othersOf(record)
    if (!BY_RULES.has(record.code)) return
    const what = attemptText(attemptOf(record))
    const key = JSON.stringify([what, record.code])
    const known = this.#refused.get(key)
    const { time, code, say } = record
    if (known === undefined && this.#refused.size >= MAX_REFUSED) this.#refusedMore += timesOf(record)
    else this.#refused.set(key, { what, code, say, count: (known?.count ?? 0) + timesOf(record), first: known?.first ?? time, last: time })
  }

  /** What rules or the limits of learning refused, whether or not it is meant. */
  get refused(): { readonly uses: readonly RefusedUse[]; readonly more: number } {
    return { uses: [...this.#refused.values()], more: this.#refusedMore }
  }

  /** Connections, oldest first; at most MAX_RECORDS. */
  get records(): readonly EgressRecord[] {
    if (this.#records.length > MAX_RECORDS) this.#cut()
    return this.#records
  }

  /** Older records that were left out. */
  get dropped(): number {
    return this.#dropped + Math.max(0, this.#records.length - MAX_RECORDS)
  }

  /** When the oldest record that counts was made; null: there is none. */
  get from(): string | null {
    return this.dropped > 0 ? (this.records[0]?.time ?? this.#first) : this.#first
  }

  get restarts(): number {
    return this.#restarts
  }

  /** A run of it is on record. */
  get ran(): boolean {
    return this.#ran
  }

  rights({ api, http, read, sockets, runtime }: Policy): OtherRight[] {
    const calls = (permission: string): number | null => ([...CALLS.values()].some((all) => all.includes(permission)) ? (this.#calls.get(permission) ?? 0) : null)
    return [
      ...api.grants.map((value) => ({ field: 'api.grants', value, uses: calls(value) })),
      ...http.publicPaths.map((value) => ({ field: 'http.public_paths', value, uses: this.#paths.get(value) ?? 0 })),
      // Nothing watches which files are opened: the kernel lets it happen or does not.
      ...read.map(({ path }) => ({ field: 'read', value: path, uses: null })),
      ...sockets.map(({ path }) => ({ field: 'sockets', value: path, uses: null })),
      ...runtime.map(({ path }) => ({ field: 'runtime', value: path, uses: null })),
    ]
  }

  /** Only limits whose peak was seen. @param limits those in force; null: none that count */
  limits(limits: Policy['limits'] | null): ObservedLimit[] {
    const sent = Math.max(0, ...this.#bytesByDay.values())
    return [
      ...(this.#memory === 0 ? [] : [{ field: 'MemoryMax', limit: limits?.MemoryMax ?? null, peak: this.#memory } as const]),
      ...(this.#tasks === 0 ? [] : [{ field: 'TasksMax', limit: limits?.TasksMax ?? null, peak: this.#tasks } as const]),
      ...(sent === 0 ? [] : [{ field: 'EgressMax', limit: limits?.EgressMax ?? null, peak: sent } as const]),
    ]
  }

  #cut(): void {
    this.#dropped += this.#records.length - MAX_RECORDS
    this.#records = this.#records.slice(-MAX_RECORDS)
  }
}

function raise(counts: Map<string, number>, key: string, by: number): void {
  counts.set(key, (counts.get(key) ?? 0) + by)
}

function integer(value: unknown): number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value > 0 ? value : 0
}

function peak(spread: unknown): number {
  return typeof spread === 'object' && spread !== null && 'max' in spread ? integer(spread.max) : 0
}

/** Plugins name what they call, and a changed log anything. */
function textOf(value: unknown): string {
  return typeof value === 'string' ? value : ''
}
