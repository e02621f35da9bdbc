import { LEARNING } from '../base/egress-rule.ts'
import { printable } from '../base/printable.ts'
import { globTest } from '../history/filter.ts'
import { columnsOf, cutTo, padTo } from './columns.ts'

export interface Filter {
  readonly plugin: string | null
  /** A pattern: `*` stands for any text. */
  readonly type: string | null
  /** Also those that were not named: they come every few seconds, and say nothing of plugins. */
  readonly seals: boolean
}

const WIDTH = 80
const COLUMNS = { time: 14, seq: 6, plugin: 12, type: 18 } as const
/** There is room for one or two facts: these first, and those in `SPEAKING` without their key. */
const FIRST = ['act', 'subject', 'code', 'name', 'destination', 'address', 'port', 'method', 'path', 'status', 'held', 'decoy', 'reason', 'bytesOut', 'bytesIn', 'programs', 'sha256', 'client', 'who']
const SPEAKING = new Set(['act', 'subject', 'code', 'name', 'destination', 'method', 'path', 'status', 'held', 'decoy'])
export const TABLE_HEAD = row('TIME (UTC)', 'SEQ', 'PLUGIN', 'TYPE', 'DETAILS')

/** @param line one line of the log, attacker-controlled if the log was changed */
export function matches(line: string, filter: Filter): boolean {
  if (filter.plugin === null && filter.type === null && filter.seals) return true
  const record = parse(line)
  if (record === null) return filter.plugin === null && filter.type === null
  const { plugin, type } = record
  return (filter.plugin === null || plugin === filter.plugin) && (filter.type === null ? filter.seals || type !== 'seal' : typeof type === 'string' && globTest(filter.type)(type))
}

/** One record in at most 80 columns. */
export function formatRecord(line: string, color: boolean): string {
  const record = parse(line)
  if (record === null) return paint(fit(`(not a record) ${line}`, WIDTH), 31, color)
  const { time, seq, plugin, origin, type, data } = record
  const when = typeof time === 'string' ? time.slice(5, 19).replace('T', ' ') : '?'
  const who = typeof plugin === 'string' ? plugin : origin === 'launcher' ? '-' : `(${asText(origin)})`
  return paint(row(when, asText(seq), who, asText(type), details(data)), colorOf(asText(type)), color)
}

function row(time: string, seq: string, plugin: string, type: string, rest: string): string {
  const left = `${cell(time, COLUMNS.time)} ${fit(seq, 10).padStart(COLUMNS.seq)} ${cell(plugin, COLUMNS.plugin)} ${cell(type, COLUMNS.type)} `
  return `${left}${fit(rest, WIDTH - columnsOf(left))}`.trimEnd()
}

function details(data: unknown): string {
  if (typeof data !== 'object' || data === null) return ''
  const learned = 'code' in data && data.code === 'learning' ? `${LEARNING} ` : ''
  const fields = Object.entries(data).filter(([key, value]) => value !== null && value !== '' && key !== 'who_verified')
  // That the kernel vouches for `who` is the rule.
  const shown = (key: string): string => (key === 'who' && 'who_verified' in data && data.who_verified === false ? 'who?' : key)
  const rank = (key: string): number => (FIRST.includes(key) ? FIRST.indexOf(key) : FIRST.length)
  return learned + fields.sort(([a], [b]) => rank(a) - rank(b)).map(([key, value]) => `${SPEAKING.has(key) ? '' : `${shown(key)}=`}${typeof value === 'string' ? value : JSON.stringify(value)}`).join(' ')
}

// Escaping makes a text longer, so it is cut after it.
function fit(text: string, width: number): string {
  return cutTo(printable(text, 2 * width), width)
}

function cell(text: string, width: number): string {
  return padTo(fit(text, width), width)
}

function colorOf(type: string): number {
  if (type === 'gap' || type === 'isolation.violated' || type === 'tripwire.touched' || type === 'plugin.quarantined') return 31
  if (/\.(?:failed|refused|denied)$/.test(type)) return 33
  return 0
}

function paint(text: string, color: number, on: boolean): string {
  return on && color !== 0 ? `\u001b[${color}m${text}\u001b[0m` : text
}

function parse(line: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : null
  } catch {
    return null // shown as "(not a record)"
  }
}

/** Of a changed log: an object without a usable `toString` must not end the table. */
function asText(value: unknown): string {
  return typeof value === 'string' ? value : (JSON.stringify(value) ?? '?')
}
