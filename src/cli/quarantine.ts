import { printable } from '../base/printable.ts'
import { CordonError, ERRORS } from '../errors.ts'
import type { PluginName } from '../base/ids.ts'
import { ACT_ANSWER, QUARANTINE_ANSWER, type QuarantineAnswer } from '../wire/operator-answers.ts'
import { pluginName } from './args.ts'
import type { CommandContext } from './context.ts'
import { askDaemon } from './control.ts'
import type { CommandIo } from './io.ts'
import { readOptions } from './policy-options.ts'
import { prose, wrap } from './table.ts'
import { whoActs } from './who.ts'

const MAX_REASON = 200

const HELD: Readonly<Record<QuarantineAnswer['held'], string>> = {
  frozen: 'its processes are frozen',
  killed: 'its processes were killed',
  'not-running': 'it did not run',
}

/** `cordon quarantine NAME [--reason TEXT]`: nothing of it runs, is reached or reaches out, until it is released. @returns 74 while that is not on disk */
export async function quarantineCommand(args: readonly string[], io: CommandIo, { config, signal }: CommandContext): Promise<number> {
  const { plugin, reason } = read('quarantine', args)
  const answer = await askDaemon(config.runDir, { type: 'quarantine', plugin, reason, who: whoActs() }, QUARANTINE_ANSWER, signal)
  const { held, already, confirmed, durable } = answer
  if (io.json) io.out(JSON.stringify(answer))
  else {
    const text = already ? `${plugin} is quarantined already: ${printable(answer.plugin.reason ?? '', 4000)}` : `${plugin} is quarantined: ${HELD[held]}, its door is shut, its page answers 503. Release it: cordon release ${plugin} --reason TEXT`
    for (const line of wrap(text)) io.out(line)
    if (!confirmed) io.err('warning: the kernel has not confirmed yet that every process stands still; one that waits for a disk stands still when it wakes')
    if (!durable) io.err('warning: this could not be written to disk yet, so it would not outlive the daemon or a reboot; it is tried again each second')
  }
  return durable ? 0 : ERRORS.STORE_IO.exit
}

/** `cordon release NAME --reason TEXT`: out of quarantine; on record first. */
export async function releaseCommand(args: readonly string[], io: CommandIo, { config, signal }: CommandContext): Promise<number> {
  const { plugin, reason } = read('release', args)
  if (reason === null) throw new CordonError('USAGE_BAD_OPTION', `release: expected --reason with 1 to ${MAX_REASON} characters that say why it may run again`)
  const answer = await askDaemon(config.runDir, { type: 'release', plugin, reason, who: whoActs() }, ACT_ANSWER, signal)
  const why = answer.plugin.reason === null ? '' : ` (${printable(answer.plugin.reason, 4000)})`
  if (io.json) io.out(JSON.stringify(answer.plugin))
  else for (const line of prose(io, `${plugin} is released and ${answer.plugin.state}${why}`)) io.out(line)
  return 0
}

function read(command: string, args: readonly string[]): { plugin: PluginName; reason: string | null } {
  const { values, positionals: [name, more] } = readOptions(command, args, { reason: { type: 'string' } })
  if (name === undefined || more !== undefined) throw new CordonError('USAGE_BAD_OPTION', `${command}: expected one plugin name`)
  const reason = values.reason?.trim() ?? null
  if (reason !== null && (reason === '' || reason.length > MAX_REASON || /\p{Cc}/u.test(reason))) throw new CordonError('USAGE_BAD_OPTION', `${command}: expected 1 to ${MAX_REASON} plain characters behind --reason`)
  return { plugin: pluginName(command, name), reason }
}
