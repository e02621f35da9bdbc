import type { DoorEvent } from '../wire/door.ts'
import type { GatewayEvent } from '../wire/events.ts'

/** What the launcher itself records. Every value is JSON without floats; texts are printable. */
export interface LauncherEvent {
  readonly type: LauncherEventType
  readonly plugin?: string
  readonly run?: string
  readonly [field: string]: JsonValue | undefined
}

export type JsonValue = string | number | boolean | null | readonly JsonValue[] | { readonly [key: string]: JsonValue }

/** The catalogue: `intent` types are awaited before the act, the others follow it (design: stopping never waits). */
export const LAUNCHER_EVENTS = {
  'daemon.started': 'intent', 'daemon.stopped': 'outcome', 'daemon.cleaned': 'outcome',
  'gateway.started': 'outcome', 'gateway.ended': 'outcome', 'door.started': 'outcome', 'door.ended': 'outcome', 'door.opened': 'outcome',
  'egress.applied': 'intent',
  'policy.loaded': 'intent', 'policy.refused': 'outcome', 'policy.removed': 'outcome',
  'plugin.found': 'outcome', 'plugin.start': 'intent', 'plugin.started': 'outcome', 'plugin.running': 'outcome',
  'plugin.stop': 'outcome', 'plugin.exited': 'outcome', 'plugin.failed': 'outcome',
  'plugin.enabled': 'intent', 'plugin.disabled': 'outcome',
  'isolation.attested': 'intent', 'isolation.violated': 'outcome',
  'resources.snapshot': 'outcome', 'egress.attempted': 'outcome', 'gap': 'outcome',
  'log.created': 'outcome', 'log.opened': 'outcome', 'log.pruned': 'intent', 'log.full': 'outcome', 'seal': 'outcome',
  'admin.act': 'outcome', 'executable.stored': 'intent', 'run.started': 'intent', 'run.ended': 'outcome',
} as const
export type LauncherEventType = keyof typeof LAUNCHER_EVENTS

export type AuditEvent = LauncherEvent | GatewayEvent | DoorEvent
export type AuditOrigin = 'launcher' | 'gateway' | 'door' | 'operator'

/**
 * Where records go. `append` resolves once the record is durable (fdatasync), so an act that must not happen unrecorded
 * awaits it; it rejects with CordonError AUDIT_UNAVAILABLE when the log cannot be written, and the caller refuses the act.
 * `note` is for records that follow an act which must never wait (stop, kill, tighten): it never throws; a record that
 * could not be written is counted and a `gap` record follows when the log is back.
 */
export interface AuditSink {
  append(event: AuditEvent, origin: AuditOrigin): Promise<{ readonly seq: number }>
  note(event: AuditEvent, origin: AuditOrigin): void
}
