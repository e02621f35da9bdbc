import * as z from 'zod'
import { isPluginName, isRunId, type PluginName, type RunId } from '../base/ids.ts'
import { SAFE_ERROR } from './requests.ts'

/**
 * The whole conversation between launcher and door (src/door.ts). The launcher compiles and tells; the door serves, and asks for nothing but
 * that a record be kept. Listening sockets come beside it, over the lent second socketpair (HANDED_OVER). Anything that does not
 * fit these schemas ends the connection.
 */
const pluginName = z.custom<PluginName>((v) => typeof v === 'string' && isPluginName(v))
const runId = z.custom<RunId>((v) => typeof v === 'string' && isRunId(v))
const text = (max: number) => z.string().max(max)
const count = z.int().min(0).max(Number.MAX_SAFE_INTEGER)
const port = z.int().min(1).max(65_535)
const id = z.int().min(1).max(Number.MAX_SAFE_INTEGER)

/** Rules of one policy; nobody reviews more, and all of them fit into one frame. */
const MAX_RULES = 256
/** Ports of one run that can be listened on: each is two sockets that the door keeps. */
const MAX_PORTS = 128

/** base/egress-rule.ts, as it crosses. */
const match = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('host'), name: text(253) }),
  z.strictObject({ kind: z.literal('wildcard'), zone: text(253) }),
  z.strictObject({ kind: z.literal('public') }),
  z.strictObject({ kind: z.literal('cidr'), base: text(45), prefix: z.int().min(0).max(128), family: z.union([z.literal(4), z.literal(6)]) }),
  z.strictObject({ kind: z.literal('host.internal') }),
])
const rule = z.strictObject({
  id: z.int().min(1).max(1_000_000), match, ports: z.array(port).max(MAX_PORTS).readonly(), private: z.boolean(), tls: z.enum(['require', 'off', 'auto']),
  ech: z.boolean(), until: text(40).nullable(), reason: text(300),
})
export const EGRESS = z.strictObject({ mode: z.enum(['enforce', 'learn']), until: text(40).nullable(), allow: z.array(rule).max(MAX_RULES).readonly() })

const DOOR_LIMITS = z.strictObject({
  /** Open at once; as many again may wait for a place. */
  maxConnections: z.int().min(1).max(4096),
  /** Bytes that may leave per UTC day; null: no such limit. */
  egressMaxPerDay: count.nullable(),
  /** What earlier runs of the plugin sent on the UTC day `day` (YYYY-MM-DD). */
  spent: z.strictObject({ day: z.string().regex(/^\d{4}-\d{2}-\d{2}$/), bytes: count }),
})
export type DoorLimits = z.infer<typeof DOOR_LIMITS>

/** launcher -> door. Each with an `id` is answered exactly once. */
export const TO_DOOR = z.discriminatedUnion('type', [
  /** First of all, and again when the host's network changed. Addresses (some with a prefix) and prefixes are canonical text. */
  z.strictObject({
    type: z.literal('configure'), id,
    /** The host's resolvers, as in resolv.conf: ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT. */
    resolvers: z.array(text(64)).max(8),
    hostAddresses: z.array(text(49)).max(2048),
    onLink: z.array(text(49)).max(2048),
    /** Ports of this host on which Cordon itself listens. */
    ownPorts: z.array(port).max(64),
    /** Of the record that has addresses, prefixes and ports; decisions that compared with them name it. */
    name: text(16),
  }),
  /** Answered once the door is ready to take the run's listeners: those of `ports` and of 53; `serving` follows. */
  z.strictObject({
    type: z.literal('openRun'), id, run: runId, plugin: pluginName, rules: EGRESS, limits: DOOR_LIMITS, ports: z.array(port).max(MAX_PORTS), ipv6: z.boolean(),
    /** Tripwires: who looks one of these canonical names up, or names it in a hello or a request, or sends one of these secrets where it can be seen. */
    decoys: z.strictObject({ names: z.array(text(253)).max(8), secrets: z.array(z.string().min(24).max(128)).max(8) }),
  }),
  /** Answered with `{ closed }`, how many connections the new rules ended. `ports`: all that the new rules name; listeners for those that are new may follow. */
  z.strictObject({ type: z.literal('swapRules'), id, run: runId, rules: EGRESS, ports: z.array(port).max(MAX_PORTS) }),
  /** Answered when nothing of the run is open any more. */
  z.strictObject({ type: z.literal('closeRun'), id, run: runId, code: z.enum(['stopping', 'quarantined']) }),
  /** The memory for connections runs short; sent again until it does not. Answered with `{ closed }`, how many were closed for it. */
  z.strictObject({ type: z.literal('makeRoom'), id }),
  /** Answered with DOOR_STATS. */
  z.strictObject({ type: z.literal('stats'), id, run: runId }),
  z.strictObject({ type: z.literal('shutdown') }),
  /** To a `record` with an id: it is durable, or it is not (then the connection is not made). */
  z.strictObject({ type: z.literal('answer'), id, ok: z.unknown().optional(), error: SAFE_ERROR.optional() }),
])
export type ToDoor = z.infer<typeof TO_DOOR>

const connection = {
  plugin: pluginName, run: runId,
  connection: count.describe('Counts the connections of the run, from 1'),
  name: text(253).nullable().describe('The name that was meant, canonical; null: a literal address was dialled'),
  dialled: text(45).describe('What the plugin dialled: a synthetic or a literal address'),
  port: port.describe('Port'),
  rule: z.int().min(1).nullable().describe('Number of the rule of the policy that decided; null: none did'),
  sni: text(253).nullable().describe('The name in the TLS hello; null: there was none, or nobody looked'),
}
const network = text(16).optional().describe('Name of the `host.network` record whose addresses it was compared with; absent: with none')

/**
 * What the door may have recorded; the launcher stamps sender, time and sequence. Texts are printable already.
 * The descriptions are those of the published catalogue of records (src/audit/RECORDS.md).
 */
/** Of a flood of different refusals only the sum is kept; it must not pass for so many tries of the one that stands for them. */
const others = count.optional().describe('How many of `coalesced` were of other names or addresses, for the same reason: more than 32 different ones in ten seconds are told together; absent: none')

export const DOOR_EVENTS = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('egress.opened'), ...connection,
    address: text(45).describe('The address that was checked and dialled'),
    ech: z.boolean().describe('The hello was encrypted (ECH), so `sni` is only its outer name'),
    alpn: z.array(text(32)).max(16).describe('Protocols that the hello offers'),
    code: text(40).describe('Why it was let through'),
    ms: count.describe('Milliseconds until it was connected'), network,
  }),
  z.strictObject({
    type: z.literal('egress.closed'), ...connection,
    address: text(45).describe('The address that was dialled'),
    bytesOut: count.describe('Bytes that left; where `code` is `door-ended` or `daemon-ended`, 0 for what is not known'),
    bytesIn: count.describe('Bytes that came in; likewise'),
    ms: count.describe('Milliseconds that it lasted; where `code` is `daemon-ended`, at least: until the last record of that daemon'),
    by: z.enum(['plugin', 'peer', 'door']).describe('Who ended it'),
    code: text(40).nullable().describe('Why the door closed it, or what went wrong; null: a plain end'),
    requests: count.describe('HTTP requests that the door saw on it; 0 where it does not look'),
  }),
  z.strictObject({
    type: z.literal('egress.refused'), ...connection,
    addresses: z.array(text(45)).max(32).describe('What the name resolved to, as far as it was looked up'),
    host: text(253).nullable().describe('`Host` of a refused HTTP request'),
    code: text(40).describe('Why, as a code'),
    say: text(600).describe('Why, in words'),
    ms: count.describe('Milliseconds until it was refused'), network,
    coalesced: count.describe('How many more like it since the last record of this kind'), others,
  }),
  z.strictObject({
    type: z.literal('dns.refused'), plugin: pluginName, run: runId,
    name: text(300).describe('The name that was asked for'),
    query: text(40).describe('Type of the question'),
    code: text(40).describe('Why, as a code'),
    say: text(600).describe('Why, in words'),
    coalesced: count.describe('How many more like it since the last record of this kind'), others,
  }),
  z.strictObject({
    type: z.literal('tripwire.touched'), plugin: pluginName, run: runId,
    severity: z.literal('critical').describe('Nothing honest causes it'),
    decoy: z.enum(['name', 'secret']).describe('What was touched'),
    where: z.enum(['look-up', 'connection']).describe('Where it was seen'),
    connection: count.nullable().describe('Which connection of the run; null: a look-up'),
    say: text(600).describe('What it did, in words'),
  }),
])
export type DoorEvent = z.infer<typeof DOOR_EVENTS>

/** door -> launcher. */
export const FROM_DOOR = z.discriminatedUnion('type', [
  /** A helper has handed over all that it could open, and it is served; `missing` are announced ports without a listener, as in `tcp4:8443`. */
  z.strictObject({ type: z.literal('serving'), run: runId, missing: z.array(text(16)).max(4 * MAX_PORTS + 8) }),
  /** With an id it wants an answer once the record is durable. */
  z.strictObject({ type: z.literal('record'), id: id.nullable(), event: DOOR_EVENTS }),
  z.strictObject({ type: z.literal('answer'), id, ok: z.unknown().optional(), error: SAFE_ERROR.optional() }),
])
export type FromDoor = z.infer<typeof FROM_DOOR>

export const DOOR_STATS = z.strictObject({
  serving: z.boolean(),
  /** The first of them; `totals` count all. */
  open: z.array(z.strictObject({ connection: count, name: text(253).nullable(), address: text(45), port, rule: z.int().nullable(), sni: text(253).nullable(), bytesOut: count, bytesIn: count, ms: count })).max(200),
  totals: z.strictObject({ open: count, opened: count, refused: count, waiting: count, bytesOut: count, bytesIn: count, queries: count, queriesDropped: count, names: count }),
  /** The latest refusals, newest last. */
  refused: z.array(z.strictObject({ what: text(320), code: text(40), say: text(300), count })).max(64),
  /** For `limits.spent` of the next run. */
  spent: DOOR_LIMITS.shape.spent,
})
export type DoorStats = z.infer<typeof DOOR_STATS>

/** What comes with each listening socket over the lent socketpair, and last of all `done`; the door answers `{ taken: run }`. */
export const HANDED_OVER = z.union([
  z.strictObject({ run: runId, port, protocol: z.enum(['tcp', 'udp']), family: z.union([z.literal(4), z.literal(6)]) }),
  z.strictObject({ run: runId, done: z.literal(true) }),
])
