import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { endOfLog, linesBackward, linesOf, LogReader } from '../audit/segments.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { wrongOption } from './args.ts'
import { formatRecord, matches, TABLE_HEAD, type Filter } from './audit-row.ts'
import type { CommandIo } from './io.ts'

const DEFAULT_LINES = 20
const MAX_LINES = 100_000
const POLL_MS = 250

/**
 * `cordon audit tail [-n N] [-f] [--plugin NAME] [--type T]`: the newest records, oldest of them first. It shows and does not judge:
 * a changed record looks like any other here, `audit verify` tells.
 * @returns exit status; ends with 0 when `signal` fires
 * @throws CordonError USAGE_BAD_OPTION, AUDIT_NOT_FOUND, AUDIT_UNAVAILABLE
 */
export async function auditTail(args: readonly string[], io: CommandIo, options: { readonly dir: string; readonly signal: AbortSignal }): Promise<number> {
  const { count, follow, filter } = parseOptions(args, io.json)
  const { dir, signal } = options
  const end = await endOfLog(dir)
  const newest: string[] = []
  if (count > 0) {
    for await (const line of linesBackward(dir, end)) {
      if (signal.aborted) return 0
      if (matches(line, filter) && newest.push(line) >= count) break
    }
  }
  const show = shower(io)
  for (const line of newest.reverse()) show(line)
  if (newest.length === 0 && !follow) io.err('no records match')
  if (!follow) return 0
  const reader = new LogReader(dir, end)
  try {
    while (!signal.aborted) {
      const block = await reader.next()
      if (block !== null) {
        for (const { text } of linesOf(block)) if (matches(text, filter)) show(text)
        continue
      }
      await sleep(POLL_MS, undefined, { signal }).catch(() => undefined) // aborted: the loop ends
      if (await reader.restartIfReplaced()) io.err('the log was replaced or cut; following from its start')
    }
    return 0
  } finally {
    await reader.close()
  }
}

/** @param seals in the table they would hide what happened */
function parseOptions(args: readonly string[], seals: boolean): { count: number; follow: boolean; filter: Filter } {
  try {
    const { values } = parseArgs({
      args: [...args], strict: true,
      options: { lines: { type: 'string', short: 'n' }, follow: { type: 'boolean', short: 'f' }, plugin: { type: 'string' }, type: { type: 'string' } },
    })
    const lines = values.lines ?? String(DEFAULT_LINES)
    const count = /^\d{1,6}$/.test(lines) ? Number(lines) : NaN
    if (!(count <= MAX_LINES)) throw new CordonError('USAGE_BAD_OPTION', `audit tail: -n "${printable(lines, 40)}" is not a number from 0 to ${MAX_LINES}`)
    return { count, follow: values.follow ?? false, filter: { plugin: values.plugin ?? null, type: values.type ?? null, seals } }
  } catch (error) {
    if (error instanceof CordonError) throw error
    throw wrongOption('audit tail', error)
  }
}

function shower(io: CommandIo): (line: string) => void {
  // A record holds no control characters; a changed one might, and the terminal must not obey it.
  if (io.json) return (line) => io.out(printable(line, line.length))
  io.out(TABLE_HEAD)
  return (line) => io.out(formatRecord(line, io.color))
}
