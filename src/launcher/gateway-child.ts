import { setTimeout as sleep } from 'node:timers/promises'
import type { AuditSink } from '../audit/record.ts'
import { CordonError } from '../errors.ts'
import { compileGateway } from '../plan/compile-own.ts'
import { planDigest } from '../plan/digest.ts'
import type { HostConfig } from '../policy/host-config.ts'
import type { LaunchHost } from './host.ts'
import { lendListener } from './listen.ts'
import { GatewayMonitor, type GatewayHandlers } from './monitor.ts'
import { logLines, neverRead } from './own-child.ts'
import type { RunExit } from './run-exit.ts'
import { startGated } from './sandbox.ts'

/** Not a plugin name, so no plugin can share its cgroup. */
const GROUP = '_gateway'
const SERVING_TIMEOUT_MS = 60_000
const SHUTDOWN_MS = 4000

export interface GatewayFiles {
  readonly gateway: string
  readonly listen: string
  readonly node: string
}

/** A gateway behind its walls that serves. */
export interface GatewayProcess {
  readonly monitor: GatewayMonitor
  readonly port: number
  /** Resolves when it is gone and nothing of it is left. */
  readonly ended: Promise<{ readonly exit: RunExit; readonly reason: string }>
  /** Ask it to leave, then end it. */
  stop(): Promise<void>
}

/**
 * Start the gateway behind its own walls and hand it its listening socket.
 * @throws CordonError LISTEN_FAILED (port taken), LAUNCH_GATEWAY, LAUNCH_ISOLATION
 */
export async function startGateway(
  host: LaunchHost,
  files: GatewayFiles,
  configure: { readonly listen: { readonly host: string; readonly port: number }; readonly adminTokenSha256: string; readonly version: string; readonly forwardedUser: HostConfig['forwardedUser'] },
  handlers: Omit<GatewayHandlers, 'serving' | 'closed'>,
  audit: AuditSink,
  log: (message: string) => void,
): Promise<GatewayProcess> {
  const slot = await host.takeSlot()
  await slot.standing.dismiss() // it has no place for the socketpairs
  const { runId, bundle } = slot
  const plan = compileGateway(host.facts, {
    runId, uid: host.users.own.gateway, rootPath: bundle.rootPath, cgroupPath: host.tree.ociPath(GROUP, runId), netnsPath: slot.network.path,
    nodePath: files.node, bundlePath: files.gateway, socketsPath: host.socketsDir,
  })
  const run = await startGated(host, plan, bundle, GROUP, slot.network, { extraPairs: 2, ready: slot.sealed }).catch(async (error: unknown) => {
    await slot.remove()
    throw error
  })
  let reason: string | null = null
  const ended = run.exited.then(async (exit) => {
    await slot.remove()
    const why = exit.oomKills > 0 ? 'oom-kill' : (reason ?? exit.text)
    audit.note({ type: 'gateway.ended', run: runId, reason: why, status: exit.status, oom_kills: exit.oomKills }, 'launcher')
    return { exit, reason: why }
  })
  try {
    await audit.append({ type: 'isolation.attested', run: runId, subject: 'gateway', plan_digest: planDigest(plan), found: run.found }, 'launcher')
    logLines('gateway', run.stdout, log)
    logLines('gateway', run.stderr, log)
    const [requests, lent] = run.extra
    if (requests === undefined || lent === undefined) throw new CordonError('LAUNCH_GATEWAY', 'the gateway has no socketpairs')
    neverRead(lent)
    lent.on('error', () => {}) // the gateway's end is gone; `requests` tells
    void ended.catch(() => {}).then(() => lent.destroy()) // what is never read never hears that the other end is gone
    let serving: (port: number) => void = () => {}
    const port = new Promise<number>((resolve) => { serving = resolve })
    const monitor = new GatewayMonitor(requests, {
      ...handlers,
      serving: (message) => serving(message.port),
      closed: (why) => {
        reason ??= why
        run.kill().catch((error: unknown) => log(`the gateway could not be killed: ${String(error)}`))
      },
    })
    run.release()
    run.stdin.end()
    monitor.say({ type: 'configure', ...configure })
    await Promise.race([lendListener(lent, files.listen, host.users.own.listenHelper, configure.listen), ended])
    const first = await Promise.race([port, ended, sleep(SERVING_TIMEOUT_MS, null, { ref: false })])
    if (typeof first !== 'number') throw new CordonError('LAUNCH_GATEWAY', first === null ? `the gateway did not serve within ${SERVING_TIMEOUT_MS / 1000} s` : `the gateway ended at its start: ${first.reason}`)
    audit.note({ type: 'gateway.started', run: runId, port: first }, 'launcher')
    return {
      monitor, port: first, ended,
      stop: async () => {
        reason ??= 'stopped'
        monitor.say({ type: 'shutdown' })
        await Promise.race([ended, sleep(SHUTDOWN_MS, null, { ref: false })])
        await run.kill()
        await ended
      },
    }
  } catch (error) {
    await run.kill()
    await ended
    throw error
  }
}
