import { matchText, type Egress, type EgressRule } from '../base/egress-rule.ts'
import { isPublicName, parseHostName, type HostName } from '../base/host-name.ts'
import { parseIp } from '../base/ip-address.ts'
import { printable } from '../base/printable.ts'
import { classifyAddress } from '../base/special-addresses.ts'
import { isLiftable } from './addresses.ts'
import type { EgressRecord } from './record.ts'
import { matchesAddress, matchesName } from './rules.ts'

/** A right other than egress, with what was seen of its use: `api.grants` `projects_read`, `read` `/srv/www`. */
export interface OtherRight {
  readonly field: string
  readonly value: string
  /** Null where its use leaves no record, so that nothing can be said. */
  readonly uses: number | null
}

/** A limit with its observed peak; `unit` says how it is written. */
export interface ObservedLimit {
  readonly field: 'MemoryMax' | 'TasksMax' | 'LimitNOFILE' | 'EgressMax'
  readonly limit: number | null
  readonly peak: number
}

/** A destination that was refused for one reason. */
export interface RefusedUse {
  readonly what: string
  readonly code: string
  readonly say: string
  readonly count: number
  readonly first: string
  readonly last: string
}

export interface LearningPeriod {
  readonly plugin: string
  /** RFC 3339. */
  readonly from: string
  readonly to: string
  readonly restarts: number
  /** Events that the plugin subscribed to, and which of them came during the period; null where the host delivers none. */
  readonly events: readonly { readonly event: string; readonly seen: number }[] | null
  readonly records: readonly EgressRecord[]
  /** What the rules, or the limits of learning, refused; `more`: times that belong to destinations beyond those. */
  readonly refused: { readonly uses: readonly RefusedUse[]; readonly more: number }
  /** The policy's own egress now. */
  readonly egress: Egress
  readonly rights: readonly OtherRight[]
  readonly limits: readonly ObservedLimit[]
}

/** What was seen of one destination on one port. */
interface Use { count: number; first: string; last: string; bytesOut: number; bytesIn: number; isPrivate: boolean; ech: boolean; plain: boolean }
interface Destination { readonly name: HostName | null; readonly literal: string | null; readonly ports: Map<number, Use> }

/** More lines than this nobody reviews; the rest is counted. */
const MAX_LINES = 64
/** Refused destinations that are told; a plugin may have tried millions. */
const MAX_REFUSED = 32
/** From here on a comment says that a wildcard might be meant; it is never proposed by itself. */
const MANY_BELOW = 8

/**
 * What a learning period says the policy should be, as a diff of YAML: `+` lines to add, `-` lines to remove, each with how
 * often, when and how much. It states its coverage: what did not happen in the period is not in it. Pure.
 * @param period names and addresses come from records of the door and are canonical; every other text is made printable here
 */
export function suggest(period: LearningPeriod): string {
  const seen = collect(period.records)
  const destinations = [...seen.values()].sort((a, b) => total(b) - total(a) || (textOf(a) < textOf(b) ? -1 : 1))
  const added = destinations.flatMap((one) => additions(one, period.egress, printable(period.to, 10).replace('…', '')))
  const lines = added.slice(0, MAX_LINES) // LIST_MAX of the policy schema is the same
  return [
    ...coverage(period),
    `--- ${printable(period.plugin, 64)}.yaml`,
    `+++ ${printable(period.plugin, 64)}.yaml (suggested)`,
    ...limitLines(period.limits),
    ' egress:',
    ...(period.egress.mode === 'learn' ? ['-  mode: learn', ...(period.egress.until === null ? [] : [`-  until: ${period.egress.until}`]), '+  mode: enforce'] : ['   mode: enforce']),
    '   allow:',
    ...ruleLines(period.egress.allow, destinations),
    ...lines,
    ...(added.length > lines.length ? [`#  ${added.length - lines.length} more destinations are left out; a plugin with so many needs \`host: public\` or a look`] : []),
    ...wildcardHints(destinations),
    ...rightLines(period.rights),
    ...refusedLines(period.refused),
    '',
  ].join('\n')
}

/** Rules by id that no record of the period used; `policy check` calls them unused when the period is long. */
export function unusedRules(egress: Egress, records: readonly EgressRecord[]): EgressRule[] {
  const destinations = [...collect(records).values()]
  return egress.allow.filter((rule) => usesOf(rule, destinations).length === 0)
}

function collect(records: readonly EgressRecord[]): Map<string, Destination> {
  const seen = new Map<string, Destination>()
  for (const record of records) {
    if (record.type !== 'egress.opened' && record.type !== 'egress.closed') continue
    const destination = destinationOf(record)
    if (destination === null) continue
    const known = seen.get(textOf(destination)) ?? destination
    seen.set(textOf(destination), known)
    const use = known.ports.get(record.port) ?? { count: 0, first: record.time, last: record.time, bytesOut: 0, bytesIn: 0, isPrivate: false, ech: false, plain: false }
    known.ports.set(record.port, use)
    if (record.time < use.first) use.first = record.time
    if (record.time > use.last) use.last = record.time
    const bytes = parseIp(record.address)
    if (bytes !== null && isLiftable(classifyAddress(bytes).kind)) use.isPrivate = true
    if (record.type === 'egress.opened') {
      use.count += 1
      use.ech ||= record.ech
      use.plain ||= record.sni === null
    } else {
      use.bytesOut += record.bytesOut
      use.bytesIn += record.bytesIn
    }
  }
  return seen
}

function destinationOf(record: EgressRecord & { readonly type: 'egress.opened' | 'egress.closed' }): Destination | null {
  if (record.name === null) return parseIp(record.dialled) === null ? null : { name: null, literal: record.dialled, ports: new Map() }
  const name = parseHostName(record.name)
  return name.ok ? { name: name.name, literal: null, ports: new Map() } : null
}

function usesOf(rule: EgressRule, destinations: readonly Destination[]): (readonly [Destination, number, Use])[] {
  return destinations.filter((one) => covers(rule, one)).flatMap((one) => [...one.ports].filter(([port]) => rule.ports.includes(port)).map(([port, use]) => [one, port, use] as const))
}

function covers(rule: EgressRule, { name, literal }: Destination): boolean {
  if (name !== null) return matchesName(rule, name)
  const bytes = literal === null ? null : parseIp(literal)
  return bytes !== null && matchesAddress(rule, bytes)
}

/** Ports of a destination that no rule of its own names yet. `public` and wildcards are not enough: naming what is used is the point. */
function additions(destination: Destination, egress: Egress, day: string): string[] {
  const narrow = egress.allow.filter((rule) => rule.match.kind !== 'public' && covers(rule, destination))
  const open = [...destination.ports].filter(([port]) => !narrow.some((rule) => rule.ports.includes(port))).sort(([a], [b]) => a - b)
  if (open.length === 0) return []
  const uses = open.map(([, use]) => use)
  const fields = [
    destination.name === null ? `cidr: ${textOf(destination)}` : `host: ${destination.name}`,
    `ports: [${open.map(([port]) => port).join(', ')}]`,
    ...(uses.some((use) => use.isPrivate) ? ['private: true'] : []),
    // On 443 the default asks for TLS with the name; only a rule with `tls: off` let something else through.
    ...(destination.name !== null && open.some(([port, use]) => port === 443 && use.plain) ? ['tls: off'] : uses.some((use) => use.ech) ? ['ech: true'] : []),
    `reason: ${yamlText(`seen while learning, ${day}`)}`, // true, and enough for \`policy test\`; a reviewer says why
  ]
  const note = destination.name !== null && !isPublicName(destination.name) ? '; no public name' : ''
  return [`+    - { ${fields.join(', ')} }  # ${evidence(uses)}${note}`]
}

function ruleLines(rules: readonly EgressRule[], destinations: readonly Destination[]): string[] {
  const byLine = new Map<string, { rules: EgressRule[]; uses: Use[] }>()
  for (const rule of rules) {
    const key = JSON.stringify([rule.match, rule.private, rule.until, rule.reason, rule.ech, writtenTls(rule)])
    const line = byLine.get(key) ?? { rules: [], uses: [] }
    byLine.set(key, line)
    line.rules.push(rule)
    line.uses.push(...usesOf(rule, destinations).map(([, , use]) => use))
  }
  return [...byLine.values()].flatMap(({ rules: [rule, ...rest], uses }) => {
    if (rule === undefined) return []
    const ports = [rule, ...rest].flatMap((one) => one.ports).sort((a, b) => a - b)
    const fields = [
      `${rule.match.kind === 'cidr' ? 'cidr' : 'host'}: ${yamlText(matchText(rule.match))}`, `ports: [${ports.join(', ')}]`,
      ...(rule.private ? ['private: true'] : []), ...(writtenTls(rule) === null ? [] : [`tls: ${rule.tls}`]), ...(rule.ech ? ['ech: true'] : []),
      ...(rule.until === null ? [] : [`until: ${rule.until}`]), `reason: ${yamlText(rule.reason)}`,
    ]
    const text = `    - { ${fields.join(', ')} }`
    return [uses.length === 0 ? `-${text}  # never used in this period` : ` ${text}  # ${evidence(uses)}`]
  })
}

/** What the line must have said; null where the default gives the same (policy/egress.ts makes two rules of a line with 443 and others). */
function writtenTls({ match, ports, tls }: EgressRule): EgressRule['tls'] | null {
  const usual = match.kind === 'cidr' ? 'off' : ports.every((port) => port === 443) ? 'require' : ports.includes(443) ? null : 'auto'
  return tls === usual ? null : tls
}

/** Names below one zone, many of them: a reviewer may prefer a wildcard, and should know what it gives away. */
function wildcardHints(destinations: readonly Destination[]): string[] {
  const zones = new Map<string, number>()
  for (const { name } of destinations) {
    const zone = name === null ? '' : name.slice(name.indexOf('.') + 1)
    if (zone.includes('.')) zones.set(zone, (zones.get(zone) ?? 0) + 1)
  }
  return [...zones].filter(([, count]) => count >= MANY_BELOW).sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([zone, count]) => `#  ${count} names directly below ${zone}; "*.${zone}" would cover them and every other`)
}

function limitLines(limits: readonly ObservedLimit[]): string[] {
  const lines = limits.flatMap(({ field, limit, peak }) => {
    const proposed = rounded(field, 2 * peak)
    if (proposed === limit) return [`   ${field}: ${written(field, proposed)}  # peak ${written(field, peak, true)}`]
    return [...(limit === null ? [] : [`-  ${field}: ${written(field, limit)}`]), `+  ${field}: ${written(field, proposed)}  # twice the peak of ${written(field, peak, true)}`]
  })
  return lines.length === 0 ? [] : [' limits:', ...lines]
}

/** Least values of the policy schema, and steps that a person would choose. */
const STEPS = { MemoryMax: { least: 16 * 2 ** 20, step: 2 ** 20 }, TasksMax: { least: 4, step: 1 }, LimitNOFILE: { least: 16, step: 1 }, EgressMax: { least: 2 ** 20, step: 2 ** 20 } } as const

function rounded(field: ObservedLimit['field'], value: number): number {
  const { least, step } = STEPS[field]
  return Math.max(least, Math.ceil(value / step) * step)
}

function written(field: ObservedLimit['field'], value: number, rough = false): string {
  if (field === 'TasksMax' || field === 'LimitNOFILE') return String(value)
  const text = rough || value % 2 ** 20 !== 0 ? bytesText(value) : value % 2 ** 30 === 0 && value > 0 ? `${value / 2 ** 30}G` : `${value / 2 ** 20}M`
  return field === 'EgressMax' ? `${text}/day` : text
}

function rightLines(rights: readonly OtherRight[]): string[] {
  const dead = rights.filter(({ uses }) => uses === 0)
  const unknown = rights.filter(({ uses }) => uses === null)
  return [
    ...dead.map(({ field, value }) => `-${printable(field, 64)}: ${printable(value, 200)}  # never used in this period`),
    ...(unknown.length === 0 ? [] : [`#  not known whether used: ${unknown.map(({ field, value }) => `${printable(field, 64)} ${printable(value, 200)}`).join(', ')}`]),
  ]
}

/** As comments: whether it is meant to have them, nobody can know from the log. `cordon policy test --replay` tells which of them a file opens. */
function refusedLines({ uses, more }: LearningPeriod['refused']): string[] {
  const sorted = uses.toSorted((a, b) => b.count - a.count || (a.what < b.what ? -1 : 1))
  const shown = sorted.slice(0, MAX_REFUSED)
  const rest = sorted.slice(MAX_REFUSED).reduce((sum, { count }) => sum + count, more)
  if (uses.length === 0 && rest === 0) return []
  return [
    '# Refused in this time (learning opens public names only); open by a line of its own what is meant:',
    ...shown.map(({ what, code, say, count, first, last }) => `#  refused ${count}×, ${seconds(first)} to ${seconds(last)}: ${printable(what, 320)} (${printable(code, 40)}) ${printable(say, 300)}`),
    ...(rest === 0 ? [] : [`#  refused ${rest}× elsewhere`]),
  ]
}

function coverage({ from, to, restarts, events, records, rights }: LearningPeriod): string[] {
  const hours = Math.max(0, Math.round((Date.parse(to) - Date.parse(from)) / 36_000) / 100)
  const missing = (events ?? []).filter(({ seen }) => seen === 0).map(({ event }) => printable(event, 64))
  const opened = records.filter((record) => record.type === 'egress.opened').length
  return [
    `# Coverage: ${printable(from, 40)} to ${printable(to, 40)} (${hours} h), ${restarts} ${restarts === 1 ? 'restart' : 'restarts'}, ${opened} connections.`,
    events === null ? '# Events: this host delivers none, so what the plugin would do on one is not in here.' : events.length === 0 ? '# Events: it subscribes to none.'
      : missing.length === 0 ? `# Events: all ${events.length} subscribed ones were seen.`
        : `# Events: NOT SEEN, so what the plugin does on them is not in here: ${missing.join(', ')}.`,
    ...(rights.length === 0 ? [] : ['# Rights are dropped when nothing used them in this time; a yearly job needs what a day does not show.']),
    '# What did not happen in this time is refused by the lines below.',
  ]
}

function evidence(uses: readonly Use[]): string {
  const sum = (pick: (use: Use) => number): number => uses.reduce((all, use) => all + pick(use), 0)
  const first = uses.map((use) => use.first).reduce((a, b) => (a < b ? a : b))
  const last = uses.map((use) => use.last).reduce((a, b) => (a > b ? a : b))
  return `${sum((use) => use.count)}×, ${seconds(first)} to ${seconds(last)}, ${bytesText(sum((use) => use.bytesOut))} out, ${bytesText(sum((use) => use.bytesIn))} in`
}

function seconds(time: string): string {
  return time.replace(/\.[0-9]{1,9}Z$/, 'Z')
}

function bytesText(bytes: number): string {
  if (bytes < 1024) return `${bytes}B`
  const [size, unit] = bytes < 2 ** 20 ? [2 ** 10, 'K'] : bytes < 2 ** 30 ? [2 ** 20, 'M'] : [2 ** 30, 'G']
  return `${(bytes / size).toFixed(1).replace(/\.0$/, '')}${unit}`
}

function total({ ports }: Destination): number {
  return [...ports.values()].reduce((sum, use) => sum + use.count, 0)
}

function textOf({ name, literal }: Destination): string {
  return name ?? `${literal ?? ''}/${literal?.includes(':') === true ? 128 : 32}`
}

/** Quoted wherever YAML could read it as something else. */
function yamlText(text: string): string {
  return /^[A-Za-z][A-Za-z0-9 ._/-]*$/.test(text) && !/^(?:true|false|null|yes|no|on|off)$/i.test(text) && !text.endsWith(' ') ? text : JSON.stringify(text)
}
