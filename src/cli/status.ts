import { LEARNING } from '../base/egress-rule.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { STATUS_ANSWER, type StatusAnswer } from '../wire/operator-answers.ts'
import type { PluginStatus } from '../wire/requests.ts'
import { counted } from './amounts.ts'
import { maybePlugin, noArguments } from './args.ts'
import type { CommandContext } from './context.ts'
import { askDaemon } from './control.ts'
import type { CommandIo } from './io.ts'
import { formatTable, wrap } from './table.ts'

/** `cordon list`: one line for each plugin. */
export async function listCommand(args: readonly string[], io: CommandIo, context: CommandContext): Promise<number> {
  noArguments('list', args)
  const answer = await askDaemon(context.config.runDir, { type: 'status' }, STATUS_ANSWER, context.signal)
  if (io.json) {
    io.out(JSON.stringify(answer))
    return 0
  }
  if (answer.refused > 0) io.err(refusedRow(answer))
  if (answer.plugins.length === 0 && answer.refused === 0) io.err(`no plugins: put a policy into ${context.config.policiesDir} and run \`cordon reload\``)
  if (answer.plugins.length > 0) for (const line of formatTable(['NAME', 'STATE', 'VERSION', 'REASON'], answer.plugins.map((one) => [one.name, one.state, one.version ?? '-', [learning(one), one.reason].filter((text) => text !== null).join('; ')]))) io.out(line)
  return 0
}

/** `cordon status [NAME]`: everything that the daemon knows of one plugin, or of all. */
export async function statusCommand(args: readonly string[], io: CommandIo, context: CommandContext): Promise<number> {
  const name = maybePlugin('status', args)
  const answer = await askDaemon(context.config.runDir, { type: 'status' }, STATUS_ANSWER, context.signal)
  const plugins = name === null ? answer.plugins : answer.plugins.filter((one) => one.name === name)
  if (name !== null && plugins.length === 0) throw new CordonError('LAUNCH_UNKNOWN_PLUGIN', `there is no plugin "${name}"`)
  if (io.json) {
    io.out(JSON.stringify({ ...answer, plugins }))
    return 0
  }
  if (name === null) io.out(`cordon ${printable(answer.version)}, ${answer.port === null ? 'the gateway does not serve' : `http://localhost:${answer.port}`}, ${plugins.length} ${plugins.length === 1 ? 'plugin' : 'plugins'}`)
  if (name === null && answer.refused > 0) io.out(`  ${refusedRow(answer)}`)
  for (const what of name === null ? answer.notRecorded : []) for (const line of wrap(`not recorded on this host: ${printable(what)}`, 80, '  ')) io.out(line)
  plugins.forEach((plugin, index) => {
    if (name === null || index > 0) io.out('')
    for (const line of describe(plugin, io.color)) io.out(line)
  })
  return 0
}

function refusedRow({ refused }: StatusAnswer): string {
  return `${counted(refused, 'policy file')} refused; cordon policy check shows why`
}

const LABEL = 13

function describe(plugin: PluginStatus, color: boolean): string[] {
  const rows: [string, string | null][] = [
    ['reason', plugin.reason],
    ['since', plugin.since],
    ['run', plugin.run],
    ['restarts', String(plugin.restarts)],
    ['version', plugin.version],
    ['protocol', plugin.generation === null ? null : `generation ${plugin.generation}`],
    ['policy', plugin.policyDigest],
    ['executable', plugin.executableSha256],
    ['egress', egressRow(plugin)],
    ['walls', plugin.unenforced.length === 0 ? 'all' : `WITHOUT ${plugin.unenforced.join(', ')} (its policy says so)`],
  ]
  const indent = ' '.repeat(LABEL)
  return [
    `${plugin.name} ${paint(plugin.state, color)}`,
    ...rows.flatMap(([label, value]) => (value === null ? [] : wrap(`${`  ${label}`.padEnd(LABEL)}${printable(value, 4000)}`, 80, indent))),
  ]
}

function learning({ learning: until }: PluginStatus): string | null {
  return until === null ? null : `${LEARNING} until ${until}`
}

function egressRow(plugin: PluginStatus): string {
  const { temporary, door, name } = plugin
  return [learning(plugin), `door ${door}`, temporary === 0 ? null : `${counted(temporary, 'temporary change')} from the terminal (cordon egress ${name})`].filter((text) => text !== null).join('; ')
}

const COLORS: Partial<Record<PluginStatus['state'], number>> = { running: 32, failed: 31, quarantined: 31, paused: 31, backoff: 33, waiting: 33 }

function paint(state: PluginStatus['state'], color: boolean): string {
  const code = COLORS[state]
  return color && code !== undefined ? `\u001b[${code}m${state}\u001b[0m` : state
}
