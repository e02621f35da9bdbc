import type { RunId } from '../base/ids.ts'
import { compileCgroup } from './limits.ts'
import { MASKED, READONLY } from './mounts.ts'
import type { HostFacts, PlanMount, SandboxPlan } from './plan.ts'
import { compileSeccomp } from './seccomp.ts'

export interface GatewayPlaces {
  readonly runId: RunId
  readonly uid: number
  readonly rootPath: string
  readonly cgroupPath: string
  readonly netnsPath: string
  /** The Node binary and the gateway's bundle: two files, mounted read-only wherever the checkout lies. */
  readonly nodePath: string
  readonly bundlePath: string
  /** Parent of the plugins' socket directories; later mounts below it must appear (`rslave`). */
  readonly socketsPath: string
}

/** 384 MiB: ten plugins need about 90; the rest is head room for bodies in flight. Beyond it the gateway is killed and started again. */
const MEMORY_MAX = 384 * 2 ** 20

/**
 * The gateway parses every hostile byte, so it stands behind walls of its own: no file of the host, no capability, no new process,
 * and no network either. It serves on a socket that was opened in the host's namespace and handed in, and reaches plugins over Unix
 * sockets, so taking it over opens no way to anywhere.
 */
export function compileGateway(facts: HostFacts, places: GatewayPlaces): SandboxPlan {
  const ro = (source: string, destination: string): PlanMount => ({ destination, type: 'bind', source, options: ['bind', 'ro', 'nosuid', 'nodev'] })
  return Object.freeze({
    runId: places.runId,
    subject: 'gateway',
    architecture: facts.architecture,
    runtime: facts.runtime.kind,
    user: { uid: places.uid, gid: places.uid, additionalGids: [] },
    args: ['/app/node', '--max-semi-space-size=4', '--max-old-space-size=192', '/app/gateway.cjs'],
    cwd: '/',
    env: { PATH: '/usr/bin', NODE_CHANNEL_FD: '4', NODE_CHANNEL_SERIALIZATION_MODE: 'json', NODE_ENV: 'production' },
    hostname: 'gateway',
    rootPath: places.rootPath,
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
      { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'noexec', 'strictatime', 'mode=755', 'size=65536'] },
      { destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup', options: ['ro', 'nosuid', 'noexec', 'nodev'] },
      ro('/usr', '/usr'),
      ro(places.nodePath, '/app/node'),
      ro(places.bundlePath, '/app/gateway.cjs'),
      { destination: places.socketsPath, type: 'bind', source: places.socketsPath, options: ['rbind', 'rslave', 'ro', 'nosuid', 'nodev', 'noexec'] },
    ],
    masked: MASKED,
    readonly: READONLY,
    namespaces: { networkPath: places.netnsPath },
    cgroup: compileCgroup(
      { MemoryMax: MEMORY_MAX, MemoryHigh: null, CPUQuota: 400, CPUWeight: 200, IOWeight: null, IOReadBandwidthMax: null, IOWriteBandwidthMax: null, TasksMax: 64, LimitNOFILE: 16_384, TmpMax: 0, EgressMax: null },
      [], facts, places.cgroupPath,
    ),
    rlimits: { NOFILE: 16_384, CORE: 1 },
    seccomp: compileSeccomp(facts.architecture, facts.runtime.kind, 'gateway'),
    unenforced: [],
  } satisfies SandboxPlan)
}
