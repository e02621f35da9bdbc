import type { Server } from 'node:net'
import { openAuditLog, type AuditLog } from '../audit/log.ts'
import type { PrunedSegment } from '../audit/retention.ts'
import type { RunId } from '../base/ids.ts'
import { CordonError } from '../errors.ts'
import type { HostConfig } from '../policy/host-config.ts'
import { loadAdminToken } from './admin-token.ts'
import { Answers } from './answers.ts'
import { appendOnlyFs } from './append-only.ts'
import { serveControl } from './control-server.ts'
import type { DoorFiles } from './door-child.ts'
import { DoorKeeper } from './door-keeper.ts'
import { disabledPlugins } from './disabled.ts'
import { startExports, type Export } from './export.ts'
import { startGateway, type GatewayFiles, type GatewayProcess } from './gateway-child.ts'
import { GatewayKeeper } from './gateway-keeper.ts'
import { EgressActs } from './egress-acts.ts'
import { openGenerations } from './generations.ts'
import { openOverlays } from './overlays.ts'
import { openLaunchHost, type LaunchHost } from './host.ts'
import { Housekeeping } from './housekeeping.ts'
import { findLostEnds, tellLostEnds } from './lost-ends.ts'
import { PluginSet } from './plugin-set.ts'
import { QuarantineActs } from './quarantine-acts.ts'
import { openQuarantines, type Quarantines } from './quarantines.ts'
import { cleanLeftovers, sweepStaleRuns, type Cleaned } from './recover.ts'
import { cleanStore } from './store.ts'
import { pushChild, startPusher } from './pusher.ts'
import { serveRunRecords, type RunRecords } from './run-records.ts'
import { fitToFrame } from './status-frame.ts'

export interface DaemonFiles extends GatewayFiles, DoorFiles {
  readonly figures: string
  readonly export: string
  readonly push: string
  readonly presetsDir: string
}

export interface Daemon {
  readonly port: number
  /** Stops everything, in order; resolves when nothing is left. */
  stop(reason: string): Promise<void>
  reload(who: string): Promise<unknown>
}

/** Its creation, its opening, and the seal of both. */
const NEW_LOG_RECORDS = 3

/**
 * The launcher: opens the log, cleans up after an earlier one, starts gateway and plugins, answers CLI and gateway, until stopped.
 * @throws CordonError when it cannot begin: nothing has been started then
 */
export async function startDaemon(config: HostConfig, files: DaemonFiles, version: string, log: (message: string) => void): Promise<Daemon> {
  let cleaned: Cleaned = { cgroups: 0, places: 0 }
  const host = await openLaunchHost(config, config.runDir, { clean: async (tree) => { cleaned = await cleanLeftovers(tree, config.runDir) }, prepare: true })
  const { segmentBytes, segmentAgeMs, keepMs, maxBytes, sealIntervalS } = config.audit
  let core: DaemonCore | null = null
  const onPruned = (pruned: readonly PrunedSegment[] | CordonError): void => {
    core?.collectSoon()
    log(pruned instanceof CordonError ? `old audit records could not be removed: ${pruned.message}` : `audit records up to ${(pruned.at(-1)?.next ?? 0) - 1} were removed: they are older than \`keep\` or more than \`max_size\``)
  }
  const onLoss = (error: CordonError | null): void => core?.auditLoss(error)
  const audit = await openAuditLog({ dir: `${config.stateDir}/audit`, segmentBytes, segmentAgeMs, sealIntervalS, retention: { keepMs, maxBytes }, onPruned, onLoss, fs: appendOnlyFs(log) }).catch(async (error: unknown) => {
    await host.close()
    throw error
  })
  const { records, fingerprint } = audit.state()
  if (records <= NEW_LOG_RECORDS) log(`a new audit log begins; note its first key on another machine: ${fingerprint} (cordon audit key shows it again)`)
  core = new DaemonCore(host, audit, files, version, log)
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
  readonly #gateways: GatewayKeeper
  readonly #doors: DoorKeeper
  readonly #plugins: PluginSet
  readonly #quarantines: Quarantines
  readonly #quarantineActs: QuarantineActs
  readonly #answers: Answers
  readonly #housekeeping: Housekeeping
  #auditWaiters: (() => void)[] = []
  #tokenSha256 = ''
  #control: Server | null = null
  #runRecords: RunRecords | null = null
  #exports: Export | null = null
  #endPushing: (() => void) | null = null
  #tellingLost: Promise<void> = Promise.resolve()
  #stopping: Promise<void> | null = null
  #statusPush: NodeJS.Immediate | null = null
  readonly #abort = new AbortController()

  constructor(host: LaunchHost, audit: AuditLog, files: DaemonFiles, version: string, log: (message: string) => void) {
    this.#host = host
    this.#audit = audit
    this.#files = files
    this.#version = version
    this.#log = log
    const { stateDir } = host.config
    const { signal: stopping } = this.#abort
    const disabled = disabledPlugins(stateDir)
    this.#quarantines = openQuarantines(stateDir, log)
    const overlays = openOverlays(`${stateDir}/egress-overlays.json`, log)
    this.#gateways = new GatewayKeeper({
      listen: host.config.listen, stopping, log,
      start: (listen) => this.#startGateway(listen),
      onServing: () => this.#pushStatus(),
      onLost: () => this.#interruptAll('the gateway ended'),
      onDefect: (error) => this.#fatal(error),
    })
    this.#doors = new DoorKeeper(host, files, audit, log, () => [this.#gateways.port].filter((port) => port !== 0), (runs, reason) => this.#doorLost(runs, reason), (run, what) => this.#tripwire(run, what))
    this.#plugins = new PluginSet({
      host, audit, disabled, quarantines: this.#quarantines, stopping, log,
      load: { presetsDir: files.presetsDir, own: host.config, ownership: 'required' },
      supervisor: {
        host, audit, doors: this.#doors, overlay: (plugin) => overlays.of(plugin), memory: new Map(), log,
        generations: openGenerations(`${stateDir}/generations.json`, log),
        gateway: {
          say: (message) => this.#gateways.now?.monitor.say(message),
          data: (stream, bytes) => this.#gateways.now?.monitor.data(stream, bytes),
          forget: (run) => this.#gateways.now?.monitor.forget(run),
        },
        gatewayReady: (signal) => this.#gateways.ready(signal),
        auditReady: (signal) => this.#auditReady(signal),
        onChange: () => this.#pushStatus(),
      },
    })
    const egressActs = new EgressActs({ overlays, audit, doors: this.#doors, plugin: (name) => this.#plugins.known(name) })
    this.#quarantineActs = new QuarantineActs({ plugins: this.#plugins, quarantines: this.#quarantines, disabled, audit })
    this.#answers = new Answers({
      config: host.config, observer: host.observer, version, audit, plugins: this.#plugins, doors: this.#doors, disabled, egressActs, quarantineActs: this.#quarantineActs, stopping,
      gateway: () => this.#gateways,
    })
    this.#housekeeping = new Housekeeping({
      host, audit, figures: files.figures, stopping, log,
      running: () => this.#plugins.all().filter(({ state }) => state === 'running').map(({ name }) => name),
      inUse: () => this.#plugins.inUse(),
    })
  }

  reload(who: string): Promise<unknown> {
    return this.#answers.reload({ who })
  }

  get port(): number {
    return this.#gateways.now?.port ?? 0
  }

  async begin(cleaned: Cleaned): Promise<void> {
    const { config, facts } = this.#host
    const { seq } = await this.#audit.append({ type: 'daemon.started', version: this.#version, kernel: facts.kernel, runtime: facts.runtime.kind, runtime_version: facts.runtime.version, cgroup: facts.cgroupVersion }, 'launcher')
    this.#runRecords = await serveRunRecords(`${config.runDir}/runs.sock`, this.#audit, this.#log)
    const singleRuns = await sweepStaleRuns(config.runDir)
    this.#tellingLost = this.#tellLost(seq, singleRuns === 0)
    await cleanStore(`${config.stateDir}/store`)
    if (cleaned.cgroups + cleaned.places > 0) this.#audit.note({ type: 'daemon.cleaned', cgroups: cleaned.cgroups, places: cleaned.places }, 'launcher')
    const { export: script } = this.#files
    this.#exports = startExports(config.audit.export, {
      dir: `${config.stateDir}/audit`, file: `${config.stateDir}/audit-export.json`, audit: this.#audit, log: this.#log, program: { script, uid: this.#host.users.own.exporter },
    })
    if (config.audit.witnesses.length > 0) {
      const run = pushChild(this.#host.users.own.push, this.#files.push, this.#abort.signal)
      this.#endPushing = startPusher(config.audit.witnesses, { dir: `${config.stateDir}/audit`, run, seen: new Map() }, this.#audit, this.#log)
    }
    const token = await loadAdminToken(config.stateDir)
    if (token.created) this.#log(`admin token made: ${token.path} (0600)`)
    this.#tokenSha256 = token.sha256
    await this.#gateways.start()
    await this.#plugins.adopt('start')
    this.#control = await serveControl(`${config.runDir}/control.sock`, (request, peer) => this.#answers.operator(request, peer))
    this.#housekeeping.begin()
  }

  /** It reads for a second at most, and nothing waits for it but the end: the next daemon would not look behind that. */
  async #tellLost(before: number, singleRuns: boolean): Promise<void> {
    try {
      const lost = await findLostEnds(`${this.#host.config.stateDir}/audit`, before, singleRuns)
      if (lost === null) return
      this.#log(`the daemon before this one was killed; connections that ended with it: ${lost.connections.length + lost.more}`)
      tellLostEnds(lost, this.#audit)
    } catch (error) {
      this.#log(`what an earlier daemon left without an end could not be found: ${error instanceof Error ? error.message : String(error)}`)
    }
  }

  collectSoon(): void {
    this.#housekeeping.collectSoon()
  }

  // ---- gateway

  #startGateway(listen: HostConfig['listen']): Promise<GatewayProcess> {
    return startGateway(this.#host, this.#files, { listen, adminTokenSha256: this.#tokenSha256, version: this.#version, forwardedUser: this.#host.config.forwardedUser }, {
      taken: ({ run, bytes }) => {
        if (this.#plugins.ifRun(run)?.taken(bytes) === false) this.#gateways.now?.monitor.close('it claims more bytes than it was sent')
      },
      releaseLaunchConfig: async ({ run }) => this.#plugins.run(run).releaseLaunchConfig(),
      takeSocket: async ({ run }) => this.#plugins.run(run).takeSocket(),
      running: ({ run, generation, version }) => this.#plugins.ifRun(run)?.running(generation, version),
      failed: ({ run, code, message }) => this.#plugins.ifRun(run)?.failed(code, message),
      act: (message) => this.#answers.gateway(message),
      record: ({ event }) => this.#audit.note(event, 'gateway'),
    }, this.#audit, this.#log)
  }

  /** One that does not die (CGROUP_BUSY: a hanging disk) is reported, and must not take the others' gateway away for good. */
  async #interruptAll(reason: string): Promise<void> {
    await Promise.all(this.#plugins.all().map((plugin) => plugin.interrupt(reason).catch((error: unknown) => this.#log(`${plugin.name}: ${String(error)}`))))
  }

  // ---- audit log

  /** @param error why records can no longer be written; null: they can again */
  auditLoss(error: CordonError | null): void {
    this.#log(error === null ? 'the audit log takes records again' : `the audit log takes no records: ${error.message}`)
    if (error !== null) {
      for (const plugin of this.#plugins.all()) plugin.auditLost(error.message.slice(0, 1000))
      return
    }
    for (const wake of this.#auditWaiters.splice(0)) wake()
    for (const plugin of this.#plugins.all()) plugin.auditBack().catch((failed: unknown) => this.#log(`${plugin.name}: ${String(failed)}`))
  }

  #auditReady(signal: AbortSignal): Promise<void> {
    if (this.#audit.state().state !== 'lost') return Promise.resolve()
    return new Promise((resolve, reject) => {
      signal.addEventListener('abort', () => reject(new CordonError('LAUNCH_STATE', 'stopped while it waited for the audit log')), { once: true })
      this.#auditWaiters.push(resolve)
    })
  }

  /** The door may tighten: a plugin whose policy says so is put in quarantine on its word. */
  #tripwire(run: RunId, what: string): void {
    const plugin = this.#plugins.ownerOf(run)
    if (plugin === null || plugin.quarantine !== null || plugin.policy?.policy.tripwires !== 'quarantine') return
    this.#quarantineActs.quarantine(plugin.name, { who: 'its tripwire' }, what, 'door').catch((error: unknown) => this.#log(`${plugin.name}: ${String(error)}`))
  }

  /** Listeners went with the door, and nobody else may have those ports meanwhile: what had one open begins anew. */
  #doorLost(runs: readonly RunId[], reason: string): void {
    for (const run of runs) this.#plugins.ownerOf(run)?.interrupt(reason).catch((error: unknown) => this.#log(String(error)))
  }

  /** Once per turn of the event loop, however many states changed in it. */
  #pushStatus(): void {
    this.#statusPush ??= setImmediate(() => {
      this.#statusPush = null
      this.#gateways.now?.monitor.say({ type: 'plugins', plugins: fitToFrame(this.#plugins.statuses()) })
    })
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
    this.#housekeeping.stop()
    this.#control?.close()
    // Nor may such a one keep the rest from its end, and the log from its last words.
    await Promise.all(this.#plugins.all().map((plugin) => plugin.retire(`the daemon stops: ${reason}`).catch((error: unknown) => this.#log(`${plugin.name}: ${String(error)}`))))
    await this.#plugins.settled()
    await this.#doors.stop()
    await this.#gateways.stop()
    this.#housekeeping.recordOwnCalls()
    await this.#host.close()
    await this.#housekeeping.settled()
    await this.#tellingLost
    this.#audit.note({ type: 'daemon.stopped', reason }, 'launcher')
    this.#quarantines.close()
    this.#runRecords?.close()
    await this.#audit.close()
    this.#endPushing?.()
    await this.#exports?.stop()
  }
}
