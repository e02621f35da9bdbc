/**
 * The door under the load of one plugin, with real walls and records on the disk, by hand: `node test/bench/egress-load.ts [NAMES=1000000]
 * [ROW=10000] [SECONDS=20]`. Needs root. It prints what another plugin feels as a ratio to its undisturbed value, taken in turn with it in the
 * same seconds, and to a control (a plugin that only burns the processor time that it may have), since two cores are shared by all of
 * them; and how many connections a second are carried with their records durable. Both plugins have the limits of the preset `default`
 * (half a core); the one that makes connections as fast as it can those of `api-client` (one core). It judges: at least 1,000 a second, and the 99th percentile at most 1.5 of the undisturbed one.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { LoadWorld, quantile } from '../load/world.ts'

const [names, row, seconds, only = ''] = [Number(process.argv[2] ?? 1_000_000), Number(process.argv[3] ?? 10_000), Number(process.argv[4] ?? 20), process.argv[5]]
const SLOWER = 1.5
const PER_SECOND = 1000
const world = new LoadWorld(19, ['victim', 'attacker', 'worker'])
let holds = true

async function press(what: string, verb: string, ...args: readonly (string | number)[]): Promise<void> {
  if (!verb.startsWith(only)) return
  const { calm, pressed, turns, result } = await world.inTurn('victim', 'attacker', () => world.press('attacker', verb, ...args))
  for (const way of ['door', 'front'] as const) {
    const at = (share: number): string => `p${share * 100} ${quantile(calm[way], share).toFixed(2)} -> ${quantile(pressed[way], share).toFixed(2)} ms (${ratio(share).toFixed(2)})`
    const ratio = (share: number): number => quantile(pressed[way], share) / quantile(calm[way], share)
    console.log(`${what.padEnd(22)} through the ${way.padEnd(5)} ${[0.5, 0.9, 0.99].map(at).join('  ')}  ${calm[way].length} and ${pressed[way].length} times in ${turns} turns`)
    if (verb !== 'burn') holds &&= ratio(0.99) <= SLOWER
  }
  console.log(`  ${JSON.stringify(result)}; ${bounds()}`)
}

function bounds(): string {
  const [door, launcher] = [world.memory(world.door()), world.memory(world.launcher())]
  return `door ${door.rss.toFixed(0)} MiB (at most ${door.peak.toFixed(0)}), ${world.descriptors(world.door())} descriptors; launcher ${launcher.rss.toFixed(0)} (${launcher.peak.toFixed(0)}), ${world.descriptors(world.launcher())}`
}

try {
  await world.start({ worker: '100%' })
  await world.felt('victim', () => sleep(2000)) // warms up
  console.log(`at first: ${bounds()}`)
  await press('control: burns CPU', 'burn', 10)
  await press(`${names} random names`, 'names', names, 'wild.example')
  await press(`${row} in a row`, 'row', row, 1)
  await press('resets, half-open', 'chaos', 5000, 7)
  if (seconds > 0) {
    const before = world.host.records().filter(({ type }) => type.startsWith('egress.')).length
    const made = seconds * 1100
    const result = await world.press<{ failed: number; seconds: number }>('worker', 'row', made, 32)
    await sleep(1000)
    const records = world.host.records().filter(({ type }) => type.startsWith('egress.')).length - before
    const carried = (made - result.failed) / result.seconds
    holds &&= carried >= PER_SECOND
    console.log(`sustained for ${result.seconds.toFixed(1)} s: ${carried.toFixed(0)} connections a second, ${result.failed} failed, ${records} records on the disk; ${bounds()}`)
  }
  console.log(`audit verify: ${(await world.host.cli(['audit', 'verify'])).status}`)
} finally {
  await world.close()
}
process.exit(holds ? 0 : 1)
