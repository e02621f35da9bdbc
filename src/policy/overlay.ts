import { canonicalJson } from '../base/canonical-json.ts'
import { matchText, type Egress, type EgressRule } from '../base/egress-rule.ts'
import type { Policy } from './policy.ts'

/** What an operator changed from the terminal for a while, on top of a policy file: `cordon allow`, `deny`, `learn`. */
export interface EgressOverlay {
  /** Each with its own `until`; ids from FIRST_OVERLAY_ID on. */
  readonly allow: readonly EgressRule[]
  /** `name:port` as `destinationText` writes it: taken out of the rules that say exactly this, until it is allowed again. */
  readonly without: readonly string[]
  /** RFC 3339; learning ends then by closing. */
  readonly learnUntil: string | null
}

export const NO_OVERLAY: EgressOverlay = Object.freeze({ allow: [], without: [], learnUntil: null })
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
  return { mode: learns ? 'learn' : base.mode, until: learns ? overlay.learnUntil : base.until, allow: [...kept, ...overlay.allow.filter(open)] }
}

/** May one policy take the other's place without a restart? */
export function onlyEgressDiffers(before: { readonly policy: Policy }, after: { readonly policy: Policy }): boolean {
  const rest = ({ policy }: { readonly policy: Policy }): string => canonicalJson({ ...policy, egress: null })
  return rest(before) === rest(after)
}
