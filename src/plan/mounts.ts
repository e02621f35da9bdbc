import type { Grant } from '../policy/policy.ts'
import type { PlanMount } from './plan.ts'

/** Where things lie inside the walls; the policy cannot mount over any of them. */
export const INSIDE = {
  init: '/.cordon/init',
  plugin: '/plugin',
  data: '/data',
  socketDir: '/run/plugin',
  socket: '/run/plugin/plugin.sock',
} as const

/** Read-only and shared by all: what programs of a Debian system expect below /etc, public by nature. */
export const ETC_BINDS = ['/etc/alternatives', '/etc/ssl/certs', '/etc/ld.so.cache'] as const

/** OCI's default masks (runtime-spec, config-linux.md "Masked Paths") and what else tells about the host or its kernel. */
export const MASKED = [
  '/proc/acpi', '/proc/bus', '/proc/asound', '/proc/kcore', '/proc/keys', '/proc/key-users', '/proc/latency_stats', '/proc/timer_list', '/proc/timer_stats',
  '/proc/sched_debug', '/proc/scsi', '/proc/interrupts', '/proc/kallsyms', '/proc/modules', '/proc/cmdline', '/proc/config.gz', '/proc/kmsg',
] as const
export const READONLY = ['/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'] as const

const RO = ['bind', 'ro', 'nosuid', 'nodev'] // `bind`, not `rbind`: a submount of the source would come along writable

export interface MountInput {
  /** ETC_BINDS that exist on this host. */
  readonly etc: readonly string[]
  readonly initPath: string
  /** Content store object and where it appears; null for a program that is already under /usr. */
  readonly program: { readonly source: string; readonly destination: string } | null
  readonly runtime: readonly Grant[]
  readonly read: readonly Grant[]
  readonly sockets: readonly Grant[]
  readonly tmpMaxBytes: number
  /** Host path of the plugin's own directory; null gives it a tmpfs that dies with the run. */
  readonly dataPath: string | null
  /** Host path of the tmpfs that holds its socket; null: it serves none. */
  readonly socketDirPath: string | null
  readonly uid: number
}

/**
 * The whole file system view, in mount order: system, grants, then whatever is writable, last, so that nothing is ever
 * mounted below a directory that the plugin controls (bubblewrap CVE-2026-87766).
 */
export function compileMounts(input: MountInput): PlanMount[] {
  const bind = (source: string, destination: string, options: readonly string[]): PlanMount => ({ destination, type: 'bind', source, options })
  // Owned by the plugin, not 1777: runc gives a tmpfs the mode of its mount point, which would shut the plugin out of a root-owned one.
  const tmpfs = (destination: string, size: number, inodes: number, ...more: string[]): PlanMount => ({
    destination, type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'nodev', ...more, `size=${size}`, `nr_inodes=${inodes}`, `uid=${input.uid}`, `gid=${input.uid}`, 'mode=0700'],
  })
  const mounts: PlanMount[] = [
    { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
    // `nodev` would close its device nodes; the plugin cannot create any (no CAP_MKNOD), and cannot write there (root, 0755).
    { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'noexec', 'strictatime', 'mode=755', 'size=65536'] },
    tmpfs('/dev/shm', Math.min(input.tmpMaxBytes, 64 * 2 ** 20), 1024, 'noexec'),
    { destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup', options: ['ro', 'nosuid', 'noexec', 'nodev'] },
    bind('/usr', '/usr', RO),
    ...input.etc.map((path) => bind(path, path, [...RO, 'noexec'])),
    bind(input.initPath, INSIDE.init, RO),
  ]
  if (input.program !== null) mounts.push(bind(input.program.source, input.program.destination, RO))
  const grant = (path: string, options: readonly string[], pinned: NonNullable<PlanMount['pinned']>): PlanMount => ({ ...bind(path, path, options), pinned })
  mounts.push(...input.runtime.map(({ path }) => grant(path, RO, 'tree')))
  mounts.push(...input.read.map(({ path }) => grant(path, [...RO, 'noexec'], 'path')))
  mounts.push(...input.sockets.map(({ path }) => grant(path, [...RO, 'noexec'], 'socket')))
  mounts.push(tmpfs('/tmp', input.tmpMaxBytes, 16_384))
  if (input.socketDirPath !== null) mounts.push(bind(input.socketDirPath, INSIDE.socketDir, ['bind', 'rw', 'nosuid', 'nodev', 'noexec']))
  mounts.push(input.dataPath !== null
    ? bind(input.dataPath, INSIDE.data, ['bind', 'rw', 'nosuid', 'nodev'])
    : tmpfs(INSIDE.data, input.tmpMaxBytes, 16_384))
  return mounts
}
