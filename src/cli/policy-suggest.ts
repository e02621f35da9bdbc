import { suggest, unusedRules } from '../egress/suggest.ts'
import { CordonError } from '../errors.ts'
import { loadPolicy } from '../policy/load.ts'
import { counted } from './amounts.ts'
import { pluginName } from './args.ts'
import { eachRecord } from './audit-history.ts'
import type { CommandContext } from './context.ts'
import type { CommandIo } from './io.ts'
import { Learned } from './learned.ts'
import { readOptions } from './policy-options.ts'
import { withProgress } from './progress.ts'
import { parseSince } from './since.ts'

/** Without --since and without an order to learn on record. */
const DEFAULT_DAYS = 30

/**
 * `cordon policy suggest NAME [--since WHEN]`: what the audit log says the policy should be, as a diff of its YAML. Without --since it
 * begins at the latest `cordon learn`, or 30 days ago. Works without the daemon and changes nothing.
 */
export async function policySuggest(args: readonly string[], io: CommandIo, { config, load, signal }: CommandContext): Promise<number> {
  const { values, positionals: [word, more] } = readOptions('policy suggest', args, { since: { type: 'string' } })
  if (word === undefined || more !== undefined) throw new CordonError('USAGE_BAD_OPTION', 'policy suggest: expected one plugin name')
  const plugin = pluginName('policy suggest', word)
  const now = Date.now()
  const since = parseSince('policy suggest: --since', values.since ?? `${DEFAULT_DAYS}d`, now)
  const { policy } = loadPolicy(`${config.policiesDir}/${plugin}.yaml`, { ...load, ownership: 'reported' })
  let learned = new Learned(policy.http.publicPaths)
  let learnsUntil = ''
  const read = eachRecord(`${config.stateDir}/audit`, plugin, since, signal, (record) => {
    if (values.since === undefined && record.type === 'egress.applied') {
      const { act, until } = record.data
      // A further order while it learns only moves the end.
      if (act === 'learn' && record.time > learnsUntil) learned = new Learned(policy.http.publicPaths, learned.ran)
      if (act === 'learn' || act === 'learn ended') learnsUntil = act === 'learn' ? String(until) : ''
    }
    learned.add(record)
  })
  const { unreadable } = await withProgress(io, 'reading the audit log', read)
  if (unreadable > 0) io.err(`warning: ${counted(unreadable, 'line')} of the log could not be read; cordon audit verify tells more`)
  if (learned.dropped > 0) io.err(`warning: the log holds more than is weighed at once; ${learned.dropped} older records are left out`)
  if (learned.from === null) throw new CordonError('AUDIT_NOT_FOUND', `the audit log has no record of ${plugin} since ${new Date(since).toISOString()}`)
  const period = {
    plugin, from: learned.from, to: new Date(now).toISOString(), restarts: learned.restarts, events: null, records: learned.records, refused: learned.refused,
    egress: policy.egress, rights: learned.rights(policy), limits: learned.limits(policy.limits),
  }
  const diff = suggest(period)
  if (io.json) io.out(JSON.stringify({ plugin, from: period.from, to: period.to, restarts: period.restarts, limits: period.limits, rights: period.rights, refused: period.refused, unused: unusedRules(policy.egress, period.records), diff }))
  else for (const line of diff.trimEnd().split('\n')) io.out(line)
  return 0
}
