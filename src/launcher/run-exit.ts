import type { ChildProcess } from 'node:child_process'

/** How a run ended. The runtime cannot tell `exit 139` from SIGSEGV, so neither do we. */
export interface RunExit {
  readonly status: number | null
  /** In words: `exit 3`, `exit 137 or SIGKILL`. */
  readonly text: string
  /** Processes of this run that the kernel killed for want of memory. */
  readonly oomKills: number
}

/** @returns the runtime's exit status, which is the program's; null: a signal ended the runtime, or it never started */
export function exitStatus(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve) => {
    child.once('exit', (code) => resolve(code))
    child.once('error', () => resolve(null)) // setpriv itself could not be started
  })
}

export function exitText(status: number | null): string {
  if (status === null) return 'the runtime was killed'
  if (status <= 128 || status > 192) return `exit ${status}`
  const signal = SIGNALS[status - 128]
  return signal === undefined ? `exit ${status}` : `exit ${status} or ${signal}`
}

const SIGNALS: Readonly<Record<number, string>> = { 1: 'SIGHUP', 2: 'SIGINT', 3: 'SIGQUIT', 4: 'SIGILL', 6: 'SIGABRT', 7: 'SIGBUS', 8: 'SIGFPE', 9: 'SIGKILL', 11: 'SIGSEGV', 13: 'SIGPIPE', 14: 'SIGALRM', 15: 'SIGTERM', 31: 'SIGSYS' }
