import { mkdirSync, readFileSync, renameSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { canonicalJson } from '../base/canonical-json.ts'
import { policyDigest, type LoadedPolicy } from '../policy/load.ts'
import { checkPolicy } from '../policy/parse.ts'
import type { Policy } from '../policy/policy.ts'
import { resolvePolicy } from '../policy/resolve.ts'

/**
 * Every policy that was ever in force, by its digest, so that a record's digest can be turned back into what it allowed and
 * `policy diff` has something to compare with. Canonical JSON, written once, root-only, and kept as long as a record names it (collect.ts,
 * for which its time is set anew here).
 */
export function archivePolicy(stateDir: string, { digest, policy }: Pick<LoadedPolicy, 'digest' | 'policy'>, log: (message: string) => void): void {
  const file = pathOf(stateDir, digest)
  try {
    if (statSync(file, { throwIfNoEntry: false }) !== undefined) {
      const now = new Date()
      utimesSync(file, now, now)
      return
    }
    mkdirSync(`${stateDir}/policies`, { recursive: true, mode: 0o700 })
    writeFileSync(`${file}.new`, canonicalJson(policy), { mode: 0o600, flush: true })
    renameSync(`${file}.new`, file)
  } catch (error) {
    // The record of the digest stands; only the comparison will have to say that it does not know the old text.
    log(`policy ${digest.slice(0, 12)} could not be archived: ${error instanceof Error ? error.message : String(error)}`)
  }
}

/**
 * @returns with all fields of this version, also where an earlier one wrote it; null when it was never archived, or what lies there does not
 *          have that digest any more
 */
export function archivedPolicy(stateDir: string, digest: string): Policy | null {
  try {
    const policy = JSON.parse(readFileSync(pathOf(stateDir, digest), 'utf8')) as Policy
    return policyDigest(policy) === digest ? complete(policy) : null
  } catch {
    return null // never archived, or not readable any more
  }
}

/** A field that came later has the default that keeps things as they were before it, so an older policy meant just that. */
function complete(policy: Policy): Policy {
  const silent = resolvePolicy(checkPolicy({ plugin: policy.plugin, executable: { path: '/usr/bin/true' } }, '(archive)'), [])
  const fields = Object.entries(silent).map(([name, meant]) => [name, withDefaults((policy as unknown as Readonly<Record<string, unknown>>)[name], meant)])
  return { ...policy, ...Object.fromEntries(fields) } as Policy
}

function withDefaults(said: unknown, meant: unknown): unknown {
  if (said === undefined) return meant
  return isObject(said) && isObject(meant) ? { ...meant, ...said } : said
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function pathOf(stateDir: string, digest: string): string {
  if (!/^[0-9a-f]{64}$/.test(digest)) throw new TypeError('a policy digest is 64 hex digits')
  return `${stateDir}/policies/${digest}.json`
}
