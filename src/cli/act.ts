import { printable } from '../base/printable.ts'
import { CordonError, ERRORS } from '../errors.ts'
import { ACT_ANSWER, OPEN_ANSWER, RELOAD_ANSWER, WHY_ANSWER } from '../wire/operator-answers.ts'
import { noArguments, onePlugin, pluginName } from './args.ts'
import type { CommandContext, RunCommand } from './context.ts'
import { askDaemon } from './control.ts'
import type { CommandIo } from './io.ts'
import { whoActs } from './who.ts'
import { prose } from './table.ts'

const WHY_INDENT = ' '.repeat(7)

/** `cordon start|stop|restart|enable|disable NAME…`, one after the other; ends at the first that fails. */
export function actCommand(act: 'start' | 'stop' | 'restart' | 'enable' | 'disable'): RunCommand {
  return async (args, io, { config, signal }) => {
    if (args.length === 0) throw new CordonError('USAGE_BAD_OPTION', `${act}: expected at least one plugin name`)
    for (const name of args.map((word) => pluginName(act, word))) {
      const { plugin } = await askDaemon(config.runDir, { type: 'act', act, plugin: name, who: whoActs() }, ACT_ANSWER, signal)
      const reason = plugin.reason === null ? '' : ` (${printable(plugin.reason, 4000)})`
      if (io.json) io.out(JSON.stringify(plugin))
      else for (const line of prose(io, `${plugin.name} is ${plugin.state}${reason}`)) io.out(line)
    }
    return 0
  }
}

/** `cordon reload`: read the policies again; only what changed is restarted. Refused policies change nothing. */
export async function reloadCommand(args: readonly string[], io: CommandIo, { config, signal }: CommandContext): Promise<number> {
  noArguments('reload', args)
  const answer = await askDaemon(config.runDir, { type: 'reload', who: whoActs() }, RELOAD_ANSWER, signal)
  if (io.json) io.out(JSON.stringify(answer))
  else {
    io.out(answer.changed.length === 0 ? 'nothing changed' : `changed: ${answer.changed.join(', ')}`)
    for (const { file, message, hint } of answer.refused) {
      io.err(`error: ${printable(file, 300)}: ${printable(message, 2000)}`)
      io.err(`hint:  ${printable(hint, 1000)}`)
    }
  }
  return answer.refused.length === 0 ? 0 : ERRORS.POLICY_INVALID.exit
}

/** `cordon open NAME`: a link that opens the plugin's page once. It is printed, not opened: no browser is started as root. */
export async function openCommand(args: readonly string[], io: CommandIo, { config, signal }: CommandContext): Promise<number> {
  const { url } = await askDaemon(config.runDir, { type: 'open', plugin: onePlugin('open', args), who: whoActs() }, OPEN_ANSWER, signal)
  io.out(io.json ? JSON.stringify({ url }) : printable(url, 2000))
  if (!io.json) io.err('the link works once, for five minutes')
  return 0
}

/** `cordon why NAME`: what was looked at in order, and the line that mends the first thing that is wrong. @returns 0 if all is well, else 1 */
export async function whyCommand(args: readonly string[], io: CommandIo, { config, signal }: CommandContext): Promise<number> {
  const answer = await askDaemon(config.runDir, { type: 'why', plugin: onePlugin('why', args) }, WHY_ANSWER, signal)
  const wrong = answer.steps.find((step) => !step.ok)
  if (io.json) io.out(JSON.stringify(answer))
  else {
    for (const step of answer.steps) for (const line of prose(io, `${step.ok ? 'ok   ' : 'WRONG'}  ${printable(step.text, 4000)}`, WHY_INDENT)) io.out(line)
    if (wrong !== undefined && wrong.fix !== null) for (const line of prose(io, `fix:   ${printable(wrong.fix, 1000)}`, WHY_INDENT)) io.out(line)
  }
  return wrong === undefined ? 0 : 1
}
