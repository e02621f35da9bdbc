import { existsSync, lstatSync, readFileSync, statSync } from 'node:fs'
import { createServer } from 'node:net'
import { release } from 'node:os'
import { dirname } from 'node:path'
import { listSegments } from '../audit/segments.ts'
import { verifyLog } from '../audit/verify/log.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { isAppendOnly } from '../launcher/append-only.ts'
import { cgroupVersion } from '../launcher/cgroup-tree.ts'
import { hostHasIpv6 } from '../launcher/network.ts'
import { blockDevice, chooseRuntime, findInit, findProgram, hostArchitecture, PROGRAMS, requireMergedUsr } from '../launcher/preflight.ts'
import { hostResolvers, RESOLV_CONF, type Resolvers } from '../launcher/resolvers.ts'
import type { HostConfig } from '../policy/host-config.ts'
import { loadPolicies } from '../policy/load.ts'
import { STATUS_ANSWER } from '../wire/operator-answers.ts'
import { confirmedKey, readFingerprint } from './audit-key.ts'
import type { CommandContext } from './context.ts'
import { askDaemon } from './control.ts'
import { fail, ok, untried, warn, type Check } from './doctor-check.ts'

const DAEMON_LIMIT_MS = 10_000

/** The machine as it lies there: nothing is started or changed. */
export function lookAtMachine(config: HostConfig, root: boolean): Check[] {
  return [
    root ? ok('root', 'yes') : fail('root', 'no', 'users, namespaces and cgroups cannot be made', 'run it as root, or with sudo'),
    attempt('processor', () => ok('processor', `${hostArchitecture()}, Linux ${release()}`)),
    attempt('merged /usr', () => {
      requireMergedUsr()
      return ok('merged /usr', 'yes')
    }),
    ...programs(),
    attempt('runtime', () => {
      const runtime = chooseRuntime(config.runtime, cgroupVersion())
      return ok('runtime', `${runtime.path}`)
    }),
    cgroups(),
    resolvers(hostResolvers()),
    hostHasIpv6() ? ok('IPv6', 'on; sealed like IPv4') : ok('IPv6', 'off in this kernel (ipv6.disable=1)', 'plugins have none; no wall depends on it'),
    userNamespaces(),
    setuidBwrap(),
  ]
}

function programs(): Check[] {
  const missing = PROGRAMS.filter(({ path }) => findProgram([path]) === null)
  const init = findInit()
  return [
    ...missing.map(({ path, package: name }) => fail('program', `${path} is missing, or is not root's`, 'nothing can be started', `apt-get install ${name}`)),
    ...(missing.length === 0 ? [ok('programs', PROGRAMS.map(({ path }) => path.split('/').pop()).join(' '))] : []),
    init === null ? fail('init', 'neither catatonit nor tini', 'nothing can be started', 'apt-get install catatonit') : ok('init', init),
  ]
}

function cgroups(): Check {
  if (cgroupVersion() === 2) return ok('cgroups', 'unified (version 2)')
  return warn('cgroups', 'hybrid or version 1',
    'runc builds the walls, not crun. MemoryMax, CPUQuota and TasksMax hold. MemoryHigh and memory pressure do not exist: a policy with MemoryHigh is refused unless it lists it under `unenforced:`. The kernel kills one process at out-of-memory; Cordon then kills the rest of the plugin itself, up to 250 ms later',
    'boot with systemd.unified_cgroup_hierarchy=1')
}

/** Whom the door asks for the names that plugins may reach. */
export function resolvers({ asked, skipped }: Resolvers): Check {
  const name = 'resolvers'
  const mend = `name one by an address that says where it is in ${RESOLV_CONF}, such as that of systemd-resolved (127.0.0.53)`
  const found = [asked.join(' '), ...skipped].filter((part) => part !== '').join('; ')
  if (asked.length === 0) return warn(name, found === '' ? `${RESOLV_CONF} names none` : found, 'no name can be resolved: plugins reach addresses under a `cidr` rule only', mend)
  return skipped.length === 0 ? ok(name, found) : warn(name, found, 'the door does not ask it; where the others do not answer, names cannot be resolved', mend)
}

/** Sandboxes without a root daemon need them and break where they are restricted; here it does not matter either way. */
function userNamespaces(): Check {
  const value = (path: string): string | null => (existsSync(path) ? readFileSync(path, 'utf8').trim() : null)
  const off = value('/proc/sys/user/max_user_namespaces') === '0' || value('/proc/sys/kernel/unprivileged_userns_clone') === '0' || value('/proc/sys/kernel/apparmor_restrict_unprivileged_userns') === '1'
  return ok('user namespaces', `${off ? 'restricted' : 'open to users'}; Cordon needs none, and plugins get none`)
}

function setuidBwrap(): Check {
  const path = '/usr/bin/bwrap'
  const found = statSync(path, { throwIfNoEntry: false })
  if (found === undefined) return ok('bubblewrap', 'not installed; Cordon does not use it')
  if ((found.mode & 0o4000) === 0) return ok('bubblewrap', 'installed, not setuid; Cordon does not use it')
  return warn('bubblewrap', `${path} is setuid root`, 'Cordon does not use it and plugins cannot gain from it (no_new_privs), but other users of this machine can (CVE-2026-41163)', `chmod u-s ${path}`)
}

/** Places, port, log and daemon of the configured host. */
export async function lookAtHost(context: CommandContext, root: boolean): Promise<Check[]> {
  const { config } = context
  const daemon = root ? await askDaemon(config.runDir, { type: 'status' }, STATUS_ANSWER, context.signal, DAEMON_LIMIT_MS).catch((error: unknown) => error) : null
  const status = STATUS_ANSWER.safeParse(daemon).data ?? null
  return [
    policies(context, root),
    stateDir(config.stateDir),
    disk(config.stateDir),
    root ? await auditLog(config.stateDir, context.signal) : untried('audit log', `${config.stateDir} is open to root alone`),
    ...(root ? await appendOnly(config.stateDir, status !== null) : []),
    ...(root ? witnesses(config, Date.now()) : []),
    root ? await auditKeyNoted(config.stateDir) : untried('audit key', `${config.stateDir} is open to root alone`),
    await port(config, status?.port ?? null),
    daemonCheck(daemon, status),
  ]
}

function policies({ config, load }: CommandContext, root: boolean): Check {
  const name = 'policies'
  try {
    const { loaded, refused } = loadPolicies(config.policiesDir, load)
    const first = refused[0]
    if (first === undefined) return ok(name, `${config.policiesDir}: ${loaded.size}, all root's and valid`)
    return fail(name, `${refused.length} of ${loaded.size + refused.length} refused, such as ${printable(first.file, 200)}: ${printable(first.error.message, 300)}`, 'these plugins are not started', 'cordon policy check')
  } catch (error) {
    if (!(error instanceof CordonError)) throw error
    if (error.code === 'POLICY_ABSENT') return warn(name, `${config.policiesDir} does not exist`, 'no plugin has a policy, so none runs', 'cordon policy init NAME')
    if (!root && error.code === 'POLICY_UNREADABLE') return untried(name, error.message)
    return fail(name, error.message, 'no policy is believed, so no plugin runs', error.hint)
  }
}

function stateDir(path: string): Check {
  const name = 'state directory'
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found === undefined) return ok(name, `${path} does not exist yet; it is made at the first start`)
  const mode = (found.mode & 0o7777).toString(8)
  const what = `${path} is of uid ${found.uid}, mode ${mode}`
  if (!found.isDirectory()) return fail(name, `${path} is no directory`, 'nothing can be started', 'move it away')
  if (found.uid !== 0 || (found.mode & 0o022) !== 0) return fail(name, what, 'others could change the audit log, the store and the uid records', `chown root:root ${path}; chmod 700 ${path}`)
  return (found.mode & 0o044) === 0 ? ok(name, what) : warn(name, what, 'others can see the names of what lies in it', `chmod 711 ${path}`)
}

function disk(path: string): Check {
  const name = 'disk'
  let at = path
  while (!existsSync(at)) at = dirname(at)
  const device = blockDevice(at)
  return device === null
    ? warn(name, `${path} is on no single block device`, 'policies with IOReadBandwidthMax or IOWriteBandwidthMax are refused', 'drop these limits, list them under `unenforced:`, or put state_dir on a disk')
    : ok(name, `${path} is on ${device}; IO limits apply there`)
}

async function auditLog(stateDir: string, signal: AbortSignal): Promise<Check> {
  const name = 'audit log'
  const path = `${stateDir}/audit`
  if (!existsSync(`${path}/records`)) return ok(name, 'none yet; it begins at the first start')
  try {
    const { verdict, records } = await verifyLog(path, { signal })
    const found = `${records} records: ${verdict}`
    if (verdict === 'whole') return ok(name, found)
    if (verdict === 'unverifiable-tail') return warn(name, found, 'what was recorded last is not sealed, although it should be', 'cordon audit verify')
    return verdict === 'gap'
      ? warn(name, found, 'some records were lost, and the log itself says which', 'cordon audit verify')
      : fail(name, found, 'the log is not what was written', 'cordon audit verify')
  } catch (error) {
    if (!(error instanceof CordonError)) throw error
    return fail(name, error.message, 'acts that must be recorded are refused', error.hint)
  }
}

/** It guards against mistakes; against a root who can lift it stand the seals. */
async function appendOnly(stateDir: string, serving: boolean): Promise<Check[]> {
  const name = 'append-only'
  const newest = (await listSegments(`${stateDir}/audit`).catch(() => [])).at(-1)
  if (newest === undefined) return [] // none, or none that can be read: `audit log` says it
  if (isAppendOnly(newest.path)) return [ok(name, 'the open segment of the audit log can only be appended to, until root lifts that (chattr -a)')]
  if (!serving) return [ok(name, 'not set; a running daemon sets it on the open segment of the audit log')]
  return [warn(name, 'the open segment of the audit log is not append-only', 'a stray rm or > can cut it, which is noticed at the next record', 'put state_dir on ext4, xfs or btrfs; install e2fsprogs; let the daemon keep CAP_LINUX_IMMUTABLE')]
}

/** Each answered when its file was replaced last; the daemon asks every minute. */
function witnesses({ audit, stateDir }: HostConfig, nowMs: number): Check[] {
  return audit.witnesses.map(({ name, url }) => {
    const at = statSync(`${stateDir}/audit/witnessed/${name}`, { throwIfNoEntry: false })?.mtimeMs
    const check = `witness ${name}`
    const mend = `look for witness.changed: cordon audit query --type witness.changed; is ${printable(url, 100)} up?`
    if (at === undefined) return warn(check, 'has not answered yet', 'nobody outside this machine can tell whether the log was rewritten', mend)
    const minutes = Math.round((nowMs - at) / 60_000)
    return minutes < 10 ? ok(check, `answered ${minutes} min ago`) : warn(check, `answered last at ${new Date(at).toISOString()}`, 'what was recorded since then is not witnessed', mend)
  })
}

/** A log that was begun anew in the place of another is whole in itself: only a key that was noted elsewhere tells. */
async function auditKeyNoted(stateDir: string): Promise<Check> {
  const name = 'audit key'
  if (!existsSync(`${stateDir}/audit/records`)) return ok(name, 'none yet; it is made with the log')
  try {
    const fingerprint = await readFingerprint(stateDir)
    const confirmed = confirmedKey(stateDir)
    if (confirmed === fingerprint) return ok(name, `${fingerprint}, noted elsewhere`)
    if (confirmed === null) return warn(name, fingerprint, 'nobody said that it is noted elsewhere; without it a new log in the place of this one cannot be told from it', 'cordon audit key')
    return fail(name, `${fingerprint}, confirmed was ${printable(confirmed, 60)}`, 'this is not the log that the key was noted of', 'cordon audit key')
  } catch (error) {
    if (!(error instanceof CordonError)) throw error
    return warn(name, error.message, 'it cannot be shown that this is the log that was begun here', error.hint)
  }
}

/** By binding it, for a moment. */
async function port({ listen: { host, port } }: HostConfig, serving: number | null): Promise<Check> {
  const name = 'port'
  const where = `${host}:${port}`
  if (port === 0) return ok(name, `${where}: any free one`)
  const server = createServer()
  const error = await new Promise<NodeJS.ErrnoException | null>((done) => {
    server.once('error', done)
    server.listen(port, host, () => server.close(() => done(null)))
  })
  if (error === null) return ok(name, `${where} is free`)
  if (error.code === 'EADDRINUSE' && serving === port) return ok(name, `${where} is served by the running daemon`)
  if (error.code === 'EACCES') return untried(name, `${where} cannot be bound by this user`)
  return fail(name, `${where}: ${error.code ?? error.message}`, 'the gateway cannot serve', `end what holds it (ss -ltnp 'sport = :${port}'), or set another listen: in cordon.yaml`)
}

function daemonCheck(answer: unknown, status: { version: string; plugins: readonly unknown[] } | null): Check {
  const name = 'daemon'
  if (answer === null) return untried(name, 'its control socket is open to root alone')
  if (status !== null) return ok(name, `runs, version ${printable(status.version)}, ${status.plugins.length} plugins`)
  if (answer instanceof CordonError && answer.code === 'CONTROL_NOT_RUNNING') return warn(name, 'does not run', 'no plugin runs', 'systemctl start cordon, or: cordon serve')
  return fail(name, printable(answer instanceof Error ? answer.message : String(answer), 300), 'it cannot be asked', 'restart it, then look at its log')
}

function attempt(name: string, look: () => Check): Check {
  try {
    return look()
  } catch (error) {
    if (!(error instanceof CordonError)) throw error
    return fail(name, error.message, 'nothing can be started on this machine', error.hint)
  }
}
