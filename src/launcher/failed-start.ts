import { CordonError, type ErrorCode } from '../errors.ts'
import type { Outcome } from './outcome.ts'

/** Errors that may be gone at the next try; after any other the file, the policy or the host must change first. */
const PASSING = new Set<ErrorCode>(['LAUNCH_PROGRAM', 'LAUNCH_RUNTIME', 'LAUNCH_DOOR', 'WIRE_CLOSED', 'WIRE_TIMEOUT', 'CGROUP_BUSY', 'STORE_CHANGING', 'STORE_IO'])

/** @param error why a start came to nothing; null: a defect, which the caller logs */
export function failedStart(error: CordonError | null, interrupted: boolean): Outcome {
  const base = { clean: false, ranMs: 0, interrupted }
  if (error === null) return { ...base, reason: 'INTERNAL_BUG: see the daemon log', permanent: false, blameless: false }
  const passing = PASSING.has(error.code) || error.code.startsWith('AUDIT_')
  return { ...base, reason: `${error.code}: ${error.message}`, permanent: !passing, blameless: error.code === 'AUDIT_UNAVAILABLE' }
}
