import { HOST_INTERNAL, matchText, type Egress, type EgressRule } from '../base/egress-rule.ts'
import { isBelowZone, isPublicName, type HostName } from '../base/host-name.ts'
import { formatIp, inCidr, parseIp, unmapped, type IpBytes } from '../base/ip-address.ts'
import { REASONS, type ReasonCode } from './reasons.ts'

/** What an allowed connection may do; copied from the rule, so that whoever holds it needs no rule any more. */
export interface Permit {
  readonly private: boolean
  readonly hostInternal: boolean
  readonly tls: EgressRule['tls']
  readonly ech: boolean
}

export type Decision =
  | { readonly verdict: 'allow'; readonly rule: number | null; readonly code: 'allowed' | 'learning'; readonly say: string; readonly permit: Permit }
  | { readonly verdict: 'refuse'; readonly rule: number | null; readonly code: ReasonCode; readonly say: string }

/** Learning opens public names and nothing more: no private address, and TLS is held to its name as under a rule. */
function learningPermit(port: number): Permit {
  return { private: false, hostInternal: false, tls: port === 443 ? 'require' : 'auto', ech: false }
}

/**
 * May a connection to this name and port be made? Among the rules that hold now and name the port, the most specific one
 * decides: the name itself, then the longest wildcard, then `public`; among equals the one that lifts private addresses, then the one that
 * stands first. So what `cordon allow --private` adds to a rule of the file holds.
 * What the name resolves to is judged apart (addresses.ts) with the permit that is returned here.
 * @param now ms since 1970
 */
export function decideName(egress: Egress, name: HostName, port: number, now: number): Decision {
  const named = egress.allow.filter((rule) => matchesName(rule, name))
  const rule = mostSpecific(named.filter((one) => one.ports.includes(port) && holds(one, now)))
  if (rule !== null) return allow(rule)
  if (isLearning(egress, now)) {
    return isPublicName(name)
      ? { verdict: 'allow', rule: null, code: 'learning', say: `${name}:${port} is let through because the policy is learning`, permit: learningPermit(port) }
      : refuse('learning-not-public', null, `${name} is no public name, and learning opens nothing else`)
  }
  return refuseName(egress, named, name, port, now)
}

/**
 * Does any rule that holds now name it, at whatever port? For the DNS answer; `rule` is the most specific one.
 * @param now ms since 1970
 */
export function decideQuery(egress: Egress, name: HostName, now: number): Decision {
  const named = egress.allow.filter((rule) => matchesName(rule, name))
  const rule = mostSpecific(named.filter((one) => holds(one, now)))
  if (rule !== null) return allow(rule)
  if (isLearning(egress, now) && isPublicName(name)) {
    return { verdict: 'allow', rule: null, code: 'learning', say: `${name} is answered because the policy is learning`, permit: learningPermit(443) }
  }
  if (isLearning(egress, now)) return refuse('learning-not-public', null, `${name} is no public name, and learning opens nothing else`)
  return refuseName(egress, named, name, null, now)
}

/**
 * May this literal address be dialled? Only a `cidr` rule says so, never a rule by name and never learning. Whether the
 * address is fit to be dialled at all is judged apart (addresses.ts).
 * @param now ms since 1970
 */
export function decideAddress(egress: Egress, address: IpBytes, port: number, now: number): Decision {
  const bytes = unmapped(address)
  const named = egress.allow.filter((rule) => matchesAddress(rule, bytes))
  const rule = mostSpecific(named.filter((one) => one.ports.includes(port) && holds(one, now)))
  if (rule !== null) return allow(rule)
  const text = formatIp(bytes)
  const [first] = named
  if (first === undefined) return refuse('literal-not-allowed', null, `${text} was dialled as an address, and no cidr rule covers it: use a name, or add { cidr: ${text}/${bytes.length * 8}, ports: [${port}] }`)
  const later = named.find((one) => one.ports.includes(port))
  return later === undefined ? refusePort(text, port, named) : refuseExpired(text, later)
}

/** What a connection's first bytes say of whom they mean; read by client-hello.ts. */
export type Hello =
  | { readonly kind: 'hello'; readonly sni: string | null; readonly ech: boolean }
  | { readonly kind: 'not-tls' }
  /** Nothing came within the time that was given. */
  | { readonly kind: 'silent' }
  | { readonly kind: 'refused'; readonly code: 'tls-malformed' | 'tls-oversized' | 'tls-sslv2' | 'sni-malformed' | 'sni-several' }

export type HelloVerdict = { readonly verdict: 'allow' } | { readonly verdict: 'refuse'; readonly code: ReasonCode; readonly say: string }

/**
 * May these first bytes go to the name that was meant? ECH never frees a hello from naming the host: no key for it is handed
 * out in our DNS answers, so an honest client sends the true name beside its dummy.
 * @param meant null behind a `cidr` rule, where there is no name and `tls` is `off`
 */
export function decideHello(permit: Permit, meant: HostName | null, hello: Hello): HelloVerdict {
  if (permit.tls === 'off' || meant === null) return { verdict: 'allow' }
  switch (hello.kind) {
    case 'not-tls':
      return permit.tls === 'auto' ? { verdict: 'allow' } : say('tls-required', `${meant}: the first bytes are not TLS, which the rule asks for: add tls: off if the protocol is another`)
    case 'silent':
      return permit.tls === 'auto' ? { verdict: 'allow' } : say('tls-timeout', `${meant}: no TLS hello came in time: add tls: off if the other side speaks first`)
    case 'refused':
      return say(hello.code, `${meant}: ${REASONS[hello.code]}`)
    case 'hello':
      if (hello.sni === null) return say('sni-missing', `${meant}: the TLS hello names no host: add tls: off if the client cannot`)
      if (hello.sni !== meant) return say('sni-mismatch', `${meant} was looked up, and the TLS hello asks for ${hello.sni}`)
      if (hello.ech && !permit.ech) return say('ech-refused', `${meant}: the TLS hello is encrypted in part (ECH, or a browser's dummy of it): add ech: true to accept that`)
      return { verdict: 'allow' }
    default:
      return hello satisfies never
  }
}

/** Does the rule name it, whatever the port and the time? */
export function matchesName({ match }: EgressRule, name: HostName): boolean {
  // No wildcard and no DNS answer may lend this name another meaning.
  if (name === HOST_INTERNAL) return match.kind === 'host.internal'
  switch (match.kind) {
    case 'host': return match.name === name
    case 'wildcard': return isBelowZone(name, match.zone)
    case 'public': return isPublicName(name)
    case 'host.internal':
    case 'cidr': return false
    default: return match satisfies never
  }
}

/** @param address IPv4-mapped already unwrapped */
export function matchesAddress({ match }: EgressRule, address: IpBytes): boolean {
  if (match.kind !== 'cidr') return false
  const base = parseIp(match.base)
  return base !== null && inCidr(address, { base, prefix: match.prefix })
}

/** Does the rule hold at `now` (ms)? A time that cannot be read is over: fail closed. */
function holds({ until }: EgressRule, now: number): boolean {
  return until === null || now < Date.parse(until)
}

/** Learning without a readable end is over. */
function isLearning({ mode, until }: Egress, now: number): boolean {
  return mode === 'learn' && until !== null && now < Date.parse(until)
}

const CLASS = { 'host': 4, 'host.internal': 4, 'cidr': 3, 'wildcard': 2, 'public': 1 } as const

function mostSpecific(rules: readonly EgressRule[]): EgressRule | null {
  return rules.reduce<EgressRule | null>((best, rule) => (best === null || isMoreSpecific(rule, best) ? rule : best), null)
}

function isMoreSpecific(one: EgressRule, other: EgressRule): boolean {
  const [{ match: a, id: first }, { match: b, id: second }] = [one, other]
  if (CLASS[a.kind] !== CLASS[b.kind]) return CLASS[a.kind] > CLASS[b.kind]
  if (a.kind === 'wildcard' && b.kind === 'wildcard' && a.zone.length !== b.zone.length) return a.zone.length > b.zone.length
  if (a.kind === 'cidr' && b.kind === 'cidr' && a.prefix !== b.prefix) return a.prefix > b.prefix
  return one.private === other.private ? first < second : one.private
}

function allow(rule: EgressRule): Decision {
  return {
    verdict: 'allow', rule: rule.id, code: 'allowed', say: `allowed by ${matchText(rule.match)} (${rule.reason})`,
    permit: { private: rule.private, hostInternal: rule.match.kind === 'host.internal', tls: rule.tls, ech: rule.ech },
  }
}

function refuseName(egress: Egress, named: readonly EgressRule[], name: HostName, port: number | null, now: number): Decision {
  const here = port === null ? named : named.filter((rule) => rule.ports.includes(port))
  const expired = here.find((rule) => !holds(rule, now))
  if (expired !== undefined) return refuseExpired(name, expired)
  if (port !== null && named.length > 0) return refusePort(name, port, named)
  const apex = egress.allow.find(({ match }) => match.kind === 'wildcard' && match.zone === name)
  if (apex !== undefined) return refuse('apex-not-covered', null, `*.${name} covers what is below ${name}, not ${name} itself: add { host: ${name}, ports: [${port ?? 443}] }`)
  return refuse('name-not-allowed', null, `no rule names ${name}: add { host: ${name}, ports: [${port ?? 443}] } if the plugin needs it`)
}

function refuseExpired(what: string, rule: EgressRule): Decision {
  return refuse('rule-expired', rule.id, `the rule for ${what} (${matchText(rule.match)}) ended at ${String(rule.until)}`)
}

function refusePort(what: string, port: number, named: readonly EgressRule[]): Decision {
  const ports = [...new Set(named.flatMap((rule) => rule.ports))].sort((a, b) => a - b)
  return refuse('port-not-allowed', named[0]?.id ?? null, `${what} is allowed on ${ports.length === 1 ? 'port' : 'ports'} ${ports.join(', ')}, not on ${port}`)
}

function refuse(code: ReasonCode, rule: number | null, sentence: string): Decision {
  return { verdict: 'refuse', rule, code, say: sentence }
}

function say(code: ReasonCode, sentence: string): HelloVerdict {
  return { verdict: 'refuse', code, say: sentence }
}
