import { accessSync, constants, existsSync, lstatSync, readFileSync, statSync } from 'node:fs'
import { release } from 'node:os'
import { CordonError } from '../errors.ts'
import type { HostFacts } from '../plan/plan.ts'
import type { HostConfig } from '../policy/host-config.ts'
import type { CgroupTree } from './cgroup-tree.ts'
import { hostHasIpv6 } from './network.ts'
import { runProgram } from './run-program.ts'

/** Everything that is started by absolute path; `doctor` shows the same list. */
export const PROGRAMS = [
  { path: '/usr/bin/unshare', package: 'util-linux' },
  { path: '/usr/bin/nsenter', package: 'util-linux' },
  { path: '/usr/bin/setpriv', package: 'util-linux' },
  { path: '/usr/bin/flock', package: 'util-linux' },
  { path: '/usr/bin/mount', package: 'mount' },
  { path: '/usr/bin/umount', package: 'mount' },
  { path: '/usr/bin/mkfifo', package: 'coreutils' },
  { path: '/usr/sbin/ip', package: 'iproute2' },
  { path: '/usr/sbin/nft', package: 'nftables' },
] as const

const RUNTIMES = {
  crun: ['/usr/bin/crun', '/usr/local/bin/crun'],
  runc: ['/usr/bin/runc', '/usr/sbin/runc', '/usr/local/sbin/runc'],
} as const
const INITS = ['/usr/bin/catatonit', '/usr/libexec/catatonit/catatonit', '/usr/bin/tini', '/usr/bin/tini-static'] as const

/** A program that exists, is root's and can be run; null otherwise. */
export function findProgram(paths: readonly string[]): string | null {
  return paths.find((path) => {
    try {
      accessSync(path, constants.X_OK)
      return statSync(path).uid === 0
    } catch {
      return false // not there, or not to be run: the next place
    }
  }) ?? null
}

export function findInit(): string | null {
  return findProgram(INITS)
}

/** What is missing before anything can be started; empty when all is there. */
function missingPrograms(): string[] {
  const missing: string[] = PROGRAMS.filter(({ path }) => findProgram([path]) === null).map((p) => `${p.path} (Debian package ${p.package})`)
  if (findInit() === null) missing.push('an init: catatonit or tini (Debian packages of these names)')
  return missing
}

/**
 * The OCI runtime that fits this host: crun on unified cgroup v2, runc elsewhere (crun refuses hybrid hosts).
 * @throws CordonError HOST_RUNTIME when the wanted one is absent or does not fit
 */
export function chooseRuntime(config: HostConfig['runtime'], version: 1 | 2): { kind: 'crun' | 'runc'; path: string } {
  const automatic = version === 2 && findProgram(RUNTIMES.crun) !== null ? 'crun' : 'runc'
  const kind = config.kind === 'auto' ? automatic : config.kind
  if (kind === 'crun' && version === 1) throw new CordonError('HOST_RUNTIME', 'crun works on unified cgroup v2 only, and this host is hybrid or v1')
  const path = config.path === null ? findProgram(RUNTIMES[kind]) : findProgram([config.path])
  if (path === null) throw new CordonError('HOST_RUNTIME', `no ${config.path ?? kind} that belongs to root and can be run (looked at ${config.path ?? RUNTIMES[kind].join(', ')})`)
  return { kind, path }
}

/**
 * Look at the machine once, before anything is started.
 * @throws CordonError HOST_NOT_ROOT, HOST_UNSUPPORTED, HOST_PROGRAMS, HOST_RUNTIME
 */
export async function probeHost(config: HostConfig, tree: CgroupTree): Promise<HostFacts> {
  requireRoot()
  const missing = missingPrograms()
  if (missing.length > 0) throw new CordonError('HOST_PROGRAMS', `this host lacks ${missing.join(', ')}`)
  const runtime = chooseRuntime(config.runtime, tree.version)
  const version = (await runProgram(runtime.path, ['--version'])).split('\n')[0]?.replace(/^\S+ version /, '') ?? 'unknown'
  return {
    architecture: hostArchitecture(),
    cgroupVersion: tree.version,
    controllers: tree.controllers,
    runtime: { ...runtime, version },
    ipv6: hostHasIpv6(),
    ioWeight: hasIoWeight(tree),
    stateDevice: blockDevice(config.stateDir),
    kernel: release(),
  }
}

export function requireRoot(): void {
  if (process.getuid?.() !== 0) throw new CordonError('HOST_NOT_ROOT', 'this needs root: users, namespaces and cgroups are made for each plugin')
}

export function hostArchitecture(): 'x86_64' | 'aarch64' {
  if (process.arch === 'x64') return 'x86_64'
  if (process.arch === 'arm64') return 'aarch64'
  throw new CordonError('HOST_UNSUPPORTED', `a ${process.arch} processor; there are seccomp lists for x86-64 and arm64 only`)
}

/** The plugin's root links /bin, /lib and the like into /usr, so the host's must be merged (Debian since 12). */
export function requireMergedUsr(): void {
  if (!lstatSync('/bin').isSymbolicLink()) throw new CordonError('HOST_UNSUPPORTED', '/bin is a directory of its own; a host with merged /usr is needed (usr-is-merged)')
}

function hasIoWeight({ version }: CgroupTree): boolean {
  // The root cgroup has no such file, so ask the leaf that the launcher itself stands in (cgroup-tree.ts).
  return existsSync(version === 2 ? '/sys/fs/cgroup/supervisor/io.weight' : '/sys/fs/cgroup/blkio/blkio.weight')
}

/** "major:minor" of the disk that holds a directory, when the kernel lists it as one (sysfs /sys/dev/block). */
export function blockDevice(path: string): string | null {
  if (!existsSync(path)) return null
  const device = statSync(path).dev
  const [major, minor] = [Math.floor(device / 256) & 0xfff, device % 256]
  try {
    // A partition is throttled through its whole disk.
    const disk = existsSync(`/sys/dev/block/${major}:${minor}/partition`) ? readFileSync(`/sys/dev/block/${major}:${minor}/../dev`, 'utf8').trim() : `${major}:${minor}`
    return existsSync(`/sys/dev/block/${disk}`) ? disk : null
  } catch {
    return null // a file system without a disk of its own; the caller says that nothing can be throttled
  }
}
