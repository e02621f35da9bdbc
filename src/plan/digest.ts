import { createHash } from 'node:crypto'
import { canonicalJson } from '../base/canonical-json.ts'
import type { SandboxPlan, SeccompProfile } from './plan.ts'

/**
 * Hex SHA-256 of a plan as canonical JSON, so that an audit record names exactly what the kernel was asked for. The seccomp list, nine
 * tenths of the text and the same for every plugin, stands in it as its own SHA-256, which is taken once.
 */
export function planDigest(plan: SandboxPlan): string {
  return sha256({ ...plan, seccomp: seccompDigest(plan.seccomp) })
}

const seccompDigests = new WeakMap<SeccompProfile, string>()

function seccompDigest(profile: SeccompProfile): string {
  const digest = seccompDigests.get(profile) ?? sha256(profile)
  if (Object.isFrozen(profile)) seccompDigests.set(profile, digest)
  return digest
}

function sha256(value: unknown): string {
  return createHash('sha256').update(canonicalJson(value)).digest('hex')
}
