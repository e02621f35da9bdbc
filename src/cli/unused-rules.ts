import { matchText, type Egress } from '../base/egress-rule.ts'
import type { EgressRecord } from '../egress/record.ts'
import { unusedRules } from '../egress/suggest.ts'
import { CordonError } from '../errors.ts'
import { egressRecord, eachRecord } from './audit-history.ts'

/** A quarter: what runs once a month has run. What runs once a year has not, so this is a hint and nothing is removed. */
const UNUSED_DAYS = 90
/** Records weighed at once; the log may hold more than memory. */
const BATCH = 20_000

/**
 * Rules that no connection of the last 90 days used, as warnings of `policy check --used`.
 * @param dir of the audit log; one that is absent says nothing about use
 */
export async function lintUnused(dir: string, plugin: string, egress: Egress, now: number, signal: AbortSignal): Promise<string[]> {
  if (egress.allow.length === 0) return []
  let unused: Egress = egress
  let batch: EgressRecord[] = []
  let first: string | null = null
  const weigh = (): void => {
    unused = { ...unused, allow: unusedRules(unused, batch) }
    batch = []
  }
  try {
    await eachRecord(dir, plugin, now - UNUSED_DAYS * 86_400_000, signal, (record) => {
      first ??= record.time
      const used = egressRecord(record)
      if (used?.type === 'egress.opened' && batch.push(used) >= BATCH) weigh()
    })
  } catch (error) {
    if (error instanceof CordonError && error.code === 'AUDIT_NOT_FOUND') return ['there is no audit log, so nothing is known of which rules are used']
    throw error
  }
  weigh()
  if (first === null) return [`the audit log has no record of ${plugin} in the last ${UNUSED_DAYS} days, so nothing is known of which rules are used`]
  const days = Math.min(UNUSED_DAYS, Math.ceil((now - Date.parse(first)) / 86_400_000))
  const span = days < UNUSED_DAYS ? `the ${days === 1 ? 'day' : `${days} days`} that the audit log knows of it` : `the last ${UNUSED_DAYS} days`
  return unused.allow.map((rule) => `no connection in ${span} used the rule for ${matchText(rule.match)} on ${rule.ports.length === 1 ? 'port' : 'ports'} ${rule.ports.join(', ')}`)
}
