import { z } from 'zod'

const text = (max: number) => z.string().max(max)
const count = z.int().min(0).max(Number.MAX_SAFE_INTEGER)

/** What the gateway may append to the audit log; the launcher stamps sender, time and sequence. Texts are printable already. */
export const GATEWAY_EVENTS = z.discriminatedUnion('type', [
  /** Inbound requests: all on public paths and all that write; others are counted into `http.count` each minute. */
  z.strictObject({ type: z.literal('http.request'), plugin: text(64), method: text(16), path: text(512), status: count, ms: count, bytesIn: count, bytesOut: count, client: text(64), who: text(100), requestId: text(64) }),
  z.strictObject({ type: z.literal('http.count'), plugin: text(64), requests: count, failed: count }),
  z.strictObject({ type: z.literal('access.denied'), path: text(512), client: text(64), reason: text(200), coalesced: count }),
  z.strictObject({ type: z.literal('access.granted'), plugin: text(64), client: text(64), how: z.enum(['one-time-link', 'token']) }),
  z.strictObject({ type: z.literal('plugin.handshake'), plugin: text(64), run: text(16), generation: z.enum(['1', '2']), name: text(100), version: text(100), requested: z.array(text(64)).max(32), granted: z.array(text(64)).max(32) }),
  z.strictObject({ type: z.literal('plugin.refused'), plugin: text(64), run: text(16), code: text(64), message: text(2000) }),
  z.strictObject({ type: z.literal('channel.call'), plugin: text(64), run: text(16), method: text(64), outcome: text(64), ms: count }),
  z.strictObject({ type: z.literal('channel.closed'), plugin: text(64), run: text(16), reason: text(300) }),
  z.strictObject({ type: z.literal('health.changed'), plugin: text(64), run: text(16), healthy: z.boolean(), detail: text(300) }),
])
export type GatewayEvent = z.infer<typeof GATEWAY_EVENTS>
