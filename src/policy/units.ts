/** Numbers as an operator writes them, and back. Systemd's own spellings: systemd.resource-control(5), systemd.time(7). */
export class UnitError extends Error {}

const BYTES = /^([0-9]{1,16})([KMGT]?)$/
const POWER: Readonly<Record<string, number>> = { '': 0, K: 1, M: 2, G: 3, T: 4 }

export const BYTES_PATTERN = '^[0-9]{1,16}[KMGT]?$'
export const BYTES_PER_DAY_PATTERN = '^[0-9]{1,16}[KMGT]?/day$'
export const PERCENT_PATTERN = '^[0-9]{1,6}%$'
export const DURATION_RANGE_PATTERN = '^[0-9]{1,9}(ms|s|m|min|h|d)\\.\\.[0-9]{1,9}(ms|s|m|min|h|d)$'
export const START_LIMIT_PATTERN = '^[0-9]{1,4} in [0-9]{1,9}(ms|s|m|min|h|d)$'

/**
 * @param base 1024 for sizes; 1000 for IO bandwidths, as in systemd.resource-control(5), "IOReadBandwidthMax="
 * @returns bytes
 * @throws UnitError
 */
export function parseBytes(written: string | number, base: 1024 | 1000): number {
  const match = BYTES.exec(String(written))
  if (match?.[1] === undefined || match[2] === undefined) {
    throw new UnitError(`expected a whole number of bytes, or one with K, M, G or T behind it, as in ${sizeExample(String(written))}`)
  }
  const bytes = Number(match[1]) * base ** (POWER[match[2]] ?? 0)
  if (!Number.isSafeInteger(bytes)) throw new UnitError('expected a number below 8192T')
  return bytes
}

/** `200M/day`. @returns bytes; K, M, G to the base of 1024 */
export function parseBytesPerDay(written: string): number {
  const match = /^(.{1,20})\/day$/.exec(written)
  if (match?.[1] === undefined || !BYTES.test(match[1])) throw new UnitError('expected a number of bytes per day, as in 200M/day')
  return parseBytes(match[1], 1024)
}

/** `256MB` and `256MiB` are what people write first; show them their own number in our spelling. */
function sizeExample(written: string): string {
  const match = /^([0-9]{1,9}) ?([kmgt])i?b?$/i.exec(written)
  return match?.[1] === undefined || match[2] === undefined ? '256M' : `${match[1]}${match[2].toUpperCase()}`
}

/** @returns whole percent of one CPU */
export function parsePercent(written: string): number {
  const match = /^([0-9]{1,6})%$/.exec(written)
  if (match?.[1] === undefined) throw new UnitError('expected a whole number with a percent sign, as in 25% (100% is one CPU)')
  return Number(match[1])
}

const DURATION = /^([0-9]{1,9})(ms|s|m|min|h|d)$/
const MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, min: 60_000, h: 3_600_000, d: 86_400_000 }

/** @returns milliseconds */
export function parseDuration(written: string): number {
  const match = DURATION.exec(written)
  if (match?.[1] === undefined || match[2] === undefined) throw new UnitError('expected a duration such as 500ms, 30s, 10m or 1h')
  return Number(match[1]) * (MS[match[2]] ?? 0)
}

/** `1s..60s` */
export function parseDurationRange(written: string): { readonly minMs: number; readonly maxMs: number } {
  const [from, to, more] = written.split('..')
  if (from === undefined || to === undefined || more !== undefined) throw new UnitError('expected two durations with two dots between them, as in 1s..60s')
  const range = { minMs: parseDuration(from), maxMs: parseDuration(to) }
  if (range.minMs > range.maxMs) throw new UnitError(`expected the shorter duration first, as in ${to}..${from}`)
  return range
}

/** `3 in 1h` */
export function parseStartLimit(written: string): { readonly count: number; readonly windowMs: number } {
  const match = /^([0-9]{1,4}) in (\S{2,16})$/.exec(written)
  if (match?.[1] === undefined || match[2] === undefined) throw new UnitError('expected a number of starts in a time, as in `3 in 1h`')
  return { count: Number(match[1]), windowMs: parseDuration(match[2]) }
}

/**
 * Until when, as an operator writes it: a day, which then still holds to its end, or an instant. UTC in both cases.
 * @returns RFC 3339 in UTC: the first instant at which it no longer holds
 */
export function parseUntil(written: string): string {
  const expected = 'expected a day such as 2026-12-31 (it still holds on that day, UTC) or an instant such as 2026-12-31T18:00:00Z'
  const match = /^(\d{4})-(\d{2})-(\d{2})(?:T(\d{2}):(\d{2}):(\d{2})Z)?$/.exec(written)
  if (match === null) throw new UnitError(expected)
  const [year, month, day, hour, minute, second] = match.slice(1).map((part: string | undefined) => Number(part ?? 0))
  const at = new Date(Date.UTC(year ?? 0, (month ?? 0) - 1, day, hour, minute, second))
  // Date carries the 31st of April over into May; what was written must be what is meant.
  if (!at.toISOString().startsWith(written.replace('Z', ''))) throw new UnitError(`${expected}; there is no such day or time`)
  return new Date(at.getTime() + (match[4] === undefined ? 86_400_000 : 0)).toISOString().replace('.000Z', 'Z')
}

/** Exact, never rounded: the largest unit that divides the number. */
export function formatBytes(bytes: number, base: 1024 | 1000 = 1024): string {
  for (const unit of ['T', 'G', 'M', 'K']) {
    const size = base ** (POWER[unit] ?? 0)
    if (bytes >= size && bytes % size === 0) return `${bytes / size}${unit}`
  }
  return String(bytes)
}

export function formatDuration(ms: number): string {
  for (const unit of ['d', 'h', 'min', 's']) {
    const size = MS[unit] ?? 1
    if (ms >= size && ms % size === 0) return `${ms / size}${unit === 'min' ? 'm' : unit}`
  }
  return `${ms}ms`
}
