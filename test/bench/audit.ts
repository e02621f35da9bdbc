/**
 * How fast the log takes records, against a bare durable write (O_DSYNC) of the same bytes in the same batches, in the same run on the same
 * disk. argv: a directory on that disk; `--records N` for the long form, which also tells the memory of the process as it goes.
 */
import { constants, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { openAuditLog, type AuditLog } from '../../src/audit/log.ts'
import { NODE_FS, type LogFs } from '../../src/audit/log-file.ts'
import type { AuditEvent } from '../../src/audit/record.ts'

const { values, positionals } = parseArgs({ allowPositionals: true, options: { records: { type: 'string', default: '300000' } } })
const RECORDS = Number(values.records)
/** The launcher's own records have no budget; this one has 300 bytes on the disk. */
const EVENT: AuditEvent = { type: 'plugin.found', plugin: 'bench', path: '/var/lib/cordon/plugins/be', policy: 'none' } as AuditEvent
/** What one producer keeps under way, as the gateway's stream does. */
const WINDOW = 8192
const CALLERS = 50

const place = mkdtempSync(join(positionals[0] ?? '/var/tmp', 'cordon-bench-audit-'))
try {
  const stream = await measured('stream', (log) => inOneStream(log, RECORDS))
  const streamBare = await bare(stream.batches)
  say('one stream', stream, streamBare, `${Math.round(stream.bytes / stream.records)} bytes each`)
  const waits: number[] = []
  const callers = await measured('callers', (log) => fromCallers(log, Math.min(RECORDS, 60_000), waits))
  const callersBare = await bare(callers.batches)
  const bareWait = (callersBare.ms / callers.batches.length)
  waits.sort((a, b) => a - b)
  say(`${CALLERS} callers that wait`, callers, callersBare, `wait: median ${ms(waits, 0.5)} ms, 99% ${ms(waits, 0.99)} ms; bare commit ${bareWait.toFixed(2)} ms`)
} finally {
  rmSync(place, { recursive: true, force: true })
}

interface Measured { readonly records: number; readonly ms: number; readonly bytes: number; readonly batches: readonly number[] }

async function measured(name: string, run: (log: AuditLog) => Promise<void>): Promise<Measured> {
  const batches: number[] = []
  let counting = false
  const fs: LogFs = {
    ...NODE_FS,
    open: async (path, flags, mode) => {
      const real = await NODE_FS.open(path, flags, mode)
      return { ...real, append: (bytes) => (counting && batches.push(bytes.length), real.append(bytes)) }
    },
  }
  const dir = join(place, name)
  mkdirSync(dir, { mode: 0o700 })
  const log = await openAuditLog({ dir: join(dir, 'audit'), owner: process.getuid?.() ?? 0, fs, budget: { burst: 1e12, perSecond: 1 } })
  const before = log.state().records
  counting = true
  const from = performance.now()
  await run(log)
  const took = performance.now() - from
  counting = false
  const records = log.state().records - before
  await log.close()
  return { records, ms: took, bytes: batches.reduce((sum, n) => sum + n, 0), batches }
}

async function inOneStream(log: AuditLog, count: number): Promise<void> {
  let under = 0
  let wake: (() => void) | null = null
  const done = (): void => {
    under -= 1
    if (under <= WINDOW / 2) wake?.()
  }
  for (let i = 0; i < count; i++) {
    under += 1
    void log.append(EVENT, 'launcher').then(done)
    if (under >= WINDOW) await new Promise<void>((resolve) => (wake = resolve))
    if (count > 1_000_000 && i % 1_000_000 === 0) console.log(`  ${i} records, ${Math.round(process.memoryUsage.rss() / 1048576)} MB resident`)
  }
  while (under > 0) await new Promise((resolve) => setImmediate(resolve))
}

async function fromCallers(log: AuditLog, count: number, waits: number[]): Promise<void> {
  let left = count
  await Promise.all(Array.from({ length: CALLERS }, async () => {
    while (left-- > 0) {
      const from = performance.now()
      await log.append(EVENT, 'launcher')
      waits.push(performance.now() - from)
    }
  }))
}

/** The floor: nobody can be faster on this disk with these commits. */
async function bare(batches: readonly number[]): Promise<{ readonly ms: number }> {
  const file = await open(join(place, 'bare'), constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_DSYNC)
  const bytes = Buffer.alloc(Math.max(...batches), 'x')
  const from = performance.now()
  for (const size of batches) {
    await file.write(bytes, 0, size)
  }
  const took = performance.now() - from
  await file.close()
  return { ms: took }
}

function say(what: string, { records, ms: took, batches }: Measured, floor: { readonly ms: number }, more: string): void {
  console.log(`audit, ${what}: ${Math.round(records / took * 1000)} records/s, ${(took / floor.ms).toFixed(2)} times a bare durable write of the same ${batches.length} batches; ${more}`)
}

function ms(sorted: readonly number[], share: number): string {
  return (sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0).toFixed(2)
}
