import type { z } from 'zod'
import { LEARNING, matchText } from '../base/egress-rule.ts'
import { printable } from '../base/printable.ts'
import { FIRST_OVERLAY_ID } from '../policy/overlay.ts'
import type { DoorStats } from '../wire/door.ts'
import { EGRESS_ANSWER } from '../wire/operator-answers.ts'
import { aboutBytes, aboutTime, counted } from './amounts.ts'
import { onePlugin } from './args.ts'
import { cutTo } from './columns.ts'
import type { CommandContext } from './context.ts'
import { askDaemon } from './control.ts'
import type { CommandIo } from './io.ts'
import { formatTable, wrap } from './table.ts'

/** Rows of open connections that a person looks through; `--json` has more. */
const SHOWN = 40

type Answer = z.infer<typeof EGRESS_ANSWER>

/** `cordon egress NAME`: what its door lets through, has open, has passed on and has refused. */
export async function egressCommand(args: readonly string[], io: CommandIo, { config, signal }: CommandContext): Promise<number> {
  const plugin = onePlugin('egress', args)
  const answer = await askDaemon(config.runDir, { type: 'egress', plugin }, EGRESS_ANSWER, signal)
  if (io.json) io.out(JSON.stringify(answer))
  else for (const line of describe(plugin, answer, Date.now())) io.out(line)
  return 0
}

function describe(plugin: string, { rules, temporary, denied, stats }: Answer, now: number): string[] {
  const learns = rules.mode === 'learn' && rules.until !== null && Date.parse(rules.until) > now
  return [
    ...(learns ? wrap(`${plugin}: ${LEARNING} until ${rules.until ?? ''}. Every public name can be reached and is recorded.`) : []),
    ...wrap(`${plugin}: ${rules.allow.length === 0 ? 'no rule opens anything' : counted(rules.allow.length, 'rule')}${temporary === 0 ? '' : `, ${temporary} of them temporary`}; ${door(stats)}`),
    ...(rules.allow.length === 0 ? [] : ['', ...ruleTable(rules.allow)]),
    ...(denied.length === 0 ? [] : ['', ...wrap(`Denied from the terminal until the policy is applied: ${denied.slice(0, SHOWN).join(', ')}${denied.length > SHOWN ? ` and ${denied.length - SHOWN} more` : ''}`)]),
    ...(stats === null ? [] : [...openTable(stats), '', ...totals(stats), ...refusals(stats.refused)]),
  ]
}

function door(stats: DoorStats | null): string {
  if (stats === null) return 'its door is shut, or it does not run'
  return stats.serving ? 'its door is open' : 'its door is being opened'
}

function ruleTable(rules: Answer['rules']['allow']): string[] {
  return formatTable(['ALLOWED', 'PORTS', 'UNTIL', 'FROM', 'REASON'], rules.map(({ id, match, ports, private: lifts, until, reason }) => [
    matchText(match), ports.join(' '), until ?? '', id >= FIRST_OVERLAY_ID ? 'terminal' : 'policy', lifts ? `(private) ${reason}` : reason,
  ]))
}

function openTable({ open, totals: all }: DoorStats): string[] {
  if (open.length === 0) return []
  const rows = open.slice(0, SHOWN).map(({ name, address, port, bytesOut, bytesIn, ms }) => [name ?? '-', address, String(port), aboutBytes(bytesOut), aboutBytes(bytesIn), aboutTime(ms)])
  return ['', ...formatTable(['OPEN TO', 'ADDRESS', 'PORT', 'OUT', 'IN', 'FOR'], rows), ...(all.open > rows.length ? [`and ${all.open - rows.length} more; --json has ${open.length}`] : [])]
}

function totals({ totals: all, spent }: DoorStats): string[] {
  return wrap(`This run: ${counted(all.opened, 'connection')} (${all.open} open, ${all.waiting} waiting), ${all.refused} refused, ${aboutBytes(all.bytesOut)} out, ${aboutBytes(all.bytesIn)} in; `
    + `${counted(all.queries, 'name query', 'name queries')}${all.queriesDropped === 0 ? '' : ` (${all.queriesDropped} dropped)`}. Sent on ${spent.day}: ${aboutBytes(spent.bytes)}.`)
}

/** The latest last, as they came; each with the sentence of its record. */
function refusals(refused: DoorStats['refused']): string[] {
  if (refused.length === 0) return ['Refused: nothing.']
  return ['', 'Refused, the latest last:', ...refused.flatMap(({ what, code, say, count }) => [
    ...wrap(`  ${count}× ${printable(what, 320)} (${printable(code, 40)})`, 80, '     '), ...wrap(`     ${printable(say, 600)}`, 80, '     '),
  ]).map((line) => cutTo(line, 80))]
}
