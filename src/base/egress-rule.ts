/**
 * What the door of one plugin enforces: compiled from its policy by policy/egress.ts, carried over the wire as it is, and
 * decided on by egress/rules.ts. Every choice is explicit; nothing after the compiler fills a default.
 */
export interface EgressRule {
  /** 1 and up, unique within one policy. One line of a policy gives two rules where its ports differ in `tls`. */
  readonly id: number
  readonly match: EgressMatch
  /** 1 to 65535, ascending, never 53: names are answered by Cordon. */
  readonly ports: readonly number[]
  /** Lifts private, shared (CGNAT), unique-local and on-link addresses; nothing else. */
  readonly private: boolean
  /** `require`: the first bytes are a TLS hello for this name. `auto`: if they are one, it must be for this name. `off`: not looked at. */
  readonly tls: 'require' | 'off' | 'auto'
  /** May the hello carry Encrypted Client Hello, which hides what is asked for? */
  readonly ech: boolean
  /** RFC 3339 in UTC: the first instant at which the rule no longer holds. */
  readonly until: string | null
  readonly reason: string
}

export type EgressMatch =
  /** One name, canonical (base/host-name.ts). */
  | { readonly kind: 'host'; readonly name: string }
  /** `*.zone`: one or more labels below the zone, never the zone itself. */
  | { readonly kind: 'wildcard'; readonly zone: string }
  /** Any public name. */
  | { readonly kind: 'public' }
  /** Literal addresses; `base` is canonical text with no bit set beyond `prefix`. */
  | { readonly kind: 'cidr'; readonly base: string; readonly prefix: number; readonly family: 4 | 6 }
  /** The host's own loopback, under the name `host.internal`. */
  | { readonly kind: 'host.internal' }

export const HOST_INTERNAL = 'host.internal'
/** How status, lists and records call a plugin that learns, so that nobody takes it for protected. */
export const LEARNING = 'LEARNING, NOT PROTECTED'

/** A policy's egress as the door gets it. `learn` ends by closing: from `until` on only the rules hold. */
export interface Egress {
  readonly mode: 'enforce' | 'learn'
  /** RFC 3339 in UTC; set exactly in mode `learn`. */
  readonly until: string | null
  readonly allow: readonly EgressRule[]
}

/** As an operator writes it: `*.example.org`, `public`, `10.0.5.7/32`. */
export function matchText(match: EgressMatch): string {
  switch (match.kind) {
    case 'host': return match.name
    case 'wildcard': return `*.${match.zone}`
    case 'public': return 'public'
    case 'cidr': return `${match.base}/${match.prefix}`
    case 'host.internal': return HOST_INTERNAL
    default: return match satisfies never
  }
}

/** Where most programs go; learning listens there besides the ports of the rules. Whatever else they try is counted as refused. */
const LEARN_PORTS = [22, 25, 80, 443, 465, 587, 853, 993, 5222, 5432, 6379, 8080, 8443, 9418] as const

/** Without a rule, learning or tripwires there is no door, and not even names are answered. */
export function opensDoor(egress: Egress, tripwires = false): boolean {
  return tripwires || egress.mode === 'learn' || egress.allow.length > 0
}

/** TCP ports on which the door listens for these rules, ascending. */
export function listenPorts(egress: Egress): number[] {
  return [...new Set([...egress.allow.flatMap((rule) => rule.ports), ...(egress.mode === 'learn' ? LEARN_PORTS : [])])].sort((a, b) => a - b)
}
