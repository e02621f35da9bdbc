import type { LogRecord } from '../history/fields.ts'
import { EVERYTHING } from '../history/filter.ts'
import { findRecords, type HistoryOptions } from '../history/find.ts'
import { changesAt, periodAt, policyPeriods, type Period } from '../history/policies.ts'
import { explain } from '../plan/explain.ts'
import type { Policy } from '../policy/policy.ts'
import { Acts, type Act } from './acts.ts'
import { tell } from './describe.ts'
import { Destinations, type Destination } from './destinations.ts'
import { Runs, type Run } from './runs.ts'
import { Timeline, type Row } from './timeline.ts'
import { Usages, type Usage } from './usage.ts'

/** What `audit verify` said, in its own words. */
export interface Verdict {
  readonly exit: number
  readonly lines: readonly string[]
}

export interface Program {
  readonly plugin: string
  readonly sha256: string
  readonly firstMs: number
  readonly runs: number
  /** As far back as the log goes; null: not looked for. */
  readonly everFirstMs: number | null
}

export interface PolicyThen {
  readonly period: Period
  /** At the end of the time that is reported. */
  readonly inForce: boolean
  /** Changes from the terminal that held then. */
  readonly changes: readonly string[]
  /** null: the archive does not have it any more. */
  readonly sentences: readonly string[] | null
  readonly holds: Holdings | null
}

/** What the plugin had in its hands under one policy: all of it may be known to whoever took it over. */
export interface Holdings {
  readonly env: readonly string[]
  readonly api: readonly string[]
  readonly read: readonly string[]
  readonly sockets: readonly string[]
}

export interface Handed {
  readonly secrets: readonly string[]
  readonly env: readonly string[]
}

export interface Report {
  readonly plugin: string | null
  readonly sinceMs: number
  readonly untilMs: number
  readonly verdict: Verdict
  readonly records: number
  readonly unreadable: number
  readonly before: readonly Row[]
  readonly timeline: readonly Row[]
  readonly timelineLeftOut: number
  readonly usage: readonly Usage[]
  readonly destinations: readonly Destination[]
  readonly destinationsLeftOut: number
  readonly runs: readonly Run[]
  readonly runsLeftOut: number
  readonly programs: readonly Program[]
  readonly policies: readonly PolicyThen[]
  /** Names of secrets and variables that its runs were handed, by plugin. */
  readonly handed: ReadonlyMap<string, Handed>
  readonly acts: readonly Act[]
  readonly actsLeftOut: number
}

export interface CollectOptions {
  readonly plugin: string | null
  readonly sinceMs: number
  readonly untilMs: number
  readonly history: HistoryOptions
  readonly verdict: Verdict
  /** Of the archive, by digest. */
  readonly policyOf: (digest: string) => Policy | null
}

export const HOUR_MS = 3_600_000
/** Each is a search of its own in older records. */
const MAX_LOOKED_FOR = 300

/** Read the log once, in order; what it holds is bounded whatever the log holds. */
export async function collect({ plugin, sinceMs, untilMs, history, verdict, policyOf }: CollectOptions): Promise<Report> {
  const policies = cached(policyOf)
  const [before, timeline] = [new Timeline(), new Timeline()]
  const [runs, destinations, acts] = [new Runs(), new Destinations(), new Acts()]
  const usages = new Usages(sinceMs, untilMs, (digest) => policies(digest)?.limits ?? null)
  const seen = new Set<string>(plugin === null ? [] : [plugin])
  const periods = new Map<string, Period[]>()
  const handed = new Map<string, { secrets: Set<string>; env: Set<string> }>()
  const hand = (name: string, data: LogRecord['data']): void => {
    const known = handed.get(name) ?? { secrets: new Set<string>(), env: new Set<string>() }
    for (const key of ['secrets', 'env'] as const) for (const one of texts(data[key])) if (known[key].size < MAX_HANDED) known[key].add(one)
    handed.set(name, known)
  }
  const learn = async (name: string): Promise<void> => {
    if (periods.has(name) || periods.size >= MAX_PLUGINS) return
    periods.set(name, await policyPeriods(name, history))
    const inForce = periodAt(periods.get(name) ?? [], sinceMs)
    if (inForce !== null) usages.limit(name, inForce.digest)
    const running = { ...EVERYTHING, plugins: [name], types: ['plugin.started'], until: sinceMs }
    for await (const { record } of findRecords({ filter: running, order: 'older', beyond: null }, history)) {
      hand(name, record.data)
      break // what ran when the time began
    }
  }
  for (const name of seen) await learn(name)
  let records = 0
  const search = findRecords({ filter: { ...EVERYTHING, since: sinceMs - HOUR_MS, until: untilMs, plugins: plugin === null ? [] : [plugin, '-'] }, order: 'newer', beyond: null }, history)
  let next = await search.next()
  for (; next.done !== true; next = await search.next()) {
    const { record, fields } = next.value
    const told = tell(record)
    if (fields.ms < sinceMs) {
      if (told !== null) before.add(fields.ms, fields.seq, record.plugin, told)
      continue
    }
    records += 1
    if (record.plugin !== null && !seen.has(record.plugin)) {
      seen.add(record.plugin)
      await learn(record.plugin)
    }
    if (told !== null) timeline.add(fields.ms, fields.seq, record.plugin, told)
    if (record.type === 'plugin.started' && record.plugin !== null) hand(record.plugin, record.data)
    runs.add(record, fields.ms)
    destinations.add(record, fields.ms)
    acts.add(record, fields.ms)
    usages.add(record, fields.ms)
  }
  const all = [...destinations.all].sort((a, b) => b.bytesOut - a.bytesOut || b.connections - a.connections || b.refused - a.refused)
  for (const destination of all.slice(0, MAX_LOOKED_FOR)) destination.everFirstMs = await firstTime(destination.plugin, { hosts: [destination.host] }, sinceMs, history) ?? destination.firstMs
  return {
    plugin, sinceMs, untilMs, verdict, records, unreadable: next.value.unreadable,
    before: before.rows, timeline: timeline.rows, timelineLeftOut: timeline.leftOut, usage: usages.all,
    destinations: all, destinationsLeftOut: destinations.leftOut, runs: runs.all, runsLeftOut: runs.leftOut,
    programs: await programsOf(runs.all, sinceMs, history),
    policies: [...periods.values()].flatMap((list) => list.filter(({ fromMs, toMs }) => fromMs < untilMs && (toMs === null || toMs > sinceMs))).map((period) => policyThen(period, untilMs, policies)),
    handed: new Map([...handed].map(([name, { secrets, env }]) => [name, { secrets: [...secrets], env: [...env] }])), acts: acts.all, actsLeftOut: acts.leftOut,
  }
}

const MAX_PLUGINS = 64
const MAX_HANDED = 500

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((one: unknown) => typeof one === 'string') : []
}

/** Before `sinceMs`; null: not before. */
async function firstTime(plugin: string, what: { readonly hosts?: readonly string[]; readonly digests?: readonly string[] }, sinceMs: number, history: HistoryOptions): Promise<number | null> {
  if (what.hosts?.some((host) => host.includes('*')) === true) return null // it was never a name; a search would find others
  for await (const { fields } of findRecords({ filter: { ...EVERYTHING, ...what, plugins: [plugin], until: sinceMs }, order: 'newer', beyond: null }, history)) return fields.ms
  return null
}

async function programsOf(runs: readonly Run[], sinceMs: number, history: HistoryOptions): Promise<Program[]> {
  const groups = Map.groupBy(runs.filter(({ sha256, plugin }) => sha256 !== null && plugin !== null), ({ plugin, sha256 }) => `${plugin ?? ''} ${sha256 ?? ''}`)
  const programs: Program[] = []
  for (const [key, list] of groups) {
    const [plugin = '', sha256 = ''] = key.split(' ')
    const firstMs = Math.min(...list.map(({ startMs }) => startMs ?? Infinity))
    programs.push({ plugin, sha256, firstMs, runs: list.length, everFirstMs: programs.length < MAX_LOOKED_FOR && /^[0-9a-f]{64}$/.test(sha256) ? (await firstTime(plugin, { digests: [sha256] }, sinceMs, history) ?? firstMs) : null })
  }
  return programs
}

function policyThen(period: Period, untilMs: number, policies: (digest: string) => Policy | null): PolicyThen {
  const policy = policies(period.digest)
  const inForce = period.toMs === null || period.toMs > untilMs
  return {
    period, inForce,
    changes: changesAt(period, Math.min(untilMs, period.toMs ?? Infinity)).map(({ act, destination, untilMs: end, who, reason }) =>
      `${act}${destination === '' ? '' : ` ${destination}`}${end === null ? '' : ` until ${new Date(end).toISOString().slice(0, 19)}Z`}, by ${who}${reason === '' ? '' : `: ${reason}`}`),
    sentences: policy === null ? null : explain(policy),
    holds: policy === null ? null : { env: Object.keys(policy.env), api: policy.api.grants, read: policy.read.map(({ path }) => path), sockets: policy.sockets.map(({ path }) => path) },
  }
}

function cached(policyOf: (digest: string) => Policy | null): (digest: string) => Policy | null {
  const known = new Map<string, Policy | null>()
  return (digest) => {
    if (!/^[0-9a-f]{64}$/.test(digest)) return null
    let policy = known.get(digest)
    if (policy === undefined) known.set(digest, (policy = policyOf(digest)))
    return policy
  }
}
