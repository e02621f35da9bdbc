import { constants } from 'node:fs'
import { open, stat, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { StringDecoder } from 'node:string_decoder'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { pluginName } from './args.ts'
import type { CommandContext } from './context.ts'
import type { CommandIo } from './io.ts'
import { readOptions } from './policy-options.ts'

const DEFAULT_LINES = 100
const MAX_LINES = 100_000
const POLL_MS = 250
const BLOCK_BYTES = 64 * 1024
/** A longer line is shown in pieces. */
const LINE_CHARS = 8192

/**
 * `cordon logs NAME [-f] [-n N] [--stdout]`: what the plugin printed, from the capped files that the launcher writes
 * (launcher/log-file.ts). The daemon need not run. Control characters are shown as escapes, never sent to the terminal.
 * @throws CordonError USAGE_BAD_OPTION, LOG_ABSENT, CONTROL_NOT_ROOT
 */
export async function logsCommand(args: readonly string[], io: CommandIo, { config, signal }: CommandContext): Promise<number> {
  const { values, positionals: [word, more] } = readOptions('logs', args, { follow: { type: 'boolean', short: 'f' }, lines: { type: 'string', short: 'n' }, stdout: { type: 'boolean' } })
  if (word === undefined || more !== undefined) throw new CordonError('USAGE_BAD_OPTION', 'logs: expected one plugin name')
  const count = values.lines === undefined ? DEFAULT_LINES : Number(values.lines)
  if (!Number.isInteger(count) || count < 0 || count > MAX_LINES) throw new CordonError('USAGE_BAD_OPTION', `logs: -n expects 0 to ${MAX_LINES}`)
  const stream = values.stdout === true ? 'stdout' : 'stderr'
  const path = join(config.stateDir, 'logs', pluginName('logs', word), `${stream}.log`)
  const show = (line: string): void => io.out(io.json ? JSON.stringify({ stream, line }) : printable(line, LINE_CHARS))

  const current = await openLog(path)
  if (current === null) throw new CordonError('LOG_ABSENT', `there is no ${path}: "${word}" has not been started, or is not the name of a plugin`)
  const lines = new LineSplitter()
  const newest: string[] = []
  for (const older of [`${path}.2`, `${path}.1`]) {
    const handle = await openLog(older)
    if (handle !== null) await drain(handle, 0, (bytes) => newest.push(...lines.push(bytes))).finally(() => handle.close())
  }
  const reading = { handle: current, at: 0 }
  try {
    reading.at = await drain(current, 0, (bytes) => newest.push(...lines.push(bytes)))
    if (values.follow !== true) newest.push(...lines.end())
    for (const line of count === 0 ? [] : newest.slice(-count)) show(line)
    while (values.follow === true && !signal.aborted) {
      await sleep(POLL_MS, undefined, { signal }).catch(() => undefined) // aborted: the loop ends
      await follow(path, reading, (bytes) => lines.push(bytes).forEach(show))
    }
  } finally {
    await reading.handle.close()
  }
  return 0
}

/** The rest of the file that we hold; then the file that stands in its place, if it was rotated. */
async function follow(path: string, reading: { handle: FileHandle; at: number }, take: (bytes: Buffer) => void): Promise<void> {
  const place = await stat(path).catch(() => null) // between rename and creation there is none
  const held = await reading.handle.stat()
  reading.at = await drain(reading.handle, reading.at, take)
  if (place === null || (place.ino === held.ino && place.dev === held.dev)) return
  const fresh = await openLog(path)
  if (fresh === null) return
  await reading.handle.close()
  reading.handle = fresh
  reading.at = await drain(fresh, 0, take)
}

async function drain(handle: FileHandle, from: number, take: (bytes: Buffer) => void): Promise<number> {
  const block = Buffer.alloc(BLOCK_BYTES)
  for (let at = from; ; ) {
    const { bytesRead } = await handle.read(block, 0, block.length, at)
    if (bytesRead === 0) return at
    at += bytesRead
    take(Buffer.from(block.subarray(0, bytesRead)))
  }
}

async function openLog(path: string): Promise<FileHandle | null> {
  try {
    return await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch (error) {
    const errno = error instanceof Error && 'code' in error ? error.code : null
    if (errno === 'ENOENT' || errno === 'ENOTDIR') return null
    if (errno === 'EACCES' || errno === 'EPERM') throw new CordonError('CONTROL_NOT_ROOT', `${path} is open to root alone`, { cause: error })
    throw new CordonError('LOG_REFUSED', `${path} cannot be read (${String(errno)})`, { cause: error })
  }
}

/** Bytes in any pieces to lines; a line that does not end is given out in pieces too. */
class LineSplitter {
  readonly #decoder = new StringDecoder('utf8')
  #rest = ''

  push(bytes: Buffer): string[] {
    const parts = (this.#rest + this.#decoder.write(bytes)).split('\n')
    this.#rest = parts.pop() ?? ''
    while (this.#rest.length > LINE_CHARS) {
      parts.push(this.#rest.slice(0, LINE_CHARS))
      this.#rest = this.#rest.slice(LINE_CHARS)
    }
    return parts
  }

  end(): string[] {
    return this.#rest === '' ? [] : [this.#rest]
  }
}
