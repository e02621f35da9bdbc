import { canonicalJson } from '../base/canonical-json.ts'
import { matchText, type Egress, type EgressRule } from '../base/egress-rule.ts'
import type { Executable, Grant, Limits, Policy, Restart } from '../policy/policy.ts'
import { formatBytes, formatDuration } from '../policy/units.ts'
import { egressLine } from './explain.ts'

/** `+` grants more than before, `-` grants less, `~` is neither or both. */
export interface Difference {
  readonly sign: '+' | '-' | '~'
  readonly field: string
  readonly say: string
}

/**
 * What another policy changes, field by field in sentences. Pure; empty exactly when both mean the same.
 * @param before the policy in force
 * @param after the one that would take its place
 */
export function difference(before: Policy, after: Policy): Difference[] {
  return (Object.keys(FIELDS) as (keyof Policy)[]).flatMap((key) => compare(key, before, after))
}

function compare<K extends keyof Policy>(key: K, before: Policy, after: Policy): Difference[] {
  if (canonicalJson(before[key]) === canonicalJson(after[key])) return []
  const found = FIELDS[key](before[key], after[key])
  // Two values that differ and of which no sentence says how must not pass for equal.
  return found.length > 0 ? found : [{ sign: '~', field: key, say: `changed from ${canonicalJson(before[key])} to ${canonicalJson(after[key])}` }]
}

const TRIPWIRES: Readonly<Record<Policy['tripwires'], string>> = {
  off: 'no decoys are laid out any more',
  record: 'a decoy name and a decoy secret are laid out; a touch is a critical record',
  quarantine: 'a decoy name and a decoy secret are laid out; a touch puts it in quarantine at once',
}

/** One row for each field of a policy; a field without one does not type-check. */
const FIELDS: { readonly [K in keyof Policy]: (before: Policy[K], after: Policy[K]) => Difference[] } = {
  plugin: (before, after) => [change('plugin', before, after)],
  preset: (before, after) => [change('extends', before ?? 'nothing', after ?? 'nothing')],
  executable: program,
  runtime: (before, after) => grants('runtime', 'may use the root-owned tree', before, after),
  limits: (before, after) => (Object.keys(AMOUNTS) as (keyof Limits)[]).flatMap((name) => limit(name, before[name], after[name])),
  read: (before, after) => grants('read', 'may read', before, after),
  sockets: (before, after) => grants('sockets', 'may connect to', before, after),
  egress: network,
  env,
  api: (before, after) => [
    ...words('api.grants', 'may ask the host for', before.grants, after.grants),
    ...(before.legacy === after.legacy ? [] : [change('api.legacy', before.legacy, after.legacy, after.legacy === 'grant' ? '+' : '-')]),
  ],
  http: (before, after) => words('http.public_paths', 'lets anybody without a login reach', before.publicPaths, after.publicPaths),
  tripwires: (_, after) => [{ sign: '~', field: 'tripwires', say: TRIPWIRES[after] }],
  onAuditLoss: (before, after) => [change('on_audit_loss', before, after, after === 'continue' ? '+' : before === 'continue' ? '-' : '~')],
  restart: (before, after) => [change('restart', restart(before), restart(after))],
  unenforced: (before, after) => words('unenforced', 'runs also where the host cannot enforce', before, after),
}

function change(field: string, before: string, after: string, sign: Difference['sign'] = '~'): Difference {
  return { sign, field, say: `${after}, before: ${before}` }
}

function program(before: Executable, after: Executable): Difference[] {
  const pin = ({ sha256 }: Executable): string => (sha256 === null ? 'none; whatever lies there runs' : sha256)
  return [
    ...(before.path === after.path && before.entry === after.entry ? [] : [change('executable', where(before), where(after))]),
    ...(before.sha256 === after.sha256 ? [] : [change('executable.sha256', pin(before), pin(after), after.sha256 === null ? '+' : before.sha256 === null ? '-' : '~')]),
  ]
}

function where({ path, entry }: Executable): string {
  return entry === null ? path : `${entry} of the directory ${path}`
}

function grants(field: string, verb: string, before: readonly Grant[], after: readonly Grant[]): Difference[] {
  const old = new Map(before.map((grant) => [grant.path, grant.reason]))
  const now = new Map(after.map((grant) => [grant.path, grant.reason]))
  return [
    ...after.flatMap(({ path, reason }): Difference[] => {
      const was = old.get(path)
      if (was === reason) return []
      return [was === undefined ? { sign: '+', field, say: `${verb} ${path} (${reason})` } : { sign: '~', field, say: `${path}: the reason is "${reason}", before: "${was}"` }]
    }),
    ...before.filter(({ path }) => !now.has(path)).map(({ path }): Difference => ({ sign: '-', field, say: `no longer: ${verb} ${path}` })),
  ]
}

function words(field: string, verb: string, before: readonly string[], after: readonly string[]): Difference[] {
  return [
    ...after.filter((word) => !before.includes(word)).map((word): Difference => ({ sign: '+', field, say: `${verb} ${word}` })),
    ...before.filter((word) => !after.includes(word)).map((word): Difference => ({ sign: '-', field, say: `no longer: ${verb} ${word}` })),
  ]
}

/** Weights are shares, not bounds: a larger one takes from others. Absent is no limit. */
function limit(name: keyof Limits, before: number | null, after: number | null): Difference[] {
  if (before === after) return []
  const grows = after === null || (before !== null && after > before)
  return [change(`limits.${name}`, amount(name, before), amount(name, after), grows ? '+' : '-')]
}

const AMOUNTS: { readonly [K in keyof Limits]: (value: number) => string } = {
  MemoryMax: (value) => formatBytes(value), MemoryHigh: (value) => formatBytes(value), CPUQuota: (value) => `${value}%`, CPUWeight: String, IOWeight: String,
  IOReadBandwidthMax: (value) => formatBytes(value, 1000), IOWriteBandwidthMax: (value) => formatBytes(value, 1000), TasksMax: String, LimitNOFILE: String, TmpMax: (value) => formatBytes(value),
  EgressMax: (value) => `${formatBytes(value)}/day`, MaxConnections: String,
}

function amount(name: keyof Limits, value: number | null): string {
  return value === null ? 'no limit' : AMOUNTS[name](value)
}

/** Values may be long or meant for the program alone; like `explain`, only the names are told. */
function env(before: Policy['env'], after: Policy['env']): Difference[] {
  return [
    ...Object.keys(after).flatMap((name): Difference[] => {
      if (!Object.hasOwn(before, name)) return [{ sign: '~', field: 'env', say: `sets ${name}` }]
      return before[name] === after[name] ? [] : [{ sign: '~', field: 'env', say: `sets ${name} to another value` }]
    }),
    ...Object.keys(before).filter((name) => !Object.hasOwn(after, name)).map((name): Difference => ({ sign: '~', field: 'env', say: `no longer sets ${name}` })),
  ]
}

function network(before: Egress, after: Egress): Difference[] {
  const old = byDestination(before.allow)
  const now = byDestination(after.allow)
  return [
    ...mode(before, after),
    ...[...now].flatMap(([key, rule]): Difference[] => {
      const was = old.get(key)
      if (was === undefined) return [{ sign: '+', field: 'egress', say: egressLine(rule) }]
      return same(was, rule) ? [] : [{ sign: '~', field: 'egress', say: `${egressLine(rule)}; before: ${egressLine(was)}` }]
    }),
    ...[...old].filter(([key]) => !now.has(key)).map(([, rule]): Difference => ({ sign: '-', field: 'egress', say: `no longer: ${egressLine(rule)}` })),
  ]
}

function mode(before: Egress, after: Egress): Difference[] {
  if (before.mode === after.mode && before.until === after.until) return []
  if (after.mode === 'learn') return [{ sign: '+', field: 'egress.mode', say: `LEARNING, NOT PROTECTED until ${String(after.until)}: every public name can be reached` }]
  return [{ sign: '-', field: 'egress.mode', say: 'no longer learning: only what is named can be reached' }]
}

/** Each destination and port on its own, so that a port that moved from one line to another is no change. The first line decides. */
function byDestination(rules: readonly EgressRule[]): Map<string, EgressRule> {
  const found = new Map<string, EgressRule>()
  for (const rule of rules) {
    for (const port of rule.ports) {
      const key = `${matchText(rule.match)}:${port}`
      if (!found.has(key)) found.set(key, { ...rule, ports: [port] })
    }
  }
  return found
}

/** The id counts lines and means nothing by itself. */
function same(a: EgressRule, b: EgressRule): boolean {
  return canonicalJson({ ...a, id: 0 }) === canonicalJson({ ...b, id: 0 })
}

function restart({ on, backoffMinMs, backoffMaxMs, startLimit }: Restart): string {
  return `${on}, ${formatDuration(backoffMinMs)}..${formatDuration(backoffMaxMs)}, ${startLimit.count} starts in ${formatDuration(startLimit.windowMs)}`
}
