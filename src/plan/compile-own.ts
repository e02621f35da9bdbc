import type { RunId } from '../base/ids.ts'
import { MALLOC_ENV } from '../base/malloc-env.ts'
import { compileCgroup } from './limits.ts'
import { MASKED, READONLY } from './mounts.ts'
import type { HostFacts, PlanMount, SandboxPlan } from './plan.ts'
import { compileSeccomp } from './seccomp.ts'

/** Cordon's own unprivileged processes: each is one Node program in one file. */
export interface OwnPlaces {
  readonly runId: RunId
  readonly uid: number
  readonly rootPath: string
  readonly cgroupPath: string
  /** The Node binary and the bundle: two files, mounted read-only wherever the checkout lies. */
  readonly nodePath: string
  readonly bundlePath: string
}

/** 384 MiB: ten plugins need about 90; the rest is head room for bodies in flight. Beyond it the gateway is killed and started again. */
const GATEWAY_MEMORY = 384 * 2 ** 20
/**
 * 256 connections of each of ten plugins, with both directions' own buffers full, stay below half of it. What the kernel holds besides is not bounded by
 * their number, and is watched (launcher/tcp-memory.ts).
 */
const DOOR_MEMORY = 384 * 2 ** 20

/** Ten times a plugin's: whoever waits for a page or a connection waits for these, while some plugin uses all that it can get. */
const OWN_WEIGHT = 1000

/**
 * The gateway parses what plugins and browsers send, so it stands behind walls of its own: no file of the host, no capability, no new
 * process, and no network either. It serves on a socket that was opened in the host's namespace and handed in, and reaches plugins
 * over Unix sockets, so taking it over opens no way to anywhere.
 * @param socketsPath parent of the plugins' socket directories; later mounts below it must appear (`rslave`)
 */
export function compileGateway(facts: HostFacts, places: OwnPlaces & { readonly netnsPath: string; readonly socketsPath: string }): SandboxPlan {
  const sockets: PlanMount = { destination: places.socketsPath, type: 'bind', source: places.socketsPath, options: ['rbind', 'rslave', 'ro', 'nosuid', 'nodev', 'noexec'] }
  return compileOwn(facts, places, { subject: 'gateway', memory: GATEWAY_MEMORY, networkPath: places.netnsPath, mounts: [sockets] })
}

/**
 * The door parses names, TLS hellos and HTTP heads of plugins and answers of the network, and is the only process that dials out. It has the
 * host's network and nothing else: no file, no secret of a plugin, no session of a browser.
 */
export function compileDoor(facts: HostFacts, places: OwnPlaces): SandboxPlan {
  return compileOwn(facts, places, { subject: 'door', memory: DOOR_MEMORY, networkPath: null, mounts: [] })
}

function compileOwn(facts: HostFacts, places: OwnPlaces, own: { subject: 'gateway' | 'door'; memory: number; networkPath: string | null; mounts: readonly PlanMount[] }): SandboxPlan {
  const ro = (source: string, destination: string): PlanMount => ({ destination, type: 'bind', source, options: ['bind', 'ro', 'nosuid', 'nodev'] })
  const bundle = `/app/${own.subject}.cjs`
  return Object.freeze({
    runId: places.runId,
    subject: own.subject,
    own: true,
    listeners: null,
    architecture: facts.architecture,
    runtime: facts.runtime.kind,
    user: { uid: places.uid, gid: places.uid, additionalGids: [] },
    args: ['/app/node', '--max-semi-space-size=4', '--max-old-space-size=192', bundle],
    cwd: '/',
    env: { PATH: '/usr/bin', NODE_CHANNEL_FD: '4', NODE_CHANNEL_SERIALIZATION_MODE: 'json', NODE_ENV: 'production', ...MALLOC_ENV },
    hostname: own.subject,
    rootPath: places.rootPath,
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
      { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'noexec', 'strictatime', 'mode=755', 'size=65536'] },
      { destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup', options: ['ro', 'nosuid', 'noexec', 'nodev'] },
      ro('/usr', '/usr'),
      ro(places.nodePath, '/app/node'),
      ro(places.bundlePath, bundle),
      ...own.mounts,
    ],
    masked: MASKED,
    readonly: READONLY,
    namespaces: { networkPath: own.networkPath },
    cgroup: compileCgroup(
      { MemoryMax: own.memory, MemoryHigh: null, CPUQuota: 400, CPUWeight: OWN_WEIGHT, IOWeight: null, IOReadBandwidthMax: null, IOWriteBandwidthMax: null, TasksMax: 64, LimitNOFILE: 16_384, TmpMax: 0, EgressMax: null, MaxConnections: 0 },
      [], facts, places.cgroupPath,
    ),
    rlimits: { NOFILE: 16_384, CORE: 1 },
    seccomp: compileSeccomp(facts.architecture, facts.runtime.kind, 'gateway'),
    unenforced: [],
  } satisfies SandboxPlan)
}
