import { setTimeout as sleep } from 'node:timers/promises'
import type { AuditSink } from '../audit/record.ts'
import type { PluginName, RunId } from '../base/ids.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { difference } from '../plan/difference.ts'
import { loadDefaultPolicy, loadPolicies, type LoadedPolicy, type LoadOptions, type PolicySet, type RefusedPolicy } from '../policy/load.ts'
import { onlyEgressDiffers } from '../policy/overlay.ts'
import { PolicyError } from '../policy/problem.ts'
import type { PluginStatus } from '../wire/requests.ts'
import type { InUse } from './collect.ts'
import type { disabledPlugins } from './disabled.ts'
import { discoverPlugins } from './discover.ts'
import type { Swapped } from './door-keeper.ts'
import type { LaunchHost } from './host.ts'
import { InForce } from './in-force.ts'
import type { PluginRun } from './plugin-run.ts'
import { archivedPolicy, archivePolicy } from './policy-archive.ts'
import type { Quarantines } from './quarantines.ts'
import { NO_POLICY, Supervisor, type SupervisorDeps } from './supervisor.ts'

type Cause = 'start' | 'reload' | 'tighten'

/** Plugins that start at the same time: each start costs a few programs, and an SDK's own start much more. */
const PARALLEL_STARTS = 4
/** A plugin that is slow to get ready holds its slot no longer, or four of them would hold up all the others. */
const START_SLOT_MS = 5000
/** In one record; whoever changes more has a digest to compare by (`cordon policy diff`). */
const MAX_CHANGES = 64

export interface PluginSetDeps {
  readonly host: LaunchHost
  readonly audit: AuditSink
  readonly load: LoadOptions
  readonly disabled: ReturnType<typeof disabledPlugins>
  readonly quarantines: Quarantines
  readonly supervisor: SupervisorDeps
  /** Aborted when the daemon stops: nothing is started or adopted any more. */
  readonly stopping: AbortSignal
  log(message: string): void
}

export type Refused = Omit<RefusedPolicy, 'error'> & { readonly error: CordonError }

/** All plugins of a daemon: what policies and the plugins directory say there shall be, and a supervisor for each. */
export class PluginSet {
  readonly #deps: PluginSetDeps
  readonly #plugins = new Map<PluginName, Supervisor>()
  #policies: PolicySet = { loaded: new Map(), refused: [], ignored: [] }
  /** Those that met a defect of ours when they were to be put in force. */
  #failed: Refused[] = []
  /** Policies are adopted one time after another: two at once would each replace the same plugin. */
  #adopting: Promise<unknown> = Promise.resolve()
  #startSlots = PARALLEL_STARTS
  readonly #inForce: InForce

  constructor(deps: PluginSetDeps) {
    this.#deps = deps
    this.#inForce = new InForce(deps.host.config.stateDir, deps.log)
  }

  /** Policies that were refused at the last look; what ran before goes on under its old policy. */
  get refused(): readonly Refused[] {
    return [...this.#policies.refused, ...this.#failed]
  }

  all(): Supervisor[] {
    return [...this.#plugins.values()]
  }

  get(name: PluginName): Supervisor | null {
    return this.#plugins.get(name) ?? null
  }

  /** @throws CordonError LAUNCH_UNKNOWN_PLUGIN */
  known(name: PluginName): Supervisor {
    const plugin = this.#plugins.get(name)
    if (plugin === undefined) throw new CordonError('LAUNCH_UNKNOWN_PLUGIN', `there is no plugin "${name}"`)
    return plugin
  }

  statuses(): PluginStatus[] {
    return this.all().map((plugin) => plugin.status()).sort((a, b) => (a.name < b.name ? -1 : 1))
  }

  /** The plugin that this run, not over yet, belongs to. */
  ownerOf(run: RunId): Supervisor | null {
    return this.all().find((plugin) => plugin.runOf(run) !== null) ?? null
  }

  ifRun(run: RunId): PluginRun | null {
    return this.ownerOf(run)?.runOf(run) ?? null
  }

  /** @throws CordonError LAUNCH_STATE when that run is over */
  run(run: RunId): PluginRun {
    const found = this.ifRun(run)
    if (found === null) throw new CordonError('LAUNCH_STATE', 'that run is over')
    return found
  }

  /** What must not be collected, whether a record names it or not. */
  inUse(): InUse {
    const policies = this.all().flatMap(({ policy }) => policy ?? [])
    return {
      programs: new Set([...this.all().flatMap((plugin) => plugin.status().executableSha256 ?? []), ...policies.flatMap(({ policy }) => policy.executable.sha256 ?? [])]),
      policies: new Set([...this.#inForce.digests(), ...policies.map(({ digest }) => digest)]),
    }
  }

  /**
   * Make the set of plugins what policies and directory say.
   * @param cause `tighten`: asked for through the gateway; a policy that grants anything that the one in force does not is refused (POLICY_WIDENS)
   * @returns names that changed
   */
  adopt(cause: Cause): Promise<PluginName[]> {
    return this.#inTurn(() => this.#adoptNow(cause))
  }

  /**
   * Put one plugin's policy in force, in its turn among reloads, and exactly what was looked at: no file is read again.
   * @param first done in that turn, right before
   */
  put(name: PluginName, policy: LoadedPolicy, first: () => void): Promise<{ readonly swapped: Swapped | null; readonly restarted: boolean }> {
    return this.#inTurn(async () => {
      first()
      const put = await this.#put(name, policy)
      this.#failed = this.#failed.filter(({ plugin }) => plugin !== name)
      this.#deps.supervisor.onChange()
      return put
    })
  }

  /** Resolves when no adoption is at work any more. */
  async settled(): Promise<void> {
    await this.#adopting
  }

  /** What the policy files say now; nothing is put in force. */
  readPolicies(): PolicySet {
    try {
      return loadPolicies(this.#deps.host.config.policiesDir, this.#deps.load)
    } catch (error) {
      if (!(error instanceof PolicyError)) throw error
      if (error.code !== 'POLICY_ABSENT') throw error
      this.#deps.log(`${error.message}: no plugin has a policy`)
      return { loaded: new Map(), refused: [], ignored: [] }
    }
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#adopting.then(work)
    this.#adopting = done.catch(() => {}) // its caller gets the error; the next in line does not
    return done
  }

  async #adoptNow(cause: Cause): Promise<PluginName[]> {
    const { host: { config }, audit, quarantines, log } = this.#deps
    this.#policies = this.readPolicies()
    this.#failed = []
    const wanted = new Map<PluginName, LoadedPolicy | null>(this.#policies.loaded)
    const { found, passedOver } = discoverPlugins(config.pluginsDir)
    for (const { path, reason } of passedOver) log(`${path}: not a plugin: ${reason}`)
    const named = this.#namedPrograms()
    for (const { name, path } of found) {
      if (wanted.has(name) || this.#isRefused(name) || named.has(path)) continue
      wanted.set(name, config.unknown === 'run-default' ? loadDefaultPolicy(name, path, this.#deps.load) : null)
      if (cause === 'start' || !this.#plugins.has(name)) audit.note({ type: 'plugin.found', plugin: name, path: printable(path, 300), policy: wanted.get(name) === null ? 'none' : 'default' }, 'launcher')
    }
    for (const { file, error } of this.#policies.refused) {
      log(`policy refused: ${error.message}`)
      audit.note({ type: 'policy.refused', file, code: error.code, reason: printable(error.message, 1000) }, 'launcher')
    }
    // What is in quarantine stays known, whatever became of its policy.
    for (const name of quarantines.names()) if (!this.#plugins.has(name) && !wanted.has(name)) wanted.set(name, null)
    const changed: PluginName[] = []
    for (const [name, plugin] of this.#plugins) {
      if (wanted.has(name) || this.#isRefused(name)) continue
      if (plugin.quarantine === null) {
        await plugin.retire('its policy was removed')
        this.#plugins.delete(name)
      } else if (plugin.policy === null) continue
      else await plugin.retune(null)
      this.#removed(name)
      changed.push(name)
    }
    // Gone while no daemon ran.
    for (const name of this.#inForce.plugins()) if (!wanted.has(name) && !this.#plugins.has(name) && !this.#isRefused(name)) this.#removed(name)
    for (const [name, policy] of wanted) {
      if (this.#deps.stopping.aborted) break
      const known = this.#plugins.get(name)
      if (known !== undefined && (known.policy?.digest ?? null) === (policy?.digest ?? null)) continue
      if (cause === 'tighten' && policy !== null && widens(known?.policy ?? null, policy)) {
        this.#refuse(name, policy, new CordonError('POLICY_WIDENS', `${printable(policy.file, 300)} grants what is not in force; through the gateway things are only tightened`))
        continue
      }
      try {
        await this.#put(name, policy)
        changed.push(name)
      } catch (error) {
        if (error instanceof CordonError) throw error // the log, above all
        this.#refuse(name, policy, new CordonError('INTERNAL_BUG', `${printable(policy?.file ?? '', 300)} could not be put in force: ${printable(String(error), 300)}`, { cause: error }))
      }
    }
    this.#deps.supervisor.onChange()
    return changed
  }

  /** What one policy meets must not keep the others from their plugins. */
  #refuse(plugin: PluginName, policy: LoadedPolicy | null, error: CordonError): void {
    const file = printable(policy?.file ?? '', 300)
    this.#failed.push({ file, plugin, error })
    this.#deps.log(error.message)
    this.#deps.audit.note({ type: 'policy.refused', file, code: error.code, reason: error.message }, 'launcher')
  }

  #isRefused(name: PluginName): boolean {
    return this.#policies.refused.some((refused) => refused.plugin === name)
  }

  #removed(plugin: PluginName): void {
    this.#deps.audit.note({ type: 'policy.removed', plugin }, 'launcher')
    this.#inForce.set(plugin, null)
  }

  /** What a policy names under another name is not without one. Of a refused policy the one before it says what that was. */
  #namedPrograms(): Set<string> {
    const refused = this.#policies.refused.flatMap(({ plugin }) => {
      const digest = plugin === null ? null : this.#inForce.of(plugin)
      return digest === null ? [] : archivedPolicy(this.#deps.host.config.stateDir, digest) ?? []
    })
    return new Set([...[...this.#policies.loaded.values()].map(({ policy }) => policy), ...refused].map(({ executable }) => executable.path))
  }

  /** Put one policy in force: without a restart where only its egress is another one. */
  async #put(name: PluginName, policy: LoadedPolicy | null): Promise<{ readonly swapped: Swapped | null; readonly restarted: boolean }> {
    const { audit, host, stopping, disabled, quarantines, log } = this.#deps
    const known = this.#plugins.get(name)
    if (policy !== null) {
      const previous = this.#inForce.of(name)
      const before = previous === null ? null : archivedPolicy(host.config.stateDir, previous)
      const changes = before === null ? [] : difference(before, policy.policy)
      await audit.append({
        type: 'policy.loaded', plugin: name, policy_digest: policy.digest, file: printable(policy.file, 300), previous,
        changes: changes.slice(0, MAX_CHANGES), more_changes: Math.max(0, changes.length - MAX_CHANGES),
      }, 'launcher')
      archivePolicy(host.config.stateDir, policy, log)
      this.#inForce.set(name, policy.digest)
    } else if (this.#inForce.of(name) !== null) this.#removed(name)
    if (known !== undefined && known.quarantine !== null) { // in force with its release; what is frozen stays
      await known.retune(policy)
      return { swapped: null, restarted: false }
    }
    if (known !== undefined && policy !== null && known.policy !== null && onlyEgressDiffers(known.policy, policy)) {
      const swapped = await known.retune(policy)
      audit.note({ type: 'egress.applied', plugin: name, policyDigest: policy.digest, closed: swapped?.closed ?? 0, held: [...(swapped?.held ?? [])] }, 'launcher')
      return { swapped, restarted: false }
    }
    await known?.retire('its policy changed')
    if (stopping.aborted) return { swapped: null, restarted: false }
    const state = disabled.has(name) ? 'disabled' : policy === null ? 'waiting' : 'stopped'
    const plugin = new Supervisor(name, policy, state, state === 'waiting' ? NO_POLICY : null, this.#deps.supervisor, quarantines.of(name))
    this.#plugins.set(name, plugin)
    if (plugin.state === 'stopped') this.#startSoon(plugin)
    return { swapped: null, restarted: plugin.state === 'stopped' }
  }

  /** Starts a few at a time; the others wait for their turn, not for each other's success. */
  #startSoon(plugin: Supervisor): void {
    const { stopping } = this.#deps
    void (async () => {
      while (this.#startSlots === 0) await sleep(20)
      this.#startSlots--
      try {
        // Untouched: what the operator did to it while it waited for its turn counts.
        if (!stopping.aborted && this.#plugins.get(plugin.name) === plugin && plugin.state === 'stopped' && plugin.status().reason === null) {
          await plugin.start()
          await Promise.race([plugin.settled(stopping), sleep(START_SLOT_MS, undefined, { signal: stopping })])
        }
      } catch {
        // the daemon stops, or it was replaced or disabled in this moment
      } finally {
        this.#startSlots++
      }
    })().catch((error: unknown) => this.#deps.log(`${plugin.name}: ${String(error)}`))
  }
}

/** Whatever is not plainly less counts as more. */
function widens(before: LoadedPolicy | null, after: LoadedPolicy): boolean {
  return before === null || difference(before.policy, after.policy).some(({ sign }) => sign !== '-')
}
