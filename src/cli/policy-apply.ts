import type { PluginName } from '../base/ids.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { archivedPolicy } from '../launcher/policy-archive.ts'
import { difference, type Difference } from '../plan/difference.ts'
import { explain } from '../plan/explain.ts'
import { loadPolicy, type LoadedPolicy } from '../policy/load.ts'
import { onlyEgressDiffers } from '../policy/overlay.ts'
import type { Policy } from '../policy/policy.ts'
import { position } from '../policy/problem.ts'
import { RETUNED_ANSWER, STATUS_ANSWER } from '../wire/operator-answers.ts'
import type { PluginStatus } from '../wire/requests.ts'
import { counted } from './amounts.ts'
import { pluginName } from './args.ts'
import type { Confirm } from './confirm.ts'
import type { CommandContext } from './context.ts'
import { askDaemon } from './control.ts'
import { outcome } from './egress-change.ts'
import type { CommandIo } from './io.ts'
import { readOptions } from './policy-options.ts'
import { wrap } from './table.ts'
import { whoActs } from './who.ts'

/** What the file would change, against what runs. */
interface Compared {
  readonly plugin: PluginName
  readonly loaded: LoadedPolicy
  /** null: nothing is in force. */
  readonly inForce: string | null
  /** null: the policy in force is not in the archive, so its text is not known. */
  readonly changes: readonly Difference[] | null
  /** Ends with the plugin's next policy: what the terminal changed for a while. */
  readonly ends: readonly string[]
  readonly restarts: boolean
}

/** `cordon policy diff NAME`: what the file would change if it were applied. @returns 0 if nothing, else 1, as diff(1) does */
export async function policyDiff(args: readonly string[], io: CommandIo, context: CommandContext): Promise<number> {
  const compared = await compare('policy diff', readOptions('policy diff', args, {}).positionals, io, context)
  show(io, compared)
  return isSame(compared) ? 0 : 1
}

/**
 * `cordon policy apply NAME [--yes]`: show the difference, ask, and put exactly what was shown in force; the daemon refuses if the file
 * is another one by then.
 * @returns 0; 1 when the answer was no
 */
export async function policyApply(args: readonly string[], io: CommandIo, context: CommandContext, confirm: Confirm | null): Promise<number> {
  const { values, positionals } = readOptions('policy apply', args, { yes: { type: 'boolean' } })
  const compared = await compare('policy apply', positionals, io, context)
  const { plugin, loaded: { digest } } = compared
  show(io, compared)
  if (isSame(compared)) return 0
  if (values.yes !== true) {
    if (confirm === null) throw new CordonError('USAGE_BAD_OPTION', 'policy apply: nobody can be asked, since this is no terminal; look at `policy diff`, then give --yes')
    if (!(await confirm(`Apply this to ${plugin}?`, context.signal))) {
      io.err('nothing was applied')
      return 1
    }
  }
  const answer = await askDaemon(context.config.runDir, { type: 'apply', plugin, digest, who: whoActs() }, RETUNED_ANSWER, context.signal)
  if (io.json) io.out(JSON.stringify({ applied: digest, ...answer }))
  else for (const line of [`applied: policy ${digest.slice(0, 12)}`, ...outcome(plugin, answer)].flatMap((text) => wrap(text))) io.out(line)
  return 0
}

async function compare(command: string, words: readonly string[], io: CommandIo, { config, load, signal }: CommandContext): Promise<Compared> {
  const [word, more] = words
  if (word === undefined || more !== undefined) throw new CordonError('USAGE_BAD_OPTION', `${command}: expected one plugin name`)
  const plugin = pluginName(command, word)
  const { plugins } = await askDaemon(config.runDir, { type: 'status' }, STATUS_ANSWER, signal)
  const status = plugins.find((one) => one.name === plugin) ?? null
  const loaded = loadPolicy(`${config.policiesDir}/${plugin}.yaml`, load)
  for (const warning of loaded.warnings) io.err(`warning: ${position(warning)} ${warning.message}`)
  const inForce = status?.policyDigest ?? null
  const before = inForce === null ? null : inForce === loaded.digest ? loaded.policy : archivedPolicy(config.stateDir, inForce)
  return {
    plugin, loaded, inForce,
    changes: before === null ? null : difference(before, loaded.policy),
    ends: ending(status, loaded.policy),
    restarts: inForce !== loaded.digest && status?.run != null && (before === null || !onlyEgressDiffers({ policy: before }, loaded)),
  }
}

function ending(status: PluginStatus | null, after: Policy): string[] {
  if (status === null) return []
  return [
    ...(status.temporary === 0 ? [] : [`${counted(status.temporary, 'temporary change')} of \`cordon allow\` and \`cordon deny\` ${status.temporary === 1 ? 'ends' : 'end'} with it (cordon egress ${status.name} shows them)`]),
    ...(status.learning === null || after.egress.mode === 'learn' ? [] : [`learning ends with it, which else lasts until ${status.learning}`]),
  ]
}

function isSame({ inForce, loaded, ends }: Compared): boolean {
  return inForce === loaded.digest && ends.length === 0
}

function show(io: CommandIo, compared: Compared): void {
  const { plugin, inForce, loaded: { digest, policy }, changes, ends, restarts } = compared
  if (io.json) return io.out(JSON.stringify({ plugin, inForce, file: digest, changes, ends, restarts }))
  for (const line of sentences()) io.out(line)

  function sentences(): string[] {
    if (isSame(compared)) return [`nothing differs: policy ${digest.slice(0, 12)} of ${plugin} is in force`]
    return [
      ...wrap(`${plugin}: policy ${inForce === null ? 'none' : inForce.slice(0, 12)} in force, ${digest.slice(0, 12)} in the file`),
      ...(changes === null
        ? [inForce === null ? 'Nothing is in force; all of this is new:' : 'What is in force is not on record; all of the file:', ...explain(policy).flatMap((text) => wrap(`  ${text}`, 80, '    '))]
        : changes.flatMap(({ sign, field, say }) => wrap(`${sign} ${field}: ${printable(say, 2000)}`, 80, '    '))),
      ...ends.flatMap((text) => wrap(`~ ${text}`, 80, '    ')),
      ...(restarts ? wrap(`${plugin} is started again for it: more than its egress changes`) : []),
    ]
  }
}
