import { CordonError } from '../errors.ts'
import { changesAt, periodAt, policyPeriods, type Change } from '../history/policies.ts'
import { archivedPolicy } from '../launcher/policy-archive.ts'
import { explain } from '../plan/explain.ts'
import { pluginName } from './args.ts'
import { historyOptions } from './audit-query.ts'
import type { CommandContext } from './context.ts'
import type { CommandIo } from './io.ts'
import { readOptions } from './policy-options.ts'
import { withProgress } from './progress.ts'
import { parseSince } from './since.ts'
import { wrap } from './table.ts'

/**
 * `cordon explain NAME --at TIME`: what the plugin was allowed at that time, from the audit log and the archive of policies; `policy explain` tells
 * what a file says now.
 * @throws CordonError USAGE_BAD_OPTION, POLICY_NONE_THEN, AUDIT_NOT_FOUND, AUDIT_UNAVAILABLE, AUDIT_INDEX
 */
export async function explainAt(args: readonly string[], io: CommandIo, { config, signal }: Pick<CommandContext, 'config' | 'signal'>, now = Date.now()): Promise<number> {
  const { values, positionals: [word, more] } = readOptions('explain', args, { at: { type: 'string' } })
  if (word === undefined || more !== undefined) throw new CordonError('USAGE_BAD_OPTION', 'explain: expected one plugin name, and --at with a time')
  const plugin = pluginName('explain', word)
  const at = values.at === undefined ? now : parseSince('explain: --at', values.at, now)
  const periods = await withProgress(io, 'reading the audit log', policyPeriods(plugin, historyOptions(config.stateDir, io, signal)))
  const period = periodAt(periods, at)
  if (period === null) {
    const [first] = periods
    throw new CordonError('POLICY_NONE_THEN', `no policy of ${plugin} was in force at ${stamp(at)}${first === undefined ? '; the audit log names none at all' : first.fromMs > at ? `; the first on record came at ${stamp(first.fromMs)}` : `; the last one ended at ${stamp(periods.findLast(({ toMs }) => toMs !== null && toMs <= at)?.toMs ?? at)}`}`)
  }
  const policy = archivedPolicy(config.stateDir, period.digest)
  const changes = changesAt(period, at)
  if (io.json) {
    const { digest, file, fromMs, toMs, broughtBy, endedBy } = period
    io.out(JSON.stringify({
      plugin, at: stamp(at), digest, file, from: stamp(fromMs), to: toMs === null ? null : stamp(toMs), broughtBy, endedBy,
      changes: changes.map(({ ms, untilMs, ...change }) => ({ at: stamp(ms), until: untilMs === null ? null : stamp(untilMs), ...change })), policy, sentences: policy === null ? null : explain(policy),
    }))
    return 0
  }
  const lines = [
    `${plugin} at ${stamp(at)}`,
    `Policy ${period.digest}`,
    `came at ${stamp(period.fromMs)}, brought by ${period.broughtBy}, from ${period.file}`,
    period.toMs === null ? 'is in force still' : `went at ${stamp(period.toMs)}: ${period.endedBy ?? ''}`,
    ...(changes.length === 0 ? [] : ['', 'Changed from the terminal by then, and ahead of what the policy says:', ...changes.map((change) => `  ${changeText(change)}`)]),
    '',
    ...(policy === null ? ['The archive does not hold this policy any more (or not unchanged), so only its digest is known.'] : explain(policy)),
  ]
  for (const line of lines) for (const piece of wrap(line, 80, line.startsWith('  ') ? '    ' : '')) io.out(piece)
  return 0
}

function changeText({ ms, act, destination, untilMs, who, reason }: Change): string {
  const what = act === 'learn' ? 'LEARNING, NOT PROTECTED' : `${act} ${destination}`
  return `${what} since ${stamp(ms)}${untilMs === null ? '' : ` until ${stamp(untilMs)}`}, by ${who}${reason === '' ? '' : `: ${reason}`}`
}

function stamp(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`
}
