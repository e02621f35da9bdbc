import { mkdirSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { randomBytes } from 'node:crypto'
import type { AuditSink, LauncherEvent } from '../audit/record.ts'
import type { Egress } from '../base/egress-rule.ts'
import type { PluginName, RunId } from '../base/ids.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { compilePlugin, type ArgumentStyle } from '../plan/compile.ts'
import { planDigest } from '../plan/digest.ts'
import type { LoadedPolicy } from '../policy/load.ts'
import type { Policy } from '../policy/policy.ts'
import type { ToGateway } from '../wire/requests.ts'
import { makeDataDir } from './bundle.ts'
import { freezeCgroup, processesIn, thawCgroup } from './cgroup.ts'
import type { Difference } from './comparison.ts'
import { watchEgress } from './egress-watch.ts'
import { decoyOf } from './decoys.ts'
import { NO_DECOYS, type DoorKeeper, type Swapped } from './door-keeper.ts'
import type { Generations } from './generations.ts'
import type { LaunchHost } from './host.ts'
import { IsolationError, violationRecord } from './isolation-error.ts'
import { openPluginLog } from './log-file.ts'
import { openRun } from './open-run.ts'
import { judge, lastWords, type Ending, type Outcome } from './outcome.ts'
import { takeSocket } from './plugin-socket.ts'
import { StdoutRelay } from './relay.ts'
import { RunListeners } from './run-listeners.ts'
import type { GatedRun } from './sandbox.ts'
import { watchResources } from './snapshots.ts'
import type { StoredExecutable } from './store.ts'

/** SIGINT is the one signal that every SDK handles gracefully (protocol section 19); then SIGTERM, then the whole cgroup. */
const STOP_INT_MS = 5000
const STOP_TERM_MS = 1000

export interface RunDeps {
  readonly host: LaunchHost
  readonly audit: AuditSink
  readonly generations: Generations
  /** To the gateway that serves now; a no-op while there is none. */
  readonly gateway: { say(message: ToGateway): void; data(stream: number, bytes: Buffer): void; forget(run: RunId): void }
  readonly doors: Pick<DoorKeeper, 'open' | 'close' | 'swap'>
  log(message: string): void
}

export interface RunTerms {
  readonly name: PluginName
  readonly policy: LoadedPolicy
  /** In force at its start; the policy's rules and what the terminal changed for a while. */
  readonly egress: Egress
  readonly stored: StoredExecutable
  readonly style: ArgumentStyle
  readonly uid: number
}

/** Whom a run belongs to: it wants the run, or not any more. */
export interface RunOwner {
  /** @throws CordonError LAUNCH_STATE when nobody wants it any more */
  requireWanted(): void
  /** A record that must be durable before what follows; rejects at once where a stop ends the wait. */
  recorded(event: LauncherEvent): Promise<void>
  /** Ended because the gateway went, which is not the plugin's failure. */
  interrupted(): boolean
  onRunning(generation: '1' | '2', version: string): void
  onStopping(): void
}

/** What quarantine found: processes that stand still now, processes that were ended, or none. */
export type Held = 'frozen' | 'killed' | 'not-running'

/** From its release to its end, as the gateway's requests reach it. */
interface Released {
  readonly id: RunId
  readonly gated: GatedRun
  readonly relay: StdoutRelay
  readonly listeners: RunListeners
  readonly secret: string
  readonly socketPath: string
  configured: boolean
  /** It is being ended, or has been given up: what the gateway still says of it came too late. */
  ending: boolean
  /** In quarantine: its processes stand still until they are ended. */
  frozen: boolean
  /** They stand still until the audit log takes records again, or until they are ended. */
  paused: boolean
  runningSince: number | null
  /** Why it is being ended, when it is not its own doing. */
  verdict: Ending['verdict']
}

/** One run of a plugin, from its slot to a proven-empty cgroup. */
export class PluginRun {
  readonly #terms: RunTerms
  readonly #deps: RunDeps
  readonly #owner: RunOwner
  /** Behind its walls, but not released yet. */
  #atGate: GatedRun | null = null
  #released: Released | null = null

  constructor(terms: RunTerms, deps: RunDeps, owner: RunOwner) {
    this.#terms = terms
    this.#deps = deps
    this.#owner = owner
  }

  /** null before its release and after its end. */
  get id(): RunId | null {
    return this.#released?.id ?? null
  }

  get doorIsOpen(): boolean {
    return this.#released?.listeners.isOpen ?? false
  }

  /** @returns its outcome, and whether it ended without ever writing to stdout or being configured */
  async play(): Promise<{ outcome: Outcome; silent: boolean }> {
    const { host, audit, gateway, doors } = this.#deps
    const { name, policy: { policy, digest }, egress, stored, style, uid } = this.#terms
    const decoy = policy.tripwires === 'off' ? null : decoyOf(name, `${host.config.stateDir}/decoy-key`)
    const environment = { ...decoy?.env, ...policy.env }
    const dataPath = `${host.config.stateDir}/data/${name}`
    makeDataDir(dataPath, uid)
    const slot = await host.takeSlot()
    const { runId } = slot
    const intent = this.#owner.recorded({ type: 'plugin.start', plugin: name, run: runId, policyDigest: digest, sha256: stored.sha256, generation: style })
    const open = await openRun(host, slot, {
      uid, dataPath, group: name, object: { path: stored.path, entry: stored.entry },
      door: (opening) => doors.open({ run: opening.runId, plugin: name, network: opening.network, egressMaxPerDay: policy.limits.EgressMax, maxConnections: policy.limits.MaxConnections, decoys: decoy === null ? NO_DECOYS : { names: [decoy.name], secrets: [decoy.secret] } }, egress),
      compile: (places) => compilePlugin({ ...policy, egress, env: environment }, host.facts, places, style),
    }).finally(() => intent.catch(() => {})) // looked at below, before anything starts
    const plan_digest = planDigest(open.plan)
    try {
      await intent
      this.#owner.requireWanted()
      const gated = await open.start().catch((error: unknown) => {
        if (error instanceof IsolationError) audit.note({ type: 'isolation.violated', plugin: name, run: runId, plan_digest, differences: error.record() }, 'launcher')
        throw error
      })
      try {
        this.#atGate = gated
        await this.#owner.recorded({ type: 'isolation.attested', plugin: name, run: runId, policyDigest: digest, plan_digest, found: gated.found })
        this.#owner.requireWanted()
        const secret = randomBytes(32).toString('hex')
        const logs = this.#openLogs()
        const relay = new StdoutRelay(gated.stdout, logs.stdout, (bytes) => gateway.data(stream, bytes))
        const stream = Number.parseInt(runId.slice(0, 8), 16)
        const listeners = new RunListeners({ run: runId, plugin: name, network: open.network, gated, doors, doorHelper: host.users.own.doorHelper }, open.plan.listeners?.tcp ?? null)
        const released: Released = { id: runId, gated, relay, listeners, secret, socketPath: open.socketPath ?? '', configured: false, ending: false, frozen: false, paused: false, runningSince: null, verdict: null }
        this.#released = released
        this.#atGate = null
        gated.stderr.on('data', (bytes: Buffer) => logs.stderr.write(bytes))
        gated.stdin.on('error', () => {}) // EPIPE: it closed its stdin; its silence or its exit says the rest
        const drained = Promise.all([gated.stdout, gated.stderr].map((s) => new Promise<void>((done) => s.once('close', () => done()))))
        gated.stdout.once('end', () => gateway.say({ type: 'stdoutEnd', run: runId }))
        gateway.say({
          type: 'runStarted', run: runId, plugin: name, stream, style, secret, uid, socketPath: open.socketPath ?? '',
          grants: [...policy.api.grants], legacyGrants: policy.api.legacy, publicPaths: [...policy.http.publicPaths], policyDigest: digest,
        })
        gated.release(style === '2' ? undefined : secret)
        if (style !== '2') gated.stdin.end()
        const endEgress = watchEgress(open.network, gated.proc, audit, { plugin: name, run: runId }, (error) => this.#deps.log(`${name}: egress watch: ${String(error)}`))
        const endSnapshots = watchResources({ host, group: name, run: gated, plugin: name, audit, limits: policy.limits, violated: (differences) => this.#violated(released, differences) })
        audit.note({ type: 'plugin.started', plugin: name, run: runId, uid, secrets: ['auth_secret'], env: Object.keys(environment) }, 'launcher')
        const startedAt = Date.now()
        const exit = await gated.exited
        await Promise.race([drained, sleep(1000, undefined, { ref: false })]) // a stream that the gateway does not take ends with the run
        await endEgress()
        await endSnapshots()
        const tail = lastWords(logs.stderr.tailBytes(), { auth_secret: secret, ...environment })
        logs.stdout.close()
        logs.stderr.close()
        const outcome = judge({ exit, verdict: released.verdict, ranMs: Date.now() - startedAt, wasReady: released.runningSince !== null, interrupted: this.#owner.interrupted(), said: tail })
        audit.note({ type: 'plugin.exited', plugin: name, run: runId, reason: outcome.reason, status: exit.status, oom_kills: exit.oomKills, seconds: Math.round((Date.now() - startedAt) / 1000), policyDigest: digest, sha256: stored.sha256 }, 'launcher')
        host.listings.keep(name).catch((error: unknown) => this.#deps.log(`${name}: its data were not listed: ${String(error)}`))
        gateway.say({ type: 'runEnded', run: runId, reason: outcome.reason.slice(0, 4000) })
        // The gateway also notices a silent end and may have given its verdict on it already.
        const silent = relay.total === 0 && !released.configured && (released.verdict === null || released.verdict.code === 'HANDSHAKE_NO_OUTPUT') && exit.oomKills === 0
        return { outcome, silent }
      } finally {
        this.#released = null
        this.#atGate = null
        gateway.forget(runId)
        await gated.kill() // where an error came between the gate and the exit
        await gated.exited
      }
    } finally {
      await doors.close(runId)
      await open.remove()
    }
  }

  /** SIGINT, SIGTERM, cgroup.kill; resolves when the cgroup is empty. What has not been released yet is killed at once. */
  async end(): Promise<void> {
    await this.#atGate?.kill()
    const released = this.#released
    if (released === null) return
    released.ending = true
    if (released.verdict === null) this.#owner.onStopping()
    const over = released.gated.exited.then(() => true as const)
    if (released.verdict === null && released.runningSince !== null && !released.frozen && !released.paused) {
      await released.gated.signal('INT')
      if ((await Promise.race([over, sleep(STOP_INT_MS, false as const)])) === true) return
      await released.gated.signal('TERM')
      if ((await Promise.race([over, sleep(STOP_TERM_MS, false as const)])) === true) return
    }
    await released.gated.kill()
    await over
  }

  /**
   * Other rules: in force without a restart, and what they forbid ends.
   * @returns null when it is not released, or has no door and needs none
   */
  async retune(egress: Egress, limits: Policy['limits']): Promise<Swapped | null> {
    const released = this.#released
    return released === null || released.ending || released.frozen ? null : released.listeners.retune(egress, limits)
  }

  /** Host pids of everything in its cgroup. */
  processes(): number[] {
    const { host: { tree } } = this.#deps
    return this.#released === null ? [] : [...processesIn(tree.dirs(this.#terms.name, this.#released.id))].filter((pid) => pid > 0)
  }

  /**
   * Quarantine: from here on nothing of it runs, nothing of it is reached, and nothing reaches out. What stands at the gate, what is being ended
   * already, and everything on a kernel without a freezer is killed instead.
   * @returns what became of its processes, known at once; `settled`: whether the kernel confirmed that, once the door is shut too
   */
  quarantine(): { readonly held: Held; readonly settled: Promise<boolean> } {
    const released = this.#released
    if (released === null) {
      const atGate = this.#atGate // or earlier: its owner does not want it any more, which is looked at before the gate opens
      return { held: atGate === null ? 'not-running' : 'killed', settled: atGate === null ? Promise.resolve(true) : atGate.kill().then(() => true) }
    }
    const { host: { tree }, gateway } = this.#deps
    const frozen = released.ending ? null : freezeCgroup(tree.version, tree.dirs(this.#terms.name, released.id))
    released.frozen = true
    const shut = released.listeners.shut()
    // After the word of its state, so that what is being answered ends with that word. It closes channel, health polling and socket.
    setImmediate(() => gateway.say({ type: 'runEnded', run: released.id, reason: 'quarantined' }))
    if (frozen === null) released.ending = true
    const still = frozen === null ? released.gated.kill().then(() => true) : frozen.still
    return { held: frozen === null ? 'killed' : 'frozen', settled: Promise.all([still, shut]).then(([yes]) => yes) }
  }

  /** Stand still as it is, connections and all. @returns false where it does not run, or this kernel has no freezer */
  pause(): boolean {
    const released = this.#released
    if (released === null || released.ending || released.frozen) return false
    const { host: { tree } } = this.#deps
    released.paused = freezeCgroup(tree.version, tree.dirs(this.#terms.name, released.id)) !== null
    return released.paused
  }

  /** Run on where it stood. What is in quarantine or being ended does not. */
  resume(): void {
    const released = this.#released
    if (released === null || !released.paused) return
    released.paused = false
    const { host: { tree } } = this.#deps
    if (!released.frozen && !released.ending) thawCgroup(tree.version, tree.dirs(this.#terms.name, released.id))
  }

  // ---- what the gateway asks; a wrong moment is an error that goes back to it

  /** The gateway consumed that many. @returns false when it claims more than it was sent */
  taken(bytes: number): boolean {
    return this.#released === null || this.#released.relay.taken(bytes)
  }

  releaseLaunchConfig(): void {
    const released = this.#requireReleased()
    if (this.#terms.style !== '2' || released.configured) throw new CordonError('LAUNCH_STATE', 'the launch config belongs to generation 2 and is written once')
    released.configured = true
    released.gated.stdin.end(`${JSON.stringify({ protocol_version: 2, auth_secret: released.secret, database_url: null, host_data_dir: null })}\n`)
  }

  takeSocket(): { dev: string; ino: string } {
    return takeSocket(this.#requireReleased().socketPath, this.#terms.uid, this.#deps.host.users.own.gateway)
  }

  running(generation: '1' | '2', claimed: string): void {
    const released = this.#released
    if (released === null || released.ending || released.frozen) return // it was given up or is being stopped meanwhile
    released.relay.finish()
    released.runningSince = Date.now()
    const version = printable(claimed, 60)
    this.#deps.generations.remember(this.#terms.stored.sha256, this.#terms.style)
    this.#deps.audit.note({ type: 'plugin.running', plugin: this.#terms.name, run: released.id, generation, version }, 'launcher')
    this.#owner.onRunning(generation, version)
  }

  failed(code: string, message: string): void {
    const released = this.#released
    if (released === null || released.verdict !== null || released.frozen) return // it ended meanwhile; its exit says more
    const { name } = this.#terms
    released.verdict = { code: printable(code, 64), message: printable(message, 1000) }
    this.#deps.audit.note({ type: 'plugin.failed', plugin: name, run: released.id, code: released.verdict.code, reason: released.verdict.message }, 'launcher')
    this.end().catch((error: unknown) => this.#deps.log(`${name}: ${String(error)}`))
  }

  #requireReleased(): Released {
    if (this.#released === null || this.#released.ending || this.#released.frozen) throw new CordonError('LAUNCH_STATE', 'that run is over')
    return this.#released
  }

  #openLogs() {
    const { name } = this.#terms
    const dir = `${this.#deps.host.config.stateDir}/logs/${name}`
    mkdirSync(dir, { recursive: true, mode: 0o700 })
    const onTrouble = (error: unknown): void => this.#deps.log(`${name}: its log cannot be written: ${String(error)}`)
    return { stdout: openPluginLog(dir, 'stdout', { onTrouble }), stderr: openPluginLog(dir, 'stderr', { onTrouble }) }
  }

  #violated(released: Released, differences: readonly Difference[]): void {
    const { name } = this.#terms
    released.verdict ??= { code: 'LAUNCH_ISOLATION', message: `the kernel's view changed: ${differences.map((d) => `${d.what} is "${d.found}", expected "${d.expected}"`).join('; ').slice(0, 800)}` }
    this.#deps.audit.note({ type: 'isolation.violated', plugin: name, run: released.id, differences: violationRecord(differences) }, 'launcher')
    released.ending = true
    released.gated.kill().catch((error: unknown) => this.#deps.log(`${name}: ${String(error)}`))
  }

}
