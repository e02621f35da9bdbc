import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import fc from 'fast-check'
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { GENESIS_HASH, prepareEntry, sealEntry, type Stamp } from '../../src/audit/entry.ts'
import type { AuditEvent } from '../../src/audit/record.ts'
import { verifyLog, type VerifyResult } from '../../src/audit/verify.ts'
import { loose } from './loose.ts'

const N = 6
let good: Buffer
let starts: number[]
beforeAll(() => {
  good = chained(Array.from({ length: N }, (_, i) => ({ event: loose({ type: 'admin.act', who: `user ${i}`, i }), stamp: { wallMs: 1e12 + i, monoMs: i, boot: 'b' } })))
  starts = [0]
  for (let at = good.indexOf(10); at >= 0; at = good.indexOf(10, at + 1)) starts.push(at + 1)
})

/** Records in a chain, without the seals that the writer adds: the chain alone is what is looked at here. */
function chained(records: readonly { readonly event: AuditEvent; readonly stamp: Stamp }[]): Buffer {
  let prev = GENESIS_HASH
  return Buffer.concat(records.flatMap(({ event, stamp }, seq) => {
    const { bytes, hash } = sealEntry(prepareEntry(event, 'operator', stamp, Buffer.alloc(32)), seq, prev)
    prev = hash
    return [bytes, Buffer.from('\n')]
  }))
}

const sha = (bytes: Uint8Array): string => createHash('sha256').update(Buffer.of(0)).update(bytes).digest('hex')
const lines = (): string[] => good.toString().split('\n').slice(0, -1)
const lineAt = (offset: number): number => starts.findLastIndex((start) => start <= offset)

let scratch: string | null = null
async function verify(bytes: Uint8Array | readonly string[], head?: { seq: number; hash: string }): Promise<VerifyResult> {
  if (scratch === null) {
    scratch = mkdtempSync(join(tmpdir(), 'cordon-audit-'))
    const made = scratch
    onTestFinished(() => {
      rmSync(made, { recursive: true })
      scratch = null
    })
  }
  const path = join(scratch, 'audit.jsonl')
  writeFileSync(path, bytes instanceof Uint8Array ? bytes : bytes.map((line) => `${line}\n`).join(''))
  return verifyLog(path, head === undefined ? {} : { head })
}

test('the verifier reaches none of the writer\'s code, so a mistake there cannot hide', () => {
  const reached = new Set<string>()
  const walk = (file: string): void => {
    if (reached.has(file)) return
    reached.add(file)
    const source = readFileSync(file, 'utf8')
    for (const [, target] of source.matchAll(/^(?:import|export) (?!type )[^;]*? from '(\.[^']+)'/gms)) walk(join(file, '..', target ?? ''))
  }
  const audit = join(import.meta.dirname, '../../src/audit')
  walk(join(audit, 'verify.ts'))
  const names = [...reached].map((file) => relative(audit, file)).sort()
  expect(names).toEqual(['../base/printable.ts', 'verify-lines.ts', 'verify-record.ts', 'verify.ts'])
})

describe('a log that nobody touched', () => {
  test('is whole, and its head can be remembered and confirmed', async () => {
    const hash = sha(Buffer.from(lines()[N - 1] ?? ''))
    expect(await verify(good)).toMatchObject({ verdict: 'whole', records: N, firstBad: null, gapCount: 0, lastHash: hash, headConfirmed: false })
    expect(await verify(good, { seq: N - 1, hash })).toMatchObject({ verdict: 'whole', headConfirmed: true })
  })

  test('an empty one is whole, unless a head was remembered', async () => {
    expect(await verify([])).toMatchObject({ verdict: 'whole', records: 0 })
    expect(await verify([], { seq: 0, hash: '0'.repeat(64) })).toMatchObject({ verdict: 'tampered' })
  })
})

describe('a changed log', () => {
  test('each byte flipped: with a remembered head every flip is found, and the right record is named', async () => {
    const head = { seq: N - 1, hash: sha(Buffer.from(lines()[N - 1] ?? '')) }
    for (let at = 0; at < good.length; at++) {
      for (const bit of [1, 0x20]) {
        const changed = Buffer.from(good)
        changed[at] = (changed[at] ?? 0) ^ bit
        const result = await verify(changed, head)
        const where = `byte ${at}, bit ${bit}: ${JSON.stringify(result.firstBad)}`
        expect(result.verdict, where).toBe('tampered')
        const record = lineAt(at)
        // In the last record a changed prev cannot be told from a change of the record before it.
        expect(record === N - 1 ? [N - 2, N - 1] : [record], where).toContain(result.firstBad?.seq)
        expect(result.firstBad?.offset, where).toBe(starts[result.firstBad?.seq ?? -1])
      }
    }
  }, 60_000)

  test('without a remembered head only a change inside the last record can pass', async () => {
    let passed = 0
    for (let at = 0; at < good.length; at++) {
      const changed = Buffer.from(good)
      changed[at] = (changed[at] ?? 0) ^ 1
      if ((await verify(changed)).verdict !== 'whole') continue
      passed += 1
      expect(lineAt(at)).toBe(N - 1)
    }
    expect(passed).toBeGreaterThan(0) // what README.md says about the newest records is true
  }, 60_000)

  test.each<[string, (l: string[]) => string[], number]>([
    ['the first line removed', (l) => l.slice(1), 0],
    ['a line removed', (l) => l.toSpliced(3, 1), 3],
    ['a line inserted', (l) => l.toSpliced(3, 0, l[1] ?? ''), 3],
    ['a line doubled', (l) => l.toSpliced(3, 0, l[2] ?? ''), 3],
    ['the last line doubled', (l) => [...l, l[N - 1] ?? ''], N],
    ['two lines swapped', (l) => l.with(2, l[3] ?? '').with(3, l[2] ?? ''), 2],
    ['lines reversed', (l) => l.toReversed(), 0],
    ['an empty line', (l) => l.toSpliced(2, 0, ''), 2],
    ['a space added', (l) => l.with(2, ` ${l[2] ?? ''}`), 2],
    ['another key order', (l) => l.with(2, (l[2] ?? '').replace(/^\{("boot":"[^"]*"),("class_uid":\d+)/, '{$2,$1')), 2],
    ['a doubled key', (l) => l.with(2, (l[2] ?? '').replace('"v":1}', '"v":1,"v":1}')), 2],
    ['an added key', (l) => l.with(2, (l[2] ?? '').replace('"v":1}', '"v":1,"w":1}')), 2],
    ['another spelling of a text', (l) => l.with(2, (l[2] ?? '').replace('admin', '\\u0061dmin')), 2],
    ['no name of a type', (l) => l.with(2, (l[2] ?? '').replace('admin.act', 'admin act')), 2],
    ['an impossible time', (l) => l.with(2, (l[2] ?? '').replace(/"time":"\d{4}-\d\d/, '"time":"2026-13')), 2],
    ['a float', (l) => l.with(2, (l[2] ?? '').replace('"i":2', '"i":2.5')), 2],
    ['a line of 70,000 bytes', (l) => l.with(2, `{"boot":"${'x'.repeat(70_000)}"}`), 2],
    ['a line of 5 MB', (l) => l.with(2, 'x'.repeat(5_000_000)), 2],
    ['nesting that would exhaust a stack', (l) => l.with(2, '['.repeat(60_000)), 2],
    ['a byte order mark', (l) => l.with(0, `\ufeff${l[0] ?? ''}`), 0],
  ])('%s: tampered, and named', async (_name, change, seq) => {
    expect(await verify(change(lines()))).toMatchObject({ verdict: 'tampered', records: seq, firstBad: { seq } })
  })

  test.each([['type', 'admin.act', 'admin.axt'], ['class', '"class_uid":3004', '"class_uid":3005']])('another %s: the record after it tells, and it is named', async (_name, from, to) => {
    expect(await verify(lines().with(2, (lines()[2] ?? '').replace(from, to)))).toMatchObject({ verdict: 'tampered', firstBad: { seq: 2 } })
  })

  test('bytes that are not UTF-8 are not taken for any text', async () => {
    const changed = Buffer.from(good)
    changed[good.indexOf('user 2')] = 0xff
    expect(await verify(changed)).toMatchObject({ verdict: 'tampered', firstBad: { seq: 2, line: 3, problem: expect.stringMatching(/UTF-8/) } })
  })

  test('the end cut off is found only with a remembered head; a rewritten log, too', async () => {
    const head = { seq: N - 1, hash: sha(Buffer.from(lines()[N - 1] ?? '')) }
    expect(await verify(lines().slice(0, 3))).toMatchObject({ verdict: 'whole' })
    expect(await verify(lines().slice(0, 3), head)).toMatchObject({ verdict: 'tampered', firstBad: { seq: 3 } })
    let prev = '0'.repeat(64)
    const forged = lines().map((line) => {
      const mine = line.replace(/"prev":"[0-9a-f]{64}"/, `"prev":"${prev}"`).replace('user', 'nobody')
      prev = sha(Buffer.from(mine))
      return mine
    })
    expect(await verify(forged)).toMatchObject({ verdict: 'whole' })
    expect(await verify(forged, head)).toMatchObject({ verdict: 'tampered', firstBad: { seq: N - 1 } })
  })

  test('a clock that ran backwards is counted, and is no tampering; a monotonic one that did, is', async () => {
    const stamps = [3, 2, 1].map((minutes) => ({ wallMs: 1e12 + minutes * 60_000, monoMs: 5, boot: 'b' }))
    const text = chained(stamps.map((stamp) => ({ event: loose({ type: 'admin.act' }), stamp }))).toString().split('\n').slice(0, -1)
    expect(await verify(text)).toMatchObject({ verdict: 'whole', clockSteps: 2 })
    expect(await verify(text.with(2, (text[2] ?? '').replace('"mono_ms":5', '"mono_ms":4')))).toMatchObject({ verdict: 'tampered', firstBad: { seq: 2, problem: expect.stringMatching(/mono_ms/) } })
  })

  test('random damage of any kind never throws and is never called whole if a head was remembered', async () => {
    const head = { seq: N - 1, hash: sha(Buffer.from(lines()[N - 1] ?? '')) }
    const edit = fc.record({ at: fc.nat(good.length), remove: fc.nat(300), insert: fc.uint8Array({ maxLength: 300 }) })
    await fc.assert(fc.asyncProperty(fc.array(edit, { minLength: 1, maxLength: 3 }), async (edits) => {
      let bytes = good
      for (const { at, remove, insert } of edits) bytes = Buffer.concat([bytes.subarray(0, at), insert, bytes.subarray(at + remove)])
      const { verdict } = await verify(bytes, head)
      expect(verdict === 'whole').toBe(bytes.equals(good))
    }), { seed: 6962, numRuns: 400 })
  })
})

describe('a line that was not finished', () => {
  test('is an unverifiable tail at every length, not tampering', async () => {
    const last = starts[N - 1] ?? 0
    for (let end = last + 1; end < good.length; end++) {
      expect(await verify(good.subarray(0, end))).toMatchObject({ verdict: 'unverifiable-tail', records: N - 1, firstBad: { seq: N - 1, offset: last } })
    }
    expect(await verify(good.subarray(0, last))).toMatchObject({ verdict: 'whole', records: N - 1 })
  })
})
