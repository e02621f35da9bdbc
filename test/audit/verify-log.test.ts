import { appendFileSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { verifyLog } from '../../src/audit/verify/log.ts'
import { RecordScanner } from '../../src/audit/verify/scan.ts'
import type { VerifyOptions } from '../../src/audit/verify/evidence.ts'
import { canonical, Forge, leaf, sha256, writeFiles } from './forge.ts'
import { tempDir } from './kit.ts'

test('the verifier reaches none of the writer\'s code, so a mistake there cannot hide', () => {
  const reached = new Set<string>()
  const walk = (file: string): void => {
    if (reached.has(file)) return
    reached.add(file)
    const source = readFileSync(file, 'utf8')
    for (const [, target] of source.matchAll(/^(?:import|export) (?!type )[^;]*? from '(\.[^']+)'/gms)) walk(join(file, '..', target ?? ''))
  }
  const audit = join(import.meta.dirname, '../../src/audit')
  walk(join(audit, 'verify/log.ts'))
  const outside = [...reached].map((file) => relative(audit, file)).filter((file) => !file.startsWith('verify/')).sort()
  expect(outside).toEqual(['../base/printable.ts'])
})

/** A daemon's two minutes: opened, records, seals, a new segment, closed unless told otherwise. */
function usual(close = true): Forge {
  const forge = new Forge()
  forge.record('log.opened', { pid: 7 }).seal('open').pass(20).records(4).pass(40).seal().pass(60).seal().pass(10).records(3).rotate().pass(5).records(4)
  return close ? forge.pass(1).seal('close') : forge
}

const look = (forge: Forge, options: VerifyOptions = {}) => verifyLog(forge.write(tempDir()), { now: forge.now, ...options })

describe('a log that nobody touched', () => {
  test('is whole; what is sealed and what is not is told', async () => {
    const forge = usual()
    expect(await look(forge)).toMatchObject({
      verdict: 'whole', records: forge.lines.length, firstBad: null, missing: [], gapCount: 0, pauses: [], origin: forge.origin, fingerprint: forge.fingerprint,
      lastSealed: { epoch: 4, why: 'close', seq: forge.lines.length - 1 }, unsealed: { records: 0, seconds: 0 },
    })
    expect(await look(usual(false).pass(30))).toMatchObject({ verdict: 'whole', unsealed: { records: 4, seconds: 31 }, lastSealed: { epoch: 3, why: 'rotate' } })
  })

  test('the pinned key, a remembered head and a saved checkpoint are confirmed', async () => {
    const forge = usual(false)
    const saved = join(tempDir(), 'mail')
    writeFileSync(saved, forge.checkpoint())
    const head = { seq: 5, hash: leaf(forge.lines[5] ?? '').toString('hex') }
    expect(await look(forge, { pin: forge.fingerprint, head, saved: [saved] })).toMatchObject({ verdict: 'whole', keyConfirmed: true, headConfirmed: true, savedConfirmed: 1, savedSize: forge.checkpointSize })
    expect(await look(forge, { pin: new Forge('other').fingerprint })).toMatchObject({ verdict: 'tampered', records: 0, firstBad: { seq: 0, problem: expect.stringMatching(/not the log/) } })
  })

  test('removed segments are told as removed; roots, seals and the chain are checked across them', async () => {
    const forge = usual(false).pass(20).rotate().records(600).pass(20).rotate().prune().pass(3).records(2).prune().prune().records(5)
    const result = await look(forge)
    expect(result).toMatchObject({ verdict: 'whole', records: forge.lines.length, pruned: { from: 0, to: (forge.segments[0] ?? 0) - 1 } })
    expect(forge.segments[0]).toBeGreaterThan(600)
    const saved = join(tempDir(), 'old')
    writeFileSync(saved, forge.checkpoint(3))
    expect(await look(forge, { saved: [saved] })).toMatchObject({ verdict: 'whole', savedConfirmed: 1 })
  })

  test('lines that stand in both places, and a kept line that a crash cut, are as they should be', async () => {
    const forge = usual()
    const kept = forge.lines.slice(0, forge.segments[1]).filter((line) => /"type":"(?:log\.created|seal)"/.test(line)).map((line) => `${line}\n`).join('')
    for (const end of [kept.length, kept.length - 40, 300]) {
      const dir = forge.write(tempDir())
      writeFileSync(join(dir, 'seals.jsonl'), kept.slice(0, end))
      expect(await verifyLog(dir, { now: forge.now })).toMatchObject({ verdict: 'whole' })
    }
  })

  test('gaps that the log names, and pauses between seals, are gaps; a reboot is a note', async () => {
    const gap = usual(false).record('gap', { reason: 'budget', counts: { 'http.request': 3 } }).seal('close')
    expect(await look(gap)).toMatchObject({ verdict: 'gap', gapCount: 1, gaps: [{ reason: 'budget' }] })
    const pause = usual(false).seal().pass(131).seal('close')
    expect(await look(pause)).toMatchObject({ verdict: 'gap', pauses: [{ seconds: 131 }] })
    expect(await look(usual(false).seal().pass(130).seal('close'))).toMatchObject({ verdict: 'whole', pauses: [] })
    expect(await look(usual().pass(99_999).record('log.opened', { pid: 8 }).seal('open'))).toMatchObject({ verdict: 'whole', pauses: [] })
    expect(await look(usual(false).seal().reboot(5000).record('log.opened', { pid: 8 }).seal('open'))).toMatchObject({ verdict: 'whole', notes: [expect.stringMatching(/without a closing seal/)] })
  })

  test('an end without a seal, or without closing, cannot be verified once it is old; in the same boot the wall clock does not matter', async () => {
    const open = usual(false)
    const { monoMs, wallMs, boot } = open.now
    expect(await look(open, { now: { boot, monoMs: monoMs + 100_000, wallMs: 0 } })).toMatchObject({ verdict: 'whole' })
    expect(await look(open, { now: { boot, monoMs: monoMs + 131_000, wallMs: 0 } })).toMatchObject({ verdict: 'unverifiable-tail', firstBad: { problem: expect.stringMatching(/no seal covers/) } })
    expect(await look(open, { now: { boot: null, monoMs: 0, wallMs: wallMs + 131_000 } })).toMatchObject({ verdict: 'unverifiable-tail' })
    const idle = usual(false).seal()
    expect(await look(idle, { now: { boot, monoMs: monoMs + 140_000, wallMs } })).toMatchObject({ verdict: 'unverifiable-tail', firstBad: { problem: expect.stringMatching(/without closing/) } })
    expect(await look(usual(), { now: { boot, monoMs: monoMs * 100, wallMs } })).toMatchObject({ verdict: 'whole' })
    const unsealed = new Forge().records(2)
    expect(await look(unsealed)).toMatchObject({ verdict: 'whole', lastSealed: null })
    expect(await look(unsealed, { now: { ...unsealed.now, monoMs: 2_000_000 } })).toMatchObject({ verdict: 'unverifiable-tail' })
    // A session of `cordon run` a day after the log was closed: its records are young, although the newest seal is not.
    expect(await look(usual().pass(86_400).record('run.started', {}).pass(50))).toMatchObject({ verdict: 'whole', unsealed: { records: 1, seconds: 51 } })
  })

  test('a line under way at the end is an unverifiable tail; torn bytes that a gap record vouches for are a gap', async () => {
    const forge = usual(false)
    const dir = forge.write(tempDir())
    const open = join(dir, `records/${String(forge.segments.at(-1)).padStart(16, '0')}.jsonl`)
    appendFileSync(open, '{"boot":"111')
    expect(await verifyLog(dir, { now: forge.now })).toMatchObject({ verdict: 'unverifiable-tail', records: forge.lines.length })
    for (const torn of ['{"boot":"111', 'two\nlines\n', '\0'.repeat(100_000)]) {
      const again = usual(false)
      const before = Buffer.byteLength(again.lines.slice(again.segments.at(-1)).map((line) => `${line}\n`).join(''))
      const place = again.lines.length
      again.record('gap', { reason: 'torn-line', torn: { bytes: torn.length, offset: before, sha256: sha256(torn).toString('hex') } }).seal('close')
      const files = again.files()
      const path = [...files.keys()].filter((name) => name.startsWith('records/')).sort().at(-1) ?? ''
      const bytes = files.get(path) ?? Buffer.alloc(0)
      files.set(path, Buffer.concat([bytes.subarray(0, before), Buffer.from(torn.endsWith('\n') ? torn : `${torn}\n`), bytes.subarray(before)]))
      const made = tempDir()
      writeFiles(made, files)
      expect(await verifyLog(made, { now: again.now })).toMatchObject({ verdict: 'gap', gaps: [{ seq: place, reason: 'torn-line' }] })
      files.set(path, Buffer.concat([bytes.subarray(0, before), Buffer.from(`x${torn.slice(1)}\n`), bytes.subarray(before)]))
      writeFiles(made, files)
      expect(await verifyLog(made, { now: again.now })).toMatchObject({ verdict: 'tampered', firstBad: { seq: place } })
    }
  })
})

describe('a log directory with something else in it', () => {
  test('nothing at all is no whole log, and a cut one if something was remembered of it', async () => {
    const dir = tempDir()
    mkdirSync(join(dir, 'records'))
    expect(await verifyLog(dir)).toMatchObject({ verdict: 'unverifiable-tail', records: 0 })
    expect(await verifyLog(dir, { head: { seq: 0, hash: '0'.repeat(64) } })).toMatchObject({ verdict: 'tampered' })
  })

  test.each<[string, (dir: string) => void]>([
    ['a segment that is gone', (dir) => rmSync(join(dir, 'records/0000000000000000.jsonl'))],
    ['a link in place of a segment', (dir) => {
      renameSync(join(dir, 'records/0000000000000000.jsonl'), join(dir, 'elsewhere'))
      symlinkSync('../elsewhere', join(dir, 'records/0000000000000000.jsonl'))
    }],
    ['every segment gone', (dir) => rmSync(join(dir, 'records'), { recursive: true })],
    ['a segment under another number', (dir) => renameSync(join(dir, 'records/0000000000000013.jsonl'), join(dir, 'records/0000000000000014.jsonl'))],
    ['a checkpoint that is no file', (dir) => {
      rmSync(join(dir, 'checkpoint'))
      mkdirSync(join(dir, 'checkpoint'))
    }],
    ['a tile that is gone', (dir) => rmSync(join(dir, 'tile'), { recursive: true })],
    ['5 MB without a newline', (dir) => appendFileSync(join(dir, 'records/0000000000000013.jsonl'), 'x'.repeat(5_000_000))],
  ])('%s: tampered', async (_name, change) => {
    const forge = usual()
    expect(forge.segments).toEqual([0, 13])
    const dir = forge.write(tempDir())
    change(dir)
    expect(await verifyLog(dir, { now: forge.now })).toMatchObject({ verdict: 'tampered' })
  })
})

describe('one line', () => {
  const scans = (text: string | Buffer): boolean => {
    const bytes = Buffer.concat([Buffer.from(text), Buffer.from('\n')])
    return new RecordScanner().scan(bytes, 0, bytes.length - 1)
  }
  const base = (data: unknown, over: Readonly<Record<string, unknown>> = {}): string => new Forge().text(3, '0'.repeat(64), 'x.y', data, over)
  const raw = (data: string): string => base({}).replace('"data":{}', `"data":${data}`)

  test.each([
    {}, { a: 1, b: -1, c: 0 }, { '': null, a: [true, false, [], {}] }, { é: 'ü\u2028', '\u{1f600}': '\u{1f600}', '\ufb00': 1 }, { a: '"\\/\b\f\n\r\t\u0000\u001f\u007f' }, { n: 9007199254740991, m: -9007199254740991 },
  ])('canonical data %j is a record', (data) => {
    expect(scans(base(data))).toBe(true)
  })

  test.each([
    '{ }', '{"b":1,"a":2}', '{"a":1,"a":1}', '{"a":1.0}', '{"a":1e3}', '{"a":01}', '{"a":-0}', '{"a":+1}', '{"a":9007199254740992}', '{"a":99999999999999999999}', '{"a":tru}', '{"a":nul}', '{"a":}', '{"a"}', '{"a":1,}', '[1]', '1', 'null',
    '{"a":"\\u0041"}', '{"a":"\\u001F"}', '{"a":"\\u000a"}', '{"a":"\\/"}', '{"a":"\\x"}', '{"a":"\t"}', '{"a":"\\ud83d\\ude00"}', '{"\u{1f600}":1,"\u00e9":1}', '{"\ufb00":1,"\u{1f600}":1}', `{"a":${'['.repeat(40)}${']'.repeat(40)}}`, `${'{"a":'.repeat(60_000)}`,
  ])('data %s is none', (data) => {
    expect(scans(raw(data))).toBe(false)
  })

  test.each<[string, string]>([
    ['an unknown version', base({}).replace('"v":1', '"v":2')], ['a key too many', base({}).replace('"v":1}', '"v":1,"w":1}')], ['a key too few', base({}).replace(',"v":1', '')], ['another order', base({}).replace(/^\{("boot":"[^"]*"),("class_uid":\d+)/, '{$2,$1')],
    ['a text of no bytes', base({}, { boot: '' })], ['a plugin that is a number', base({}, { plugin: 1 })], ['a time in another zone', base({}, { time: '2026-11-20T10:00:00.000+00:00' })], ['the 30th of February', base({}, { time: '2026-02-30T10:00:00.000Z' })],
    ['a leap second', base({}, { time: '2026-06-30T23:59:60.000Z' })], ['a prev in capitals', base({}, { prev: 'A'.repeat(64) })], ['a prev that is short', base({}, { prev: 'a'.repeat(63) })], ['a negative seq', base({}, { seq: -1 })], ['a space behind it', `${base({})} `],
    ['a carriage return', `${base({})}\r`], ['a byte order mark', `\ufeff${base({})}`], ['nothing', ''],
  ])('%s is none', (_name, line) => {
    expect(scans(line)).toBe(false)
    expect(scans(base({}, { time: '2028-02-29T23:59:59.999Z' }))).toBe(true)
  })

  test('bytes that are not UTF-8 are none: overlong, surrogates, cut', () => {
    for (const bytes of [[0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xe2, 0x82], [0xf5, 0x80, 0x80, 0x80]]) {
      const line = Buffer.from(base({ a: 'XX' }))
      const at = line.indexOf('XX')
      expect(scans(Buffer.concat([line.subarray(0, at), Buffer.from(bytes), line.subarray(at + 2)]))).toBe(false)
    }
  })

  test('any JSON is accepted in its canonical form, and in no other that JSON.parse would take', () => {
    const value = fc.jsonValue({ maxDepth: 6 }).map((one) => JSON.parse(JSON.stringify(one, (_, item: unknown) => (typeof item === 'number' ? Math.trunc(item % 2 ** 53) || 0 : item))) as unknown)
    fc.assert(fc.property(fc.dictionary(fc.string({ unit: 'grapheme' }), value), (data) => {
      const line = canonical(JSON.parse(base({})) as unknown).replace('"data":{}', () => `"data":${canonical(data)}`)
      expect(scans(line)).toBe(line.isWellFormed())
    }), { seed: 8785, numRuns: 500 })
    const good = base({ a: [1, 'x'], b: { c: null } })
    fc.assert(fc.property(fc.nat(good.length), fc.nat(3), fc.string({ maxLength: 3 }), (at, remove, insert) => {
      const line = good.slice(0, at) + insert + good.slice(at + remove)
      if (!scans(line)) return
      expect(canonical(JSON.parse(line) as unknown)).toBe(line)
    }), { seed: 8259, numRuns: 5000 })
  })
})
