import type { DoorEvent } from '../wire/door.ts'
import type { Hello } from './rules.ts'

/** A record of the door as the audit log keeps it; a tripwire's stands beside that of a refusal. `time` is RFC 3339 in UTC, stamped by the launcher. */
export type EgressRecord = Exclude<DoorEvent, { readonly type: 'tripwire.touched' }> & { readonly time: string }

/** What a record was about, in the least number of fields: the input of a decision. */
export interface Attempt {
  /** Canonical; null where a literal address was dialled. */
  readonly name: string | null
  /** The literal address; null where a name was. */
  readonly literal: string | null
  /** Null for a DNS question, which names no port. */
  readonly port: number | null
  /** What the name resolved to, as far as it was looked up. */
  readonly resolved: readonly string[]
  /** What its first bytes said; null where nobody looked, or it did not get that far. */
  readonly hello: Hello | null
}

/** Records that are attempts of their own; `egress.closed` ends one that was recorded when it opened. */
export type AttemptRecord = Exclude<EgressRecord, { readonly type: 'egress.closed' }>

export function attemptOf(record: AttemptRecord): Attempt {
  switch (record.type) {
    case 'egress.opened':
      return { name: record.name, literal: record.name === null ? record.dialled : null, port: record.port, resolved: [record.address], hello: record.sni === null ? null : { kind: 'hello', sni: record.sni, ech: record.ech } }
    case 'egress.refused':
      return { name: record.name, literal: record.name === null ? record.dialled : null, port: record.port, resolved: record.addresses, hello: helloOf(record) }
    case 'dns.refused':
      return { name: record.name, literal: null, port: null, resolved: [], hello: null }
    default:
      return record satisfies never
  }
}

function helloOf({ code, sni }: { readonly code: string; readonly sni: string | null }): Hello | null {
  switch (code) {
    case 'tls-required': return { kind: 'not-tls' }
    case 'tls-timeout': return { kind: 'silent' }
    case 'tls-malformed':
    case 'tls-oversized':
    case 'tls-sslv2':
    case 'sni-malformed':
    case 'sni-several': return { kind: 'refused', code }
    case 'sni-missing': return { kind: 'hello', sni: null, ech: false }
    default: return sni === null ? null : { kind: 'hello', sni, ech: code === 'ech-refused' }
  }
}

/** `api.example.org:443`, `[2001:db8::1]:443`, or the name alone for a DNS question. */
export function attemptText({ name, literal, port }: Attempt): string {
  const host = name ?? (literal?.includes(':') === true ? `[${literal}]` : literal) ?? '?'
  return port === null ? host : `${host}:${port}`
}

/** How often it happened: a record may stand for many. */
export function timesOf(record: AttemptRecord): number {
  return record.type === 'egress.opened' ? 1 : 1 + record.coalesced - othersOf(record)
}

/** Refusals that the record only counts: their names and reasons are not known. */
export function othersOf(record: AttemptRecord): number {
  return record.type === 'egress.opened' ? 0 : Math.min(record.others ?? 0, record.coalesced)
}
