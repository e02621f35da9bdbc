import { canonicalJson } from '../base/canonical-json.ts'
import { matchText, type Egress, type EgressMatch, type EgressRule } from '../base/egress-rule.ts'
import { isBelowZone, isPublicName, parseHostName } from '../base/host-name.ts'
import { covers, parseCidr } from '../base/ip-address.ts'
import type { Policy } from './policy.ts'

/** What an operator changed from the terminal for a while, on top of a policy file: `cordon allow`, `deny`, `learn`. */
export interface EgressOverlay {
  /** Each with its own `until`; ids from FIRST_OVERLAY_ID on. */
  readonly allow: readonly EgressRule[]
  /** `name:port` as `destinationText` writes it: taken out of the rules of the file that say exactly this, until a policy is applied. */
  readonly without: readonly string[]
  /** RFC 3339; learning ends then by closing. */
  readonly learnUntil: string | null
}

export const NO_OVERLAY: EgressOverlay = Object.freeze({ allow: [], without: [], learnUntil: null })
/** Denied from the terminal; as many as the rules of one policy can have (256 with 32 ports). Beyond it none may be forgotten silently. */
export const MAX_WITHOUT = 8192
/** Above every id that a policy can have. */
export const FIRST_OVERLAY_ID = 100_001

export function destinationText(rule: Pick<EgressRule, 'match'>, port: number): string {
  return `${matchText(rule.match)}:${port}`
}

/** Policy and overlay as one set of rules (pure). What has ended is left out, so that nothing keeps a listener for it. */
export function effectiveEgress(base: Egress, overlay: EgressOverlay, nowMs: number): Egress {
  const open = (rule: EgressRule): boolean => rule.until === null || Date.parse(rule.until) > nowMs
  const kept = base.allow.flatMap((rule) => {
    const ports = rule.ports.filter((port) => !overlay.without.includes(destinationText(rule, port)))
    return ports.length === 0 ? [] : [ports.length === rule.ports.length ? rule : { ...rule, ports }]
  })
  const learns = overlay.learnUntil !== null && Date.parse(overlay.learnUntil) > nowMs
  return { mode: learns ? 'learn' : base.mode, until: learns ? overlay.learnUntil : base.until, allow: [...kept, ...overlay.allow.filter(open).map((rule) => onTopOf(kept, rule))] }
}

/** Where the file opens the same destination for ever, a temporary rule takes nothing of what it says there: `tls: off` stays off. */
function onTopOf(kept: readonly EgressRule[], rule: EgressRule): EgressRule {
  const [port = 0] = rule.ports
  const same = kept.find((one) => one.until === null && one.ports.includes(port) && matchText(one.match) === matchText(rule.match))
  return same === undefined ? rule : { ...rule, tls: same.tls, ech: same.ech }
}

/** How another match stands to this one: does it let through all of it, or a part? */
export type Overlap = 'none' | 'all' | 'part'

/** @param other by names as rules.ts of the door compares them: `public` means public names, a wildcard what is below its zone */
export function overlap(match: EgressMatch, other: EgressMatch): Overlap {
  if (includes(other, match)) return 'all'
  return includes(match, other) ? 'part' : 'none'
}

function includes(wide: EgressMatch, narrow: EgressMatch): boolean {
  switch (wide.kind) {
    case 'host': return narrow.kind === 'host' && wide.name === narrow.name
    case 'host.internal': return narrow.kind === 'host.internal'
    case 'wildcard': return (narrow.kind === 'host' && isBelowZone(narrow.name, wide.zone)) || (narrow.kind === 'wildcard' && (narrow.zone === wide.zone || isBelowZone(narrow.zone, wide.zone)))
    case 'public': return narrow.kind === 'public' || (narrow.kind === 'host' && isPublic(narrow.name)) || (narrow.kind === 'wildcard' && isPublic(`any.${narrow.zone}`))
    case 'cidr': {
      const [outer, inner] = [parseCidr(matchText(wide)), parseCidr(matchText(narrow))]
      return outer.ok && inner.ok && covers(outer.cidr, inner.cidr)
    }
    default: return wide satisfies never
  }
}

function isPublic(text: string): boolean {
  const parsed = parseHostName(text)
  return parsed.ok && isPublicName(parsed.name)
}

/** May one policy take the other's place without a restart? */
export function onlyEgressDiffers(before: { readonly policy: Policy }, after: { readonly policy: Policy }): boolean {
  const rest = ({ policy }: { readonly policy: Policy }): string => canonicalJson({ ...policy, egress: null })
  return rest(before) === rest(after)
}
