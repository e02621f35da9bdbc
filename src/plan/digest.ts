import { createHash } from 'node:crypto'
import { canonicalJson } from '../base/canonical-json.ts'
import type { SandboxPlan } from './plan.ts'

/** Hex SHA-256 of a plan as canonical JSON, so that an audit record names exactly what the kernel was asked for. */
export function planDigest(plan: SandboxPlan): string {
  return createHash('sha256').update(canonicalJson(plan)).digest('hex')
}
