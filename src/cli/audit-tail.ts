import { constants } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { linesBackward, linesForward } from './audit-lines.ts'
import { formatRecord, matches, TABLE_HEAD, type Filter } from './audit-row.ts'
import type { CommandIo } from './io.ts'

const LOG_NAME = 'audit.jsonl'
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
  const { count, follow, filter } = parseOptions(args)
  const path = join(options.dir, LOG_NAME)
  let handle = await openLog(path)
  try {
    let at = (await handle.stat()).size
    const newest: string[] = []
    if (count > 0) {
      for await (const line of linesBackward(handle, at)) {
        if (options.signal.aborted) return 0
        if (matches(line, filter) && newest.push(line) >= count) break
      }
    }
    const show = shower(io)
    for (const line of newest.reverse()) show(line)
    if (newest.length === 0 && !follow) io.err('no records match')
    if (!follow) return 0
    at = await lineStart(handle, at)
    while (!options.signal.aborted) {
      const { lines, next } = await linesForward(handle, at)
      at = next
      for (const line of lines) if (matches(line, filter)) show(line)
      if (lines.length > 0) continue
      await sleep(POLL_MS, undefined, { signal: options.signal }).catch(() => undefined) // aborted: the loop ends
      const renewed = await reopenIfReplaced(handle, path, at)
      if (renewed === null) continue
      io.err('the log was replaced or cut; following from its start')
      await handle.close()
      handle = renewed
      at = 0
    }
    return 0
  } finally {
    await handle.close()
  }
}

function parseOptions(args: readonly string[]): { count: number; follow: boolean; filter: Filter } {
  try {
    const { values } = parseArgs({
      args: [...args], strict: true,
      options: { lines: { type: 'string', short: 'n' }, follow: { type: 'boolean', short: 'f' }, plugin: { type: 'string' }, type: { type: 'string' } },
    })
    const lines = values.lines ?? String(DEFAULT_LINES)
    const count = /^\d{1,6}$/.test(lines) ? Number(lines) : NaN
    if (!(count <= MAX_LINES)) throw new CordonError('USAGE_BAD_OPTION', `audit tail: -n "${printable(lines, 40)}" is not a number from 0 to ${MAX_LINES}`)
    return { count, follow: values.follow ?? false, filter: { plugin: values.plugin ?? null, type: values.type ?? null } }
  } catch (error) {
    if (error instanceof CordonError) throw error
    throw new CordonError('USAGE_BAD_OPTION', `audit tail: ${printable(error instanceof Error ? error.message : String(error))}`, { cause: error })
  }
}

function shower(io: CommandIo): (line: string) => void {
  // A record holds no control characters; a changed one might, and the terminal must not obey it.
  if (io.json) return (line) => io.out(printable(line, line.length))
  io.out(TABLE_HEAD)
  return (line) => io.out(formatRecord(line, io.color))
}

export async function openLog(path: string): Promise<FileHandle> {
  try {
    // O_NONBLOCK: a named pipe in place of the log must not make the command wait for a writer.
    const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    if ((await handle.stat()).isFile()) return handle
    await handle.close()
    throw new CordonError('AUDIT_UNAVAILABLE', `${printable(path)} is not a regular file`)
  } catch (error) {
    if (error instanceof CordonError) throw error
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'ENOENT') throw new CordonError('AUDIT_NOT_FOUND', `there is no audit log at ${printable(path)}`, { cause: error })
    throw new CordonError('AUDIT_UNAVAILABLE', `cannot read ${printable(path)}: ${code ?? 'error'}${code === 'EACCES' ? '; only root may read it' : ''}`, { cause: error })
  }
}

/** `size` may lie inside a line that is just being written; following starts at that line's first byte. */
async function lineStart(handle: FileHandle, size: number): Promise<number> {
  const from = Math.max(0, size - 65_536)
  const block = Buffer.alloc(size - from)
  await handle.read(block, 0, block.length, from)
  return from + block.lastIndexOf(0x0a) + 1
}

async function reopenIfReplaced(handle: FileHandle, path: string, at: number): Promise<FileHandle | null> {
  const mine = await handle.stat({ bigint: true })
  const now = await openLog(path).catch(() => null) // gone for now: what was open stays open
  if (now === null) return null
  const there = await now.stat({ bigint: true })
  if (there.ino !== mine.ino || there.dev !== mine.dev || Number(there.size) < at) return now
  await now.close()
  return null
}
