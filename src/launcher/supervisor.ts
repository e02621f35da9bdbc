import { setTimeout as sleep } from 'node:timers/promises'
import type { LauncherEvent } from '../audit/record.ts'
import type { Egress } from '../base/egress-rule.ts'
import type { PluginName, RunId } from '../base/ids.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import type { ArgumentStyle } from '../plan/compile.ts'
import { effectiveEgress, type EgressOverlay } from '../policy/overlay.ts'
import type { LoadedPolicy } from '../policy/load.ts'
import type { PluginState, PluginStatus } from '../wire/requests.ts'
import { recordedBefore } from './awaited-record.ts'
import type { Swapped } from './door-keeper.ts'
import { failedStart } from './failed-start.ts'
import type { Outcome } from './outcome.ts'
import { PluginRun, type Held, type RunDeps, type RunOwner } from './plugin-run.ts'
import { quarantineText, type Quarantine } from './quarantines.ts'
import { afterFailure, afterInterruptionMs, startsAllowed } from './restart.ts'
import { storeExecutable, unchanged, type StoredExecutable, type StoreMemory } from './store.ts'
import { tryStyles } from './styles.ts'
import type { PluginUser } from './users.ts'

const RESUME_RETRY_MS = 1000
/** Why a plugin waits. */
export const NO_POLICY = 'it has no policy; nothing is granted to it'

export interface SupervisorDeps extends RunDeps {
  readonly memory: StoreMemory
  /** Temporary rules from the terminal. */
  overlay(plugin: PluginName): EgressOverlay
  /** Resolves once a gateway serves; rejects when the signal ends it. */
  gatewayReady(signal: AbortSignal): Promise<void>
  /** Resolves once the audit log takes records; rejects when the signal ends it. */
  auditReady(signal: AbortSignal): Promise<void>
  onChange(): void
}

/** One plugin: what is asked of it, and its runs, one after another, as its policy says. */
export class Supervisor {
  readonly name: PluginName
  readonly #deps: SupervisorDeps
  #policy: LoadedPolicy | null
  #state: PluginState
  #reason: string | null
  #since = new Date()
  #restarts = 0
  #starts: number[] = []
  readonly #interruptions: number[] = []
  #sha256: string | null = null
  #generation: '1' | '2' | null = null
  #version: string | null = null
  #run: PluginRun | null = null
  #wanted = false
  #retired = false
  #quarantine: Quarantine | null
  /** Released from quarantine, does it start again? Not if it was stopped or had failed before. */
  #resumes = true
  #interrupted = false
  /** Why it was ended, or its start given up, while the audit log is lost: it waits for the log and not for a backoff. */
  #awaitsAudit: string | null = null
  /** Frozen since then, because the audit log is lost; null: it is not. An object of its own each time. */
  #pause: { readonly since: string; readonly reason: string } | null = null
  #turn: Promise<void> = Promise.resolve()
  #wake = new AbortController()
  #loop: Promise<void> = Promise.resolve()
  #user: PluginUser | null = null
  readonly #owner: RunOwner = {
    requireWanted: () => this.#requireWanted(),
    recorded: (event) => this.#recorded(event),
    interrupted: () => this.#interrupted,
    onRunning: (generation, version) => {
      this.#generation = generation
      this.#version = version
      this.#set('running', null)
    },
    onStopping: () => this.#set('stopping', null),
  }

  /** @param quarantine from an earlier life of the daemon, or of this plugin under another policy; then its state says so */
  constructor(name: PluginName, policy: LoadedPolicy | null, state: PluginState, reason: string | null, deps: SupervisorDeps, quarantine: Quarantine | null = null) {
    this.name = name
    this.#policy = policy
    this.#state = quarantine === null ? state : 'quarantined'
    this.#reason = quarantine === null ? reason : quarantineText(quarantine)
    if (quarantine !== null) this.#since = new Date(quarantine.since)
    this.#deps = deps
    this.#quarantine = quarantine
  }

  get policy(): LoadedPolicy | null {
    return this.#policy
  }

  get state(): PluginState {
    return this.#state
  }

  /** null: it is in none. */
  get quarantine(): Quarantine | null {
    return this.#quarantine
  }

  status(): PluginStatus {
    return {
      name: this.name, state: this.#state, reason: this.#reason, run: this.#run?.id ?? null, since: this.#since.toISOString(), restarts: this.#restarts,
      policyDigest: this.#policy?.digest ?? null, executableSha256: this.#sha256, generation: this.#generation, version: this.#version,
      unenforced: [...(this.#policy?.policy.unenforced ?? [])], ...this.#egressStatus(),
    }
  }

  /** Host pids of what runs; none before its gate opens. */
  processes(): number[] {
    return this.#run?.processes() ?? []
  }

  #egressStatus(): Pick<PluginStatus, 'learning' | 'door' | 'temporary'> {
    const overlay = this.#deps.overlay(this.name)
    const now = Date.now()
    const { mode, until } = this.#policy === null ? { mode: 'enforce', until: null } : effectiveEgress(this.#policy.policy.egress, overlay, now)
    return {
      learning: mode === 'learn' && until !== null && Date.parse(until) > now ? until : null,
      door: this.#run?.doorIsOpen === true ? 'open' : 'shut',
      temporary: overlay.allow.filter((rule) => rule.until === null || Date.parse(rule.until) > now).length + overlay.without.length,
    }
  }

  // ---- quarantine waits for nothing, not even for an act that is at work

  /**
   * At once, and whatever happens meanwhile: nothing of it runs, and nothing starts it but `release`.
   * @returns as PluginRun.quarantine
   */
  hold(quarantine: Quarantine): { readonly held: Held; readonly settled: Promise<boolean> } {
    if (this.#quarantine === null) this.#resumes = this.#wanted
    this.#quarantine = quarantine
    this.#pause = null
    this.#wanted = false
    this.#wake.abort()
    this.#show('quarantined', quarantineText(quarantine), new Date(quarantine.since))
    return this.#run?.quarantine() ?? { held: 'not-running', settled: Promise.resolve(true) }
  }

  /** End what is still frozen and, unless it was stopped before or is disabled, start it anew. */
  release(disabled: boolean): Promise<void> {
    const released = this.#quarantine
    return this.#inTurn(async () => {
      await this.#run?.end()
      await this.#loop
      if (this.#quarantine !== released) return // shut in again meanwhile
      this.#quarantine = null
      const state = disabled ? 'disabled' : this.#policy === null ? 'waiting' : 'stopped'
      this.#set(state, state === 'waiting' ? NO_POLICY : 'released from quarantine')
      if (state === 'stopped' && this.#resumes && !this.#retired) this.#begin()
    })
  }

  // ---- the audit log is lost, or is back: what the policy says for that, which waits for nothing either

  /** @param why printable */
  auditLost(why: string): void {
    const way = this.#policy?.policy.onAuditLoss ?? 'continue'
    if (way === 'continue' || this.#quarantine !== null || !this.#wanted || this.#pause !== null) return
    const reason = `the audit log cannot be written: ${why}`
    if (way === 'pause' && this.#state === 'running' && this.#run?.pause() === true) {
      this.#pause = { since: new Date().toISOString(), reason }
      return this.#set('paused', reason)
    }
    // What only starts cannot stand still: its handshake has limits in time.
    this.#awaitsAudit = reason
    this.interrupt(reason).catch((error: unknown) => this.#deps.log(`${this.name}: ${String(error)}`))
  }

  /** What stands still runs on once that is on record. */
  async auditBack(): Promise<void> {
    const pause = this.#pause
    const run = this.#run?.id ?? null
    if (pause === null || run === null) return
    while (this.#pause === pause && this.#state === 'paused') {
      try {
        await this.#deps.audit.append({ type: 'plugin.resumed', plugin: this.name, run, ...pause }, 'launcher')
        break
      } catch (error) {
        // Lost again: it is told again when it is back. Over its budget: that is its own doing, and passes.
        if (!(error instanceof CordonError) || error.code !== 'AUDIT_BUDGET') return
        await sleep(RESUME_RETRY_MS, undefined, { ref: false })
      }
    }
    if (this.#pause !== pause || this.#state !== 'paused') return // stopped or shut in meanwhile
    this.#pause = null
    this.#run?.resume()
    this.#set('running', null)
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
      if (policy === null) return null
      const swapped = (await this.#run?.retune(this.#egress(), policy.policy.limits)) ?? null
      if (swapped !== null) this.#deps.onChange()
      return swapped
    })
  }

  /** What is in force: the policy's rules and what the terminal changed for a while. */
  #egress(): Egress {
    return effectiveEgress(this.#requirePolicy().policy.egress, this.#deps.overlay(this.name), Date.now())
  }

  /** The gateway is gone: end the run, keep wanting it; the loop waits for the next gateway. */
  async interrupt(reason: string): Promise<void> {
    if (this.#quarantine !== null) return // it is out of the gateway's reach already, and what is frozen stays
    this.#interrupted = true // also a run that is being made: nobody would read its first line
    await this.#endRun(reason)
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work)
    this.#turn = done.then(() => {}, () => {}) // its caller gets the error; the next in line does not
    return done
  }

  #begin(): void {
    this.#requireStartable()
    this.#starts = []
    this.#awaitsAudit = null
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
    if (this.#quarantine !== null) throw new CordonError('LAUNCH_QUARANTINED', `${this.name} is in quarantine: ${quarantineText(this.#quarantine)}`)
    if (this.#policy === null) throw new CordonError('LAUNCH_NO_POLICY', `${this.name} has no policy, so nothing is granted to it and it does not run`)
    if (this.#state === 'disabled') throw new CordonError('LAUNCH_STATE', `${this.name} is disabled; \`cordon enable ${this.name}\` lets it run again`)
  }

  async #halt(reason: string, state: 'stopped' | 'disabled'): Promise<void> {
    this.#wanted = false
    this.#wake.abort()
    await this.#endRun(reason)
    await this.#loop
    if (state === 'stopped' && (this.#state === 'disabled' || this.#state === 'waiting')) return
    this.#set(state, reason)
  }

  async #endRun(reason: string): Promise<void> {
    const run = this.#run?.id ?? null
    if (run !== null) this.#deps.audit.note({ type: 'plugin.stop', plugin: this.name, run, reason }, 'launcher')
    await this.#run?.end()
  }

  /** Waits until it runs or has given up. */
  async settled(signal: AbortSignal): Promise<PluginStatus> {
    while (this.#state === 'starting' || this.#state === 'stopping') await sleep(20, undefined, { signal })
    return this.status()
  }

  /** Of this plugin and no earlier one; the gateway's requests go to it. */
  runOf(run: RunId): PluginRun | null {
    return this.#run?.id === run ? this.#run : null
  }

  #set(state: PluginState, reason: string | null): void {
    if (this.#quarantine === null) this.#show(state, reason, this.#state === state ? this.#since : new Date())
  }

  #show(state: PluginState, reason: string | null, since: Date): void {
    this.#since = since
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
      if (outcome.interrupted) {
        const pauseMs = afterInterruptionMs(this.#interruptions, Date.now())
        if (pauseMs > 0) await this.#backOff(outcome.reason, pauseMs)
        continue
      }
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
      await this.#backOff(outcome.reason, next.delayMs)
    }
  }

  async #backOff(reason: string, ms: number): Promise<void> {
    this.#set('backoff', `${reason}; next start in ${Math.ceil(ms / 1000)} s`)
    await sleep(ms, undefined, { signal: this.#wake.signal }).catch(() => {}) // woken: stopped, or started by hand
    this.#reason = reason
  }

  #giveUp(reason: string): void {
    this.#wanted = false
    this.#deps.audit.note({ type: 'plugin.failed', plugin: this.name, reason }, 'launcher')
    this.#set('failed', reason)
  }

  async #tryOnce(): Promise<Outcome> {
    try {
      if (this.#awaitsAudit !== null) {
        this.#set('backoff', `${this.#awaitsAudit}; it starts when it can`)
        await this.#deps.auditReady(this.#wake.signal).catch(() => {}) // woken: stopped, or started by hand, which is refused with the reason
        if (!this.#wanted) throw new CordonError('LAUNCH_STATE', 'stopped before it began')
      }
      this.#awaitsAudit = null
      this.#set('starting', null)
      await this.#deps.gatewayReady(this.#wake.signal)
      this.#interrupted = false
      const stored = await this.#store()
      return await tryStyles(this.#deps.generations.recall(stored.sha256), (style) => this.#runOnce(stored, style), () => this.#wanted && !this.#interrupted)
    } catch (error) {
      const known = error instanceof CordonError ? error : null
      const failed = failedStart(known, this.#interrupted)
      if (this.#wake.signal.aborted) return { ...failed, reason: 'stopped', permanent: false, blameless: false }
      if (known === null) this.#deps.log(`${this.name}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`)
      // What is given up is recorded there.
      else if (!failed.permanent && !this.#interrupted) this.#deps.audit.note({ type: 'plugin.failed', plugin: this.name, code: known.code, reason: known.message.slice(0, 1000) }, 'launcher')
      return failed
    }
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

  #recorded(event: LauncherEvent): Promise<void> {
    return recordedBefore(this.#deps.audit, event, this.#wake.signal)
  }

  #requireWanted(): void {
    if (!this.#wanted || this.#interrupted) throw new CordonError('LAUNCH_STATE', 'stopped before it began')
  }

  async #runOnce(stored: StoredExecutable, style: ArgumentStyle): Promise<{ outcome: Outcome; silent: boolean }> {
    const policy = this.#requirePolicy()
    const egress = this.#egress()
    this.#user ??= await this.#deps.host.users.allocateUser(this.name)
    const run = new PluginRun({ name: this.name, policy, egress, stored, style, uid: this.#user.uid }, this.#deps, this.#owner)
    this.#run = run
    try {
      return await run.play()
    } finally {
      this.#run = null
      this.#pause = null
    }
  }
}
