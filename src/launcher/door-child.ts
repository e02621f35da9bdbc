import { spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Duplex } from 'node:stream'
import type { AuditSink } from '../audit/record.ts'
import { listenPorts, type Egress } from '../base/egress-rule.ts'
import { newRunId, type PluginName, type RunId } from '../base/ids.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { compileDoor } from '../plan/compile-own.ts'
import { planDigest } from '../plan/digest.ts'
import * as z from 'zod'
import { DOOR_STATS, type EGRESS, type DoorLimits, type DoorStats } from '../wire/door.ts'
import { bundlePaths, makeDirs, removePlaces } from './bundle.ts'
import { DoorMonitor } from './door-monitor.ts'
import type { LaunchHost } from './host.ts'
import { hostNetwork, networkName } from './host-network.ts'
import { openPorts, type SealedNetwork } from './network.ts'
import { logLines, neverRead } from './own-child.ts'
import { RESOLV_CONF } from './resolvers.ts'
import { startGated } from './sandbox.ts'
import { shortOfTcpMemory } from './tcp-memory.ts'
import { UnendedConnections } from './unended-connections.ts'

const GROUP = '_door'
const SERVING_TIMEOUT_MS = 30_000
const HELPER_TIMEOUT_MS = 35_000
const SHUTDOWN_MS = 3000
/** How long an address that the host has just got may be dialled; each look reads three small files. */
const LOOK_AT_NETWORK_MS = 2000
/** The second look that finds too much ends it: until then a peer at 1 Gbit/s has sent 64 MiB, and the door has room for three times that. */
const LOOK_AT_MEMORY_MS = 250
/** Its record stays with those that name it, however old ones are removed. */
const TELL_NETWORK_MS = 86_400_000
/** Of each kind, in a record. */
const MAX_RECORDED = 1000

export interface DoorFiles {
  readonly door: string
  readonly doorHelper: string
  readonly node: string
}

export interface OpenDoor {
  readonly run: RunId
  readonly plugin: PluginName
  readonly egress: Egress
  readonly limits: DoorLimits
  readonly network: SealedNetwork
  readonly decoys: Decoys
}

/** Tripwires: names that nobody has a reason to ask for, and secrets that nobody has a reason to send. */
export interface Decoys {
  readonly names: readonly string[]
  readonly secrets: readonly string[]
}

/** A port that could not be listened on in a plugin's namespace: mostly because the plugin, already running, holds it itself. */
export interface MissedPort {
  readonly port: number
  readonly errno: string
}

/** The door behind its walls. */
export interface DoorProcess {
  /** Opens a run's door and waits until all its listeners serve. @returns ports that could not be had */
  open(door: OpenDoor): Promise<readonly MissedPort[]>
  /** Other rules for a running plugin. @returns how many connections they ended, and ports that could not be had */
  swap(door: Pick<OpenDoor, 'run' | 'egress' | 'network'>, newPorts: readonly number[]): Promise<{ readonly closed: number; readonly missed: readonly MissedPort[] }>
  /** @returns what the plugin sent on which day so far, for `limits.spent` of its next run */
  close(run: RunId, code: 'stopping' | 'quarantined'): Promise<DoorLimits['spent']>
  stats(run: RunId): Promise<DoorStats>
  readonly ended: Promise<{ readonly reason: string }>
  stop(): Promise<void>
}

/** The door's answer to `makeRoom`. */
const MADE_ROOM = z.strictObject({ closed: z.int().min(0) })
/** The door's answer to `closeRun`. */
const CLOSED = z.strictObject({ spent: DOOR_STATS.shape.spent })

/**
 * @param touched what the door says of a run that touched a decoy; it may only tighten
 * @throws CordonError LAUNCH_DOOR, LAUNCH_ISOLATION
 */
export async function startDoor(host: LaunchHost, files: DoorFiles, ownPorts: () => readonly number[], audit: AuditSink, log: (message: string) => void, touched: (run: RunId, what: string) => void): Promise<DoorProcess> {
  const runId = newRunId()
  const bundle = bundlePaths(host.bundlesDir, runId)
  makeDirs(bundle, null)
  const plan = compileDoor(host.facts, {
    runId, uid: host.users.own.door, rootPath: bundle.rootPath, cgroupPath: host.tree.ociPath(GROUP, runId), nodePath: files.node, bundlePath: files.door,
  })
  const run = await startGated(host, plan, bundle, GROUP, null, { extraPairs: 2 }).catch(async (error: unknown) => {
    await removePlaces(bundle, null)
    throw error
  })
  const unended = new UnendedConnections(performance.now.bind(performance))
  let reason: string | null = null
  const ended = run.exited.then(async (exit) => {
    await removePlaces(bundle, null)
    const why = exit.oomKills > 0 ? 'oom-kill' : (reason ?? exit.text)
    audit.note({ type: 'door.ended', run: runId, reason: why, oom_kills: exit.oomKills }, 'launcher')
    return { reason: why }
  })
  try {
    await audit.append({ type: 'isolation.attested', run: runId, subject: 'door', plan_digest: planDigest(plan), found: run.found }, 'launcher')
    logLines('door', run.stdout, log)
    logLines('door', run.stderr, log)
    const [requests, lent] = run.extra
    if (requests === undefined || lent === undefined) throw new CordonError('LAUNCH_DOOR', 'the door has no socketpairs')
    neverRead(lent)
    lent.on('error', () => {}) // the door's end is gone; `requests` tells
    void ended.catch(() => {}).then(() => lent.destroy()) // what is never read never hears that the other end is gone
    const serving = new Map<RunId, () => void>()
    void ended.then(() => unended.tell((event) => audit.note(event, 'door')))
    const monitor = new DoorMonitor(requests, {
      serving: (id) => serving.get(id)?.(),
      record: async (event) => {
        await audit.append(event, 'door')
        unended.see(event)
      },
      note: (event) => {
        audit.note(event, 'door')
        unended.see(event)
        if (event.type === 'tripwire.touched') touched(event.run, event.say)
      },
      closed: (why) => {
        reason ??= why
        run.kill().catch((error: unknown) => log(`the door could not be killed: ${String(error)}`))
      },
    })
    run.release()
    run.stdin.end()
    await keepTold(monitor, ownPorts, audit, log, ended)
    keepRoom(monitor, host.tree.dirs(GROUP, runId).get('unified') ?? null, log, ended)
    audit.note({ type: 'door.started', run: runId }, 'launcher')

    // One helper at a time: its handles are acknowledged over the same lent socketpair.
    let turn: Promise<unknown> = Promise.resolve()
    const lend = (network: SealedNetwork, forRun: RunId, dns: boolean, ports: readonly number[]): Promise<readonly MissedPort[]> => {
      const mine = turn.then(() => lendListeners(lent, files.doorHelper, host.users.own.doorHelper, network, forRun, dns, ports))
      turn = mine.catch(() => {}) // whoever asked hears of it
      return mine
    }
    const whenServing = (id: RunId): Promise<void> =>
      new Promise((resolve, reject) => {
        const timer = setTimeout(() => reject(new CordonError('LAUNCH_DOOR', `the door did not serve within ${SERVING_TIMEOUT_MS / 1000} s`)), SERVING_TIMEOUT_MS)
        serving.set(id, () => {
          clearTimeout(timer)
          serving.delete(id)
          resolve()
        })
      })

    return {
      ended,
      async open({ run: id, plugin, egress, limits, network, decoys }) {
        const ports = listenPorts(egress)
        const ready = whenServing(id)
        ready.catch(() => {}) // awaited below, where an earlier error wins
        await monitor.ask({ type: 'openRun', run: id, plugin, rules: wireRules(egress), limits, ports, ipv6: network.ipv6, decoys: { names: [...decoys.names], secrets: [...decoys.secrets] } })
        const [missed] = await Promise.all([lend(network, id, true, ports), openPorts(network, [53, ...ports], [53])])
        await ready
        return missed
      },
      async swap({ run: id, egress, network }, newPorts) {
        const answer = await monitor.ask({ type: 'swapRules', run: id, rules: wireRules(egress), ports: listenPorts(egress) })
        const missed = newPorts.length === 0 ? [] : await (await Promise.all([lend(network, id, false, newPorts), openPorts(network, newPorts, [])]))[0]
        const closed = typeof answer === 'object' && answer !== null && 'closed' in answer ? Number(answer.closed) : 0
        return { closed, missed }
      },
      close: async (id, code) => CLOSED.parse(await monitor.ask({ type: 'closeRun', run: id, code })).spent,
      stats: async (id) => DOOR_STATS.parse(await monitor.ask({ type: 'stats', run: id })),
      stop: async () => {
        reason ??= 'stopped'
        monitor.shutdown()
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

/** Tells the door the host's network, now and whenever it is another one; resolves once it was told first. */
async function keepTold(monitor: DoorMonitor, ownPorts: () => readonly number[], audit: AuditSink, log: (message: string) => void, ended: Promise<unknown>): Promise<void> {
  let told = ''
  let complained: ReadonlySet<string> = new Set()
  let recorded = { name: '', at: 0 }
  const tell = async (): Promise<void> => {
    const network = await hostNetwork(ownPorts())
    const name = networkName(network)
    const { resolvers, hostAddresses, onLink } = network
    if (name !== recorded.name || performance.now() - recorded.at > TELL_NETWORK_MS) {
      const [addresses, on_link] = [hostAddresses.slice(0, MAX_RECORDED), onLink.slice(0, MAX_RECORDED)]
      audit.note({ type: 'host.network', name, addresses, on_link, own_ports: [...network.ownPorts], more: hostAddresses.length + onLink.length - addresses.length - on_link.length }, 'launcher')
      recorded = { name, at: performance.now() }
    }
    const text = JSON.stringify(network)
    if (text === told) return
    const skipped = network.skippedResolvers.filter((one) => !complained.has(one))
    complained = new Set(network.skippedResolvers)
    for (const one of skipped) log(`a resolver of ${RESOLV_CONF} is not asked: ${one}`)
    await monitor.ask({ type: 'configure', resolvers: [...resolvers], hostAddresses: [...hostAddresses], onLink: [...onLink], ownPorts: [...network.ownPorts], name })
    told = text
  }
  await tell()
  let turn = Promise.resolve()
  const timer = setInterval(() => {
    turn = turn.then(tell).catch((error: unknown) => log(`the door could not be told of the host's network: ${String(error)}`))
  }, LOOK_AT_NETWORK_MS).unref()
  void ended.finally(() => clearInterval(timer))
}

/**
 * What peers and plugins do not read waits in the kernel, up to megabytes for each of a plugin's connections. On unified hosts that counts as the
 * door's memory, on all it is of what TCP has on the host: before either runs out, the door gives up what nobody reads.
 */
function keepRoom(monitor: DoorMonitor, cgroup: string | null, log: (message: string) => void, ended: Promise<unknown>): void {
  let asking = false
  const timer = setInterval(() => {
    const short = asking ? null : shortOfTcpMemory(cgroup)
    if (short === null) return
    asking = true
    monitor.ask({ type: 'makeRoom' }).then((answer) => {
      const { closed } = MADE_ROOM.parse(answer)
      if (closed > 0) log(`${short}: the door closed ${closed} connections that nobody reads`)
    }).catch((error: unknown) => log(`${short}: the door made no room: ${String(error)}`))
      .finally(() => { asking = false })
  }, LOOK_AT_MEMORY_MS).unref()
  void ended.finally(() => clearInterval(timer))
}

/** The same rules as plain, mutable JSON, which is what the schema's type says. */
function wireRules(egress: Egress): z.infer<typeof EGRESS> {
  return structuredClone(egress) as z.infer<typeof EGRESS>
}

/**
 * Open listeners inside a sealed namespace through a short helper of its own uid, and tell the namespace's second wall to let those
 * ports pass. Node and the script enter as descriptors.
 */
async function lendListeners(lent: Duplex, script: string, uid: number, network: SealedNetwork, run: RunId, dns: boolean, ports: readonly number[]): Promise<readonly MissedPort[]> {
  const source = openSync(script, 'r')
  const node = openSync(process.execPath, 'r')
  const id = String(uid)
  const cap = 'net_bind_service'
  const drop = ['--reuid', id, '--regid', id, '--clear-groups', '--no-new-privs', '--pdeathsig', 'KILL', `--inh-caps=-all,+${cap}`, `--ambient-caps=-all,+${cap}`, `--bounding-set=-all,+${cap}`]
  const child = spawn('/usr/bin/nsenter', [`--net=${network.path}`, '--', '/usr/bin/setpriv', ...drop, '--', '/proc/self/fd/4', '-', run, network.ipv6 ? '1' : '0', dns ? '1' : '0', ...ports.map(String)], {
    stdio: [source, 'ignore', 'pipe', lent, node],
    env: { NODE_CHANNEL_FD: '3', NODE_CHANNEL_SERIALIZATION_MODE: 'json' },
    cwd: '/',
  })
  closeSync(source)
  closeSync(node)
  let said = ''
  child.stderr?.on('data', (bytes: Buffer) => { said = (said + bytes.toString('utf8')).slice(0, 16_384) })
  const timer = setTimeout(() => child.kill('SIGKILL'), HELPER_TIMEOUT_MS)
  const status = await new Promise<number | null>((resolve) => {
    child.once('close', (code) => resolve(code))
    child.once('error', () => resolve(null))
  })
  clearTimeout(timer)
  if (status === 0) return []
  if (status !== 75) throw new CordonError('LAUNCH_DOOR', `the listeners could not be opened: ${printable(said, 300)}`)
  return [...said.matchAll(/"port":(\d+).*?"errno":"(\w+)"/g)].map(([, port, errno]) => ({ port: Number(port), errno: errno ?? 'unknown' }))
}
