import { HOST_INTERNAL, type Egress, type EgressMatch, type EgressRule } from '../base/egress-rule.ts'
import { isBelowZone, parseHostName } from '../base/host-name.ts'
import { formatIp, parseCidr } from '../base/ip-address.ts'
import type { RawEgress, RawEgressRule } from './schema-egress.ts'
import { parseUntil } from './units.ts'

export interface NoMatch {
  readonly why: string
  readonly hint?: string
}

/** A destination as written, to what is compared; the one place that reads `host:` and `cidr:`. */
export function compileMatch(written: { readonly host?: string | undefined; readonly cidr?: string | undefined }): EgressMatch | NoMatch {
  if (written.host === undefined) {
    const parsed = parseCidr(written.cidr ?? '')
    if (!parsed.ok) return { why: parsed.why }
    const { base, prefix } = parsed.cidr
    return { kind: 'cidr', base: formatIp(base), prefix, family: base.length === 4 ? 4 : 6 }
  }
  if (written.host === 'public') return { kind: 'public' }
  if (written.host === '*') return { why: 'expected a name', hint: 'Write `host: public` for every public name.' }
  const isWildcard = written.host.startsWith('*.')
  const text = isWildcard ? written.host.slice(2) : written.host
  if (text.includes('*')) return { why: 'expected `*.` at the beginning and nowhere else', hint: 'A wildcard covers whole labels: *.example.org.' }
  if (/^[a-z]+:\/\//i.test(text)) return { why: 'expected a name, not a URL', hint: `Write the host alone, as in ${/^[a-z]+:\/\/([a-z0-9.-]+)/i.exec(text)?.[1] ?? 'api.example.org'}.` }
  if (/:[0-9]+$/.test(text) && !text.slice(0, text.lastIndexOf(':')).includes(':')) return { why: 'expected a name without a port', hint: 'Ports stand under `ports`.' }
  const parsed = parseHostName(text)
  if (!parsed.ok) {
    const isAddress = text.includes(':') || text.startsWith('[') || parsed.why.includes('taken for an address')
    return { why: `expected a name: ${parsed.why}`, ...(isAddress ? { hint: 'Write an address as `cidr:`, as in 10.0.5.7/32.' } : {}) }
  }
  const { name } = parsed
  if (name === 'localhost' || isBelowZone(name, 'localhost')) return { why: 'expected another machine: inside the walls this is the plugin\'s own loopback', hint: 'Write `host: host.internal` for a service of this host.' }
  if (isWildcard) return name.length + 2 > 253 ? { why: 'expected a zone that leaves room for a label' } : { kind: 'wildcard', zone: name }
  return name === HOST_INTERNAL ? { kind: 'host.internal' } : { kind: 'host', name }
}

/**
 * The egress of all layers, every choice made explicit. Rules are added up; one that a nearer file also has (same
 * destination, same ports) is taken once, from there. `mode` and `until` come together from the nearest file that has `mode`.
 * @param layers the policy itself, then its presets, nearest first; their values are well-formed
 */
export function resolveEgress(layers: readonly (RawEgress | undefined)[]): Egress {
  const chosen = layers.find((layer) => layer?.mode !== undefined)
  const allow: EgressRule[] = []
  const seen = new Set<string>()
  for (const raw of layers.flatMap((layer) => layer?.allow ?? [])) {
    const match = compileMatch(raw)
    if ('why' in match) throw new TypeError('the schema lets only well-formed rules through')
    const key = JSON.stringify([match, raw.ports.toSorted((a, b) => a - b)])
    if (!seen.has(key)) allow.push(...compileRule(raw, match, allow.length + 1))
    seen.add(key)
  }
  const learn = chosen?.mode === 'learn' && chosen.until !== undefined
  return { mode: learn ? 'learn' : 'enforce', until: learn && chosen.until !== undefined ? parseUntil(chosen.until) : null, allow }
}

/** One listener inside the walls for each; more is no list of needs. */
export const PORTS_MAX = 64
/** What the door takes for one plugin (wire/door.ts). */
const RULES_MAX = 256

/** What all layers together ask for and the door does not take; null when it does. */
export function egressConflict({ allow }: Egress): string | null {
  const ports = new Set(allow.flatMap((rule) => rule.ports))
  if (ports.size > PORTS_MAX) return `names ${ports.size} different ports together with its presets; at most ${PORTS_MAX} are opened`
  return allow.length > RULES_MAX ? `makes ${allow.length} rules together with its presets; at most ${RULES_MAX} are held` : null
}

/** TLS is held to its name on 443 and looked at elsewhere; where a line says nothing and has both, it becomes two rules. */
export function compileRule(raw: RawEgressRule, match: EgressMatch, id: number): EgressRule[] {
  const ports = raw.ports.toSorted((a, b) => a - b)
  const parts: [EgressRule['tls'], number[]][] = match.kind === 'cidr' ? [['off', ports]]
    : raw.tls !== undefined ? [[raw.tls, ports]]
      : [['require', ports.filter((port) => port === 443)], ['auto', ports.filter((port) => port !== 443)]]
  return parts.filter(([, some]) => some.length > 0).map(([tls, some], index) => ({
    id: id + index,
    match,
    ports: some,
    private: raw.private ?? false,
    tls,
    ech: raw.ech ?? false,
    until: raw.until === undefined ? null : parseUntil(raw.until),
    reason: raw.reason,
  }))
}
