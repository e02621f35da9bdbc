import type { AuditSink, LauncherEvent } from '../audit/record.ts'
import { LEARNING, matchText, type EgressRule } from '../base/egress-rule.ts'
import type { PluginName } from '../base/ids.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { compileMatch, compileRule } from '../policy/egress.ts'
import { destinationText, effectiveEgress, FIRST_OVERLAY_ID, NO_OVERLAY, type EgressOverlay } from '../policy/overlay.ts'
import type { FromOperator } from '../wire/requests.ts'
import type { DoorKeeper, Swapped } from './door-keeper.ts'
import type { Overlays } from './overlays.ts'
import type { Supervisor } from './supervisor.ts'

const MAX_FOR_MS = 31 * 86_400_000

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
    const rules = effectiveEgress(plugin.policy?.policy.egress ?? { mode: 'enforce', until: null, allow: [] }, overlay, Date.now())
    const { run } = plugin.status()
    return { rules, temporary: rules.allow.filter((rule) => rule.id >= FIRST_OVERLAY_ID).length, stats: run === null ? null : await this.#deps.doors.stats(run) }
  }

  async allow(request: Request<'allow'>): Promise<unknown> {
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
    const next = { ...overlay, allow: [...this.#still(overlay).filter((rule) => destinationText(rule, rule.ports[0] ?? 0) !== key), ...rules], without: overlay.without.filter((one) => one !== key) }
    return this.#retune(plugin, next, { act: 'allow', destination: key, until, reason }, request.who, true)
  }

  async deny(request: Request<'deny'>): Promise<unknown> {
    const { plugin, destination, port } = request
    const overlay = this.#deps.overlays.of(plugin)
    const now = effectiveEgress(this.#deps.plugin(plugin).policy?.policy.egress ?? { mode: 'enforce', until: null, allow: [] }, overlay, Date.now())
    const all = now.allow.flatMap((rule) => rule.ports.map((one) => destinationText(rule, one)))
    const gone = all.filter((one) => destination === null || one === `${destination}:${port}` || (port === null && one.slice(0, one.lastIndexOf(':')) === destination))
    if (gone.length === 0) {
      const wider = now.allow.find((rule) => rule.match.kind === 'public' || (rule.match.kind === 'wildcard' && destination?.endsWith(`.${rule.match.zone}`) === true))
      throw wider === undefined
        ? new CordonError('EGRESS_BAD_DESTINATION', `no rule says "${printable(destination ?? '', 100)}"; it is refused already`)
        : new CordonError('EGRESS_COVERED', `"${printable(destination ?? '', 100)}" is let through by the wider rule ${matchText(wider.match)}, which cannot be taken apart`)
    }
    if (destination === null && this.#deps.plugin(plugin).policy?.policy.egress.mode === 'learn') {
      throw new CordonError('EGRESS_COVERED', 'its policy file says `mode: learn`, which lets every public name through')
    }
    // What only the terminal had allowed is gone with its rule; what the file says has to be taken out for a while.
    const ofFile = new Set(this.#deps.plugin(plugin).policy?.policy.egress.allow.flatMap((rule) => rule.ports.map((one) => destinationText(rule, one))))
    const next = {
      allow: this.#still(overlay).filter((rule) => !gone.includes(destinationText(rule, rule.ports[0] ?? 0))),
      without: [...new Set([...overlay.without, ...gone.filter((one) => ofFile.has(one))])].slice(0, 256),
      learnUntil: destination === null ? null : overlay.learnUntil,
    }
    return this.#retune(plugin, next, { act: 'deny', destination: gone.join(' ').slice(0, 1000) }, request.who, false)
  }

  async learn({ plugin, until, who }: Request<'learn'>): Promise<unknown> {
    if (until !== null) requireSoon(until)
    return this.#retune(plugin, { ...this.#deps.overlays.of(plugin), learnUntil: until }, until === null ? { act: 'learn ended', until: '' } : { act: 'learn', until, state: LEARNING }, who, until !== null)
  }

  /** A policy was applied: what was changed on top of the old one goes. */
  forget(plugin: PluginName): void {
    this.#deps.overlays.set(plugin, NO_OVERLAY)
  }

  async #retune(name: PluginName, overlay: EgressOverlay, what: Pick<Applied, 'act' | 'destination' | 'until' | 'reason' | 'state'>, who: string, widens: boolean): Promise<unknown> {
    const plugin = this.#deps.plugin(name)
    const record = { type: 'egress.applied', plugin: name, ...what, who: printable(who, 200) } as const
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

/** An end that is to come, and not so far that a temporary rule becomes a policy nobody reads. */
function requireSoon(until: string): void {
  const at = Date.parse(until)
  if (!(at > Date.now() && at < Date.now() + MAX_FOR_MS)) throw new CordonError('EGRESS_BAD_DESTINATION', `it would hold until "${printable(until, 40)}"; expected an instant within the next 30 days`)
}

export function retuned(swapped: Swapped | null, restarted: boolean) {
  return { closed: swapped?.closed ?? 0, held: [...(swapped?.held ?? [])], live: swapped !== null || restarted, restarted }
}
