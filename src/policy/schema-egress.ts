import * as z from 'zod'
import { covers, parseCidr, type Cidr } from '../base/ip-address.ts'
import { METADATA_SERVICES, SPECIAL_BLOCKS, type SpecialBlock } from '../base/special-addresses.ts'
import { compileMatch, PORTS_MAX } from './egress.ts'
import { faults, LIST_MAX, noDuplicates, reason, unit, type Fault } from './schema-parts.ts'
import { parseUntil } from './units.ts'

export type RawEgress = z.infer<typeof egress>
export type RawEgressRule = z.infer<typeof rule>

const host = z.string().superRefine(faults((written) => {
  const match = compileMatch({ host: written })
  return 'why' in match ? { code: 'POLICY_BAD_VALUE', message: match.why, ...(match.hint === undefined ? {} : { hint: match.hint }) } : null
})).meta({
  description: 'A name; `*.example.org` for one or more labels below a zone, never the zone itself; `public` for every public name (any global address, nothing private); `host.internal` for the loopback of the host.',
  maxLength: 255,
})

const cidr = z.string().superRefine(faults((written) => {
  const match = compileMatch({ cidr: written })
  return 'why' in match ? { code: 'POLICY_BAD_VALUE', message: match.why } : null
})).meta({ description: 'A block of literal addresses, such as 10.0.5.7/32; only these may be dialled without a name.', maxLength: 49 })

const port = z.int().min(1).max(65_535).superRefine(faults((number) => (number !== 53 ? null : {
  code: 'POLICY_CONFLICT', message: 'is refused: names are answered by Cordon itself, and nothing may be asked past it', hint: 'Remove port 53; names of the list resolve by themselves.',
})))

const until = z.string().superRefine(unit(parseUntil, () => null))

const rule = z.strictObject({
  host: host.optional(),
  cidr: cidr.optional(),
  ports: z.array(port).min(1).max(32).superRefine(faults((list) => noDuplicates(list.map(String)))).describe('TCP ports.'),
  private: z.boolean().optional().describe('Also private addresses: RFC 1918, 100.64.0.0/10 (Tailscale, carrier NAT), fc00::/7, and direct neighbours of this host. Nothing else is lifted. Default: false.'),
  tls: z.enum(['require', 'auto', 'off']).optional()
    .describe('`require`: the connection begins with a TLS hello for this name. `auto`: if it begins with one, it is for this name. `off`: not looked at. Default: require on port 443, auto on others, off for `cidr`.'),
  ech: z.boolean().optional().describe('Accept a TLS hello that is encrypted in part (ECH), as browsers send it. Default: false.'),
  until: until.optional().describe('The rule ends after this day (2026-12-31) or at this instant (2026-12-31T18:00:00Z). UTC.'),
  reason,
}).superRefine((value, context) => {
  for (const [field, fault] of ruleFaults(value)) {
    context.addIssue({ code: 'custom', path: field === null ? [] : [field], message: fault.message, params: { code: fault.code, hint: fault.hint } })
  }
})

export const egress = z.strictObject({
  mode: z.enum(['enforce', 'learn']).optional().describe('`enforce`: what no rule names is refused. `learn`: public names are let through and recorded until `until`, which protects nothing. Default: enforce.'),
  until: until.optional().describe('When learning ends by closing; needed with `mode: learn`.'),
  allow: z.array(rule).max(LIST_MAX).optional().describe('What it may reach. Everything else is refused and recorded.'),
}).superRefine((value, context) => {
  const add = (field: string, message: string, code: Fault['code'] = 'POLICY_CONFLICT', hint?: string): void => {
    context.addIssue({ code: 'custom', path: [field], message, params: { code, hint } })
  }
  if (value.mode === 'learn' && value.until === undefined) add('mode', 'is refused: learning without an end protects nothing for ever', 'POLICY_MISSING_FIELD', 'Add `until:` with a day or an instant.')
  if (value.mode !== 'learn' && value.until !== undefined) add('until', 'is refused: only learning ends, and `mode` is not `learn`', 'POLICY_CONFLICT', 'Put `until` into the rules that shall end, or remove it.')
  const ports = new Set((value.allow ?? []).flatMap((one) => one.ports))
  if (ports.size > PORTS_MAX) add('allow', `names ${ports.size} different ports; at most ${PORTS_MAX} are opened`, 'POLICY_OUT_OF_BOUNDS')
  const seen = new Map<string, number>()
  for (const [index, one] of (value.allow ?? []).entries()) {
    const key = JSON.stringify([one.host?.toLowerCase().replace(/\.$/, '') ?? null, one.cidr ?? null, [...one.ports].sort((a, b) => a - b)])
    const first = seen.get(key)
    if (first === undefined) seen.set(key, index)
    else context.addIssue({ code: 'custom', path: ['allow', index], message: `names the same destination and ports as allow[${first}]; which one would hold?`, params: { code: 'POLICY_CONFLICT' } })
  }
}).describe('What it may reach on the network. Without it: nothing at all.')

type LooseRule = { readonly [K in 'host' | 'cidr' | 'private' | 'tls' | 'ech']?: unknown }

/** What the fields of one rule say together. Zod asks here also when a field has a problem of its own. */
function ruleFaults(value: LooseRule): [string | null, Fault][] {
  const conflict = (message: string, hint?: string): Fault => ({ code: 'POLICY_CONFLICT', message, ...(hint === undefined ? {} : { hint }) })
  if (value.host === undefined && value.cidr === undefined) {
    return [[null, { code: 'POLICY_MISSING_FIELD', message: 'names no destination', hint: 'Add `host: NAME`, or `cidr: BLOCK` for literal addresses.' }]]
  }
  if (value.host !== undefined && value.cidr !== undefined) return [['cidr', conflict('is refused: the rule has a `host` already', 'Make two rules of it; each names one kind of destination.')]]
  const found: [string | null, Fault][] = []
  if (value.private === true && value.host === 'public') found.push(['private', conflict('is refused: `host: public` means global addresses only', 'Name the private host in a rule of its own.')])
  if (value.private === true && value.host === 'host.internal') found.push(['private', conflict('is refused: `host.internal` is the loopback of this host, which `private` neither opens nor closes', 'Remove it.')])
  if (value.ech === true && value.tls === 'off') found.push(['ech', conflict('is refused: with `tls: off` no hello is looked at', 'Remove one of the two.')])
  if (typeof value.cidr === 'string') {
    if (value.tls !== undefined && value.tls !== 'off') found.push(['tls', conflict('is refused: a literal address has no name that a TLS hello could be compared with', 'Remove it, or use a rule with `host`.')])
    if (value.ech === true) found.push(['ech', conflict('is refused: behind a literal address no hello is looked at', 'Remove it.')])
    const parsed = parseCidr(value.cidr)
    const dead = parsed.ok ? neverOpen(parsed.cidr, value.private === true) : null
    if (dead !== null) found.push(['cidr', dead])
  }
  return found
}

/** A rule that can never act is a mistake, and its author believes something that is not so. */
function neverOpen(block: Cidr, isPrivate: boolean): Fault | null {
  const inside = (rows: readonly SpecialBlock[]): SpecialBlock | undefined => rows.filter((row) => {
    const parsed = parseCidr(row.block)
    return parsed.ok && covers(parsed.cidr, block)
  }).sort((a, b) => Number(b.block.split('/')[1]) - Number(a.block.split('/')[1]))[0]
  const row = inside(METADATA_SERVICES) ?? inside(SPECIAL_BLOCKS)
  if (row === undefined || row.kind === 'global' || row.block === '::/0') return null
  if (row.kind === 'private' || row.kind === 'shared' || row.kind === 'unique-local') {
    return isPrivate ? null : { code: 'POLICY_CONFLICT', message: `is refused: it lies in ${row.block} (${row.name}, ${row.source}), which only \`private: true\` opens`, hint: 'Add `private: true` to the rule.' }
  }
  const hint = row.kind === 'loopback' ? 'Use `host: host.internal` for a service of this host.' : 'Remove the rule.'
  return { code: 'POLICY_CONFLICT', message: `is refused: it lies in ${row.block} (${row.name}, ${row.source}), which nothing opens`, hint }
}
