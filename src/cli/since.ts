import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { parseDuration, parseUntil } from '../policy/units.ts'

/**
 * A beginning as an operator writes it: so long ago (`24h`, `30d`), a day (from its first second, UTC) or an instant.
 * @returns ms since 1970
 * @throws CordonError USAGE_BAD_OPTION
 */
export function parseSince(option: string, written: string, now: number): number {
  const at = written.includes('-') ? dated(written) : ago(written, now)
  if (at === null || at > now) throw new CordonError('USAGE_BAD_OPTION', `${option} "${printable(written, 40)}": expected how long ago, as in 24h or 30d, or a day or instant that has passed, as in 2026-11-01 or 2026-11-01T08:00:00Z`)
  return at
}

function ago(written: string, now: number): number | null {
  try {
    return now - parseDuration(written)
  } catch {
    return null // the caller says what is expected
  }
}

/** A day means its end where something lasts until it; here it means its beginning. */
function dated(written: string): number | null {
  try {
    return instant(written) ?? Date.parse(parseUntil(written)) - (written.includes('T') ? 0 : 86_400_000)
  } catch {
    return null // the same
  }
}

/** An end: as `parseSince`, but a day means its last moment, and it may lie ahead. */
export function parseUpTo(option: string, written: string, now: number): number {
  const at = written.includes('-') ? upTo(written) : ago(written, now)
  if (at === null) throw new CordonError('USAGE_BAD_OPTION', `${option} "${printable(written, 40)}": expected how long ago, as in 24h or 30d, or a day or instant, as in 2026-11-01 or 2026-11-01T08:00:00Z`)
  return at
}

function upTo(written: string): number | null {
  try {
    return instant(written) ?? Date.parse(parseUntil(written))
  } catch {
    return null // the caller says what is expected
  }
}

/** As records have it, with milliseconds. */
function instant(written: string): number | null {
  const at = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(written) ? Date.parse(written) : NaN
  return Number.isNaN(at) ? null : at
}
