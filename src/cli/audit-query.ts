import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { endOfLog, linesOf, LogReader } from '../audit/segments.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { fieldsOf, OUTCOMES, parseRecord } from '../history/fields.ts'
import { matcher, type Filter } from '../history/filter.ts'
import { findRecords, type Found, type HistoryOptions } from '../history/find.ts'
import { counted } from './amounts.ts'
import { formatRecord, TABLE_HEAD } from './audit-row.ts'
import type { CommandContext } from './context.ts'
import type { CommandIo } from './io.ts'
import { readOptions } from './policy-options.ts'
import { progressLines } from './progress.ts'
import { parseSince, parseUpTo } from './since.ts'

const DEFAULT_LIMIT = 100
const MAX_LIMIT = 100_000
/** A page ends here as well: a record can have 64 KiB, and a page is held in memory. */
const PAGE_BYTES = 64 * 1024 * 1024
const POLL_MS = 250

/**
 * `cordon audit query`: records by what is in them. Like `audit tail` it shows and does not judge; `audit verify` does.
 * @returns 0, also when nothing fits; ends with 0 when `signal` fires while following
 * @throws CordonError USAGE_BAD_OPTION, AUDIT_NOT_FOUND, AUDIT_UNAVAILABLE, AUDIT_INDEX
 */
export async function auditQuery(args: readonly string[], io: CommandIo, { config, signal }: Pick<CommandContext, 'config' | 'signal'>, now = Date.now()): Promise<number> {
  const asked = parseOptions(args, io.json, now)
  const { filter, order, beyond, limit, follow } = asked
  const options = historyOptions(config.stateDir, io, signal, asked.rebuild)
  const end = await endOfLog(options.dir)
  const show = shower(io)
  let last = -1
  const page: Found[] = []
  let bytes = 0
  let more = false
  const records = findRecords({ filter, order, beyond }, options)
  for (let next = await records.next(); ; next = await records.next()) {
    if (next.done === true) {
      if (next.value.unreadable > 0) io.err(`note: ${counted(next.value.unreadable, 'line')} of the log ${next.value.unreadable === 1 ? 'is no record' : 'are no records'}; cordon audit verify judges them`)
      break
    }
    if (page.length === limit || bytes > PAGE_BYTES) {
      more = true
      await records.return({ unreadable: 0 })
      break
    }
    page.push(next.value)
    bytes += next.value.line.length
  }
  const turn = page.at(-1)?.fields.seq
  for (const { line, fields } of order === 'older' ? page.reverse() : page) {
    show(line)
    last = Math.max(last, fields.seq)
  }
  if (page.length === 0 && !follow) io.err('no records match')
  if (more && turn !== undefined) {
    const cursor = `${order}:${turn}`
    io.err(io.json ? JSON.stringify({ next: cursor }) : `${order} records match too: --after ${cursor}`)
  }
  return follow ? followLog(options.dir, end, last, filter, show, io, signal) : 0
}

/** For every command that searches the log. */
export function historyOptions(stateDir: string, io: CommandIo, signal: AbortSignal, rebuild = false): HistoryOptions {
  return {
    dir: join(stateDir, 'audit'), indexDir: join(stateDir, 'audit-index'), rebuild, signal,
    progress: progressLines(io, 'indexing the audit log'), notice: (text) => io.err(`note: ${text}`),
  }
}

async function followLog(dir: string, end: Awaited<ReturnType<typeof endOfLog>>, shown: number, filter: Filter, show: (line: string) => void, io: CommandIo, signal: AbortSignal): Promise<number> {
  const fits = matcher(filter)
  const reader = new LogReader(dir, end)
  let last = shown
  try {
    while (!signal.aborted) {
      const block = await reader.next()
      for (const { text } of block === null ? [] : linesOf(block)) {
        const record = parseRecord(text)
        const fields = record === null ? null : fieldsOf(record)
        if (fields !== null && fields.seq > last && fits(text, fields)) show(text)
      }
      if (block !== null) continue
      await sleep(POLL_MS, undefined, { signal }).catch(() => undefined) // aborted: the loop ends
      if (await reader.restartIfReplaced()) {
        io.err('the log was replaced or cut; following from its start')
        last = -1
      }
    }
    return 0
  } finally {
    await reader.close()
  }
}

interface Asked {
  readonly filter: Filter
  readonly order: 'newer' | 'older'
  readonly beyond: number | null
  readonly limit: number
  readonly follow: boolean
  readonly rebuild: boolean
}

/** @param seals in the table they would hide what happened */
function parseOptions(args: readonly string[], seals: boolean, now: number): Asked {
  const many = { type: 'string', multiple: true } as const
  const { values, positionals } = readOptions('audit query', args, {
    since: { type: 'string' }, until: { type: 'string' }, plugin: many, type: many, outcome: many, host: many, client: many, digest: many, text: { type: 'string' },
    follow: { type: 'boolean', short: 'f' }, limit: { type: 'string', short: 'n' }, after: { type: 'string' }, oldest: { type: 'boolean' }, rebuild: { type: 'boolean' },
  })
  if (positionals.length > 0) throw wrong(`takes options only, found "${printable(positionals[0] ?? '', 80)}"`)
  const cursor = values.after === undefined ? null : parseCursor(values.after)
  if (values.follow === true && (values.until !== undefined || cursor !== null || values.oldest === true)) throw wrong('--follow shows what comes; it does not go with --until, --after or --oldest')
  if (cursor?.order === 'older' && values.oldest === true) throw wrong('--oldest goes forward and this cursor backward')
  for (const digest of values.digest ?? []) if (!/^[0-9a-f]{6,64}$/.test(digest)) throw wrong(`--digest "${printable(digest, 80)}": expected the first 6 to 64 hex digits of a SHA-256`)
  for (const outcome of values.outcome ?? []) if (!OUTCOME.test(outcome)) throw wrong(`--outcome "${printable(outcome, 80)}": expected ${OUTCOMES.join(', ')}, or a code as records give it`)
  if (values.text !== undefined && Buffer.byteLength(values.text) < 3) throw wrong(`--text "${printable(values.text, 40)}" is too short: expected three characters or more`)
  return {
    filter: {
      since: values.since === undefined ? null : parseSince('audit query: --since', values.since, now),
      until: values.until === undefined ? null : parseUpTo('audit query: --until', values.until, now),
      plugins: values.plugin ?? [], types: values.type ?? [], outcomes: values.outcome ?? [], clients: values.client ?? [], digests: values.digest ?? [],
      hosts: (values.host ?? []).map((host) => host.toLowerCase()), text: values.text ?? null, seals,
    },
    order: cursor?.order ?? (values.oldest === true ? 'newer' : 'older'), beyond: cursor?.seq ?? null,
    limit: parseLimit(values.limit ?? String(DEFAULT_LIMIT)), follow: values.follow ?? false, rebuild: values.rebuild ?? false,
  }
}

const OUTCOME = /^[A-Za-z0-9_*-]{1,64}$/

function parseLimit(text: string): number {
  const limit = /^\d{1,6}$/.test(text) ? Number(text) : 0
  if (limit < 1 || limit > MAX_LIMIT) throw wrong(`--limit "${printable(text, 40)}" is not a number from 1 to ${MAX_LIMIT}`)
  return limit
}

function parseCursor(text: string): { readonly order: 'newer' | 'older'; readonly seq: number } {
  const match = /^(older|newer):(\d{1,15})$/.exec(text)
  if (match === null) throw wrong(`--after "${printable(text, 40)}" is no cursor, as an earlier page printed it`)
  return { order: match[1] === 'older' ? 'older' : 'newer', seq: Number(match[2]) }
}

function wrong(what: string): CordonError {
  return new CordonError('USAGE_BAD_OPTION', `audit query: ${what}`)
}

function shower(io: CommandIo): (line: string) => void {
  // A record holds no control characters; a changed one might, and the terminal must not obey it.
  if (io.json) return (line) => io.out(printable(line, line.length))
  io.out(TABLE_HEAD)
  return (line) => io.out(formatRecord(line, io.color))
}
