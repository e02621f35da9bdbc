import { mkdirSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { randomBytes } from 'node:crypto'
import type { AuditSink, LauncherEvent } from '../audit/record.ts'
import { listenPorts, opensDoor, type Egress } from '../base/egress-rule.ts'
import type { PluginName, RunId } from '../base/ids.ts'
import { printable } from '../base/printable.ts'
import { CordonError, type ErrorCode } from '../errors.ts'
import { compilePlugin, type ArgumentStyle } from '../plan/compile.ts'
import { planDigest } from '../plan/digest.ts'
import { effectiveEgress, type EgressOverlay } from '../policy/overlay.ts'
import type { LoadedPolicy } from '../policy/load.ts'
import type { PluginState, PluginStatus, ToGateway } from '../wire/requests.ts'
import type { Difference } from './attest.ts'
import { makeDataDir } from './bundle.ts'
import { watchEgress } from './egress-watch.ts'
import { decoyOf } from './decoys.ts'
import type { DoorKeeper, Swapped } from './door-keeper.ts'
import type { Generations } from './generations.ts'
import type { LaunchHost } from './host.ts'
import type { SealedNetwork } from './network.ts'
import { openPluginLog } from './log-file.ts'
import { openRun } from './open-run.ts'
import { takeSocket } from './plugin-socket.ts'
import { StdoutRelay } from './relay.ts'
import { afterFailure, startsAllowed } from './restart.ts'
import { IsolationError, violationRecord, type GatedRun, type RunExit } from './sandbox.ts'
import { watchResources } from './snapshots.ts'
import { storeExecutable, unchanged, type StoredExecutable, type StoreMemory } from './store.ts'
import type { PluginUser } from './users.ts'

/** SIGINT is the one signal that every SDK handles gracefully (protocol section 19); then SIGTERM, then the whole cgroup. */
const STOP_INT_MS = 5000
const STOP_TERM_MS = 1000
/** Errors that may be gone at the next try; after any other the file, the policy or the host must change first. */
const PASSING = new Set<ErrorCode>(['LAUNCH_PROGRAM', 'LAUNCH_RUNTIME', 'LAUNCH_DOOR', 'WIRE_CLOSED', 'WIRE_TIMEOUT', 'CGROUP_BUSY', 'STORE_CHANGING', 'STORE_IO'])
/** Why a plugin waits. */
export const NO_POLICY = 'it has no policy; nothing is granted to it'

export interface SupervisorDeps {
  readonly host: LaunchHost
  readonly audit: AuditSink
  readonly memory: StoreMemory
  readonly generations: Generations
  /** To the gateway that serves now; a no-op while there is none. */
  readonly gateway: { say(message: ToGateway): void; data(stream: number, bytes: Buffer): void; forget(run: RunId): void }
  /** Temporary rules from the terminal. */
  overlay(plugin: PluginName): EgressOverlay
  readonly doors: Pick<DoorKeeper, 'open' | 'close' | 'swap'>
  /** Resolves once a gateway serves; rejects when the signal ends it. */
  gatewayReady(signal: AbortSignal): Promise<void>
  onChange(): void
  log(message: string): void
}

/** A run from its release to its end, as the gateway's requests reach it. */
interface ActiveRun {
  readonly id: RunId
  readonly gated: GatedRun
  readonly relay: StdoutRelay
  readonly network: SealedNetwork
  /** Listening TCP ports of its door, 53 among them; null while it is shut. */
  doorPorts: readonly number[] | null
  readonly style: ArgumentStyle
  readonly secret: string
  readonly socketPath: string
  readonly uid: number
  configured: boolean
  /** It is being ended, or has been given up: what the gateway still says of it came too late. */
  ending: boolean
  runningSince: number | null
  /** Why it is being ended, when it is not its own doing. */
  verdict: { readonly code: ErrorCode | string; readonly message: string } | null
}

interface Outcome {
  readonly clean: boolean
  readonly reason: string
  /** Trying again would not help: the file, the policy or the host must change first. */
  readonly permanent: boolean
  readonly ranMs: number
  /** Ended because the gateway went, which is not the plugin's failure. */
  readonly interrupted: boolean
  /** The host could not even try (the log takes no records), so it does not count against the start limit. */
  readonly blameless?: boolean
}

/** One plugin from start to a proven-empty cgroup, again and again as its policy says. */
export class Supervisor {
  readonly name: PluginName
  readonly #deps: SupervisorDeps
  #policy: LoadedPolicy | null
  #state: PluginState
  #reason: string | null
  #since = new Date()
  #restarts = 0
  #starts: number[] = []
  #sha256: string | null = null
  #generation: '1' | '2' | null = null
  #version: string | null = null
  #run: ActiveRun | null = null
  /** Behind its walls, but not released yet. */
  #atGate: GatedRun | null = null
  #wanted = false
  #retired = false
  #interrupted = false
  #turn: Promise<void> = Promise.resolve()
  #wake = new AbortController()
  #loop: Promise<void> = Promise.resolve()
  #user: PluginUser | null = null

  constructor(name: PluginName, policy: LoadedPolicy | null, state: PluginState, reason: string | null, deps: SupervisorDeps) {
    this.name = name
    this.#policy = policy
    this.#state = state
    this.#reason = reason
    this.#deps = deps
  }

  get policy(): LoadedPolicy | null {
    return this.#policy
  }

  get state(): PluginState {
    return this.#state
  }

  status(): PluginStatus {
    return {
      name: this.name, state: this.#state, reason: this.#reason, run: this.#run?.id ?? null, since: this.#since.toISOString(), restarts: this.#restarts,
      policyDigest: this.#policy?.digest ?? null, executableSha256: this.#sha256, generation: this.#generation, version: this.#version,
      unenforced: [...(this.#policy?.policy.unenforced ?? [])], ...this.#egressStatus(),
    }
  }

  #egressStatus(): Pick<PluginStatus, 'learning' | 'door' | 'temporary'> {
    const overlay = this.#deps.overlay(this.name)
    const now = Date.now()
    const { mode, until } = this.#policy === null ? { mode: 'enforce', until: null } : effectiveEgress(this.#policy.policy.egress, overlay, now)
    return {
      learning: mode === 'learn' && until !== null && Date.parse(until) > now ? until : null,
      door: (this.#run?.doorPorts ?? null) === null ? 'shut' : 'open',
      temporary: overlay.allow.filter((rule) => rule.until === null || Date.parse(rule.until) > now).length + overlay.without.length,
    }
  }

  // ---- what an operator asks; one after the other, because a start that overtakes a stop leaves a run that nobody wants

  /** Start it unless it is on its way; the states tell what comes of it. A start by hand forgets the start limit and ends a backoff. */
  start(): Promise<void> {
    return this.#inTurn(async () => this.#begin())
  }

  /** Stop it and wait for the proof that nothing of it is left. Never waits for the log. What is disabled or has no policy stays so. */
  stop(reason: string, state: 'stopped' | 'disabled' = 'stopped'): Promise<void> {
    return this.#inTurn(() => this.#halt(reason, state))
  }

  restart(reason: string): Promise<void> {
    return this.#inTurn(async () => {
      this.#requireStartable()
      await this.#halt(reason, 'stopped')
      this.#begin()
    })
  }

  /** Stop it for good: it is replaced by another supervisor, its policy went, or the daemon stops. */
  retire(reason: string): Promise<void> {
    this.#retired = true
    return this.stop(reason)
  }

  enable(): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#state === 'disabled') this.#set(this.#policy === null ? 'waiting' : 'stopped', this.#policy === null ? NO_POLICY : null)
    })
  }

  /**
   * The rules changed and nothing else: put them in force without a restart and end what they forbid.
   * @returns null when it does not run, or has no door and needs none
   */
  retune(policy: LoadedPolicy | null = this.#policy): Promise<Swapped | null> {
    return this.#inTurn(async () => {
      this.#policy = policy
      const active = this.#run
      if (active === null || active.ending || policy === null) return null
      const egress = this.#egress()
      if (active.doorPorts === null && !opensDoor(egress)) return null
      const wanted = [53, ...listenPorts(egress)]
      const { doors, host } = this.#deps
      let swapped: Swapped = { closed: 0, held: [] }
      if (active.doorPorts === null) {
        await doors.open({ run: active.id, plugin: this.name, network: active.network, egressMaxPerDay: policy.policy.limits.EgressMax, decoys: [] }, egress)
        active.doorPorts = wanted
      } else {
        const known = active.doorPorts
        swapped = await doors.swap(active.id, egress, wanted.filter((port) => !known.includes(port)))
        active.doorPorts = [...new Set([...known, ...wanted.filter((port) => !swapped.held.includes(port))])]
      }
      active.gated.expectListeners({ tcp: active.doorPorts, udp: [53], uid: host.users.own.doorHelper })
      this.#deps.onChange()
      return swapped
    })
  }

  /** What is in force: the policy's rules and what the terminal changed for a while. */
  #egress(): Egress {
    return effectiveEgress(this.#requirePolicy().policy.egress, this.#deps.overlay(this.name), Date.now())
  }

  /** The gateway is gone: end the run, keep wanting it; the loop waits for the next gateway. */
  async interrupt(reason: string): Promise<void> {
    this.#interrupted = true // also a run that is being made: nobody would read its first line
    if (this.#run !== null) this.#deps.audit.note({ type: 'plugin.stop', plugin: this.name, run: this.#run.id, reason }, 'launcher')
    await this.#endRun()
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work)
    this.#turn = done.then(() => {}, () => {}) // its caller gets the error; the next in line does not
    return done
  }

  #begin(): void {
    this.#requireStartable()
    this.#starts = []
    const wake = this.#wake
    this.#wake = new AbortController()
    if (this.#wanted) {
      if (this.#state === 'backoff') wake.abort()
      else this.#wake = wake
      return
    }
    this.#wanted = true
    this.#loop = this.#loop.then(() => this.#cycle())
  }

  #requireStartable(): void {
    if (this.#retired) throw new CordonError('LAUNCH_STATE', `${this.name} is being replaced or the daemon stops; try again`)
    if (this.#policy === null) throw new CordonError('LAUNCH_NO_POLICY', `${this.name} has no policy, so nothing is granted to it and it does not run`)
    if (this.#state === 'disabled') throw new CordonError('LAUNCH_STATE', `${this.name} is disabled; expected an enabled plugin`)
  }

  async #halt(reason: string, state: 'stopped' | 'disabled'): Promise<void> {
    this.#wanted = false
    this.#wake.abort()
    if (this.#run !== null) this.#deps.audit.note({ type: 'plugin.stop', plugin: this.name, run: this.#run.id, reason }, 'launcher')
    await this.#endRun()
    await this.#loop
    if (state === 'stopped' && (this.#state === 'disabled' || this.#state === 'waiting')) return
    this.#set(state, reason)
  }

  /** Waits until it runs or has given up. */
  async settled(signal: AbortSignal): Promise<PluginStatus> {
    while (this.#state === 'starting' || this.#state === 'stopping') await sleep(20, undefined, { signal })
    return this.status()
  }

  // ---- what the gateway asks about its run; a wrong id or moment is an error that goes back to it

  taken(run: RunId, bytes: number): boolean {
    return this.#run?.id !== run || this.#run.relay.taken(bytes)
  }

  releaseLaunchConfig(run: RunId): void {
    const active = this.#active(run)
    if (active.style !== '2' || active.configured) throw new CordonError('LAUNCH_STATE', 'the launch config belongs to generation 2 and is written once')
    active.configured = true
    active.gated.stdin.end(`${JSON.stringify({ protocol_version: 2, auth_secret: active.secret, database_url: null, host_data_dir: null })}\n`)
  }

  takeSocket(run: RunId): { dev: string; ino: string } {
    const active = this.#active(run)
    return takeSocket(active.socketPath, active.uid, this.#deps.host.users.own.gateway)
  }

  running(run: RunId, generation: '1' | '2', version: string): void {
    const active = this.#run
    if (active === null || active.id !== run || active.ending) return // it was given up or is being stopped meanwhile
    active.relay.finish()
    active.runningSince = Date.now()
    this.#generation = generation
    this.#version = printable(version, 60)
    if (this.#sha256 !== null) this.#deps.generations.remember(this.#sha256, active.style)
    this.#deps.audit.note({ type: 'plugin.running', plugin: this.name, run, generation, version: this.#version }, 'launcher')
    this.#set('running', null)
  }

  failed(run: RunId, code: string, message: string): void {
    const active = this.#run
    if (active === null || active.id !== run || active.verdict !== null) return // it ended meanwhile; its exit says more
    active.verdict = { code: printable(code, 64), message: printable(message, 1000) }
    this.#deps.audit.note({ type: 'plugin.failed', plugin: this.name, run, code: active.verdict.code, reason: active.verdict.message }, 'launcher')
    this.#endRun().catch((error: unknown) => this.#deps.log(`${this.name}: ${String(error)}`))
  }

  #active(run: RunId): ActiveRun {
    if (this.#run === null || this.#run.id !== run || this.#run.ending) throw new CordonError('LAUNCH_STATE', 'that run is over')
    return this.#run
  }

  #set(state: PluginState, reason: string | null): void {
    if (this.#state !== state) this.#since = new Date()
    this.#state = state
    this.#reason = reason
    this.#deps.onChange()
  }

  /** Starts it until it is not wanted any more or must not be started again. */
  async #cycle(): Promise<void> {
    let failures = 0
    while (this.#wanted && this.#policy !== null) {
      const { restart } = this.#policy.policy
      const now = Date.now()
      if (!startsAllowed(this.#starts, now, restart)) return this.#giveUp(`start-limit: ${restart.startLimit.count} starts within ${restart.startLimit.windowMs / 1000} s; last: ${this.#reason ?? 'unknown'}`)
      const outcome = await this.#tryOnce()
      if (!this.#wanted) return
      if (outcome.interrupted) continue
      if (outcome.blameless !== true) this.#starts.push(now)
      if (outcome.permanent) return this.#giveUp(outcome.reason)
      const next = afterFailure(restart, outcome, failures)
      failures = next.failures
      if (next.kind === 'stop') {
        this.#wanted = false
        return this.#set('stopped', outcome.reason)
      }
      if (next.kind === 'fail') return this.#giveUp(outcome.reason)
      this.#restarts++
      this.#set('backoff', `${outcome.reason}; next start in ${Math.ceil(next.delayMs / 1000)} s`)
      await sleep(next.delayMs, undefined, { signal: this.#wake.signal }).catch(() => {}) // woken: stopped, or started by hand
      this.#reason = outcome.reason
    }
  }

  #giveUp(reason: string): void {
    this.#wanted = false
    this.#deps.audit.note({ type: 'plugin.failed', plugin: this.name, reason }, 'launcher')
    this.#set('failed', reason)
  }

  async #tryOnce(): Promise<Outcome> {
    const failure = (reason: string, permanent: boolean, blameless = false): Outcome => ({ clean: false, reason, permanent, ranMs: 0, interrupted: this.#interrupted, blameless })
    this.#set('starting', null)
    try {
      await this.#deps.gatewayReady(this.#wake.signal)
      this.#interrupted = false
      return await this.#tryStyles()
    } catch (error) {
      if (this.#wake.signal.aborted) return failure('stopped', false)
      if (!(error instanceof CordonError)) {
        this.#deps.log(`${this.name}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`)
        return failure('INTERNAL_BUG: see the daemon log', false)
      }
      const passing = PASSING.has(error.code) || error.code.startsWith('AUDIT_')
      // What is given up is recorded there.
      if (passing && !this.#interrupted) this.#deps.audit.note({ type: 'plugin.failed', plugin: this.name, code: error.code, reason: error.message.slice(0, 1000) }, 'launcher')
      return failure(`${error.code}: ${error.message}`, !passing, error.code === 'AUDIT_UNAVAILABLE')
    }
  }

  /** Generation 2 first, so that no secret of one shows in a process list; older ones exit without a byte (protocol section 6). */
  async #tryStyles(): Promise<Outcome> {
    const stored = await this.#store()
    const known = this.#deps.generations.recall(stored.sha256)
    const attempts: string[] = []
    for (const style of known === null ? (['2', '1', '1db'] as const) : [known]) {
      const { outcome, silent } = await this.#runOnce(stored, style)
      if (!silent || !this.#wanted || this.#interrupted) return outcome
      attempts.push(`with the arguments of ${style === '2' ? 'generation 2' : style === '1' ? 'generation 1' : 'generation 1 with a database'}: ${outcome.reason}`)
      if (known !== null) return outcome
    }
    return { clean: false, reason: `it never said a word; ${attempts.join('; ')}`, permanent: false, ranMs: 0, interrupted: false }
  }

  async #store(): Promise<StoredExecutable> {
    const { executable } = this.#requirePolicy().policy
    const { memory, host } = this.#deps
    const known = await unchanged(executable, memory)
    const stored = known ?? (await storeExecutable(executable, `${host.config.stateDir}/store`, memory))
    if (stored.sha256 !== this.#sha256) await this.#recorded({ type: 'executable.stored', plugin: this.name, sha256: stored.sha256, kind: stored.kind, bytes: stored.bytes, path: printable(executable.path, 500), pinned: executable.sha256 !== null })
    this.#sha256 = stored.sha256
    return stored
  }

  #requirePolicy(): LoadedPolicy {
    if (this.#policy === null) throw new CordonError('LAUNCH_NO_POLICY', `${this.name} has no policy`)
    return this.#policy
  }

  /** A record that must be durable before what follows. A stop does not wait for the disk. */
  async #recorded(event: LauncherEvent): Promise<void> {
    const { signal } = this.#wake
    const stopped = Promise.withResolvers<never>()
    const onStop = (): void => stopped.reject(new CordonError('LAUNCH_STATE', 'stopped before it began'))
    if (signal.aborted) onStop()
    signal.addEventListener('abort', onStop, { once: true })
    const durable = this.#deps.audit.append(event, 'launcher')
    durable.catch(() => {}) // after a stop nobody waits for it any more
    try {
      await Promise.race([stopped.promise, durable])
    } finally {
      signal.removeEventListener('abort', onStop)
    }
  }

  #requireWanted(): void {
    if (!this.#wanted || this.#interrupted) throw new CordonError('LAUNCH_STATE', 'stopped before it began')
  }

  /** One run. @returns its outcome, and whether it ended without ever writing to stdout or being configured */
  async #runOnce(stored: StoredExecutable, style: ArgumentStyle): Promise<{ outcome: Outcome; silent: boolean }> {
    const { host, audit, gateway, doors } = this.#deps
    const { policy, digest } = this.#requirePolicy()
    const egress = this.#egress()
    const decoy = policy.tripwires ? decoyOf(this.name, `${host.config.stateDir}/decoy-key`) : null
    this.#user ??= await host.users.allocateUser(this.name)
    const { uid } = this.#user
    const dataPath = `${host.config.stateDir}/data/${this.name}`
    makeDataDir(dataPath, uid)
    const slot = await host.takeSlot()
    const { runId } = slot
    const intent = this.#recorded({ type: 'plugin.start', plugin: this.name, run: runId, policyDigest: digest, sha256: stored.sha256, generation: style })
    const open = await openRun(host, slot, {
      uid, dataPath, group: this.name, object: { path: stored.path, entry: stored.entry },
      door: (opening) => doors.open({ run: opening.runId, plugin: this.name, network: opening.network, egressMaxPerDay: policy.limits.EgressMax, decoys: decoy === null ? [] : [decoy.name] }, egress),
      compile: (places) => compilePlugin({ ...policy, egress, env: { ...decoy?.env, ...policy.env } }, host.facts, places, style),
    }).finally(() => intent.catch(() => {})) // looked at below, before anything starts
    const plan_digest = planDigest(open.plan)
    try {
      await intent
      this.#requireWanted()
      const gated = await open.start().catch((error: unknown) => {
        if (error instanceof IsolationError) audit.note({ type: 'isolation.violated', plugin: this.name, run: runId, plan_digest, differences: error.record() }, 'launcher')
        throw error
      })
      try {
        this.#atGate = gated
        await this.#recorded({ type: 'isolation.attested', plugin: this.name, run: runId, policyDigest: digest, plan_digest, found: gated.found })
        this.#requireWanted()
        const secret = randomBytes(32).toString('hex')
        const logs = this.#openLogs()
        const relay = new StdoutRelay(gated.stdout, logs.stdout, (bytes) => gateway.data(stream, bytes))
        const stream = Number.parseInt(runId.slice(0, 8), 16)
        const active: ActiveRun = { id: runId, gated, relay, style, secret, uid, socketPath: open.socketPath ?? '', network: open.network, doorPorts: open.plan.listeners?.tcp ?? null, configured: false, ending: false, runningSince: null, verdict: null }
        this.#run = active
        this.#atGate = null
        gated.stderr.on('data', (bytes: Buffer) => logs.stderr.write(bytes))
        gated.stdin.on('error', () => {}) // EPIPE: it closed its stdin; its silence or its exit says the rest
        const drained = Promise.all([gated.stdout, gated.stderr].map((s) => new Promise<void>((done) => s.once('close', () => done()))))
        gated.stdout.once('end', () => gateway.say({ type: 'stdoutEnd', run: runId }))
        gateway.say({
          type: 'runStarted', run: runId, plugin: this.name, stream, style, secret, uid, socketPath: open.socketPath ?? '',
          grants: [...policy.api.grants], legacyGrants: policy.api.legacy, publicPaths: [...policy.http.publicPaths], policyDigest: digest,
        })
        gated.release(style === '2' ? undefined : secret)
        if (style !== '2') gated.stdin.end()
        const endEgress = watchEgress(open.network, gated.proc, audit, { plugin: this.name, run: runId }, (error) => this.#deps.log(`${this.name}: egress watch: ${String(error)}`))
        const endSnapshots = watchResources({ host, group: this.name, run: gated, plugin: this.name, audit, limits: policy.limits, violated: (differences) => this.#violated(active, differences) })
        audit.note({ type: 'plugin.started', plugin: this.name, run: runId, uid }, 'launcher')
        const startedAt = Date.now()
        const exit = await gated.exited
        await Promise.race([drained, sleep(1000, undefined, { ref: false })]) // a stream that the gateway does not take ends with the run
        await endEgress()
        await endSnapshots()
        const tail = printable(logs.stderr.tailBytes().toString('utf8').split('\n').filter((line) => line.trim() !== '').slice(-3).join(' | '), 600)
        logs.stdout.close()
        logs.stderr.close()
        const outcome = this.#judge(active, exit, tail, Date.now() - startedAt)
        audit.note({ type: 'plugin.exited', plugin: this.name, run: runId, reason: outcome.reason, status: exit.status, oom_kills: exit.oomKills, seconds: Math.round((Date.now() - startedAt) / 1000) }, 'launcher')
        gateway.say({ type: 'runEnded', run: runId, reason: outcome.reason.slice(0, 4000) })
        // The gateway also notices a silent end and may have given its verdict on it already.
        const silent = relay.total === 0 && !active.configured && (active.verdict === null || active.verdict.code === 'HANDSHAKE_NO_OUTPUT') && exit.oomKills === 0
        return { outcome, silent }
      } finally {
        this.#run = null
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

  #openLogs() {
    const dir = `${this.#deps.host.config.stateDir}/logs/${this.name}`
    mkdirSync(dir, { recursive: true, mode: 0o700 })
    const onTrouble = (error: unknown): void => this.#deps.log(`${this.name}: its log cannot be written: ${String(error)}`)
    return { stdout: openPluginLog(dir, 'stdout', { onTrouble }), stderr: openPluginLog(dir, 'stderr', { onTrouble }) }
  }

  #violated(active: ActiveRun, differences: readonly Difference[]): void {
    active.verdict ??= { code: 'LAUNCH_ISOLATION', message: `the kernel's view changed: ${differences.map((d) => `${d.what} is "${d.found}", expected "${d.expected}"`).join('; ').slice(0, 800)}` }
    this.#deps.audit.note({ type: 'isolation.violated', plugin: this.name, run: active.id, differences: violationRecord(differences) }, 'launcher')
    active.ending = true
    active.gated.kill().catch((error: unknown) => this.#deps.log(`${this.name}: ${String(error)}`))
  }

  #judge(active: ActiveRun, exit: RunExit, stderrTail: string, ranMs: number): Outcome {
    const last = stderrTail === '' ? '' : `; last on stderr: ${stderrTail}`
    const ran = active.runningSince === null ? 0 : ranMs
    const own = exit.oomKills > 0 ? `oom-kill: it wanted more than MemoryMax (${exit.text})` : exit.text.includes('SIGSYS') ? `seccomp: a refused system call (${exit.text})` : exit.text
    const base = { ranMs: ran, interrupted: this.#interrupted, permanent: active.verdict?.code === 'LAUNCH_ISOLATION' }
    if (active.verdict !== null && exit.oomKills === 0) return { ...base, clean: false, reason: `${active.verdict.code}: ${active.verdict.message}${last}` }
    const early = active.runningSince === null ? ' before it was ready' : ''
    return { ...base, clean: exit.status === 0 && active.runningSince !== null, reason: `${own}${early}${last}` }
  }

  /** SIGINT, SIGTERM, cgroup.kill; resolves when the cgroup is empty. What has not been released yet is killed at once. */
  async #endRun(): Promise<void> {
    await this.#atGate?.kill()
    const active = this.#run
    if (active === null) return
    active.ending = true
    if (active.verdict === null) this.#set('stopping', null)
    const over = active.gated.exited.then(() => true as const)
    if (active.verdict === null && active.runningSince !== null) {
      await active.gated.signal('INT')
      if ((await Promise.race([over, sleep(STOP_INT_MS, false as const)])) === true) return
      await active.gated.signal('TERM')
      if ((await Promise.race([over, sleep(STOP_TERM_MS, false as const)])) === true) return
    }
    await active.gated.kill()
    await over
  }
}
