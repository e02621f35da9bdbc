import { appendFileSync, chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { fieldsOf, parseRecord } from '../../src/history/fields.ts'
import { EVERYTHING, matcher, type Filter } from '../../src/history/filter.ts'
import { findRecords, type HistoryOptions, type Search } from '../../src/history/find.ts'
import { busyHost, hashOf, lineOf, writeSegments, type Made } from './kit.ts'

const START = Date.parse('2026-03-01T00:00:00Z')
const SEGMENT = 700_000

let stateDir: string
let notices: string[]
beforeEach(() => {
  stateDir = mkdtempSync(join(tmpdir(), 'cordon-history-'))
  notices = []
  onTestFinished(() => rmSync(stateDir, { recursive: true, force: true }))
})

function options(more: Partial<HistoryOptions> = {}): HistoryOptions {
  return { dir: `${stateDir}/audit`, indexDir: `${stateDir}/audit-index`, rebuild: false, signal: AbortSignal.timeout(110_000), progress: () => undefined, notice: (text) => notices.push(text), ...more }
}

async function find(filter: Partial<Filter>, order: Search['order'] = 'newer', beyond: number | null = null, most = Infinity): Promise<number[]> {
  const seqs: number[] = []
  for await (const { fields } of findRecords({ filter: { ...EVERYTHING, ...filter }, order, beyond }, options())) {
    seqs.push(fields.seq)
    if (seqs.length >= most) break
  }
  return seqs
}

function logLines(): string[] {
  const dir = `${stateDir}/audit/records`
  return readdirSync(dir).sort().flatMap((name) => readFileSync(`${dir}/${name}`, 'utf8').split('\n').filter((line) => line !== ''))
}

function scan(filter: Partial<Filter>): number[] {
  const fits = matcher({ ...EVERYTHING, ...filter })
  return logLines().flatMap((line) => {
    const record = parseRecord(line)
    const fields = record === null ? null : fieldsOf(record)
    return fields !== null && fits(line, fields) ? [fields.seq] : []
  })
}

const segment = (first: number): string => `${stateDir}/audit/records/${String(first).padStart(16, '0')}.jsonl`
const act = (n: number): Made => ({ type: 'admin.act', origin: 'operator', ms: START + n, data: { act: 'restart', n } })

describe('what is found', () => {
  test('by any filter is what reading the whole log finds, in either order', async () => {
    writeSegments(stateDir, busyHost(6000, START, 1000), SEGMENT)
    expect(readdirSync(`${stateDir}/audit/records`).length).toBeGreaterThan(3)
    const digest = (parseRecord(logLines()[0] ?? '')?.policy ?? '').slice(0, 9)
    const one = (...values: string[]): fc.Arbitrary<string[]> => fc.oneof({ weight: 2, arbitrary: fc.constant<string[]>([]) }, fc.subarray(values, { minLength: 1, maxLength: 2 }))
    const filters = fc.record({
      since: fc.option(fc.integer({ min: START, max: START + 6_000_000 })), until: fc.option(fc.integer({ min: START, max: START + 6_000_000 })),
      plugins: one('mail', 'image', '-', 'i*', 'nobody'), types: one('egress.*', 'http.request', 'dns.refused', '*.c*', 'nothing'), outcomes: one('ok', 'refused', 'failed', '500', 'name-*'),
      hosts: one('host1.example.org', '*.example.net', '198.18.*', 'host*'), clients: one('192.0.2.7', '192.0.2.1*'), digests: one(digest, 'ffffffff'),
      text: fc.option(fc.constantFrom('x9', 'ITEMS/77', 'no rule names it', '"bytesout":9', 'ö', 'root (login')),
    })
    await fc.assert(fc.asyncProperty(filters, async (filter) => {
      const expected = scan(filter)
      expect(await find(filter)).toEqual(expected)
      expect(await find(filter, 'older')).toEqual(expected.reverse())
    }), { seed: 4711, numRuns: 60 })
    expect(notices).toEqual([])
  })

  test('does not depend on a clock that was set back', async () => {
    writeSegments(stateDir, [act(0), { ...act(1), ms: START - 86_400_000 }, act(2)])
    expect(await find({ since: START })).toEqual([0, 2])
    expect(await find({ until: START })).toEqual([1])
  })

  test('a glob means any text and nothing else is special', async () => {
    writeSegments(stateDir, ['a?c', 'abc', '[a]', 'a*c', 'a-b-a'].map((name) => ({ type: 'dns.refused', plugin: 'x', ms: START, data: { name } })))
    expect(await find({ hosts: ['a?c'] })).toEqual([0])
    expect(await find({ hosts: ['[a]'] })).toEqual([2])
    expect(await find({ hosts: ['a*c'] })).toEqual([0, 1, 3])
    expect(await find({ hosts: ['a*a'] })).toEqual([4])
    expect(await find({ hosts: ['a*b*b*a'] })).toEqual([])
  })

  test('the hash of the record before is no text of a record', async () => {
    writeSegments(stateDir, [act(0), act(1)])
    const prev = hashOf(logLines()[0] ?? '')
    expect(await find({ text: prev.slice(0, 12) })).toEqual([])
    expect(await find({ text: '"n":1' })).toEqual([1])
  })

  test('a text with quotes is found inside a text, and as a piece of the line', async () => {
    writeSegments(stateDir, [{ type: 'plugin.failed', plugin: 'a', ms: START, data: { reason: 'said "no\\way"' } }, { type: 'plugin.failed', plugin: 'a', ms: START, data: { said: 'no' } }])
    expect(await find({ text: 'SAID "no\\way' })).toEqual([0])
    expect(await find({ text: 'said":"no' })).toEqual([1])
    expect(await find({ text: '"""' })).toEqual([])
  })

  test('destinations of every kind of record are hosts', async () => {
    writeSegments(stateDir, [
      { type: 'egress.attempted', plugin: 'a', ms: START, data: { attempts: [{ destination: 'tcp [2001:db8::1]:443', count: 2 }, { destination: 'udp 9.9.9.9:53', count: 1 }] } },
      { type: 'egress.applied', plugin: 'a', ms: START, data: { act: 'allow', destination: 'api.example.org:443' } },
      { type: 'egress.refused', plugin: 'a', ms: START, data: { name: null, dialled: '10.0.0.1', addresses: ['10.0.0.1'] } },
    ])
    expect(await find({ hosts: ['2001:db8::1'] })).toEqual([0])
    expect(await find({ hosts: ['9.9.9.9'] })).toEqual([0])
    expect(await find({ hosts: ['api.example.org'] })).toEqual([1])
    expect(await find({ hosts: ['10.0.0.1'] })).toEqual([2])
  })

  test('pages join without a hole or a repeat', async () => {
    writeSegments(stateDir, busyHost(3000, START, 1000), SEGMENT)
    for (const order of ['newer', 'older'] as const) {
      const all = await find({ types: ['egress.*'] }, order)
      const paged: number[] = []
      for (let page = await find({ types: ['egress.*'] }, order, null, 700); page.length > 0; page = await find({ types: ['egress.*'] }, order, paged.at(-1) ?? null, 700)) paged.push(...page)
      expect(paged).toEqual(all)
    }
  })
})

describe('the index', () => {
  test('takes in what was written since, and is not made again for it', async () => {
    let end = writeSegments(stateDir, busyHost(2000, START, 1000), SEGMENT)
    const last = end.segments.at(-1) ?? 0
    await find({})
    for (let round = 0; round < 3; round++) {
      const more = Array.from({ length: 1500 }, (_, n) => act(n))
      const lines = more.map((record) => {
        const line = lineOf(record, end.seq, end.prev)
        end = { ...end, seq: end.seq + 1, prev: hashOf(line) }
        return `${line}\n`
      })
      appendFileSync(segment(last), lines.join(''))
      expect((await find({ text: '"act":"restart","n":' })).length).toBe((round + 1) * 1500)
    }
    end = { ...end, ...writeSegments(stateDir, [act(1)], SEGMENT, end) } // a new segment
    expect((await find({}, 'older', null, 1))).toEqual([end.seq - 1])
    expect(await find({ types: ['admin.act'] })).toEqual(scan({ types: ['admin.act'] }))
    expect(notices).toEqual([])
  })

  test('forgets segments that were pruned, without being made again', async () => {
    const { segments } = writeSegments(stateDir, busyHost(6000, START, 1000), SEGMENT)
    await find({})
    writeFileSync(`${stateDir}/audit/seals.jsonl`, `${logLines()[0] ?? ''}\n`)
    unlinkSync(segment(segments[0] ?? 0))
    unlinkSync(segment(segments[1] ?? 0))
    const left = await find({})
    expect(left[0]).toBe(segments[2])
    expect(left.length).toBe(6000 - (segments[2] ?? 0))
    expect(notices).toEqual([])
  })

  const harm: readonly (readonly [string, (segments: readonly number[]) => void])[] = [
    ['another log in its place', () => {
      rmSync(`${stateDir}/audit`, { recursive: true })
      writeSegments(stateDir, busyHost(5000, START + 7, 999), SEGMENT)
    }],
    ['a log that was cut', (segments) => truncateSync(segment(segments.at(-2) ?? 0), 300_000)],
    ['a finished segment that was changed', (segments) => {
      const file = segment(segments[1] ?? 0)
      writeFileSync(file, readFileSync(file, 'utf8').replaceAll('host1.example.org', 'host2.example.org'))
    }],
    ['a segment missing in the middle', (segments) => unlinkSync(segment(segments[2] ?? 0))],
    ['an open segment begun anew', (segments) => {
      const file = segment(segments.at(-1) ?? 0)
      const text = readFileSync(file, 'utf8').replaceAll('203.0.113.', '203.0.114.')
      unlinkSync(file)
      writeFileSync(file, text)
    }],
  ]
  test.each(harm)('is made again for %s, and says so', async (_, change) => {
    const { segments } = writeSegments(stateDir, busyHost(7000, START, 1000), 1_000_000)
    await find({})
    change(segments)
    const filter = { hosts: ['host1.example.org', 'host2.example.org'] }
    expect(await find(filter)).toEqual(scan(filter))
    expect(notices.join()).toMatch(/did not fit the log/)
  })

  test('is made again for one changed byte in a block that it names', async () => {
    writeSegments(stateDir, busyHost(7000, START, 1000))
    await find({})
    const text = readFileSync(segment(0), 'utf8')
    writeFileSync(segment(0), text.replace('"name":"host1.example.org"', '"name":"host9.example.org"'))
    expect(await find({ hosts: ['host9.example.org'] })).toEqual(scan({ hosts: ['host9.example.org'] }))
    expect(notices.join()).toMatch(/did not fit the log/)
  })

  test('that was damaged is made again', async () => {
    writeSegments(stateDir, busyHost(3000, START, 1000))
    await find({})
    for (const bytes of [Buffer.from('not a database at all, but text'), Buffer.alloc(100_000, 0xa5)]) {
      for (const suffix of ['-wal', '-shm']) rmSync(`${stateDir}/audit-index/index.sqlite${suffix}`, { force: true })
      writeFileSync(`${stateDir}/audit-index/index.sqlite`, bytes)
      expect((await find({})).length).toBe(3000)
    }
    const file = `${stateDir}/audit-index/index.sqlite`
    const whole = readFileSync(file)
    writeFileSync(file, Buffer.concat([whole.subarray(0, 16_384), Buffer.alloc(whole.length - 16_384, 0xff)]))
    expect((await find({ types: ['http.request'] }))).toEqual(scan({ types: ['http.request'] }))
  })

  test('can be asked for by several at once while it is made', async () => {
    writeSegments(stateDir, busyHost(8000, START, 1000), SEGMENT)
    const expected = scan({ types: ['http.request'] })
    const all = await Promise.all(Array.from({ length: 4 }, () => find({ types: ['http.request'] })))
    for (const one of all) expect(one).toEqual(expected)
  })

  test('is private, small, and nothing of it is left when it is thrown away', async () => {
    writeSegments(stateDir, busyHost(3000, START, 1000))
    await find({})
    expect(statSync(`${stateDir}/audit-index`).mode & 0o777).toBe(0o700)
    rmSync(`${stateDir}/audit-index`, { recursive: true })
    mkdirSync(`${stateDir}/audit-index`)
    chmodSync(`${stateDir}/audit-index`, 0o755)
    await expect(find({})).rejects.toMatchObject({ code: 'AUDIT_INDEX' })
  })

  test('bytes that are no records are passed over and counted', async () => {
    writeSegments(stateDir, busyHost(2000, START, 1000))
    const junk = ['{"a":1}', '\u0000\u0001', '[]', 'null', '{"seq":-1,"time":"x"}', 'x'.repeat(600_000)]
    appendFileSync(segment(0), `${junk.join('\n')}\n`)
    writeSegments(stateDir, [act(1)], SEGMENT, { seq: 2000, prev: '0'.repeat(64) })
    const records = findRecords({ filter: EVERYTHING, order: 'newer', beyond: null }, options())
    let count = 0
    let next = await records.next()
    for (; next.done !== true; next = await records.next()) count += 1
    expect(count).toBe(2001)
    expect(next.value.unreadable).toBeGreaterThanOrEqual(junk.length)
  })
})
