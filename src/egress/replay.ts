import type { Egress } from '../base/egress-rule.ts'
import { parseHostName } from '../base/host-name.ts'
import { parseIp } from '../base/ip-address.ts'
import { judgeAddress, type HostView } from './addresses.ts'
import { attemptOf, attemptText, othersOf, timesOf, type Attempt, type AttemptRecord, type EgressRecord } from './record.ts'
import type { ReasonCode } from './reasons.ts'
import { decideAddress, decideHello, decideName, decideQuery, type Decision, type Permit } from './rules.ts'

/** One destination whose answer the rules change. */
export interface Change {
  readonly what: string
  readonly times: number
  readonly first: string
  readonly last: string
  /** Then: the recorded code. Now: what the rules say. */
  readonly then: string
  readonly now: ReasonCode
  readonly say: string
  /** False where the records do not hold all that the decision needs (a refused name was never resolved): then it may still be refused. */
  readonly certain: boolean
}

export interface Replay {
  /** Was let through, would be refused; the most frequent first. */
  readonly newlyRefused: readonly Change[]
  /** Was refused, would be let through. */
  readonly newlyAllowed: readonly Change[]
  /** Attempts that were looked at, and those whose refusal has nothing to do with rules (a budget, a peer that did not answer) or that were only counted. */
  readonly attempts: number
  readonly undecided: number
}

export type Verdict =
  | { readonly verdict: 'allow'; readonly code: ReasonCode; readonly say: string; readonly certain: boolean }
  | { readonly verdict: 'refuse'; readonly code: ReasonCode; readonly say: string; readonly certain: boolean }

/**
 * Decide again what happened, under other rules: what would be refused of what was let through, and the other way round.
 * Pure; the same records, rules and time give the same answer.
 * @param records in any order; an egress.closed is passed over
 * @param hostOf the host as the record names it, for own addresses and neighbours; '' where it should and does not, null where none was compared
 * @param now ms since 1970: `until` of the rules is compared with this, not with the time of a record
 */
export function replay(records: readonly EgressRecord[], egress: Egress, hostOf: (network: string | null) => HostView, now: number): Replay {
  const refused = new Map<string, Change>()
  const allowed = new Map<string, Change>()
  let attempts = 0
  let undecided = 0
  for (const record of records) {
    if (record.type === 'egress.closed') continue
    const attempt = attemptOf(record)
    attempts += timesOf(record) + othersOf(record)
    undecided += othersOf(record)
    const wasAllowed = record.type === 'egress.opened'
    if (!wasAllowed && !BY_RULES.has(record.code)) {
      undecided += timesOf(record)
      continue
    }
    const compared = record.type === 'egress.opened' || (record.type === 'egress.refused' && (record.addresses.length > 0 || record.name === null))
    const network = compared ? (record.network ?? '') : null
    const verdict = decideAgain(attempt, wasAllowed, egress, hostOf(network), now)
    if (wasAllowed === (verdict.verdict === 'allow')) continue
    add(wasAllowed ? refused : allowed, record, attempt, verdict)
  }
  return { newlyRefused: sorted(refused), newlyAllowed: sorted(allowed), attempts, undecided }
}

/** The whole chain for one attempt: rule, address, first bytes. @param wasOpened it got as far as passing bytes */
export function decideAgain(attempt: Attempt, wasOpened: boolean, egress: Egress, host: HostView, now: number): Verdict {
  const name = attempt.name === null ? null : parseHostName(attempt.name)
  if (name !== null && !name.ok) return { verdict: 'refuse', code: 'name-malformed', say: `the name that was asked for is none: ${name.why}`, certain: true }
  const decision = decide(attempt, egress, name?.name ?? null, now)
  if (decision.verdict === 'refuse') return { ...decision, certain: true }
  const addresses = attempt.name === null && attempt.literal !== null ? [attempt.literal] : attempt.resolved
  const address = judgeAll(addresses, attempt.port, decision.permit, host)
  if (address !== null) return { verdict: 'refuse', ...address, certain: true }
  if (name !== null && attempt.hello !== null) {
    const hello = decideHello(decision.permit, name.name, attempt.hello)
    if (hello.verdict === 'refuse') return { ...hello, certain: true }
  }
  if (attempt.hello === null && wasOpened && decision.permit.tls === 'require') {
    return { verdict: 'refuse', code: 'tls-required', say: `${attemptText(attempt)} showed no TLS hello then, and the rule asks for one now`, certain: false }
  }
  // What a name resolves to and what its first bytes say is known only of what got that far.
  const certain = attempt.port !== null && (wasOpened || ((addresses.length > 0 || decision.permit.hostInternal) && (attempt.hello !== null || decision.permit.tls === 'off')))
  return { verdict: 'allow', code: decision.code, say: decision.say, certain }
}

function decide(attempt: Attempt, egress: Egress, name: Parameters<typeof decideName>[1] | null, now: number): Decision {
  if (name !== null) return attempt.port === null ? decideQuery(egress, name, now) : decideName(egress, name, attempt.port, now)
  const literal = attempt.literal === null ? null : parseIp(attempt.literal)
  if (literal === null || attempt.port === null) return { verdict: 'refuse', rule: null, code: 'name-malformed', say: 'the record names neither a host nor an address' }
  return decideAddress(egress, literal, attempt.port, now)
}

/** A name is reached if any of its addresses may be dialled, as the door does it; the first refusal is told. */
function judgeAll(texts: readonly string[], port: number | null, permit: Permit, host: HostView): { readonly code: ReasonCode; readonly say: string } | null {
  let first: { readonly code: ReasonCode; readonly say: string } | null = null
  for (const text of texts) {
    const bytes = parseIp(text)
    if (bytes === null) continue
    const judged = judgeAddress(bytes, { ...host, port: port ?? 0, private: permit.private, hostInternal: permit.hostInternal })
    if ('allowed' in judged) return null
    first ??= { code: judged.refused, say: judged.say }
  }
  return first
}

/** Refusals that other rules could change. The rest happened whatever the rules said. */
export const BY_RULES: ReadonlySet<string> = new Set([
  'name-not-allowed', 'apex-not-covered', 'port-not-allowed', 'rule-expired', 'learning-ended', 'learning-not-public', 'literal-not-allowed',
  'address-private', 'address-shared', 'address-unique-local', 'address-on-link', 'address-host', 'address-loopback', 'address-unspecified',
  'address-link-local', 'address-metadata', 'address-multicast', 'address-broadcast', 'address-translated', 'address-documentation',
  'address-benchmarking', 'address-reserved', 'own-port', 'tls-required', 'tls-malformed', 'tls-oversized', 'tls-sslv2', 'tls-timeout', 'sni-missing', 'sni-malformed', 'sni-several', 'sni-mismatch', 'ech-refused', 'policy-changed',
] satisfies ReasonCode[])

/** One line for each destination and change of answer, whatever the order of the records. */
function add(to: Map<string, Change>, record: AttemptRecord, attempt: Attempt, { code, say, certain }: Verdict): void {
  const what = attemptText(attempt)
  const key = JSON.stringify([what, record.code, code])
  const known = to.get(key) ?? { what, then: record.code, now: code, say, certain, times: 0, first: record.time, last: record.time }
  to.set(key, {
    ...known,
    times: known.times + timesOf(record),
    first: record.time < known.first ? record.time : known.first,
    last: record.time > known.last ? record.time : known.last,
    say: say < known.say ? say : known.say, // they differ in an address at most
    certain: known.certain && certain,
  })
}

function sorted(changes: ReadonlyMap<string, Change>): Change[] {
  const text = ({ what, then, now }: Change): string => JSON.stringify([what, then, now])
  return [...changes.values()].sort((a, b) => b.times - a.times || (text(a) < text(b) ? -1 : 1))
}
