import type { z } from 'zod'
import type { DoorEvent } from '../wire/door.ts'
import type { GatewayEvent } from '../wire/events.ts'
import type { LAUNCHER_RECORDS } from './catalogue-launcher.ts'

type Rows = typeof LAUNCHER_RECORDS

/** What the launcher itself records, by the rows of catalogue-launcher.ts. Texts become printable when they are written. */
export type LauncherEvent = { [T in keyof Rows]: { readonly type: T } & Readonly<z.output<Rows[T]['fields']>> }[keyof Rows]
export type AuditEvent = LauncherEvent | GatewayEvent | DoorEvent
export type AuditType = AuditEvent['type']
/** `run`: a `cordon run` beside the daemon, which only passed its words on (launcher/run-records.ts). */
export type AuditOrigin = 'launcher' | 'gateway' | 'door' | 'operator' | 'run'

/**
 * Where records go. `append` resolves once the record is durable (O_DSYNC), so an act that must not happen unrecorded
 * awaits it; it rejects with CordonError AUDIT_UNAVAILABLE when the log cannot be written, and the caller refuses the act.
 * `note` is for records that follow an act which must never wait (stop, kill, tighten): it never throws; a record that
 * could not be written is counted and a `gap` record follows when the log is back.
 */
export interface AuditSink {
  append(event: AuditEvent, origin: AuditOrigin): Promise<{ readonly seq: number }>
  note(event: AuditEvent, origin: AuditOrigin): void
}
