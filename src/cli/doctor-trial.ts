import { existsSync, mkdirSync, readFileSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { text } from 'node:stream/consumers'
import { execa } from 'execa'
import type { PluginName } from '../base/ids.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { enterNamespaces, hasEntered } from '../launcher/enter.ts'
import type { LaunchHost } from '../launcher/host.ts'
import { makeSealedNetwork, readRefused, removeSealedNetwork } from '../launcher/network.ts'
import { openRun } from '../launcher/open-run.ts'
import { makeSlot } from '../launcher/slots.ts'
import { compileCommand } from '../plan/compile.ts'
import { finishRaw } from '../policy/load.ts'
import type { CommandContext } from './context.ts'
import { fail, ok, warn, type Check } from './doctor-check.ts'
import { withPrivateHost } from './private-host.ts'

const NAME = 'doctor' as PluginName
const RUNTIME_LIMIT_MS = 60_000

/**
 * The part of `doctor` that starts something: in a child of its own (`doctor --trial`), because it enters namespaces, and because what
 * breaks there must not break the rest. All places, uid included, are its own.
 */
export async function tryMachine({ config, load, signal }: CommandContext): Promise<Check[]> {
  if (!hasEntered()) enterNamespaces(null)
  return withPrivateHost({ ...config, stateDir: config.runDir }, async (host, runDir) => [
    ...controllers(host),
    await network(`${runDir}/net/doctor`, host.facts.ipv6),
    await container(host, runDir, load),
    seccompLog(host),
    swap(host),
    await symlinkedDev(host, runDir, signal),
  ])
}

function controllers({ facts }: LaunchHost): Check[] {
  const missing = ['memory', 'cpu', 'pids'].filter((one) => !facts.controllers.includes(one))
  const found = facts.controllers.join(' ')
  const checks = [missing.length === 0
    ? ok('controllers', found)
    : fail('controllers', found, `no limits of ${missing.join(', ')}: nothing is started`, 'start it where these controllers are delegated: a unit with Delegate=yes')]
  const io = facts.controllers.includes('io') || facts.controllers.includes('blkio')
  if (!io) checks.push(warn('io controller', 'not there', 'policies with IOWeight or IO…BandwidthMax are refused', 'drop these limits, or list them under `unenforced:`'))
  checks.push(facts.ioWeight
    ? ok('IOWeight', 'this kernel has it')
    : warn('IOWeight', 'this kernel has no io.weight', 'policies with IOWeight are refused', 'drop the limit, or list it under `unenforced:`'))
  return checks
}

/** Make one as for a plugin, and look whether its counters count. */
async function network(path: string, ipv6: boolean): Promise<Check> {
  const name = 'sealed network'
  try {
    const network = await makeSealedNetwork(path, ipv6)
    try {
      const send = `exec 3<>/dev/udp/192.0.2.1/9; echo x >&3`
      await execa('/usr/bin/nsenter', [`--net=${path}`, '/bin/bash', '-c', send], { reject: false, timeout: 10_000, env: { PATH: '/usr/bin:/bin' }, extendEnv: false })
      const refused = await readRefused(network)
      const counted = [...refused.totals.values()].reduce((sum, one) => sum + one, 0)
      return counted > 0
        ? ok(name, `made, and a packet to 192.0.2.1 was refused and counted by nft`)
        : fail(name, 'made, but a packet was not counted', 'attempts to reach the network would stay unseen', 'look at `nft --version`; Cordon needs nftables 1.0 and a kernel with nf_tables')
    } finally {
      await removeSealedNetwork(network)
    }
  } catch (error) {
    return fail(name, messageOf(error), 'no plugin gets a network namespace, so none is started', 'the kernel needs CONFIG_NET_NS and nf_tables: modprobe nf_tables')
  }
}

/** /usr/bin/true as a plugin would be started: same plan, same profile, attested, and its exit status looked at. */
async function container(host: LaunchHost, runDir: string, load: CommandContext['load']): Promise<Check> {
  const name = 'container'
  const { kind, version } = host.facts.runtime
  try {
    const loaded = finishRaw({ plugin: NAME, executable: { path: '/usr/bin/true' } }, '(cordon doctor)', load)
    const slot = await makeSlot({ bundlesDir: host.bundlesDir, networksDir: `${runDir}/net`, socketsDir: null, ipv6: host.facts.ipv6 }, host)
    const open = await openRun(host, slot, {
      uid: host.users.own.probe, group: NAME, object: null, dataPath: null, door: null,
      compile: (places) => compileCommand(loaded.policy, host.facts, places, ['/usr/bin/true']),
    })
    try {
      const start = performance.now()
      const run = await open.start()
      const words = text(run.stderr).catch(() => '') // cut off: its exit is what counts
      run.stdout.resume()
      run.release()
      const exit = await run.exited
      run.stdin.destroy()
      const took = Math.round(performance.now() - start)
      if (exit.status !== 0) return fail(name, `/usr/bin/true ended with ${exit.text}: ${printable(await words, 300)}`, 'plugins would end likewise', null)
      return ok(name, `${kind} ${version} ran /usr/bin/true behind all walls in ${took} ms; ${Object.keys(run.found).length} facts read back from the kernel agree with the plan`)
    } finally {
      await open.remove()
    }
  } catch (error) {
    return fail(name, messageOf(error), 'nothing can be started on this machine', error instanceof CordonError ? error.hint : null)
  }
}

function seccompLog({ facts }: LaunchHost): Check {
  const name = 'seccomp log'
  if (facts.runtime.kind !== 'crun') return warn(name, 'runc is started without the log flag', 'system calls are refused all the same, but the kernel does not log refusals', null)
  const logged = readFileSync('/proc/sys/kernel/seccomp/actions_logged', 'utf8')
  return logged.includes('errno')
    ? ok(name, 'crun set SECCOMP_FILTER_FLAG_LOG, and the kernel logs refusals')
    : warn(name, `kernel.seccomp.actions_logged is "${logged.trim()}"`, 'system calls are refused all the same, but the kernel does not log refusals', 'sysctl kernel.seccomp.actions_logged="kill_process kill_thread trap errno user_notif trace log"')
}

function swap({ tree }: LaunchHost): Check {
  const name = 'swap'
  const on = readFileSync('/proc/swaps', 'utf8').trim().split('\n').length - 1
  const found = on === 0 ? 'none in use' : `${on} in use`
  const file = tree.version === 2 ? `${tree.dirs('').get('unified')}/memory.swap.max` : `${tree.dirs('').get('memory')?.replace(/\/[^/]*$/, '')}/memory.memsw.limit_in_bytes`
  if (existsSync(file)) return ok(name, `${found}; plugins may use none`)
  return on === 0
    ? ok(name, `${found}; this kernel cannot count it per plugin, which only matters once there is some`)
    : warn(name, `${found}, and this kernel does not count it per plugin`, 'a plugin may push memory beyond MemoryMax out to swap', 'swapoff -a, or boot with swapaccount=1')
}

/**
 * runc CVE-2026-41579, crun CVE-2026-47766: a root directory whose /dev is a link makes the runtime write where the link points, on the
 * host. Distributions mend it without changing the version, so we look what it does: with a link to an empty directory of ours.
 */
async function symlinkedDev(host: LaunchHost, runDir: string, signal: AbortSignal): Promise<Check> {
  const name = 'linked /dev'
  const dir = `${runDir}/linked-dev`
  const outside = `${dir}/outside`
  for (const made of [`${dir}/rootfs/proc`, outside]) mkdirSync(made, { recursive: true })
  symlinkSync(outside, `${dir}/rootfs/dev`)
  writeFileSync(`${dir}/config.json`, JSON.stringify({
    ociVersion: '1.0.2',
    process: { terminal: false, user: { uid: 65534, gid: 65534 }, args: ['/none'], env: [], cwd: '/', capabilities: {}, noNewPrivileges: true },
    root: { path: 'rootfs', readonly: false },
    mounts: [{ destination: '/proc', type: 'proc', source: 'proc' }],
    linux: { namespaces: [{ type: 'mount' }, { type: 'pid' }, { type: 'ipc' }, { type: 'uts' }, { type: 'network' }], cgroupsPath: host.tree.ociPath(NAME, 'linked-dev') },
  }))
  const { kind, path } = host.facts.runtime
  const manager = kind === 'crun' ? ['--cgroup-manager', 'cgroupfs'] : []
  // It is meant to end badly, with or without having followed the link: there is no program in that root.
  const options = { reject: false, extendEnv: false, env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' }, stdin: 'ignore', timeout: RUNTIME_LIMIT_MS, cancelSignal: signal } as const
  await execa(path, ['--root', `${dir}/state`, ...manager, 'run', '--bundle', dir, 'cordon-doctor'], options)
  await execa(path, ['--root', `${dir}/state`, 'delete', '--force', 'cordon-doctor'], options)
  const written = readdirSync(outside)
  return written.length === 0
    ? ok(name, `${kind} does not follow a linked /dev out of a root directory`)
    : warn(name, `${kind} followed a linked /dev out of a root directory and made ${written.slice(0, 4).join(', ')}`, 'a known hole (CVE-2026-41579, CVE-2026-47766); Cordon builds its roots itself and they have no such link', `update ${kind}`)
}

function messageOf(error: unknown): string {
  return printable(error instanceof Error ? error.message : String(error), 600)
}
