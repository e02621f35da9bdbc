import { printable } from '../base/printable.ts'
import type { ErrorCode } from '../errors.ts'
import type { RunExit } from './run-exit.ts'

export interface Outcome {
  readonly clean: boolean
  readonly reason: string
  /** Trying again would not help: the file, the policy or the host must change first. */
  readonly permanent: boolean
  readonly ranMs: number
  /** Ended because the gateway went, which is not the plugin's failure. */
  readonly interrupted: boolean
  /** The host could not even try (the log takes no records), so it does not count against the start limit. */
  readonly blameless?: boolean
}

/** What is known of a run that is over. */
export interface Ending {
  readonly exit: RunExit
  /** Why it was ended, when it was not its own doing. */
  readonly verdict: { readonly code: ErrorCode | string; readonly message: string } | null
  /** Milliseconds since its release. */
  readonly ranMs: number
  /** It was ready once. */
  readonly wasReady: boolean
  readonly interrupted: boolean
  /** Its last words; printable, '' for none. */
  readonly said: string
}

export function judge({ exit, verdict, ranMs, wasReady, interrupted, said }: Ending): Outcome {
  const last = said === '' ? '' : `; last on stderr: ${said}`
  const own = exit.oomKills > 0 ? `oom-kill: it wanted more than MemoryMax (${exit.text})` : exit.text.includes('SIGSYS') ? `seccomp: a refused system call (${exit.text})` : exit.text
  const base = { ranMs: wasReady ? ranMs : 0, interrupted, permanent: verdict?.code === 'LAUNCH_ISOLATION' }
  if (verdict !== null && exit.oomKills === 0) return { ...base, clean: false, reason: `${verdict.code}: ${verdict.message}${last}` }
  return { ...base, clean: exit.status === 0 && wasReady, reason: `${own}${wasReady ? '' : ' before it was ready'}${last}` }
}

/** Shorter values are no secrets, and occur by chance. */
const MIN_REDACTED = 6

/** The last lines of its stderr, without what we know to be no one's business: programs print their settings when they fail. */
export function lastWords(bytes: Buffer, known: Readonly<Record<string, string>>): string {
  const lines = bytes.toString('utf8').split('\n').filter((line) => line.trim() !== '').slice(-3).join(' | ')
  const hidden = Object.entries(known).filter(([, value]) => value.length >= MIN_REDACTED).sort(([, a], [, b]) => b.length - a.length)
  return printable(hidden.reduce((text, [name, value]) => text.replaceAll(value, `[${name}]`), lines), 600)
}
