import { isNew, type Destination } from './destinations.ts'

/** One line of what was refused: a name or address, or many names below one zone. */
export interface Refusal {
  readonly plugin: string
  readonly zone: string
  readonly names: readonly string[]
  readonly refused: number
  readonly codes: ReadonlyMap<string, number>
  readonly firstMs: number
  readonly lastMs: number
  /** None of them was ever seen before. */
  readonly fresh: boolean
}

/** A plugin that invents names (an exfiltration through DNS looks like that) is one thing that happened, not thousands. */
const TOGETHER = 4

/** Most frequent first. */
export function refusals(destinations: readonly Destination[]): Refusal[] {
  const refused = destinations.filter((one) => one.refused > 0)
  const groups = Map.groupBy(refused, ({ plugin, where, host }) => JSON.stringify([plugin, zoneOf(host) ?? where, where.slice(host.length)]))
  return [...groups.values()].flatMap((group) => (group.length >= TOGETHER ? [merged(group)] : group.map((one) => merged([one])))).sort((a, b) => b.refused - a.refused)
}

/** The name without its first label; null where that would be no zone of anybody: an address, or a name of two labels. */
function zoneOf(host: string): string | null {
  const labels = host.split('.')
  return labels.length < 3 || /^[0-9]+$/.test(labels.at(-1) ?? '') || host.includes(':') ? null : labels.slice(1).join('.')
}

function merged(group: readonly Destination[]): Refusal {
  const codes = new Map<string, number>()
  for (const one of group) for (const [code, times] of one.codes) codes.set(code, (codes.get(code) ?? 0) + times)
  return {
    plugin: group[0]?.plugin ?? '', zone: zoneOf(group[0]?.host ?? '') ?? '', names: group.map(({ where }) => where), refused: group.reduce((sum, one) => sum + one.refused, 0), codes,
    firstMs: Math.min(...group.map(({ firstMs }) => firstMs)), lastMs: Math.max(...group.map(({ lastMs }) => lastMs)), fresh: group.every((one) => isNew(one) || one.everFirstMs === null) && group.some(isNew),
  }
}
