import type { ExportSink } from './export-sink.ts'

/** /etc/cordon/cordon.yaml with every choice explicit: where things lie, where the gateway listens. Root-owned like a policy. */
export interface HostConfig {
  /** Where the gateway listens; port 0 picks one (tests). */
  readonly listen: { readonly host: string; readonly port: number }
  readonly policiesDir: string
  /** Scanned for executables without a policy (protocol section 2.1). */
  readonly pluginsDir: string
  /** Audit log, content store, plugin data, logs, uid records: survives a reboot. */
  readonly stateDir: string
  /** Control socket, bundles, sockets, namespaces: dies with the boot. */
  readonly runDir: string
  readonly runtime: { readonly kind: 'auto' | 'crun' | 'runc'; readonly path: string | null }
  readonly uids: { readonly first: number; readonly count: number }
  /** A plugin without a policy waits for approval, or runs under `policies/default.yaml`. */
  readonly unknown: 'wait' | 'run-default'
  /** A reverse proxy that tells who is behind a request, for the record; null: none is believed. */
  readonly forwardedUser: { readonly header: string; readonly from: readonly string[] } | null
  readonly audit: {
    readonly export: readonly ExportSink[]
    /** A segment ends when it is this large or this old. */
    readonly segmentBytes: number
    readonly segmentAgeMs: number
    /** The oldest segments go when they are this old, or all together larger than that. */
    readonly keepMs: number
    readonly maxBytes: number
    /** Between two seals at most. */
    readonly sealIntervalS: number
    readonly witnesses: readonly WitnessConfig[]
  }
}

/** Another machine that is shown each checkpoint (c2sp.org/tlog-witness) and refuses a history that was changed. */
export interface WitnessConfig {
  /** Names the file `witnessed/NAME`; the operator's choice. */
  readonly name: string
  /** Submission prefix, http or https. */
  readonly url: string
  /** Its verifier key, `NAME+ID+BASE64`. */
  readonly key: string
}
