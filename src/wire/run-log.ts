import * as z from 'zod'
import { isRunId, type RunId } from '../base/ids.ts'
import { SAFE_ERROR } from './requests.ts'

/**
 * The conversation between a `cordon run` and the daemon beside it, which keeps the one log: over a root-only socket of its own, since
 * it lasts as long as the run. Anything that does not fit ends the connection.
 */
const id = z.int().min(1)

/** cordon run -> daemon. */
export const FROM_RUN = z.discriminatedUnion('type', [
  /** First, and once: whose records follow. */
  z.strictObject({ type: z.literal('begin'), run: z.custom<RunId>((v) => typeof v === 'string' && isRunId(v)) }),
  /** With an id it wants an answer once the record is durable. What `event` may be: launcher/run-records.ts. */
  z.strictObject({ type: z.literal('record'), id: id.nullable(), event: z.looseObject({ type: z.string().max(64) }) }),
])
export type FromRun = z.infer<typeof FROM_RUN>

/** daemon -> cordon run. */
export const TO_RUN = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('answer'), id, seq: z.int().min(0) }),
  z.strictObject({ type: z.literal('answer-error'), id, error: SAFE_ERROR }),
])
export type ToRun = z.infer<typeof TO_RUN>
