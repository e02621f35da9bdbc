import { matchText, type Egress, type EgressMatch } from '../base/egress-rule.ts'
import { isBelowZone } from '../base/host-name.ts'
import { covers, parseCidr, type Cidr } from '../base/ip-address.ts'
import { compileMatch } from './egress.ts'
import { isPublicSuffix } from './public-suffixes.ts'
import type { RawEgress, RawEgressRule } from './schema-egress.ts'
import { sharedName } from './shared-names.ts'

/** Ports that carry what no honest web client sends; open to everybody they are how machines are abused. */
const ABUSED_PORTS: ReadonlyMap<number, string> = new Map([
  [22, 'SSH to any machine: a shell, files and tunnels both ways'], [25, 'mail to any server: spam in this host\'s name, and providers block hosts for it'],
  [23, 'telnet to any machine'], [445, 'Windows file sharing with any machine'], [3389, 'remote desktops of any machine'], [6667, 'IRC, by which bot nets are commanded'],
])
/** Wider than this (addresses in powers of two) a block is a network and no machine. */
const WIDE_BITS = 8

export interface EgressLint {
  readonly path: readonly (string | number)[]
  readonly message: string
}

/** What is allowed in an `egress` and its author should know. @param raw well-formed */
export function lintEgress(raw: RawEgress | undefined): EgressLint[] {
  const rules = (raw?.allow ?? []).map((rule, index) => ({ rule, index, match: matchOf(rule) }))
  return [
    ...(raw?.mode === 'learn' ? [{ path: ['egress', 'mode'], message: '"egress.mode" is "learn": LEARNING, NOT PROTECTED until it ends; every public name can be reached' }] : []),
    ...rules.flatMap(({ rule, index, match }) => ruleLints(rule, match).map(([field, message]) => (
      { path: ['egress', 'allow', index, ...(field === null ? [] : [field])], message: `"egress.allow[${index}]" ${message}` }
    ))),
    ...rules.flatMap(({ rule, index, match }) => pairLints(rule, match, rules.filter((one) => one.index !== index)).map((message) => (
      { path: ['egress', 'allow', index], message: `"egress.allow[${index}]" ${message}` }
    ))),
  ]
}

/** What has ended already, so that nobody wonders. @param now ms since 1970 */
export function lintEnded(egress: Egress, now: number): string[] {
  const ended = new Set(egress.allow.filter(({ until }) => until !== null && Date.parse(until) <= now).map((rule) => `the rule for ${matchText(rule.match)} ended at ${String(rule.until)} and opens nothing`))
  if (egress.mode === 'learn' && egress.until !== null && Date.parse(egress.until) <= now) ended.add(`learning ended at ${egress.until}: only the rules hold`)
  return [...ended]
}

function matchOf(rule: RawEgressRule): EgressMatch {
  const match = compileMatch(rule)
  if ('why' in match) throw new TypeError('the schema lets only well-formed rules through')
  return match
}

type Lint = readonly [field: 'host' | 'cidr' | 'ports' | 'tls' | 'private' | null, message: string]

function ruleLints(rule: RawEgressRule, match: EgressMatch): Lint[] {
  const found: Lint[] = []
  switch (match.kind) {
    case 'public': {
      found.push(['host', 'opens every public name: whatever the plugin can read it can send to anybody'])
      const abused = rule.ports.filter((port) => ABUSED_PORTS.has(port))
      for (const port of abused) found.push(['ports', `opens port ${port} to everybody: ${ABUSED_PORTS.get(port) ?? ''}`])
      const others = rule.ports.filter((port) => port !== 80 && port !== 443 && !ABUSED_PORTS.has(port))
      if (others.length > 0) found.push(['ports', `opens ${others.length === 1 ? 'port' : 'ports'} ${others.join(', ')} to everybody; public sites need 443, some 80`])
      break
    }
    case 'wildcard':
      if (isPublicSuffix(match.zone)) {
        found.push(['host', `covers ${matchText(match)}, below which anybody can register a name (checked against a short list of suffixes, not the whole Public Suffix List)`])
      } else {
        found.push(['host', `lets the plugin choose labels below ${match.zone}, which reach that zone's name servers when it connects: a slow way to send data out`])
      }
      found.push(...shared(match.zone, true))
      break
    case 'host':
      found.push(...shared(match.name, false))
      if (!match.name.includes('.')) found.push(['host', 'is a single label: it resolves only where the host\'s own resolver knows it'])
      if (isBelowZone(match.name, 'local')) found.push(['host', 'is a multicast DNS name (.local), which the host\'s resolver usually does not know; use its address under `cidr`'])
      if (/(?:^|\.)(?:onion|invalid|test|example)$/.test(match.name)) found.push(['host', 'ends in a label that no public resolver answers (RFC 6761)'])
      if (match.name === 'metadata.google.internal' || match.name === 'instance-data') found.push(['host', 'is a cloud\'s metadata service; its address is refused whatever a rule says'])
      break
    case 'cidr': {
      const bits = (match.family === 4 ? 32 : 128) - match.prefix
      if (bits > WIDE_BITS) found.push(['cidr', `covers 2^${bits} addresses; name the machines, or use names`])
      break
    }
    case 'host.internal':
      found.push(['host', 'opens services on the loopback of the host, many of which ask nobody who they are'])
      break
    default:
      return match satisfies never
  }
  if (rule.tls === 'off' && match.kind !== 'host.internal') found.push(['tls', 'does not compare TLS names: behind a shared address every other site can be reached too'])
  if (rule.private === true && match.kind === 'wildcard') found.push(['private', 'lets whoever serves that zone point its names at your own network'])
  return found
}

function shared(name: string, isWildcard: boolean): Lint[] {
  const row = sharedName(name, isWildcard)
  return row === null ? [] : [['host', `leads to ${row.zone}: there strangers ${row.why}`]]
}

interface Other { readonly rule: RawEgressRule; readonly index: number; readonly match: EgressMatch }

function pairLints(rule: RawEgressRule, match: EgressMatch, others: readonly Other[]): string[] {
  const found: string[] = []
  if (match.kind === 'wildcard' && !isPublicSuffix(match.zone) && !others.some(({ match: other }) => isWider(other, { kind: 'host', name: match.zone }) || (other.kind === 'host' && other.name === match.zone))) {
    found.push(`does not cover ${match.zone} itself; if that is needed too, add { host: ${match.zone} }`)
  }
  const wider = others.find((other) => isWider(other.match, match) && rule.ports.every((port) => other.rule.ports.includes(port)))
  if (wider !== undefined) {
    const same = sameRights(rule, wider.rule)
    found.push(same
      ? `is covered by allow[${wider.index}] (${matchText(wider.match)}) already`
      : `overlaps allow[${wider.index}] (${matchText(wider.match)}); the narrower of the two, this one, decides for its names`)
  }
  const twin = others.find((other) => JSON.stringify(other.match) === JSON.stringify(match) && rule.ports.some((port) => other.rule.ports.includes(port)))
  if (twin !== undefined) found.push(`names some ports of ${matchText(match)} that allow[${twin.index}] names too; the one that stands first decides`)
  return found
}

function sameRights(a: RawEgressRule, b: RawEgressRule): boolean {
  return (a.private ?? false) === (b.private ?? false) && a.tls === b.tls && (a.ech ?? false) === (b.ech ?? false) && a.until === b.until
}

/** Does `wide` match all that `narrow` matches, and more? */
function isWider(wide: EgressMatch, narrow: EgressMatch): boolean {
  const name = narrow.kind === 'host' ? narrow.name : narrow.kind === 'wildcard' ? narrow.zone : null
  if (wide.kind === 'public') return name?.includes('.') === true
  if (wide.kind === 'wildcard') return name !== null && isBelowZone(name, wide.zone)
  if (wide.kind === 'cidr' && narrow.kind === 'cidr') {
    const [outer, inner] = [block(wide), block(narrow)]
    return outer !== null && inner !== null && outer.prefix < inner.prefix && covers(outer, inner)
  }
  return false
}

function block(match: EgressMatch & { readonly kind: 'cidr' }): Cidr | null {
  const parsed = parseCidr(matchText(match))
  return parsed.ok ? parsed.cidr : null
}
