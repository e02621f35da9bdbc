import type { AuditEvent } from '../../src/audit/record.ts'

/** An event with whatever fields a test of the log needs: what the writer and the encoder promise must not depend on them. */
export function loose(event: { readonly type: string; readonly [field: string]: unknown }): AuditEvent {
  return event as unknown as AuditEvent
}
