import * as z from 'zod'
import { DOOR_EVENTS, type DoorEvent } from '../wire/door.ts'
import { GATEWAY_EVENTS, type GatewayEvent } from '../wire/events.ts'
import { LAUNCHER_RECORDS } from './catalogue-launcher.ts'
import { OCSF, type OcsfClass } from './ocsf.ts'
import type { AuditType } from './record.ts'
import type { Row } from './row.ts'

/** Whose words a record holds: the launcher's own, or what a less trusted process asked it to keep. */
export type Source = 'launcher' | 'gateway' | 'door'

/** What the launcher adds to a type whose fields are a row of the wire's tables: those are the gate, and the one source. */
interface Seen {
  readonly ocsf: OcsfClass
  readonly kind: Row['kind']
  readonly says: string
  readonly secret?: readonly string[]
}

const GATEWAY: Readonly<Record<GatewayEvent['type'], Seen>> = {
  'http.request': { ocsf: OCSF.http, kind: 'outcome', says: 'A request came in on a public path, or one that writes (another method than GET, HEAD or OPTIONS).', secret: ['query'] },
  'http.count': { ocsf: OCSF.http, kind: 'outcome', says: 'How many other requests came in since the last such record, at most once a minute.' },
  'access.denied': { ocsf: OCSF.authentication, kind: 'outcome', says: 'Somebody was turned away.' },
  'access.granted': { ocsf: OCSF.authentication, kind: 'outcome', says: 'Somebody was let in: a link was opened, or a token came from an address for the first time in twelve hours.' },
  'plugin.handshake': { ocsf: OCSF.lifecycle, kind: 'outcome', says: 'A plugin introduced itself.' },
  'plugin.refused': { ocsf: OCSF.detection, kind: 'outcome', says: 'A plugin did or said what is not accepted; it is stopped.' },
  'channel.call': { ocsf: OCSF.api, kind: 'outcome', says: 'A plugin called the host.' },
  'channel.closed': { ocsf: OCSF.api, kind: 'outcome', says: 'The channel of a plugin ended.' },
  'health.changed': { ocsf: OCSF.lifecycle, kind: 'outcome', says: 'A running plugin answers its probe again, or no longer.' },
}

const DOOR: Readonly<Record<DoorEvent['type'], Seen>> = {
  'egress.opened': { ocsf: OCSF.network, kind: 'intent', says: 'A connection to the outside is let through: durable before its first byte passes.' },
  'egress.closed': { ocsf: OCSF.network, kind: 'outcome', says: 'A connection to the outside ended.' },
  'egress.refused': { ocsf: OCSF.network, kind: 'outcome', says: 'A connection to the outside was refused.' },
  'tripwire.touched': { ocsf: OCSF.detection, kind: 'outcome', says: 'A plugin touched a decoy. Told at once and never coalesced, a few per run; where its policy says so, it is in quarantine for it.' },
  'dns.refused': { ocsf: OCSF.dns, kind: 'outcome', says: 'A name was asked for that no rule allows, or in a form that is not answered.' },
}

export interface CatalogueRow {
  readonly source: Source
  readonly ocsf: OcsfClass
  /** `intent`: the act waits until it is durable. `outcome`: it tells of an act that waits for nothing. */
  readonly kind: 'intent' | 'outcome'
  readonly says: string
  /** An event as it is handed to the log: `plugin`, `run` and `policyDigest` too, `type` not. */
  readonly fields: z.ZodObject
  /** Fields whose values may be secret, and are kept as keyed hashes (secret.ts). */
  readonly secret: ReadonlySet<string>
}

/** Every type of record that a log may hold. RECORDS.md and policies/record.schema.json are written from it. */
export const CATALOGUE: ReadonlyMap<AuditType, CatalogueRow> = new Map<AuditType, CatalogueRow>([
  ...(Object.entries(LAUNCHER_RECORDS) as [AuditType, Row][]).map(([type, { secret, ...row }]): [AuditType, CatalogueRow] => [type, { source: 'launcher', ...row, secret: new Set(secret) }]),
  ...GATEWAY_EVENTS.options.map((fields) => ofWire('gateway', fields, GATEWAY[fields.shape.type.value])),
  ...DOOR_EVENTS.options.map((fields) => ofWire('door', fields, DOOR[fields.shape.type.value])),
])

function ofWire(source: Source, fields: (typeof GATEWAY_EVENTS.options)[number] | (typeof DOOR_EVENTS.options)[number], { secret = [], ...seen }: Seen): [AuditType, CatalogueRow] {
  const { type, ...shape } = fields.shape
  return [type.value, { source, ...seen, fields: z.strictObject(shape), secret: new Set(secret) }]
}

export function isAuditType(type: string): type is AuditType {
  return CATALOGUE.has(type as AuditType)
}
