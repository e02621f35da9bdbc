import { setTimeout as sleep } from 'node:timers/promises'
import type { AuditLog } from '../audit/log.ts'
import type { PluginName } from '../base/ids.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import type { HostConfig } from '../policy/host-config.ts'
import type { FromGateway, FromOperator, PluginStatus } from '../wire/requests.ts'
import type { disabledPlugins } from './disabled.ts'
import type { DoorKeeper } from './door-keeper.ts'
import { retuned, type EgressActs } from './egress-acts.ts'
import type { GatewayProcess } from './gateway-child.ts'
import type { Observer } from './observer.ts'
import type { Who } from './peer.ts'
import type { PluginSet } from './plugin-set.ts'
import type { QuarantineActs } from './quarantine-acts.ts'
import { fitToFrame } from './status-frame.ts'
import { explainWhy } from './why.ts'

/** With 2500 characters each they fit one frame, also where each takes three bytes. */
const MAX_REFUSED_TOLD = 25
const MAX_PIDS_TOLD = 4096
const SEAL_WAIT_MS = 5000

/** Said where it is not so; plan/seccomp.ts and kernel-log.ts say why. */
const REFUSED_CALLS_NEED = 'refused system calls (that needs crun and a readable /dev/kmsg)'

export interface AnswersDeps {
  readonly config: HostConfig
  readonly observer: Pick<Observer, 'recordsRefusedCalls'>
  readonly version: string
  readonly audit: AuditLog
  readonly plugins: PluginSet
  readonly doors: DoorKeeper
  readonly disabled: ReturnType<typeof disabledPlugins>
  readonly egressActs: EgressActs
  readonly quarantineActs: QuarantineActs
  /** The gateway that serves now, and why there is none. */
  gateway(): { readonly now: GatewayProcess | null; readonly reason: string | null }
  /** Aborted when the daemon stops. */
  readonly stopping: AbortSignal
}

/** What may be asked of the daemon: from a terminal over the root-only control socket, and, much less, through the gateway. */
export class Answers {
  readonly #deps: AnswersDeps

  constructor(deps: AnswersDeps) {
    this.#deps = deps
  }

  /** @param peer who asks, from the kernel: looked up before anything is changed, and by nothing that only reads */
  async operator(request: FromOperator, peer: () => Promise<Who | null>): Promise<unknown> {
    const who = async (): Promise<Who> => (await peer()) ?? claimed(request)
    const { plugins, egressActs, quarantineActs, version, observer } = this.#deps
    switch (request.type) {
      case 'status': return { plugins: fitToFrame(plugins.statuses()), port: this.#deps.gateway().now?.port ?? null, version, refused: plugins.refused.length, notRecorded: observer.recordsRefusedCalls ? [] : [REFUSED_CALLS_NEED] }
      case 'act': return { plugin: await this.#act(request.act, request.plugin, await who(), 'operator') }
      case 'reload': return this.reload(await who())
      case 'quarantine': return quarantineActs.quarantine(request.plugin, claimed(request), printable(request.reason ?? 'no reason was given', 300), 'operator', who())
      case 'release':
        await quarantineActs.release(request.plugin, await who(), request.reason)
        return { plugin: await this.#settled(request.plugin) }
      case 'open': return this.#open(request.plugin, await who())
      case 'inspect': {
        const plugin = plugins.known(request.plugin)
        // So that the newest records can be proved; where the log is lost, evidence is gathered all the same.
        await Promise.race([this.#deps.audit.seal('ask').catch(() => undefined), sleep(SEAL_WAIT_MS, undefined, { ref: false })])
        return { pids: plugin.processes().slice(0, MAX_PIDS_TOLD), frozen: plugin.quarantine !== null }
      }
      case 'evidence': return this.#evidence(request, await who())
      case 'why': return this.#why(request.plugin)
      case 'egress': return egressActs.show(request)
      case 'allow': return egressActs.allow(request, await who())
      case 'deny': return egressActs.deny(request, await who())
      case 'learn': return egressActs.learn(request, await who())
      case 'apply': return this.#apply(request, await who())
      case 'shutdown':
        setImmediate(() => process.kill(process.pid, 'SIGTERM'))
        return null
      default: return request satisfies never
    }
  }

  /** Through the gateway things can be started and stopped within policy, and tightened; never enabled or approved. */
  async gateway(message: Extract<FromGateway, { type: 'act' }>): Promise<unknown> {
    const who = { who: printable(message.who, 200) }
    if (message.act === 'reload') return this.#reloadTighter(who)
    if (message.plugin === null) throw new CordonError('LAUNCH_UNKNOWN_PLUGIN', 'no plugin was named')
    if (message.act === 'quarantine') return this.#deps.quarantineActs.quarantine(message.plugin, who, 'asked for over the host API', 'gateway')
    // To stop it would end what is frozen, and with it what could be looked at.
    if (this.#deps.plugins.get(message.plugin)?.quarantine != null) throw new CordonError('LAUNCH_QUARANTINED', `${message.plugin} is in quarantine`)
    return { plugin: await this.#act(message.act, message.plugin, who, 'gateway') }
  }

  async reload(who: Who): Promise<{ changed: PluginName[]; refused: { file: string; message: string; hint: string }[] }> {
    const { audit, plugins } = this.#deps
    audit.note({ type: 'admin.act', act: 'reload', ...who }, 'operator')
    const changed = await plugins.adopt('reload')
    return { changed, refused: plugins.refused.slice(0, MAX_REFUSED_TOLD).map(({ file, error }) => ({ file, message: error.message.slice(0, 2000), hint: error.hint.slice(0, 500) })) }
  }

  /** A browser must not put in force what root wrote and has not applied: what grants more waits for a terminal. */
  async #reloadTighter(who: Who): Promise<{ failures: { plugin: PluginName | null; reason: string }[] }> {
    const { audit, plugins } = this.#deps
    audit.note({ type: 'admin.act', act: 'reload', ...who }, 'gateway')
    await plugins.adopt('tighten')
    // Why a file was refused may quote it, which is not for callers over HTTP.
    return { failures: plugins.refused.slice(0, MAX_REFUSED_TOLD).map(({ plugin, error }) => ({ plugin, reason: `its policy was refused (${error.code}); in a terminal: cordon ${error.code === 'POLICY_WIDENS' ? 'policy diff' : 'policy check'}${plugin === null ? '' : ` ${plugin}`}` })) }
  }

  async #act(act: 'start' | 'stop' | 'restart' | 'enable' | 'disable', name: PluginName, who: Who, origin: 'operator' | 'gateway'): Promise<PluginStatus> {
    const { audit, disabled, plugins } = this.#deps
    const plugin = plugins.known(name)
    audit.note({ type: 'admin.act', act, plugin: name, ...who }, origin)
    switch (act) {
      case 'stop':
        await plugin.stop(`stopped by ${who.who}`)
        break
      case 'disable': {
        const lost = tried(() => disabled.add(name)) // a stop waits for no disk
        await plugin.stop(`disabled by ${who.who}`, 'disabled')
        audit.note({ type: 'plugin.disabled', plugin: name, ...who }, origin)
        if (lost !== null) throw new CordonError('STORE_IO', `${name} is stopped and disabled, but that could not be written down (${lost}): the next start of the daemon does not know it`)
        break
      }
      case 'enable':
        await audit.append({ type: 'plugin.enabled', plugin: name, ...who }, origin)
        disabled.remove(name)
        await plugin.enable()
        break
      case 'restart':
        await plugin.restart(`restarted by ${who.who}`)
        break
      case 'start':
        await plugin.start()
        break
      default:
        act satisfies never
    }
    if (act !== 'start' && act !== 'restart') return plugin.status()
    const status = await this.#settled(name)
    if (status.state !== 'running') throw new CordonError('LAUNCH_FAILED', origin === 'gateway' ? `${name} did not start` : `${name} did not start: ${status.reason ?? status.state}`)
    return status
  }

  /** What came of an act that may have started it. */
  async #settled(name: PluginName): Promise<PluginStatus> {
    await sleep(0) // let the loop take its first step
    return this.#deps.plugins.known(name).settled(this.#deps.stopping)
  }

  /** One plugin's policy file, if it still is what the operator was shown. */
  async #apply({ plugin: name, digest }: Extract<FromOperator, { type: 'apply' }>, who: Who): Promise<unknown> {
    const { audit, config, egressActs, plugins } = this.#deps
    const policy = plugins.readPolicies().loaded.get(name)
    if (policy === undefined) throw new CordonError('LAUNCH_NO_POLICY', `${name} has no valid policy in ${config.policiesDir}`)
    if (policy.digest !== digest) throw new CordonError('EGRESS_DIGEST', `the policy of ${name} is ${policy.digest.slice(0, 12)} by now, expected ${printable(digest, 12)}`)
    await audit.append({ type: 'admin.act', act: 'apply', plugin: name, policyDigest: digest, ...who }, 'operator')
    const { swapped, restarted } = await plugins.put(name, policy, () => egressActs.forget(name))
    return retuned(swapped, restarted)
  }

  /** The hash of a manifest becomes a record, and a seal and a checkpoint follow at once: that is what signs it. */
  async #evidence({ plugin, sha256, files }: Extract<FromOperator, { type: 'evidence' }>, who: Who): Promise<unknown> {
    const { audit } = this.#deps
    const { seq } = await audit.append({ type: 'evidence.gathered', plugin, sha256, files, ...who }, 'operator')
    await audit.seal('ask')
    return { seq }
  }

  async #open(name: PluginName, who: Who): Promise<unknown> {
    const plugin = this.#deps.plugins.known(name)
    const gateway = this.#deps.gateway().now
    if (plugin.state !== 'running' || gateway === null) throw new CordonError('LAUNCH_STATE', `${name} is ${plugin.state}, so it has no page to open`)
    this.#deps.audit.note({ type: 'admin.act', act: 'open', plugin: name, ...who }, 'operator')
    return gateway.monitor.mintLink(name)
  }

  async #why(name: PluginName): Promise<unknown> {
    const { audit, config, doors, observer, plugins } = this.#deps
    const status = plugins.get(name)?.status() ?? null
    const stats = status === null || status.run === null ? null : await doors.stats(status.run).catch(() => null) // the run or the door ends just now, and the other steps say so
    const refused = plugins.refused.find((one) => one.plugin === name)
    const gateway = this.#deps.gateway()
    return explainWhy({
      name,
      status: plugins.get(name)?.status() ?? null,
      refused: refused === undefined ? null : { message: refused.error.message.slice(0, 3000), hint: refused.error.hint },
      policiesDir: config.policiesDir,
      gatewayPort: gateway.now?.port ?? null,
      gatewayReason: gateway.reason,
      auditError: audit.state().error,
      refusals: stats?.refused ?? [],
      recordsRefusedCalls: observer.recordsRefusedCalls,
    })
  }
}

/** What the command says of itself, where the kernel could not be asked. */
function claimed(request: FromOperator): Who {
  return { who: printable('who' in request ? request.who : 'root', 200), who_verified: false }
}

/** @returns why it did not succeed */
function tried(act: () => void): string | null {
  try {
    act()
    return null
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error)
  }
}
