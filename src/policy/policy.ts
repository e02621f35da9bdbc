import type { Egress } from '../base/egress-rule.ts'
import type { HostPermission } from '../base/host-permissions.ts'
import type { PluginName } from '../base/ids.ts'

/** What a policy file says once every choice is explicit. Made by resolve.ts, frozen; nothing after it fills a default. */
export interface Policy {
  readonly plugin: PluginName
  /** The preset that it extends, for `explain`; null when it stands alone. */
  readonly preset: string | null
  readonly executable: Executable
  /** Root-owned trees that the program also needs (an interpreter, a library tree), mounted read-only at the same path. */
  readonly runtime: readonly Grant[]
  readonly limits: Limits
  /** Host paths it may read, mounted read-only at the same path. */
  readonly read: readonly Grant[]
  /** Host Unix sockets it may connect to, mounted at the same path. */
  readonly sockets: readonly Grant[]
  /** What it may reach on the network; an empty list is no network at all. */
  readonly egress: Egress
  readonly env: Readonly<Record<string, string>>
  readonly api: {
    readonly grants: readonly HostPermission[]
    /** For plugins whose manifest has no `host_permissions` key (protocol section 16): do `grants` apply to them? */
    readonly legacy: 'deny' | 'grant'
  }
  readonly http: {
    /** Path prefixes that may be reached without a login, if the manifest declares them too. Never `/`. */
    readonly publicPaths: readonly string[]
  }
  /** Are a decoy name and a decoy secret laid out, and what does one touch cause besides a critical record? */
  readonly tripwires: 'off' | 'record' | 'quarantine'
  /** What becomes of it while the audit log cannot be written, besides that what must be recorded is refused. */
  readonly onAuditLoss: 'continue' | 'pause' | 'stop'
  readonly restart: Restart
  /** Walls that this host cannot give and that the operator accepts to miss, by name. */
  readonly unenforced: readonly Unenforceable[]
}

export interface Executable {
  /** Absolute host path of a file, or of a directory (then `entry` names the program in it). */
  readonly path: string
  readonly entry: string | null
  /** Hex SHA-256 of the file, or the tree hash of the directory; null accepts what is found and records it. */
  readonly sha256: string | null
}

export interface Grant {
  readonly path: string
  readonly reason: string
}

/** systemd.resource-control(5) and systemd.exec(5) names; bytes, percent of one CPU, counts. `null`: no such limit. */
export interface Limits {
  readonly MemoryMax: number
  readonly MemoryHigh: number | null
  readonly CPUQuota: number
  readonly CPUWeight: number
  readonly IOWeight: number | null
  readonly IOReadBandwidthMax: number | null
  readonly IOWriteBandwidthMax: number | null
  readonly TasksMax: number
  readonly LimitNOFILE: number
  /** Size of /tmp, a tmpfs that counts against MemoryMax. */
  readonly TmpMax: number
  /** Bytes that may leave through the door in one day (UTC). */
  readonly EgressMax: number | null
  /** Connections through the door at a time; as many again may wait. */
  readonly MaxConnections: number
}

export interface Restart {
  readonly on: 'failure' | 'always' | 'never'
  readonly backoffMinMs: number
  readonly backoffMaxMs: number
  readonly startLimit: { readonly count: number; readonly windowMs: number }
}

/** The walls that exist only on some hosts (unified cgroup v2, crun); see plan/compile.ts for who lacks which. */
export const UNENFORCEABLE = ['MemoryHigh', 'IOWeight', 'IOReadBandwidthMax', 'IOWriteBandwidthMax', 'CPUWeight'] as const
export type Unenforceable = (typeof UNENFORCEABLE)[number]
