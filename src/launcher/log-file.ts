import { closeSync, constants, fstatSync, lstatSync, mkdirSync, openSync, renameSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'

export interface LogLimits {
  /** A file above this is rotated. */
  readonly fileBytes: number
  /** Files kept: `stderr.log`, `stderr.log.1`, `stderr.log.2`. */
  readonly keep: number
  /** What a plugin may log in the long run; more is dropped and counted. */
  readonly bytesPerSecond: number
  /** What it may log at once, such as a stack trace. */
  readonly burstBytes: number
}

/** 3 MiB a stream stay readable with `cordon logs`; at 64 KiB/s a plugin needs a minute to push its own history out. */
const LOG_LIMITS: LogLimits = { fileBytes: 1024 * 1024, keep: 3, bytesPerSecond: 64 * 1024, burstBytes: 512 * 1024 }

/** Enough for the last lines of a crash. */
const TAIL_BYTES = 4096

/**
 * One stream of one plugin: bytes to disk, unread. Writes are synchronous and bounded by the rate, so a plugin can neither
 * fill the disk nor hold the launcher, and nothing queues up in memory.
 */
export interface PluginLog {
  write(bytes: Buffer): void
  /** The last 4 KiB that the plugin wrote, whether or not they fitted the file: for the reason of an exit. Hostile bytes. */
  tailBytes(): Buffer
  /** Bytes that are in no file: above the rate, or the disk was full. */
  lostBytes(): number
  close(): void
}

export interface LogHooks {
  /** Monotonic milliseconds. */
  readonly nowMs?: () => number
  /** Called once per log when writing fails (disk full): say so in the daemon's log. */
  readonly onTrouble?: (error: unknown) => void
  readonly limits?: LogLimits
  /** Replaced by tests that fill a disk. */
  readonly writeSync?: (fd: number, bytes: Buffer) => number
}

/**
 * @param dir `<stateDir>/logs/NAME`; made with mode 0700 if it is absent, its parent must exist
 * @throws CordonError LOG_REFUSED when something else lies there
 */
export function openPluginLog(dir: string, stream: 'stdout' | 'stderr', hooks: LogHooks = {}): PluginLog {
  const limits = hooks.limits ?? LOG_LIMITS
  const nowMs = hooks.nowMs ?? (() => performance.now())
  const put = hooks.writeSync ?? writeSync
  checkDirectory(dir)
  const path = join(dir, `${stream}.log`)
  let { fd, size } = openLog(path)
  let open = true
  let tail = Buffer.alloc(0)
  let allowance = limits.burstBytes
  let refilledAt = nowMs()
  /** Dropped for the rate and not yet marked in the file. */
  let unmarked = 0
  let lost = 0
  let reported = false

  function refill(): void {
    const now = nowMs()
    allowance = Math.min(limits.burstBytes, allowance + ((now - refilledAt) / 1000) * limits.bytesPerSecond)
    refilledAt = now
  }

  function append(bytes: Buffer): void {
    try {
      if (size > 0 && size + bytes.length > limits.fileBytes) rotate()
      for (let done = 0; done < bytes.length; ) {
        const written = put(fd, bytes.subarray(done))
        if (written <= 0) throw new Error('the kernel wrote nothing')
        done += written
        size += written
      }
    } catch (error) {
      // A full disk must not end the plugin or the launcher: the loss is counted and told once.
      lost += bytes.length
      if (!reported) hooks.onTrouble?.(error)
      reported = true
    }
  }

  function rotate(): void {
    for (let n = limits.keep - 1; n > 0; n--) {
      const from = n === 1 ? path : `${path}.${n - 1}`
      if (lstatSync(from, { throwIfNoEntry: false }) !== undefined) renameSync(from, `${path}.${n}`)
    }
    const fresh = openLog(path)
    closeSync(fd)
    fd = fresh.fd
    size = fresh.size
  }

  function mark(): void {
    if (unmarked === 0) return
    append(Buffer.from(`\n[cordon: ${unmarked} bytes dropped, over ${limits.bytesPerSecond} bytes per second]\n`))
    unmarked = 0
  }

  return {
    write(bytes) {
      if (!open || bytes.length === 0) return
      tail = Buffer.from(Buffer.concat([tail, bytes.subarray(-TAIL_BYTES)]).subarray(-TAIL_BYTES))
      refill()
      // A chunk goes in as a whole or not at all, and the marker has waited for room for at least a little more.
      if (bytes.length > allowance) {
        unmarked += bytes.length
        lost += bytes.length
        return
      }
      mark()
      allowance -= bytes.length
      for (let at = 0; at < bytes.length; at += limits.fileBytes) append(bytes.subarray(at, at + limits.fileBytes))
    },
    tailBytes: () => Buffer.from(tail),
    lostBytes: () => lost,
    close() {
      if (!open) return
      mark()
      open = false
      closeSync(fd)
    },
  }
}

function checkDirectory(dir: string): void {
  try {
    mkdirSync(dir, { mode: 0o700 })
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw new CordonError('LOG_REFUSED', `${printable(dir)} cannot be made`, { cause: error })
  }
  const stat = lstatSync(dir)
  if (!stat.isDirectory() || stat.uid !== process.geteuid?.() || (stat.mode & 0o077) !== 0) {
    throw new CordonError('LOG_REFUSED', `${printable(dir)} is not a directory of ours with mode 0700 (mode ${(stat.mode & 0o7777).toString(8)}, uid ${stat.uid})`)
  }
}

function openLog(path: string): { fd: number; size: number } {
  let fd: number
  try {
    fd = openSync(path, constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK, 0o600)
  } catch (error) {
    throw new CordonError('LOG_REFUSED', `${printable(path)} cannot be opened, or is a link`, { cause: error })
  }
  const stat = fstatSync(fd)
  if (!stat.isFile() || stat.uid !== process.geteuid?.() || (stat.mode & 0o077) !== 0 || stat.nlink !== 1) {
    closeSync(fd)
    throw new CordonError('LOG_REFUSED', `${printable(path)} is not a regular file of ours with mode 0600 and one link`)
  }
  return { fd, size: stat.size }
}
