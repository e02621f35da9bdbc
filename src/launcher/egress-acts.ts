import type { AuditSink, LauncherEvent } from '../audit/record.ts'
import { LEARNING, matchText, type Egress, type EgressRule } from '../base/egress-rule.ts'
import type { PluginName } from '../base/ids.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { compileMatch, compileRule } from '../policy/egress.ts'
import { destinationText, effectiveEgress, FIRST_OVERLAY_ID, MAX_WITHOUT, NO_OVERLAY, overlap, type EgressOverlay, type Overlap } from '../policy/overlay.ts'
import type { FromOperator } from '../wire/requests.ts'
import type { DoorKeeper, Swapped } from './door-keeper.ts'
import type { Overlays } from './overlays.ts'
import type { Who } from './peer.ts'
import type { Supervisor } from './supervisor.ts'

const MAX_FOR_MS = 31 * 86_400_000
/** Named in an answer, which must fit into one frame. */
const MAX_OTHERS = 20
const MAX_DENIED_SHOWN = 256
const NOTHING: Egress = Object.freeze({ mode: 'enforce', until: null, allow: [] })

type Applied = Extract<LauncherEvent, { type: 'egress.applied' }>
type Request<T extends FromOperator['type']> = Extract<FromOperator, { type: T }>

export interface EgressActsDeps {
  readonly overlays: Overlays
  readonly doors: DoorKeeper
  readonly audit: AuditSink
  plugin(name: PluginName): Supervisor
}

/** What the terminal may change of a running plugin's rules. Widening waits for its record; tightening is recorded after it. */
export class EgressActs {
  readonly #deps: EgressActsDeps

  constructor(deps: EgressActsDeps) {
    this.#deps = deps
  }

  async show({ plugin: name }: Request<'egress'>): Promise<unknown> {
    const plugin = this.#deps.plugin(name)
    const overlay = this.#deps.overlays.of(name)
    const file = plugin.policy?.policy.egress ?? NOTHING
    const rules = effectiveEgress(file, overlay, Date.now())
    const { run } = plugin.status()
    const denied = overlay.without.filter((one) => file.allow.some((rule) => rule.ports.some((port) => destinationText(rule, port) === one)))
    return { rules, denied: denied.slice(0, MAX_DENIED_SHOWN), temporary: rules.allow.filter((rule) => rule.id >= FIRST_OVERLAY_ID).length, stats: run === null ? null : await this.#deps.doors.stats(run) }
  }

  async allow(request: Request<'allow'>, who: Who): Promise<unknown> {
    const { plugin, port, until, reason } = request
    const overlay = this.#deps.overlays.of(plugin)
    requireSoon(until)
    if (port === 53) throw new CordonError('EGRESS_BAD_DESTINATION', 'port 53 is Cordon\'s own: names are answered by it')
    const written = request.destination.includes('/') ? { cidr: request.destination } : { host: request.destination }
    const match = compileMatch(written)
    if ('why' in match) throw new CordonError('EGRESS_BAD_DESTINATION', `"${printable(request.destination, 100)}": ${match.why}`)
    const id = Math.max(FIRST_OVERLAY_ID - 1, ...overlay.allow.map((rule) => rule.id)) + 1
    const rules = compileRule({ ...written, ports: [port], reason, until, ...(request.private ? { private: true } : {}) } as Parameters<typeof compileRule>[0], match, id)
    const key = destinationText({ match }, port)
    const next = { ...overlay, allow: [...this.#still(overlay).filter((rule) => destinationText(rule, rule.ports[0] ?? 0) !== key), ...rules] }
    return this.#retune(plugin, next, { act: 'allow', destination: key, until, reason }, who, true)
  }

  /** @throws CordonError EGRESS_COVERED where it would be let through all the same: nobody shall believe that it is shut */
  async deny(request: Request<'deny'>, who: Who): Promise<unknown> {
    const { plugin, destination, port } = request
    const overlay = this.#deps.overlays.of(plugin)
    const file = this.#deps.plugin(plugin).policy?.policy.egress ?? NOTHING
    const now = effectiveEgress(file, overlay, Date.now())
    const says = (rule: EgressRule, one: number): boolean => destination === null || (matchText(rule.match) === destination && (port === null || one === port))
    const gone = now.allow.flatMap((rule) => rule.ports.filter((one) => says(rule, one)).map((one) => destinationText(rule, one)))
    const others = destination === null ? [] : stillOpen(now, gone, destination, port)
    const wider = others.find(({ how }) => how === 'all')
    if (destination === null) {
      if (file.mode === 'learn' && now.mode === 'learn') throw new CordonError('EGRESS_COVERED', 'its policy file says `mode: learn`, which lets every public name through')
    } else if (wider !== undefined) {
      throw new CordonError('EGRESS_COVERED', `"${printable(destination, 100)}" is let through by ${wider.what}`)
    } else if (gone.length === 0) {
      const what = `no rule says "${printable(destination, 100)}${port === null ? '' : `:${port}`}"`
      throw new CordonError('EGRESS_BAD_DESTINATION', others.length === 0 ? `${what}; it is refused already` : `${what}; of what it covers is let through: ${others.slice(0, MAX_OTHERS).map((one) => one.what).join('; ')}`)
    }
    // What only the terminal had allowed is gone with its rule; what the file says has to be taken out for a while.
    const ofFile = new Set(file.allow.flatMap((rule) => rule.ports.map((one) => destinationText(rule, one))))
    const without = [...new Set([...overlay.without, ...gone.filter((one) => ofFile.has(one))])]
    if (without.length > MAX_WITHOUT) throw new CordonError('EGRESS_COVERED', `more than ${MAX_WITHOUT} destinations of its policy file would be denied from the terminal`)
    const next = {
      allow: this.#still(overlay).filter((rule) => !gone.includes(destinationText(rule, rule.ports[0] ?? 0))), without,
      learnUntil: destination === null ? null : overlay.learnUntil,
    }
    const answer = await this.#retune(plugin, next, { act: 'deny', destination: gone.join(' ').slice(0, 1000) }, who, false)
    return { ...answer, inFile: gone.some((one) => ofFile.has(one)), others: others.map(({ what }) => what).slice(0, MAX_OTHERS) }
  }

  async learn({ plugin, until }: Request<'learn'>, who: Who): Promise<unknown> {
    if (until !== null) requireSoon(until)
    return this.#retune(plugin, { ...this.#deps.overlays.of(plugin), learnUntil: until }, until === null ? { act: 'learn ended', until: '' } : { act: 'learn', until, state: LEARNING }, who, until !== null)
  }

  /** A policy was applied: what was changed on top of the old one goes. */
  forget(plugin: PluginName): void {
    this.#deps.overlays.set(plugin, NO_OVERLAY)
  }

  async #retune(name: PluginName, overlay: EgressOverlay, what: Pick<Applied, 'act' | 'destination' | 'until' | 'reason' | 'state'>, who: Who, widens: boolean): Promise<ReturnType<typeof retuned>> {
    const plugin = this.#deps.plugin(name)
    const record = { type: 'egress.applied', plugin: name, ...what, ...who } as const
    if (widens) await this.#deps.audit.append(record, 'operator')
    this.#deps.overlays.set(name, overlay)
    const swapped = await plugin.retune()
    if (!widens) this.#deps.audit.note({ ...record, closed: swapped?.closed ?? 0 }, 'operator')
    return retuned(swapped, false)
  }

  #still(overlay: EgressOverlay): EgressRule[] {
    return overlay.allow.filter((rule) => rule.until === null || Date.parse(rule.until) > Date.now())
  }
}

interface StillOpen { readonly how: Overlap; readonly what: string }

/** What lets some or all of it through besides the rules that go. @param destination as a rule says it */
function stillOpen({ mode, allow }: Egress, gone: readonly string[], destination: string, port: number | null): StillOpen[] {
  const match = compileMatch(destination.includes('/') ? { cidr: destination } : { host: destination })
  if ('why' in match) return [] // then no rule says it either
  const byRules = allow.flatMap((rule): StillOpen[] => {
    const how = overlap(match, rule.match)
    const ports = rule.ports.filter((one) => (port === null || one === port) && !gone.includes(destinationText(rule, one)))
    return how === 'none' || ports.length === 0 ? [] : [{ how, what: `the ${how === 'all' ? 'wider ' : ''}rule ${matchText(rule.match)} on ${ports.join(', ')}` }]
  })
  const learns = mode === 'learn' ? overlap(match, { kind: 'public' }) : 'none'
  return [...(learns === 'none' ? [] : [{ how: learns, what: 'learning, which opens every public name' }]), ...byRules]
}

/** An end that is to come, and not so far that a temporary rule becomes a policy nobody reads. */
function requireSoon(until: string): void {
  const at = Date.parse(until)
  if (!(at > Date.now() && at < Date.now() + MAX_FOR_MS)) throw new CordonError('EGRESS_BAD_DESTINATION', `it would hold until "${printable(until, 40)}"; expected an instant within the next 30 days`)
}

export function retuned(swapped: Swapped | null, restarted: boolean) {
  return { closed: swapped?.closed ?? 0, held: [...(swapped?.held ?? [])], live: swapped !== null || restarted, restarted }
}
