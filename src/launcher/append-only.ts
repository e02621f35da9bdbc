import { closeSync, constants, openSync } from 'node:fs'
import { NODE_FS, type LogFs } from '../audit/log-file.ts'
import { printable } from '../base/printable.ts'
import { runProgram } from './run-program.ts'

const CHATTR = '/usr/bin/chattr'
const CHATTR_MS = 5000

/**
 * The file system of the log's one writer: the open segment is append-only where that can be had (chattr(1), FS_APPEND_FL), so that neither a
 * stray `rm`, `>` or editor, nor root without CAP_LINUX_IMMUTABLE, cuts or replaces it. Who has that capability lifts it: against such a root
 * stand the seals. A program is started for it (Node has no ioctl), once for each segment begun or ended and never for a record.
 * @param log told once when it cannot be had: file systems without it, a missing capability, no e2fsprogs
 */
export function appendOnlyFs(log: (message: string) => void): LogFs {
  let told = false
  return {
    ...NODE_FS,
    appendOnly: async (path, on) => {
      // Nothing to lift where it is not set, as on a file system that cannot.
      if (isAppendOnly(path) === on) return
      try {
        await runProgram(CHATTR, [on ? '+a' : '-a', '--', path], { timeoutMs: CHATTR_MS })
      } catch (error) {
        if (!told) log(`the open segment of the audit log is not made append-only: ${printable(error instanceof Error ? error.message : String(error), 300)}`)
        told = true
      }
    },
  }
}

/** Whoever may write it cannot open it without O_APPEND then (open(2), EPERM). @returns false also for a file that cannot be opened at all */
export function isAppendOnly(path: string): boolean {
  try {
    closeSync(openSync(path, constants.O_WRONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK))
    return false
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}
