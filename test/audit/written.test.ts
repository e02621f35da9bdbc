import { appendFileSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { checkProof } from '../../src/audit/verify/proof.ts'
import { proveRecord } from '../../src/audit/verify/prove.ts'
import { verifyLog } from '../../src/audit/verify/log.ts'
import { askPython, both, type PythonResult } from './both.ts'
import { openLog, tempDir } from './kit.ts'
import { loose } from './loose.ts'

/** The real writer's logs, read by both verifiers, which share no code with it. */
describe('what the writer wrote', () => {
  test.each([1, 3, 70, 256, 257, 700])('%i records and a restart: whole in both, sealed to the end, proved with nothing but the fingerprint', async (count) => {
    const dir = tempDir()
    for (let session = 0; session < 2; session++) {
      const log = await openLog({ dir, mode: session === 0 ? 'daemon' : 'run', sealRecords: 100 })
      await Promise.all(Array.from({ length: count }, (_, i) => log.append(loose({ type: 'admin.act', who: `ünï "${i}" \\ \u0007`, i }), 'operator')))
      await log.close()
    }
    const result = await both(dir)
    expect(result).toMatchObject({ verdict: 'whole', unsealed: { records: 0 }, lastSealed: { why: 'close' }, gapCount: 0, pauses: [], notes: [] })
    expect(result.records).toBeGreaterThan(2 * count)
    const fingerprint = result.fingerprint ?? ''
    expect(await both(dir, { pin: fingerprint, saved: [join(dir, 'checkpoint')] })).toMatchObject({ verdict: 'whole', keyConfirmed: true, savedConfirmed: 1, savedSize: result.records })
    for (const seq of [0, 1, count, result.records - 1]) expect(checkProof(await proveRecord(dir, seq), fingerprint)).toMatchObject({ index: seq })
  })

  test('while it is open, and after it was killed: whole with so many records not yet sealed, or torn and told', async () => {
    const dir = tempDir()
    const log = await openLog({ dir, mode: 'daemon' })
    for (let i = 0; i < 5; i++) await log.append(loose({ type: 'admin.act', i }), 'operator')
    expect(await both(dir)).toMatchObject({ verdict: 'whole', unsealed: { records: 5 }, lastSealed: { why: 'open' } })
    await log.close()
    const last = join(dir, 'records', readdirSync(join(dir, 'records')).sort().at(-1) ?? '')
    appendFileSync(last, '{"boot":"half a rec')
    expect(await both(dir)).toMatchObject({ verdict: 'unverifiable-tail' })
    const again = await openLog({ dir, mode: 'daemon' })
    await again.close()
    expect(await both(dir)).toMatchObject({ verdict: 'gap', gapCount: 1, gaps: [{ reason: 'torn-line' }] })
  })

  test('while it is being written, seals and tiles included, it never looks changed', async () => {
    const dir = tempDir()
    const log = await openLog({ dir, mode: 'daemon', sealRecords: 20 })
    const writing = { on: true }
    const writer = (async () => {
      while (writing.on) await Promise.all(Array.from({ length: 7 }, () => log.append(loose({ type: 'admin.act' }), 'operator')))
    })()
    try {
      for (let i = 0; i < 40; i++) {
        for (const result of [await verifyLog(dir) as PythonResult, await askPython({ dir })]) expect(['whole', 'unverifiable-tail'], result.firstBad?.problem ?? result.problem ?? '').toContain(result.verdict)
      }
    } finally {
      writing.on = false
      await writer
    }
    await log.close()
    expect(await both(dir)).toMatchObject({ verdict: 'whole' })
  })

  test('with segments removed by retention: whole, told, and what is left can be proved', async () => {
    const dir = tempDir()
    for (let session = 0; session < 3; session++) {
      const log = await openLog({ dir, mode: 'daemon', segmentBytes: 20_000, retention: { keepMs: 1e12, maxBytes: 60_000 } })
      for (let i = 0; i < 60; i++) await log.append(loose({ type: 'admin.act', text: 'x'.repeat(700), i }), 'operator')
      await log.close()
    }
    const result = await both(dir)
    expect(result).toMatchObject({ verdict: 'whole', lastSealed: { why: 'close' } })
    expect(result.pruned?.to).toBeGreaterThan(50)
    expect(checkProof(await proveRecord(dir, result.records - 2), result.fingerprint)).toMatchObject({ index: result.records - 2 })
    await expect(proveRecord(dir, 1)).rejects.toThrow(/removed by retention/)
  })

  test('a byte changed in the middle, a record removed, the end cut off: found', async () => {
    const dir = tempDir()
    const log = await openLog({ dir, mode: 'daemon', sealRecords: 10 })
    for (let i = 0; i < 40; i++) await log.append(loose({ type: 'admin.act', i }), 'operator')
    await log.close()
    const path = join(dir, 'records/0000000000000000.jsonl')
    const text = readFileSync(path, 'utf8')
    const lines = text.split('\n')
    for (const [changed, seq] of [[text.replace('"i":7', '"i":8'), lines.findIndex((line) => line.includes('"i":7'))], [lines.toSpliced(20, 1).join('\n'), 20], [`${lines.slice(0, 30).join('\n')}\n`, 30]] as const) {
      writeFileSync(path, changed)
      expect(await both(dir)).toMatchObject({ verdict: 'tampered', firstBad: { seq } })
    }
  })
})
