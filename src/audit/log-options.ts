import { readFileSync } from 'node:fs'
import type { CordonError } from '../errors.ts'
import type { BudgetLimits } from './budget.ts'
import type { LogFs } from './log-file.ts'
import type { PrunedSegment, Retention } from './retention.ts'

export interface LogClock {
  wallMs(): number
  /** Integer milliseconds of CLOCK_MONOTONIC. */
  monoMs(): number
}

export interface AuditLogOptions {
  readonly dir: string
  readonly keysDir?: string
  /** `daemon` tells that it opened the log, and seals it all the time; `run` only seals what it wrote, at its end. */
  readonly mode?: 'daemon' | 'run'
  /** Uid that must own directories and files. */
  readonly owner?: number
  readonly clock?: LogClock
  readonly bootId?: string
  readonly fs?: LogFs
  readonly budget?: BudgetLimits
  readonly coalesceMs?: number
  readonly sealIntervalS?: number
  readonly sealRecords?: number
  readonly segmentBytes?: number
  readonly segmentAgeMs?: number
  /** What of the log is removed in time; null: nothing. */
  readonly retention?: Retention | null
  /** Told what was removed, or why nothing could be. */
  readonly onPruned?: (pruned: readonly PrunedSegment[] | CordonError) => void
  /** Told when records can no longer be written, and (null) when they can again. It must not throw. */
  readonly onLoss?: (error: CordonError | null) => void
}

export const SYSTEM_CLOCK: LogClock = {
  wallMs: () => Date.now(),
  monoMs: () => {
    const [s, ns] = process.hrtime()
    return s * 1000 + Math.floor(ns / 1_000_000)
  },
}

export function readBootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
}
