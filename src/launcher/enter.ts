import { existsSync, readFileSync } from 'node:fs'
import { CordonError } from '../errors.ts'
import { cgroupVersion } from './cgroup-tree.ts'

const MARK = 'CORDON_ENTERED'

/** The lock is the open file's, so what this becomes holds it to its end; Node keeps descriptors that it inherits from its own children. */
const LOCKED = `
exec 9>>"$1" || exit 73
/usr/bin/flock --nonblock 9 || { printf '%b\\n' "$2" >&2; exit "$3"; }
shift 3
exec "$@"`

/** Has this process been started again in namespaces of its own? */
export function hasEntered(): boolean {
  return process.env[MARK] === '1'
}

/**
 * Become the same program in a mount namespace of its own (private: all mounts made there vanish with it) and, on unified
 * hosts, in a cgroup namespace rooted at the cgroup that we may divide. execve(2): same pid, same descriptors.
 * Where other processes share our cgroup, systemd gives us a delegated scope first.
 * @param lockFile held (flock(1)) by this process from here to its end; null: none
 * @param again argv of what to become
 * @param environment added to ours
 * @returns never
 * @throws CordonError LAUNCH_CGROUP when nobody can give us a cgroup
 */
export function enterNamespaces(lockFile: string | null, again: readonly string[] = [process.execPath, ...process.execArgv, ...process.argv.slice(1)], environment: Readonly<Record<string, string>> = {}): never {
  const unified = cgroupVersion() === 2
  let chain = ['/usr/bin/unshare', '--mount', '--propagation', 'private', ...(unified ? ['--cgroup'] : []), '--', ...again]
  if (lockFile !== null) {
    const { code, message, hint, exit } = new CordonError('HOST_BUSY', `another daemon holds ${lockFile}`)
    chain = ['/bin/sh', '-c', LOCKED, 'cordon-lock', lockFile, `error: ${code} ${message}\nhint:  ${hint}`, String(exit), ...chain]
  }
  if (unified && !aloneInCgroup()) {
    if (!existsSync('/run/systemd/system')) throw new CordonError('LAUNCH_CGROUP', 'other processes live in our cgroup, and there is no systemd to ask for one of our own')
    chain = ['/usr/bin/systemd-run', '--scope', '--quiet', '--collect', '--property=Delegate=yes', '--', ...chain]
  }
  if (process.execve === undefined) throw new CordonError('HOST_UNSUPPORTED', 'this Node has no process.execve; 24 is needed')
  return process.execve(chain[0] ?? '', chain, { ...process.env, ...environment, [MARK]: '1' })
}

function aloneInCgroup(): boolean {
  const own = /^0::(.*)$/m.exec(readFileSync('/proc/self/cgroup', 'utf8'))?.[1] ?? '/'
  if (own === '/') return true // the root of a container's namespace: the constraint on inner processes does not apply
  return readFileSync(`/sys/fs/cgroup${own}/cgroup.procs`, 'utf8').trim() === String(process.pid)
}
