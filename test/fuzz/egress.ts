/**
 * The long seeded run over the door's parsers of hostile bytes: `node test/fuzz/egress.ts [INPUTS=10000000] [SEED=1]`.
 * Inputs are mutations of well-formed ones, cut at random; it prints counts per outcome and ends 1 at the first broken promise.
 */
import { fuzzClientHello, fuzzDns, fuzzHttpHost, type Counts } from './egress-parsers.ts'

const inputs = Number(process.argv[2] ?? 10_000_000)
const seed = Number(process.argv[3] ?? 1)
for (const [name, share, run] of [['client-hello', 0.4, fuzzClientHello], ['http-host', 0.2, fuzzHttpHost], ['dns', 0.4, fuzzDns]] as const) {
  const started = performance.now()
  const counts: Counts = run(Math.round(inputs * share), seed)
  const total = Object.values(counts).reduce((sum, count) => sum + count, 0)
  console.log(`${name}: ${total} inputs, seed ${seed}, ${Math.round((performance.now() - started) / 1000)} s, rss ${Math.round(process.memoryUsage().rss / 2 ** 20)} MiB`)
  for (const [outcome, count] of Object.entries(counts).sort(([, a], [, b]) => b - a)) console.log(`  ${String(count).padStart(9)} ${outcome}`)
}
