import * as z from 'zod'

const text = (max: number) => z.string().max(max)
const count = z.int().min(0).max(Number.MAX_SAFE_INTEGER)
const plugin = text(64)
const run = text(16)

/**
 * What the gateway may append to the audit log; the launcher stamps sender, time and sequence. Texts are printable already.
 * The descriptions are those of the published catalogue of records (src/audit/RECORDS.md).
 */
export const GATEWAY_EVENTS = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('http.request'), plugin,
    method: text(16).describe('The method'),
    path: text(512).describe('The path, without its query'),
    query: text(2048).nullable().describe('What followed the `?`; null: nothing'),
    status: count.describe('Status of the answer; 0: none was sent'),
    ms: count.describe('Milliseconds from the first byte to the end of the answer'),
    bytesIn: count.describe('Bytes of the request\'s body'),
    bytesOut: count.describe('Bytes of the answer\'s body'),
    client: text(64).describe('Address of the client'),
    who: text(100).describe('On whose behalf: `admin via token`, `admin via link` (a session), or `anonymous`; behind it the user that a proxy of `forwarded_user` named'),
    requestId: text(64).describe('The id that the plugin saw in `x-request-id`'),
  }),
  z.strictObject({
    type: z.literal('http.count'), plugin,
    requests: count.describe('How many requests'),
    failed: count.describe('How many of them ended in a status of 500 or more'),
  }),
  z.strictObject({
    type: z.literal('access.denied'),
    path: text(512).describe('The path that was asked for; with `coalesced`, the last one'),
    client: text(64).describe('Address of the client; `*`: further ones of a minute with too many'),
    reason: text(200).describe('Why it was denied'),
    coalesced: count.describe('How many more like it this record stands for; 0: it is the first'),
  }),
  z.strictObject({
    type: z.literal('access.granted'), plugin,
    client: text(64).describe('Address of the client'),
    how: z.enum(['one-time-link', 'token']).describe('By what'),
  }),
  z.strictObject({
    type: z.literal('plugin.handshake'), plugin, run,
    generation: z.enum(['1', '2']).describe('Generation of the handshake'),
    name: text(100).describe('The name that its manifest claims'),
    version: text(100).describe('The version that its manifest claims'),
    requested: z.array(text(64)).max(32).describe('Host permissions that its manifest asks for'),
    granted: z.array(text(64)).max(32).describe('Those of them that its policy grants'),
  }),
  z.strictObject({
    type: z.literal('plugin.refused'), plugin, run,
    code: text(64).describe('Error code, as in the table of errors'),
    message: text(2000).describe('What was wrong'),
  }),
  z.strictObject({
    type: z.literal('channel.call'), plugin, run,
    method: text(64).describe('What the plugin called'),
    outcome: text(64).describe('`ok`, or the code of the error that it got'),
    ms: count.describe('Milliseconds until the answer'),
  }),
  z.strictObject({ type: z.literal('channel.closed'), plugin, run, reason: text(300).describe('Why') }),
  z.strictObject({
    type: z.literal('health.changed'), plugin, run,
    healthy: z.boolean().describe('How it is now'),
    detail: text(300).describe('What the probe found'),
  }),
])
export type GatewayEvent = z.infer<typeof GATEWAY_EVENTS>
