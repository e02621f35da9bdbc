import * as z from 'zod'
import { HOST_PERMISSIONS } from '../base/host-permissions.ts'
import { isPluginName, isRunId, type PluginName, type RunId } from '../base/ids.ts'
import { GATEWAY_EVENTS } from './events.ts'

/**
 * The whole conversation between launcher and gateway. The gateway names and asks, it never describes: no path, argv,
 * user or limit crosses here. Anything that does not fit these schemas ends the connection.
 */
const pluginName = z.custom<PluginName>((v) => typeof v === 'string' && isPluginName(v))
const runId = z.custom<RunId>((v) => typeof v === 'string' && isRunId(v))
const text = (max: number) => z.string().max(max)

/** Plugin states, the same words in `status`, host API and audit. */
export const PLUGIN_STATES = ['waiting', 'disabled', 'stopped', 'starting', 'running', 'paused', 'stopping', 'backoff', 'failed', 'quarantined'] as const
export type PluginState = (typeof PLUGIN_STATES)[number]

export const SAFE_ERROR = z.strictObject({ code: text(64), message: text(2000), hint: text(1000) })

/** One plugin as launcher and CLI speak of it. */
export const PLUGIN_STATUS = z.strictObject({
  name: pluginName,
  state: z.enum(PLUGIN_STATES),
  /** Why it is in this state, in words: `start-limit`, `oom-kill`, … with details. Already printable. */
  reason: text(4000).nullable(),
  run: runId.nullable(),
  since: text(40),
  restarts: z.int().min(0),
  policyDigest: text(64).nullable(),
  executableSha256: text(64).nullable(),
  generation: z.enum(['1', '2']).nullable(),
  version: text(64).nullable(),
  unenforced: z.array(text(40)).max(16),
  /** When learning ends (RFC 3339); null: it does not learn. */
  learning: text(40).nullable(),
  door: z.enum(['shut', 'open']),
  /** Rules and refusals from the terminal, on top of the policy file. */
  temporary: z.int().min(0),
})
export type PluginStatus = z.infer<typeof PLUGIN_STATUS>

/** gateway -> launcher. `id` asks for an answer `{ type: 'answer', id, ok | error }`; messages without one expect none. */
export const FROM_GATEWAY = z.discriminatedUnion('type', [
  /** Once: the HTTP server serves. */
  z.strictObject({ type: z.literal('serving'), port: z.int().min(1).max(65535) }),
  /** Bytes of a data stream that the gateway has consumed: the launcher may relay as many again. */
  z.strictObject({ type: z.literal('taken'), run: runId, bytes: z.int().min(1).max(1 << 20) }),
  /** Once per run, generation 2: hello was accepted, write the launch config to stdin and close it. */
  z.strictObject({ type: z.literal('releaseLaunchConfig'), id: z.int(), run: runId }),
  /** Once per run: `ready` was accepted, take the socket over (owner and type checked, group and mode set). */
  z.strictObject({ type: z.literal('takeSocket'), id: z.int(), run: runId }),
  /** Once per run: channel open (or none, generation 1) and requests are answered. */
  z.strictObject({ type: z.literal('running'), run: runId, generation: z.enum(['1', '2']), version: text(64) }),
  /** The gateway gives this run up: handshake, channel or health failed. The launcher stops it and counts a failure. */
  z.strictObject({ type: z.literal('failed'), run: runId, code: text(64), message: text(2000) }),
  /** Within policy only; enable, release, approve and whatever else widens comes over the control socket. */
  z.strictObject({ type: z.literal('act'), id: z.int(), act: z.enum(['start', 'stop', 'restart', 'disable', 'quarantine', 'reload']), plugin: pluginName.nullable(), who: text(200) }),
  z.strictObject({ type: z.literal('record'), event: GATEWAY_EVENTS }),
  z.strictObject({ type: z.literal('answer'), id: z.int(), ok: z.unknown().optional(), error: SAFE_ERROR.optional() }),
])
export type FromGateway = z.infer<typeof FROM_GATEWAY>

/** launcher -> gateway. */
export const TO_GATEWAY = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('configure'),
    listen: z.strictObject({ host: text(64), port: z.int().min(0).max(65535) }),
    /** Hex SHA-256 of the admin token; the token itself never enters the gateway before a caller sends it. */
    adminTokenSha256: text(64),
    version: text(40),
    /** Whose word about users is put on record; null: nobody's. */
    forwardedUser: z.strictObject({ header: text(64), from: z.array(text(45)).max(16).readonly() }).nullable(),
  }),
  /** A run was started behind the gate and released; its stdout follows as data frames with `stream`. */
  z.strictObject({
    type: z.literal('runStarted'),
    run: runId,
    plugin: pluginName,
    stream: z.int().min(0),
    /** Which argument style it was started with (protocol section 6). */
    style: z.enum(['2', '1', '1db']),
    secret: text(256),
    /** Host path of its socket; hostile until `takeSocket` was answered. */
    socketPath: text(107),
    uid: z.int().min(1),
    grants: z.array(z.enum(HOST_PERMISSIONS)).max(16),
    legacyGrants: z.enum(['deny', 'grant']),
    publicPaths: z.array(text(256)).max(32),
    policyDigest: text(64),
  }),
  z.strictObject({ type: z.literal('stdoutEnd'), run: runId }),
  z.strictObject({ type: z.literal('runEnded'), run: runId, reason: text(4000) }),
  /** All plugins, after each change. */
  z.strictObject({ type: z.literal('plugins'), plugins: z.array(PLUGIN_STATUS).max(1000) }),
  /** Answered with `{ url }`: a one-time link that opens the plugin's page on its own origin. */
  z.strictObject({ type: z.literal('mintLink'), id: z.int(), plugin: pluginName }),
  z.strictObject({ type: z.literal('shutdown') }),
  z.strictObject({ type: z.literal('answer'), id: z.int(), ok: z.unknown().optional(), error: SAFE_ERROR.optional() }),
])
export type ToGateway = z.infer<typeof TO_GATEWAY>

/** CLI -> launcher over the root-only control socket; each gets exactly one answer. `who`: as the CLI tells it, for the record (only root gets here). */
const who = text(200)
export const FROM_OPERATOR = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('status') }),
  z.strictObject({ type: z.literal('act'), act: z.enum(['start', 'stop', 'restart', 'enable', 'disable']), plugin: pluginName, who }),
  z.strictObject({ type: z.literal('reload'), who }),
  z.strictObject({ type: z.literal('quarantine'), plugin: pluginName, reason: text(200).nullable(), who }),
  /** The one thing that ends a quarantine. */
  z.strictObject({ type: z.literal('release'), plugin: pluginName, reason: text(200).min(1), who }),
  z.strictObject({ type: z.literal('open'), plugin: pluginName, who }),
  z.strictObject({ type: z.literal('why'), plugin: pluginName }),
  /** What runs of it now, for `cordon evidence`; and the hash of what that gathered, to be put on record and sealed. */
  z.strictObject({ type: z.literal('inspect'), plugin: pluginName }),
  z.strictObject({ type: z.literal('evidence'), plugin: pluginName, sha256: z.string().regex(/^[0-9a-f]{64}$/), files: z.int().min(0).max(10_000_000), who }),
  /** What its door has open, has refused, and lets through. */
  z.strictObject({ type: z.literal('egress'), plugin: pluginName }),
  /** A rule for a while, on top of the policy file. `destination` as in a policy: a name, `*.zone`, `host.internal` or a CIDR block. */
  z.strictObject({ type: z.literal('allow'), plugin: pluginName, destination: text(253), port: z.int().min(1).max(65535), private: z.boolean(), until: text(40), reason: text(300), who }),
  /** Take a destination away, or (null) shut the door until the policy is applied again. */
  z.strictObject({ type: z.literal('deny'), plugin: pluginName, destination: text(253).nullable(), port: z.int().min(1).max(65535).nullable(), who }),
  /** null ends learning at once. */
  z.strictObject({ type: z.literal('learn'), plugin: pluginName, until: text(40).nullable(), who }),
  /** Put the policy file of one plugin in force, if it still has the digest that the operator was shown; temporary rules go. */
  z.strictObject({ type: z.literal('apply'), plugin: pluginName, digest: text(64), who }),
  z.strictObject({ type: z.literal('shutdown') }),
])
export type FromOperator = z.infer<typeof FROM_OPERATOR>

/** launcher -> CLI. */
export const OPERATOR_ANSWER = z.strictObject({ ok: z.unknown().optional(), error: SAFE_ERROR.optional() })
