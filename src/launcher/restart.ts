import type { Restart } from '../policy/policy.ts'

/** A run of this length was well: the next failure starts from the shortest wait again. */
const STABLE_MS = 60_000

/** systemd's start limit: may it be started once more? Forgets the starts that left the window. */
export function startsAllowed(starts: number[], nowMs: number, restart: Restart): boolean {
  const { count, windowMs } = restart.startLimit
  while (starts[0] !== undefined && starts[0] <= nowMs - windowMs) starts.shift()
  return starts.length < count
}

const INTERRUPTIONS_MS = 60_000
const INTERRUPTION_PAUSES_MS = [0, 1000, 2000, 5000, 10_000] as const

/**
 * What was ended because the gateway or the door went starts again at once, and counts against no limit; but whoever can make them go
 * must not make the host do nothing but starts.
 * @param earlier when it was interrupted before; this one is added
 * @returns how long to wait
 */
export function afterInterruptionMs(earlier: number[], nowMs: number): number {
  while (earlier[0] !== undefined && earlier[0] <= nowMs - INTERRUPTIONS_MS) earlier.shift()
  return INTERRUPTION_PAUSES_MS[Math.min(earlier.push(nowMs), INTERRUPTION_PAUSES_MS.length) - 1] ?? 0
}

export type AfterRun =
  | { readonly kind: 'again'; readonly delayMs: number; readonly failures: number }
  | { readonly kind: 'stop'; readonly failures: number }
  | { readonly kind: 'fail'; readonly failures: number }

/**
 * What follows the end of a run (pure): start again after a wait that doubles, stay stopped, or stay failed.
 * @param failures in a row before this one
 */
export function afterFailure(restart: Restart, outcome: { readonly clean: boolean; readonly ranMs: number }, failures: number): AfterRun {
  const inRow = outcome.ranMs >= STABLE_MS ? 0 : failures
  if (outcome.clean && restart.on !== 'always') return { kind: 'stop', failures: 0 }
  if (restart.on === 'never') return { kind: 'fail', failures: inRow + 1 }
  return { kind: 'again', delayMs: Math.min(restart.backoffMaxMs, restart.backoffMinMs * 2 ** Math.min(inRow, 20)), failures: inRow + 1 }
}
