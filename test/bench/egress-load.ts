/**
 * The door under the load of one plugin, with real walls and records on the disk, by hand: `node test/bench/egress-load.ts [NAMES=1000000]
 * [ROW=10000] [SECONDS=20]`. Needs root. It prints what another plugin feels as a ratio to the undisturbed value of the same run, and to
 * a control (a plugin that only burns the processor time that it may have), since two cores are shared by all of them; and how many
 * connections a second are carried with their records durable. It judges only that: at least 1,000.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { LoadWorld, quantile } from '../load/world.ts'

const [names, row, seconds] = [Number(process.argv[2] ?? 1_000_000), Number(process.argv[3] ?? 10_000), Number(process.argv[4] ?? 20)]
const world = new LoadWorld(19, ['victim', 'attacker'])
type Felt = Awaited<ReturnType<typeof world.felt>>

function show(what: string, felt: Felt, usual: Felt): void {
  for (const way of ['door', 'front'] as const) {
    const at = (share: number): string => `p${share * 100} ${quantile(felt[way], share).toFixed(2)} ms (${(quantile(felt[way], share) / quantile(usual[way], share)).toFixed(2)})`
    console.log(`${what.padEnd(22)} through the ${way.padEnd(5)} ${[0.5, 0.9, 0.99].map(at).join('  ')}  ${felt[way].length} times`)
  }
}

function bounds(): string {
  const [door, launcher] = [world.memory(world.door()), world.memory(world.launcher())]
  return `door ${door.rss.toFixed(0)} MiB (at most ${door.peak.toFixed(0)}), ${world.descriptors(world.door())} descriptors; launcher ${launcher.rss.toFixed(0)} (${launcher.peak.toFixed(0)}), ${world.descriptors(world.launcher())}`
}

let carried = 0
try {
  await world.start()
  await world.felt('victim', () => sleep(2000)) // warms up
  console.log(`at first: ${bounds()}`)
  const usual = await world.felt('victim', () => sleep(8000))
  show('undisturbed', usual, usual)
  show('control: burns CPU', await world.felt('victim', () => world.press('attacker', 'burn', 8)), usual)
  for (const [what, verb, ...args] of [
    [`${names} random names`, 'names', names, 'wild.example'], [`${row} in a row`, 'row', row, 1], ['resets, half-open', 'chaos', 5000, 7],
  ] as const) {
    const felt = await world.felt('victim', () => world.press('attacker', verb, ...args))
    show(what, felt, usual)
    console.log(`  ${JSON.stringify(felt.result)}\n  ${bounds()}`)
  }
  const before = world.host.records().filter(({ type }) => type.startsWith('egress.')).length
  const made = seconds * 1100
  const result = await world.press<{ failed: number; seconds: number }>('attacker', 'row', made, 32)
  await sleep(1000)
  const records = world.host.records().filter(({ type }) => type.startsWith('egress.')).length - before
  carried = (made - result.failed) / result.seconds
  console.log(`sustained for ${result.seconds.toFixed(1)} s: ${carried.toFixed(0)} connections a second, ${result.failed} failed, ${records} records on the disk; ${bounds()}`)
  console.log(`audit verify: ${(await world.host.cli(['audit', 'verify'])).status}`)
} finally {
  await world.close()
}
process.exit(carried >= 1000 ? 0 : 1)
