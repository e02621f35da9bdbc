import type { z } from 'zod'
import { LEARNING } from '../base/egress-rule.ts'
import type { PluginName } from '../base/ids.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { parseDuration, UnitError } from '../policy/units.ts'
import { DENIED_ANSWER, RETUNED_ANSWER } from '../wire/operator-answers.ts'
import type { FromOperator } from '../wire/requests.ts'
import { counted } from './amounts.ts'
import { pluginName } from './args.ts'
import type { CommandContext } from './context.ts'
import { askDaemon } from './control.ts'
import { parseDestination, type Destination } from './destination.ts'
import type { CommandIo } from './io.ts'
import { readOptions } from './policy-options.ts'
import { wrap } from './table.ts'
import { whoActs } from './who.ts'

/** What should last longer belongs into the policy file, where somebody reads it again. */
const MOST_MS = 30 * 86_400_000
const LEAST_MS = 1000

type Retuned = z.infer<typeof RETUNED_ANSWER>

/** `cordon allow NAME DESTINATION:PORT --for 1h --reason TEXT [--private]`: a rule for a while, on top of the policy file. */
export async function allowCommand(args: readonly string[], io: CommandIo, context: CommandContext): Promise<number> {
  const { values, positionals: [name, where, more] } = readOptions('allow', args, { for: { type: 'string' }, reason: { type: 'string' }, private: { type: 'boolean' } })
  if (name === undefined || where === undefined || more !== undefined) throw new CordonError('USAGE_BAD_OPTION', 'allow: expected a plugin name and DESTINATION:PORT')
  const plugin = pluginName('allow', name)
  const { text, kind, port } = parseDestination(where)
  if (port === null) throw new CordonError('EGRESS_BAD_DESTINATION', `"${printable(where, 100)}": expected a port behind it, as in ${text}:443`)
  const until = untilAfter('allow', values.for)
  const reason = values.reason?.trim() ?? ''
  if (reason === '' || reason.length > 200 || /\p{Cc}/u.test(reason)) throw new CordonError('USAGE_BAD_OPTION', 'allow: expected --reason with 1 to 200 characters that say why the plugin needs this')
  const lifts = values.private === true
  if (lifts && (kind === 'public' || kind === 'host.internal')) throw new CordonError('USAGE_BAD_OPTION', `allow: --private means nothing for ${text}`)
  const answer = await change(io, context, { type: 'allow', plugin, destination: text, port, private: lifts, until, reason, who: whoActs() }, RETUNED_ANSWER)
  say(io, plugin, answer, `${plugin} may reach ${text}:${port} until ${until}${lifts ? ', private addresses too' : ''}`)
  return 0
}

/** `cordon deny NAME DESTINATION[:PORT]` takes a destination away, `--all` shuts the door; what the policy file opens is open again once that is applied. */
export async function denyCommand(args: readonly string[], io: CommandIo, context: CommandContext): Promise<number> {
  const { values, positionals: [name, where, more] } = readOptions('deny', args, { all: { type: 'boolean' } })
  if (name === undefined || more !== undefined || (where === undefined) !== (values.all === true)) throw new CordonError('USAGE_BAD_OPTION', 'deny: expected a plugin name, and either DESTINATION[:PORT] or --all')
  const plugin = pluginName('deny', name)
  const gone: Destination | null = where === undefined ? null : parseDestination(where)
  const answer = await change(io, context, { type: 'deny', plugin, destination: gone?.text ?? null, port: gone?.port ?? null, who: whoActs() }, DENIED_ANSWER)
  const what = gone === null ? 'anything' : `${gone.text}${gone.port === null ? '' : `:${gone.port}`}`
  const end = answer.inFile ? `, also after a restart; its policy file says so still, and opens it again when it is applied (cordon policy apply ${plugin})` : ', which its policy file does not open either'
  const rest = answer.others.length === 0 ? [] : [`a part of it is still let through: ${answer.others.map((one) => printable(one, 400)).join('; ')}`]
  say(io, plugin, answer, `${plugin} may no longer reach ${what}${end}`, rest)
  return 0
}

/** `cordon learn NAME --for 24h | --stop`: public names are let through and recorded, which protects nothing; it ends by closing. */
export async function learnCommand(args: readonly string[], io: CommandIo, context: CommandContext): Promise<number> {
  const { values, positionals: [name, more] } = readOptions('learn', args, { for: { type: 'string' }, stop: { type: 'boolean' } })
  if (name === undefined || more !== undefined || (values.for === undefined) !== (values.stop === true)) throw new CordonError('USAGE_BAD_OPTION', 'learn: expected a plugin name, and either --for DURATION or --stop')
  const plugin = pluginName('learn', name)
  const until = values.stop === true ? null : untilAfter('learn', values.for)
  const answer = await change(io, context, { type: 'learn', plugin, until, who: whoActs() }, RETUNED_ANSWER)
  if (until === null) say(io, plugin, answer, `${plugin} no longer learns by order of the terminal; next: cordon policy suggest ${plugin}`)
  else say(io, plugin, answer, `${plugin}: ${LEARNING} until ${until}. Every public name can be reached and is recorded; private addresses, this host and metadata services cannot.`)
  return 0
}

async function change<T extends Retuned>(io: CommandIo, { config, signal }: CommandContext, request: Extract<FromOperator, { type: 'allow' | 'deny' | 'learn' }>, schema: z.ZodType<T>): Promise<T> {
  const answer = await askDaemon(config.runDir, request, schema, signal)
  if (io.json) io.out(JSON.stringify('until' in request ? { ...answer, until: request.until } : answer))
  return answer
}

function say(io: CommandIo, plugin: PluginName, answer: Retuned, what: string, more: readonly string[] = []): void {
  if (!io.json) for (const line of [what, ...more, ...outcome(plugin, answer)].flatMap((text) => wrap(text))) io.out(line)
}

/** What came of a change of rules, in sentences. */
export function outcome(plugin: PluginName, { closed, held, live, restarted }: Retuned): string[] {
  return [
    restarted ? 'it was started again, since more than its egress changed' : live ? `in force now${closed === 0 ? '' : `; ${counted(closed, 'open connection')} ended by it`}` : `in force with the next start of ${plugin}: it does not run, or its door is shut and stays so`,
    ...(held.length === 0 ? [] : [`${held.length === 1 ? 'port' : 'ports'} ${held.join(', ')}: held by the plugin itself, so what it sends there reaches its own listener and not the door; that is its doing`]),
  ]
}

/** @returns RFC 3339 in UTC, whole seconds */
function untilAfter(command: string, written: string | undefined): string {
  if (written === undefined) throw new CordonError('USAGE_BAD_OPTION', `${command}: expected --for with a duration, as in --for 1h`)
  let ms: number
  try {
    ms = parseDuration(written)
  } catch (error) {
    if (!(error instanceof UnitError)) throw error
    throw new CordonError('USAGE_BAD_OPTION', `${command}: --for "${printable(written, 40)}": ${error.message}`)
  }
  if (ms < LEAST_MS || ms > MOST_MS) throw new CordonError('USAGE_BAD_OPTION', `${command}: --for "${printable(written, 40)}": expected 1s to 30d; what should last belongs into the policy file`)
  return new Date(Date.now() + ms).toISOString().replace(/\.\d{3}Z$/, 'Z')
}
