import { listenPorts, opensDoor } from '../base/egress-rule.ts'
import type { PluginName, RunId } from '../base/ids.ts'
import type { Policy } from '../policy/policy.ts'
import { compileCgroup } from './limits.ts'
import { compileMounts, INSIDE, MASKED, READONLY } from './mounts.ts'
import type { HostFacts, SandboxPlan } from './plan.ts'
import { compileSeccomp } from './seccomp.ts'

/** Argument style of the plugin protocol, section 6: generation 2, generation 1, generation 1 with a database URL. */
export type ArgumentStyle = '2' | '1' | '1db'

/** What the launcher decided and made for this run; all paths are root-owned host paths. */
export interface RunPlaces {
  readonly runId: RunId
  readonly uid: number
  readonly rootPath: string
  readonly initPath: string
  readonly netnsPath: string
  readonly cgroupPath: string
  readonly etc: readonly string[]
  /** Content-store object; null when the program is found under /usr. */
  readonly object: { readonly path: string; readonly entry: string | null } | null
  readonly dataPath: string | null
  readonly socketDirPath: string | null
  /** Uid whose listeners the door has in the namespace; null where there is no door. */
  readonly doorUid: number | null
}

/**
 * Policy and host facts to a plan for one plugin run. Pure; the same input gives the same plan.
 * @throws CordonError PLAN_UNENFORCEABLE
 */
export function compilePlugin(policy: Policy, facts: HostFacts, places: RunPlaces, style: ArgumentStyle): SandboxPlan {
  const program = programPath(policy.plugin, places.object)
  return compile(policy, facts, places, policy.plugin, [program, ...pluginArguments(style)])
}

/** The same walls around any other program: `cordon run`. `args[0]` is looked up inside the walls. */
export function compileCommand(policy: Policy, facts: HostFacts, places: RunPlaces, args: readonly string[]): SandboxPlan {
  const [command, ...rest] = args
  const first = places.object === null ? (command ?? '') : programPath(policy.plugin, places.object)
  return compile(policy, facts, places, 'run', [first, ...rest])
}

function compile(policy: Policy, facts: HostFacts, places: RunPlaces, subject: string, args: readonly string[]): SandboxPlan {
  return Object.freeze({
    runId: places.runId,
    subject,
    own: false,
    listeners: places.doorUid === null || !opensDoor(policy.egress, policy.tripwires !== 'off') ? null : { tcp: [53, ...listenPorts(policy.egress)], udp: [53], uid: places.doorUid },
    architecture: facts.architecture,
    runtime: facts.runtime.kind,
    user: { uid: places.uid, gid: places.uid, additionalGids: [] },
    args,
    cwd: INSIDE.data,
    env: { PATH: '/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin', HOME: INSIDE.data, TMPDIR: '/tmp', LANG: 'C.UTF-8', ...policy.env },
    hostname: subject,
    rootPath: places.rootPath,
    mounts: compileMounts({
      etc: places.etc,
      initPath: places.initPath,
      program: places.object === null ? null : { source: places.object.path, destination: `${INSIDE.plugin}/${policy.plugin}` },
      runtime: policy.runtime,
      read: policy.read,
      sockets: policy.sockets,
      tmpMaxBytes: policy.limits.TmpMax,
      dataPath: places.dataPath,
      socketDirPath: places.socketDirPath,
      uid: places.uid,
    }),
    masked: MASKED,
    readonly: READONLY,
    namespaces: { networkPath: places.netnsPath },
    cgroup: compileCgroup(policy.limits, policy.unenforced, facts, places.cgroupPath),
    // CORE 1, not 0: with 0 a piped core_pattern still runs its helper as root (core(5)); seccomp keeps it from being changed.
    rlimits: { NOFILE: policy.limits.LimitNOFILE, CORE: 1 },
    seccomp: compileSeccomp(facts.architecture, facts.runtime.kind, 'plugin'),
    unenforced: policy.unenforced,
  } satisfies SandboxPlan)
}

function programPath(plugin: PluginName, object: RunPlaces['object']): string {
  const base = `${INSIDE.plugin}/${plugin}`
  return object?.entry == null ? base : `${base}/${object.entry}`
}

/** Generation 1 gets its secret from the gate, after attestation, so that no file holds it. */
function pluginArguments(style: ArgumentStyle): string[] {
  const common = ['--socket-path', INSIDE.socket, '--data-dir', INSIDE.data]
  // The first Rust series demands the flag; there is no database here, and nothing listens on the discard port of the sealed network.
  return style === '1db' ? [...common, '--database-url', 'postgres://none@127.0.0.1:9/none'] : common
}
