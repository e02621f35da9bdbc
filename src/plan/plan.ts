import type { RunId } from '../base/ids.ts'
import type { Unenforceable } from '../policy/policy.ts'

/**
 * Everything the kernel is asked to enforce for one run, frozen. Whatever comes after (OCI spec, nft text, explain,
 * attestation, audit digest) is computed from this object and from nothing else.
 */
export interface SandboxPlan {
  readonly runId: RunId
  /** What it runs as, for records and messages: a plugin's name, `run` for `cordon run`, `gateway` for the gateway. */
  readonly subject: string
  /** One of Cordon's own processes: no init above it, since its filter knows no fork. */
  readonly own: boolean
  /** Sockets of the door that must listen in its namespace, all TCP ports and UDP 53; null: the door is shut and nothing listens. */
  readonly listeners: { readonly tcp: readonly number[]; readonly udp: readonly number[]; readonly uid: number } | null
  readonly architecture: 'x86_64' | 'aarch64'
  readonly runtime: 'crun' | 'runc'
  readonly user: { readonly uid: number; readonly gid: number; readonly additionalGids: readonly number[] }
  /** argv of the program behind the gate; the init and the gate are added by oci.ts. */
  readonly args: readonly string[]
  readonly cwd: string
  readonly env: Readonly<Record<string, string>>
  readonly hostname: string
  /** Absolute host path of the root directory made for this run; read-only inside. */
  readonly rootPath: string
  readonly mounts: readonly PlanMount[]
  readonly masked: readonly string[]
  readonly readonly: readonly string[]
  readonly namespaces: {
    /** File that holds the sealed network namespace; null: the host's own network, for the door alone. */
    readonly networkPath: string | null
  }
  readonly cgroup: PlanCgroup
  readonly rlimits: Readonly<Record<'NOFILE' | 'CORE', number>>
  readonly seccomp: SeccompProfile
  /** Copied from the policy: walls that the operator accepts to miss on this host. */
  readonly unenforced: readonly Unenforceable[]
}

export interface PlanMount {
  readonly destination: string
  readonly type: 'bind' | 'tmpfs' | 'proc' | 'cgroup' | 'devpts'
  readonly source: string
  readonly options: readonly string[]
  /**
   * A path that the policy named: opened without following any symlink, looked at, and bound from that descriptor. Of a `tree`, which holds
   * programs that run, nobody but root may be able to change the directory or any above it.
   */
  readonly pinned?: 'path' | 'tree' | 'socket'
}

/** Numbers as the kernel wants them; `null` means that the file is left at its default. */
export interface PlanCgroup {
  /** As the runtime wants it: absolute below our cgroup namespace (crun, unified), relative to our own cgroup (runc, v1). */
  readonly path: string
  readonly version: 1 | 2
  readonly memoryMaxBytes: number
  readonly memoryHighBytes: number | null
  readonly cpuQuotaUs: number
  readonly cpuPeriodUs: number
  readonly cpuWeight: number | null
  readonly ioWeight: number | null
  readonly ioBandwidth: { readonly device: string; readonly readBps: number | null; readonly writeBps: number | null } | null
  readonly tasksMax: number
}

/** linux.seccomp of the OCI runtime spec, the part that we use. */
export interface SeccompProfile {
  readonly defaultAction: 'SCMP_ACT_ERRNO'
  readonly defaultErrnoRet: number
  readonly architectures: readonly string[]
  readonly flags: readonly string[]
  readonly syscalls: readonly SeccompRule[]
}

export interface SeccompRule {
  readonly names: readonly string[]
  readonly action: 'SCMP_ACT_ALLOW' | 'SCMP_ACT_ERRNO'
  readonly errnoRet?: number
  readonly args?: readonly { readonly index: number; readonly value: number; readonly valueTwo?: number; readonly op: 'SCMP_CMP_MASKED_EQ' | 'SCMP_CMP_EQ' | 'SCMP_CMP_NE' }[]
}

/** What the compiler must know of the machine; probed by launcher/preflight.ts, given to it as data. */
export interface HostFacts {
  readonly architecture: 'x86_64' | 'aarch64'
  readonly cgroupVersion: 1 | 2
  /** Controllers that our own subtree may use. */
  readonly controllers: readonly string[]
  readonly runtime: { readonly kind: 'crun' | 'runc'; readonly path: string; readonly version: string }
  readonly ipv6: boolean
  /** io.weight (unified) or blkio.weight (v1) exists. */
  readonly ioWeight: boolean
  /** "major:minor" of the disk below the state directory; null when it is none (tmpfs, overlay). */
  readonly stateDevice: string | null
  readonly kernel: string
}
