import * as z from 'zod'
import { linesOf, LogReader } from '../audit/segments.ts'
import type { EgressRecord } from '../egress/record.ts'
import { DOOR_EVENTS } from '../wire/door.ts'

/** One record as the log keeps it (src/audit/README.md, "Layout"); `data` is by type and attacker-controlled where plugins fill it. */
export interface LogRecord {
  /** RFC 3339 in UTC. */
  readonly time: string
  readonly type: string
  readonly plugin: string | null
  readonly run: string | null
  readonly data: Readonly<Record<string, unknown>>
}

const RECORD = z.object({ time: z.iso.datetime(), type: z.string(), plugin: z.string().nullable(), run: z.string().nullable(), data: z.record(z.string(), z.unknown()) })

/**
 * All records of one plugin since an instant, in the order of the log, one at a time: the log may be larger than memory. Like
 * `audit tail` it believes what it reads; `audit verify` tells whether it was changed.
 * @param sinceMs ms since 1970
 * @param ofHost a type of record that is about no plugin; those are given too, from the beginning of the log on
 * @returns how many lines named the plugin and were no record
 * @throws CordonError AUDIT_NOT_FOUND, AUDIT_UNAVAILABLE
 */
export async function eachRecord(dir: string, plugin: string, sinceMs: number, signal: AbortSignal, use: (record: LogRecord) => void, ofHost: string | null = null): Promise<{ readonly unreadable: number }> {
  const reader = new LogReader(dir)
  let unreadable = 0
  try {
    const named = `"plugin":${JSON.stringify(plugin)}`
    const typed = ofHost === null ? named : `"type":${JSON.stringify(ofHost)}`
    for (;;) {
      signal.throwIfAborted()
      const block = await reader.next()
      if (block === null) return { unreadable }
      if (!block.bytes.includes(named) && !block.bytes.includes(typed)) continue
      for (const line of linesOf(block)) {
        if (!line.text.includes(named) && !line.text.includes(typed)) continue // most lines; parsing them all would take minutes
        const record = parseRecord(line.text)
        if (record === null) unreadable += 1
        else if (record.plugin === plugin ? Date.parse(record.time) >= sinceMs : record.plugin === null && record.type === ofHost) use(record)
      }
    }
  } finally {
    await reader.close()
  }
}

/** @returns null for a record of another type, or one that was cut because it was too long */
export function egressRecord({ time, type, plugin, run, data }: LogRecord): EgressRecord | null {
  if (!type.startsWith('egress.') && type !== 'dns.refused') return null
  const event = DOOR_EVENTS.safeParse({ ...data, type, plugin, run })
  return event.success && event.data.type !== 'tripwire.touched' ? { ...event.data, time } : null
}

function parseRecord(line: string): LogRecord | null {
  try {
    const record = RECORD.safeParse(JSON.parse(line))
    return record.success ? record.data : null
  } catch {
    return null // counted
  }
}
