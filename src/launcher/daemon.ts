import { setTimeout as sleep } from 'node:timers/promises'
import type { Server } from 'node:net'
import { openAuditLog, type AuditLog } from '../audit/log.ts'
import type { PluginName, RunId } from '../base/ids.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import type { HostConfig } from '../policy/host-config.ts'
import { loadDefaultPolicy, loadPolicies, type LoadedPolicy, type LoadOptions, type PolicySet } from '../policy/load.ts'
import { PolicyError } from '../policy/problem.ts'
import type { FromGateway, FromOperator, PluginStatus } from '../wire/requests.ts'
import { onlyEgressDiffers } from '../policy/overlay.ts'
import { loadAdminToken } from './admin-token.ts'
import { serveControl } from './control-server.ts'
import type { DoorFiles } from './door-child.ts'
import { DoorKeeper, type Swapped } from './door-keeper.ts'
import { disabledPlugins } from './disabled.ts'
import { discoverPlugins } from './discover.ts'
import { readHostFigures } from './figures.ts'
import { startGateway, type GatewayFiles, type GatewayProcess } from './gateway-child.ts'
import { EgressActs, retuned } from './egress-acts.ts'
import { openGenerations } from './generations.ts'
import { openOverlays, type Overlays } from './overlays.ts'
import { archivePolicy } from './policy-archive.ts'
import { openLaunchHost, type LaunchHost } from './host.ts'
import { cleanLeftovers, sweepStaleRuns, type Cleaned } from './recover.ts'
import { cleanStore, type StoreMemory } from './store.ts'
import { fitToFrame } from './status-frame.ts'
import { NO_POLICY, Supervisor, type SupervisorDeps } from './supervisor.ts'
import { explainWhy } from './why.ts'

/** Plugins that start at the same time: each start costs a few programs, and an SDK's own start much more. */
const PARALLEL_STARTS = 4
/** A plugin that is slow to get ready holds its slot no longer, or four of them would hold up all the others. */
const START_SLOT_MS = 5000
const GATEWAY_BACKOFF_MS = [0, 1000, 2000, 5000, 10_000, 30_000, 60_000] as const
const HOST_FIGURES_MS = 60_000
/** With 2500 characters each they fit one frame, also where each takes three bytes. */
const MAX_REFUSED_TOLD = 25

export interface DaemonFiles extends GatewayFiles, DoorFiles {
  readonly figures: string
  readonly presetsDir: string
}

export interface Daemon {
  readonly port: number
  /** Stops everything, in order; resolves when nothing is left. */
  stop(reason: string): Promise<void>
  reload(who: string): Promise<unknown>
}

/**
 * The launcher: opens the log, cleans up after an earlier one, starts gateway and plugins, answers CLI and gateway, until stopped.
 * @throws CordonError when it cannot begin: nothing has been started then
 */
export async function startDaemon(config: HostConfig, files: DaemonFiles, version: string, log: (message: string) => void): Promise<Daemon> {
  let cleaned: Cleaned = { cgroups: 0, places: 0 }
  const host = await openLaunchHost(config, config.runDir, { clean: async (tree) => { cleaned = await cleanLeftovers(tree, config.runDir) }, prepare: true })
  const audit = await openAuditLog({ dir: `${config.stateDir}/audit` }).catch(async (error: unknown) => {
    await host.close()
    throw error
  })
  const core = new DaemonCore(host, audit, files, version, log)
  try {
    await core.begin(cleaned)
    return core
  } catch (error) {
    await core.stop(`start failed: ${error instanceof Error ? error.message : String(error)}`)
    throw error
  }
}

class DaemonCore implements Daemon {
  readonly #host: LaunchHost
  readonly #audit: AuditLog
  readonly #files: DaemonFiles
  readonly #version: string
  readonly #log: (message: string) => void
  readonly #load: LoadOptions
  readonly #disabled: ReturnType<typeof disabledPlugins>
  readonly #memory: StoreMemory = new Map()
  readonly #deps: SupervisorDeps
  readonly #doors: DoorKeeper
  readonly #egressActs: EgressActs
  readonly #overlays: Overlays
  readonly #plugins = new Map<PluginName, Supervisor>()
  #policies: PolicySet = { loaded: new Map(), refused: [], ignored: [] }
  #gateway: GatewayProcess | null = null
  #gatewayReason: string | null = null
  #gatewayWaiters: (() => void)[] = []
  #tokenSha256 = ''
  #control: Server | null = null
  #figures: NodeJS.Timeout | null = null
  #stopping: Promise<void> | null = null
  #statusPush: NodeJS.Immediate | null = null
  /** Policies are adopted one time after another: two at once would each replace the same plugin. */
  #adopting: Promise<unknown> = Promise.resolve()
  #gatewayComing: Promise<void> = Promise.resolve()
  #startSlots = PARALLEL_STARTS
  readonly #abort = new AbortController()

  constructor(host: LaunchHost, audit: AuditLog, files: DaemonFiles, version: string, log: (message: string) => void) {
    this.#host = host
    this.#audit = audit
    this.#files = files
    this.#version = version
    this.#log = log
    this.#load = { presetsDir: files.presetsDir, own: host.config, ownership: 'required' }
    this.#disabled = disabledPlugins(host.config.stateDir)
    this.#overlays = openOverlays(`${host.config.stateDir}/egress-overlays.json`, log)
    this.#doors = new DoorKeeper(host, files, audit, log, () => (this.#gateway === null ? [] : [this.#gateway.port]), (runs, reason) => this.#doorLost(runs, reason))
    this.#egressActs = new EgressActs({ overlays: this.#overlays, audit, doors: this.#doors, plugin: (name) => this.#known(name) })
    this.#deps = {
      host, audit, doors: this.#doors, overlay: (plugin) => this.#overlays.of(plugin), memory: this.#memory, log,
      generations: openGenerations(`${host.config.stateDir}/generations.json`, log),
      gateway: {
        say: (message) => this.#gateway?.monitor.say(message),
        data: (stream, bytes) => this.#gateway?.monitor.data(stream, bytes),
        forget: (run) => this.#gateway?.monitor.forget(run),
      },
      gatewayReady: (signal) => this.#gatewayReady(signal),
      onChange: () => this.#pushStatus(),
    }
  }

  get port(): number {
    return this.#gateway?.port ?? 0
  }

  async begin(cleaned: Cleaned): Promise<void> {
    const { config, facts } = this.#host
    await this.#audit.append({ type: 'daemon.started', version: this.#version, kernel: facts.kernel, runtime: facts.runtime.kind, runtime_version: facts.runtime.version, cgroup: facts.cgroupVersion }, 'launcher')
    await sweepStaleRuns(config.runDir)
    await cleanStore(`${config.stateDir}/store`)
    if (cleaned.cgroups + cleaned.places > 0) this.#audit.note({ type: 'daemon.cleaned', cgroups: cleaned.cgroups, places: cleaned.places }, 'launcher')
    const token = await loadAdminToken(config.stateDir)
    if (token.created) this.#log(`admin token made: ${token.path} (0600)`)
    this.#tokenSha256 = token.sha256
    await this.#startGateway()
    await this.#adopt('start')
    this.#control = await serveControl(`${config.runDir}/control.sock`, (request) => this.#answerOperator(request))
    this.#figures = setInterval(() => void this.#recordHostFigures(), HOST_FIGURES_MS)
    void this.#recordHostFigures()
  }

  // ---- gateway

  async #startGateway(): Promise<void> {
    const gateway = await startGateway(this.#host, this.#files, { adminTokenSha256: this.#tokenSha256, version: this.#version }, {
      taken: ({ run, bytes }) => {
        for (const plugin of this.#plugins.values()) if (!plugin.taken(run, bytes)) this.#gateway?.monitor.close('it claims more bytes than it was sent')
      },
      releaseLaunchConfig: async ({ run }) => this.#ofRun(run).releaseLaunchConfig(run),
      takeSocket: async ({ run }) => this.#ofRun(run).takeSocket(run),
      running: ({ run, generation, version }) => this.#ifRun(run)?.running(run, generation, version),
      failed: ({ run, code, message }) => this.#ifRun(run)?.failed(run, code, message),
      act: (message) => this.#answerGateway(message),
      record: ({ event }) => this.#audit.note(event, 'gateway'),
    }, this.#audit, this.#log)
    this.#gateway = gateway
    this.#gatewayReason = null
    this.#log(`serving on http://${this.#host.config.listen.host}:${gateway.port}`)
    for (const wake of this.#gatewayWaiters.splice(0)) wake()
    this.#pushStatus()
    this.#gatewayComing = gateway.ended.then(({ reason }) => this.#gatewayEnded(gateway, reason)).catch((error: unknown) => this.#fatal(error))
  }

  /** Plugins hold secrets and sockets that only the old gateway knew: they are stopped in order, then all begins again. */
  async #gatewayEnded(gateway: GatewayProcess, reason: string): Promise<void> {
    if (this.#gateway !== gateway) return
    this.#gateway = null
    this.#gatewayReason = reason
    if (this.#stopping !== null) return
    this.#log(`the gateway ended (${reason}); stopping plugins, then starting it again`)
    await Promise.all([...this.#plugins.values()].map((plugin) => plugin.interrupt('the gateway ended')))
    for (let attempt = 0; this.#stopping === null; attempt++) {
      await sleep(GATEWAY_BACKOFF_MS[Math.min(attempt, GATEWAY_BACKOFF_MS.length - 1)], undefined, { signal: this.#abort.signal }).catch(() => {})
      if (this.#stopping !== null) return
      try {
        await this.#startGateway()
        if (this.#stopping !== null) await this.#stopGateway()
        return
      } catch (error) {
        this.#gatewayReason = error instanceof Error ? error.message : String(error)
        this.#log(`the gateway could not be started again: ${this.#gatewayReason}`)
      }
    }
  }

  async #stopGateway(): Promise<void> {
    await this.#gateway?.stop()
  }

  #gatewayReady(signal: AbortSignal): Promise<void> {
    if (this.#gateway !== null) return Promise.resolve()
    return new Promise((resolve, reject) => {
      signal.addEventListener('abort', () => reject(new CordonError('LAUNCH_STATE', 'stopped while it waited for the gateway')), { once: true })
      this.#gatewayWaiters.push(resolve)
    })
  }

  /** Listeners went with the door, and nobody else may have those ports meanwhile: what had one open begins anew. */
  #doorLost(runs: readonly RunId[], reason: string): void {
    for (const run of runs) this.#ifRun(run)?.interrupt(reason).catch((error: unknown) => this.#log(String(error)))
  }

  #known(name: PluginName): Supervisor {
    const plugin = this.#plugins.get(name)
    if (plugin === undefined) throw new CordonError('LAUNCH_UNKNOWN_PLUGIN', `there is no plugin "${name}"`)
    return plugin
  }

  #ifRun(run: RunId): Supervisor | null {
    for (const plugin of this.#plugins.values()) if (plugin.status().run === run) return plugin
    return null
  }

  #ofRun(run: RunId): Supervisor {
    const plugin = this.#ifRun(run)
    if (plugin === null) throw new CordonError('LAUNCH_STATE', 'that run is over')
    return plugin
  }

  /** Once per turn of the event loop, however many states changed in it. */
  #pushStatus(): void {
    this.#statusPush ??= setImmediate(() => {
      this.#statusPush = null
      this.#gateway?.monitor.say({ type: 'plugins', plugins: this.#statuses() })
    })
  }

  #statuses(): PluginStatus[] {
    return fitToFrame([...this.#plugins.values()].map((plugin) => plugin.status()).sort((a, b) => (a.name < b.name ? -1 : 1)))
  }

  // ---- policies and plugins

  #adopt(cause: 'start' | 'reload'): Promise<PluginName[]> {
    const done = this.#adopting.then(() => this.#adoptNow(cause))
    this.#adopting = done.catch(() => {}) // its caller gets the error; the next in line does not
    return done
  }

  /** Make the set of plugins what policies and directory say. @returns names that changed */
  async #adoptNow(cause: 'start' | 'reload'): Promise<PluginName[]> {
    const { config } = this.#host
    this.#policies = this.#readPolicies()
    const wanted = new Map<PluginName, LoadedPolicy | null>(this.#policies.loaded)
    const { found, passedOver } = discoverPlugins(config.pluginsDir)
    for (const { path, reason } of passedOver) this.#log(`${path}: not a plugin: ${reason}`)
    for (const { name, path } of found) {
      if (wanted.has(name) || this.#policies.refused.some((refused) => refused.plugin === name)) continue
      wanted.set(name, config.unknown === 'run-default' ? loadDefaultPolicy(name, path, this.#load) : null)
      if (cause === 'start' || !this.#plugins.has(name)) this.#audit.note({ type: 'plugin.found', plugin: name, path: printable(path, 300), policy: wanted.get(name) === null ? 'none' : 'default' }, 'launcher')
    }
    for (const { file, error } of this.#policies.refused) {
      this.#log(`policy refused: ${error.message}`)
      this.#audit.note({ type: 'policy.refused', file, code: error.code, reason: printable(error.message, 1000) }, 'launcher')
    }
    const changed: PluginName[] = []
    for (const [name, plugin] of this.#plugins) {
      if (wanted.has(name) || this.#policies.refused.some((refused) => refused.plugin === name)) continue
      await plugin.retire('its policy was removed')
      this.#plugins.delete(name)
      this.#audit.note({ type: 'policy.removed', plugin: name }, 'launcher')
      changed.push(name)
    }
    for (const [name, policy] of wanted) {
      if (this.#stopping !== null) break
      const known = this.#plugins.get(name)
      if (known !== undefined && (known.policy?.digest ?? null) === (policy?.digest ?? null)) continue
      await this.#put(name, policy)
      changed.push(name)
    }
    this.#pushStatus()
    return changed
  }

  /** Put one policy in force: without a restart where only its egress is another one. */
  async #put(name: PluginName, policy: LoadedPolicy | null): Promise<{ readonly swapped: Swapped | null; readonly restarted: boolean }> {
    const known = this.#plugins.get(name)
    if (policy !== null) {
      await this.#audit.append({ type: 'policy.loaded', plugin: name, policy_digest: policy.digest, file: printable(policy.file, 300), previous: known?.policy?.digest ?? null }, 'launcher')
      archivePolicy(this.#host.config.stateDir, policy, this.#log)
    }
    if (known !== undefined && policy !== null && known.policy !== null && onlyEgressDiffers(known.policy, policy)) {
      const swapped = await known.retune(policy)
      this.#audit.note({ type: 'egress.applied', plugin: name, policyDigest: policy.digest, closed: swapped?.closed ?? 0, held: [...(swapped?.held ?? [])] }, 'launcher')
      return { swapped, restarted: false }
    }
    await known?.retire('its policy changed')
    if (this.#stopping !== null) return { swapped: null, restarted: false }
    const state = this.#disabled.has(name) ? 'disabled' : policy === null ? 'waiting' : 'stopped'
    const plugin = new Supervisor(name, policy, state, state === 'waiting' ? NO_POLICY : null, this.#deps)
    this.#plugins.set(name, plugin)
    if (state === 'stopped') this.#startSoon(plugin)
    return { swapped: null, restarted: state === 'stopped' }
  }

  #readPolicies(): PolicySet {
    try {
      return loadPolicies(this.#host.config.policiesDir, this.#load)
    } catch (error) {
      if (!(error instanceof PolicyError)) throw error
      if (error.code !== 'POLICY_ABSENT') throw error
      this.#log(`${error.message}: no plugin has a policy`)
      return { loaded: new Map(), refused: [], ignored: [] }
    }
  }

  /** Starts a few at a time; the others wait for their turn, not for each other's success. */
  #startSoon(plugin: Supervisor): void {
    void (async () => {
      while (this.#startSlots === 0) await sleep(20)
      this.#startSlots--
      try {
        // Untouched: what the operator did to it while it waited for its turn counts.
        if (this.#stopping === null && this.#plugins.get(plugin.name) === plugin && plugin.state === 'stopped' && plugin.status().reason === null) {
          await plugin.start()
          await Promise.race([plugin.settled(this.#abort.signal), sleep(START_SLOT_MS, undefined, { signal: this.#abort.signal })])
        }
      } catch {
        // the daemon stops, or it was replaced or disabled in this moment
      } finally {
        this.#startSlots++
      }
    })().catch((error: unknown) => this.#log(`${plugin.name}: ${String(error)}`))
  }

  async reload(who: string, origin: 'operator' | 'gateway' = 'operator'): Promise<{ changed: PluginName[]; refused: { file: string; message: string; hint: string }[] }> {
    this.#audit.note({ type: 'admin.act', act: 'reload', who }, origin)
    const changed = await this.#adopt('reload')
    return { changed, refused: this.#policies.refused.slice(0, MAX_REFUSED_TOLD).map(({ file, error }) => ({ file, message: error.message.slice(0, 2000), hint: error.hint.slice(0, 500) })) }
  }

  // ---- requests

  async #answerOperator(request: FromOperator): Promise<unknown> {
    switch (request.type) {
      case 'status': return { plugins: this.#statuses(), port: this.#gateway?.port ?? null, version: this.#version }
      case 'act': return { plugin: await this.#act(request.act, request.plugin, printable(request.who, 200), 'operator') }
      case 'reload': return this.reload(printable(request.who, 200))
      case 'open': return this.#open(request.plugin, printable(request.who, 200))
      case 'why': return this.#why(request.plugin)
      case 'egress': return this.#egressActs.show(request)
      case 'allow': return this.#egressActs.allow(request)
      case 'deny': return this.#egressActs.deny(request)
      case 'learn': return this.#egressActs.learn(request)
      case 'apply': return this.#apply(request)
      case 'shutdown':
        setImmediate(() => process.kill(process.pid, 'SIGTERM'))
        return null
      default: return request satisfies never
    }
  }

  /** Through the gateway things can be started and stopped within policy, and tightened; never enabled or approved. */
  async #answerGateway(message: Extract<FromGateway, { type: 'act' }>): Promise<unknown> {
    const who = printable(message.who, 200)
    if (message.act === 'reload') return this.reload(who, 'gateway')
    if (message.plugin === null) throw new CordonError('LAUNCH_UNKNOWN_PLUGIN', 'no plugin was named')
    return { plugin: await this.#act(message.act, message.plugin, who, 'gateway') }
  }

  async #act(act: 'start' | 'stop' | 'restart' | 'enable' | 'disable', name: PluginName, who: string, origin: 'operator' | 'gateway'): Promise<PluginStatus> {
    const plugin = this.#known(name)
    this.#audit.note({ type: 'admin.act', act, plugin: name, who }, origin)
    switch (act) {
      case 'stop':
        await plugin.stop(`stopped by ${who}`)
        break
      case 'disable':
        this.#disabled.add(name)
        await plugin.stop(`disabled by ${who}`, 'disabled')
        this.#audit.note({ type: 'plugin.disabled', plugin: name, who }, origin)
        break
      case 'enable':
        await this.#audit.append({ type: 'plugin.enabled', plugin: name, who }, origin)
        this.#disabled.remove(name)
        await plugin.enable()
        break
      case 'restart':
        await plugin.restart(`restarted by ${who}`)
        break
      case 'start':
        await plugin.start()
        break
      default:
        act satisfies never
    }
    if (act !== 'start' && act !== 'restart') return plugin.status()
    await sleep(0) // let the loop take its first step
    const status = await plugin.settled(this.#abort.signal)
    if (status.state !== 'running') throw new CordonError('LAUNCH_FAILED', origin === 'gateway' ? `${name} did not start` : `${name} did not start: ${status.reason ?? status.state}`)
    return status
  }

  /** One plugin's policy file, if it still is what the operator was shown. */
  async #apply({ plugin: name, digest, who }: Extract<FromOperator, { type: 'apply' }>): Promise<unknown> {
    const file = this.#readPolicies()
    const policy = file.loaded.get(name)
    if (policy === undefined) throw new CordonError('LAUNCH_NO_POLICY', `${name} has no valid policy in ${this.#host.config.policiesDir}`)
    if (policy.digest !== digest) throw new CordonError('EGRESS_DIGEST', `the policy of ${name} is ${policy.digest.slice(0, 12)} by now, expected ${printable(digest, 12)}`)
    await this.#audit.append({ type: 'admin.act', act: 'apply', plugin: name, policyDigest: digest, who: printable(who, 200) }, 'operator')
    // In its turn among reloads, and exactly what was looked at above: no other file is read again.
    const done = this.#adopting.then(() => {
      this.#egressActs.forget(name)
      return this.#put(name, policy)
    })
    this.#adopting = done.catch(() => {}) // its caller gets the error; the next in line does not
    const { swapped, restarted } = await done
    this.#pushStatus()
    return retuned(swapped, restarted)
  }

  async #open(name: PluginName, who: string): Promise<unknown> {
    const plugin = this.#known(name)
    if (plugin.state !== 'running' || this.#gateway === null) throw new CordonError('LAUNCH_STATE', `${name} is ${plugin.state}, so it has no page to open`)
    this.#audit.note({ type: 'admin.act', act: 'open', plugin: name, who }, 'operator')
    return this.#gateway.monitor.mintLink(name)
  }

  async #why(name: PluginName): Promise<unknown> {
    const run = this.#plugins.get(name)?.status().run ?? null
    const stats = run === null ? null : await this.#doors.stats(run).catch(() => null) // the run or the door ends just now, and the other steps say so
    const refused = this.#policies.refused.find((one) => one.plugin === name)
    return explainWhy({
      name,
      status: this.#plugins.get(name)?.status() ?? null,
      refused: refused === undefined ? null : { message: refused.error.message.slice(0, 3000), hint: refused.error.hint },
      policiesDir: this.#host.config.policiesDir,
      gatewayPort: this.#gateway?.port ?? null,
      gatewayReason: this.#gatewayReason,
      auditError: this.#audit.state().error,
      refusals: stats?.refused ?? [],
    })
  }

  async #recordHostFigures(): Promise<void> {
    try {
      const figures = await readHostFigures({ uid: this.#host.users.own.figuresChild, script: this.#files.figures, stateDir: this.#host.config.stateDir }, this.#abort.signal)
      this.#audit.note({ type: 'resources.snapshot', host: { load1_centi: Math.round(figures.load1 * 100), cpu_percent: Math.round(figures.cpuPercent), cpus: figures.cpuCount, memory_bytes: figures.memoryBytes, memory_available_bytes: figures.memoryAvailableBytes, disk_available_bytes: figures.disk?.availableBytes ?? null } }, 'launcher')
    } catch (error) {
      if (this.#stopping === null) this.#log(`host figures: ${error instanceof Error ? error.message : String(error)}`)
    }
  }

  // ---- the end

  #fatal(error: unknown): void {
    this.#log(`a defect: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`)
    void this.stop('a defect').then(() => process.exit(70))
  }

  stop(reason: string): Promise<void> {
    this.#stopping ??= this.#shutDown(reason)
    return this.#stopping
  }

  async #shutDown(reason: string): Promise<void> {
    this.#abort.abort()
    clearInterval(this.#figures ?? undefined)
    this.#control?.close()
    await Promise.all([...this.#plugins.values()].map((plugin) => plugin.retire(`the daemon stops: ${reason}`)))
    await this.#adopting
    await this.#doors.stop()
    await this.#stopGateway()
    await this.#gatewayComing // one that was being started again is stopped as soon as it stands
    await this.#host.close()
    this.#audit.note({ type: 'daemon.stopped', reason }, 'launcher')
    await this.#audit.close()
  }
}
