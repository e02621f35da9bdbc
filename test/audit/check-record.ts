import { CATALOGUE } from '../../src/audit/catalogue.ts'
import { dataSchema, presence } from '../../src/audit/data-schema.ts'
import type { AuditType } from '../../src/audit/record.ts'

interface Line { readonly type: string; readonly class_uid?: unknown; readonly origin?: unknown; readonly plugin?: unknown; readonly run?: unknown; readonly policy?: unknown; readonly data: unknown }

/** What the catalogue says against one record of a log; empty: nothing. */
export function recordProblems(record: Line): string[] {
  const row = CATALOGUE.get(record.type as AuditType)
  if (row === undefined) return [`${record.type}: not in the catalogue`]
  const labels = ([['plugin', 'plugin'], ['run', 'run'], ['policy', 'policyDigest']] as const).flatMap(([label, member]) => {
    const when = presence(row, member)
    const there = typeof record[label] === 'string'
    return (when === 'always' && !there) || (when === 'never' && there) ? [`${record.type}: ${label} is ${JSON.stringify(record[label])}, expected ${when}`] : []
  })
  const origin = row.source !== 'launcher' && record.origin !== row.source && !(row.source === 'door' && record.origin === 'run') ? [`${record.type}: origin is ${String(record.origin)}, expected ${row.source}`] : []
  const uid = record.class_uid === row.ocsf.uid ? [] : [`${record.type}: class_uid is ${String(record.class_uid)}, expected ${row.ocsf.uid}`]
  const cut = typeof record.data === 'object' && record.data !== null && '~cut' in record.data
  const data = cut ? null : dataSchema(row).safeParse(record.data)
  const faults = data === null || data.success ? [] : data.error.issues.map(({ path, message }) => `${record.type}: data.${path.join('.')}: ${message}`)
  return [...labels, ...origin, ...uid, ...faults]
}
