import { writeSync } from 'node:fs'

/** One line on stderr, which the launcher keeps. Synchronous, so that the last words before an exit are written. */
export function logLine(message: string): void {
  try {
    writeSync(2, `${message}\n`)
  } catch {
    // A full or closed stderr must not end the gateway; there is no one left to tell.
  }
}

const LINES_PER_WINDOW = 30
const WINDOW_MS = 60_000

/**
 * A log for what a plugin can cause at will: at most 30 lines a minute, then one line that says how many were left out.
 * @param prefix printable, names the plugin
 * @param now milliseconds
 */
export function budgetedLog(prefix: string, now: () => number, write: (message: string) => void = logLine): (message: string) => void {
  let windowStart = now()
  let lines = 0
  let leftOut = 0
  return (message) => {
    if (now() - windowStart >= WINDOW_MS) {
      if (leftOut > 0) write(`${prefix}: ${leftOut} more lines were left out`)
      windowStart = now()
      lines = 0
      leftOut = 0
    }
    if (lines < LINES_PER_WINDOW) write(`${prefix}: ${message}`)
    else leftOut += 1
    lines += 1
  }
}
