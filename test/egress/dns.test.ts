import { decode, encode, RECURSION_DESIRED, type DecodedPacket } from 'dns-packet'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Coalescer } from '../../src/egress/coalesce.ts'
import { DnsFrames, frameMessage } from '../../src/egress/dns-stream.ts'
import { MAX_QUERY_BYTES, RunDns, TTL_SECONDS, type DnsRefusal } from '../../src/egress/dns.ts'
import { REASONS } from '../../src/egress/reasons.ts'
import { isSynthetic, SYNTHETIC_COUNT, SyntheticPool } from '../../src/egress/synthetic.ts'

type Type = 'A' | 'AAAA' | 'TXT' | 'MX' | 'PTR' | 'HTTPS' | 'SVCB' | 'ANY'

function dns(options: { names?: number; allowed?: (name: string) => boolean; refused?: (refusal: DnsRefusal) => void } = {}) {
  const pool = new SyntheticPool(options.names ?? 1000)
  const refused: DnsRefusal[] = []
  let ticks = 0
  const { allowed = (name) => name === 'api.example.org' || name.endsWith('.wild.example') } = options
  const run = new RunDns({
    pool, now: () => ticks, reason: (code) => REASONS[code], refused: options.refused ?? ((refusal) => refused.push(refusal)),
    judge: (name) => (allowed(name) ? { allowed: true } : { allowed: false, code: 'name-not-allowed', say: 'no rule' }),
  })
  return { pool, refused, run, wait: (ms: number) => { ticks += ms } }
}

const query = (name: string, type: Type | number = 'A', more: Partial<Parameters<typeof encode>[0]> = {}): Buffer => {
  const bytes = encode({ type: 'query', id: 4711, flags: RECURSION_DESIRED, questions: [{ name, type: typeof type === 'string' && type !== 'HTTPS' && type !== 'SVCB' ? type : 'A' }], ...more } as Parameters<typeof encode>[0])
  const number = type === 'HTTPS' ? 65 : type === 'SVCB' ? 64 : typeof type === 'number' ? type : null
  if (number !== null) bytes.writeUInt16BE(number, bytes.length - 4)
  return bytes
}

/** A question with labels of any bytes. */
const rawQuery = (...labels: Buffer[]): Buffer => Buffer.concat([
  Buffer.from([0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]), ...labels.flatMap((label) => [Buffer.from([label.length]), label]), Buffer.from([0, 0, 1, 0, 1]),
])

const rcode = (reply: Buffer | null): number => (reply ?? Buffer.alloc(4)).readUInt16BE(2) & 15
const answersOf = (reply: Buffer | null): DecodedPacket['answers'] => (reply === null ? [] : decode(reply).answers)

describe('an allowed name', () => {
  test('has a synthetic address, the same one always, with a short life', () => {
    const { run, refused } = dns()
    const reply = decode(run.answer(query('api.example.org')) ?? Buffer.alloc(0))
    expect(reply).toMatchObject({ id: 4711, type: 'response', rcode: 'NOERROR', flag_rd: true, flag_ra: true, questions: [{ name: 'api.example.org', type: 'A' }] })
    expect(reply.answers).toMatchObject([{ name: 'api.example.org', type: 'A', class: 'IN', ttl: TTL_SECONDS, data: '198.18.1.0' }])
    expect(answersOf(run.answer(query('API.Example.org')))).toMatchObject([{ name: 'API.Example.org', data: '198.18.1.0' }])
    expect(answersOf(run.answer(query('a.wild.example')))).toMatchObject([{ data: '198.18.1.1' }])
    expect(refused).toEqual([])
  })
  test.each<Type | number>(['AAAA', 'HTTPS', 'SVCB', 'TXT', 'MX', 'ANY', 257, 65280])('has no data of type %s', (type) => {
    const { run, pool, refused } = dns()
    const reply = run.answer(query('api.example.org', type))
    expect([rcode(reply), answersOf(reply)]).toEqual([0, []])
    expect([pool.size, refused]).toEqual([0, []])
  })
  test('is answered with EDNS where EDNS is spoken', () => {
    const { run } = dns()
    const opt = { type: 'OPT', name: '.', udpPayloadSize: 4096, flags: 0, options: [{ code: 'COOKIE', data: Buffer.alloc(8) }] }
    const reply = decode(run.answer(query('api.example.org', 'A', { additionals: [opt] } as never)) ?? Buffer.alloc(0))
    expect(reply.additionals).toMatchObject([{ type: 'OPT', udpPayloadSize: MAX_QUERY_BYTES, ednsVersion: 0 }])
    expect(reply.answers).toHaveLength(1)
    const later = query('api.example.org', 'A', { additionals: [{ ...opt, ednsVersion: 1, options: [] }] } as never)
    expect(decode(run.answer(later) ?? Buffer.alloc(0))).toMatchObject({ answers: [], additionals: [{ extendedRcode: 1 }] })
  })
})

describe('every other name', () => {
  test.each(['evil.example', 'example.org', 'xapi.example.org', 'api.example.org.evil.example', 'wild.example', 'localhost', '1.0.0.127.in-addr.arpa'])('%s does not exist, and is on record', (name) => {
    const { run, refused, pool } = dns()
    for (const type of ['A', 'AAAA', 'TXT', 'HTTPS'] as const) {
      const reply = run.answer(query(name, type))
      expect([rcode(reply), answersOf(reply)]).toEqual([3, []])
    }
    expect(refused).toHaveLength(4)
    expect(refused[0]).toMatchObject({ name, type: 'A', code: 'name-not-allowed' })
    expect(pool.size).toBe(0)
  })
  test.each<[Type | number, string]>([['AAAA', 'AAAA'], ['HTTPS', 'HTTPS'], ['SVCB', 'SVCB'], [65280, 'TYPE65280']])('asked for its %s is on record as that', (type, shown) => {
    const { run, refused } = dns()
    run.answer(query('evil.example', type))
    expect(refused.map((refusal) => refusal.type)).toEqual([shown])
  })
  test.each(['_http._tcp.api.example.org', '-a.wild.example', 'a_b.wild.example', '192.0.2.1', '0x7f.1', '1.wild.example.2'])('that is no host name, %s, does not exist even below a wildcard', (name) => {
    const { run, refused } = dns({ allowed: () => true })
    expect(rcode(run.answer(query(name)))).toBe(3)
    expect(refused).toMatchObject([{ code: 'name-malformed', name }])
  })
})

describe('a message that is no plain question', () => {
  const good = query('api.example.org')
  const patch = (at: number, ...bytes: number[]): Buffer => {
    const copy = Buffer.from(good)
    copy.set(bytes, at)
    return copy
  }
  test.each<[string, Buffer, number]>([
    ['no question', patch(4, 0, 0), 1], ['two questions', patch(4, 0, 2), 1], ['65,535 questions', patch(4, 255, 255), 1], ['answers', patch(6, 255, 255), 1],
    ['authorities', patch(8, 0, 1), 1], ['three additionals', patch(10, 0, 3), 1], ['an additional that is not there', patch(10, 0, 1), 1],
    ['bytes behind it', Buffer.concat([good, Buffer.from([0])]), 1], ['more bytes than any question has', Buffer.concat([good, Buffer.alloc(MAX_QUERY_BYTES)]), 1],
    ['its end cut off', good.subarray(0, -1), 1], ['only a header', good.subarray(0, 12), 1],
    ['a pointer to itself', Buffer.concat([good.subarray(0, 12), Buffer.from([0xc0, 12, 0, 1, 0, 1])]), 1],
    ['a pointer into the header', Buffer.concat([good.subarray(0, 12), Buffer.from([0xc0, 0, 0, 1, 0, 1])]), 1],
    ['a label of a reserved kind', patch(12, 0x83), 1], ['a label longer than the message', patch(12, 63), 1],
    ['a NUL in the name', rawQuery(Buffer.from('api\0'), Buffer.from('example'), Buffer.from('org')), 1],
    ['a dot inside a label', rawQuery(Buffer.from('api.example.org')), 1],
    ['bytes that are no ASCII', rawQuery(Buffer.from('äpi'), Buffer.from('example')), 1],
    ['a name of 256 bytes', rawQuery(...Array.from({ length: 8 }, () => Buffer.alloc(31, 97))), 1],
    ['another opcode (UPDATE)', patch(2, 0x28, 0), 4], ['another opcode (NOTIFY)', patch(2, 0x20, 0), 4],
    ['class CHAOS', patch(good.length - 2, 0, 3), 5], ['class ANY', patch(good.length - 2, 0, 255), 5],
  ])('with %s is refused', (_what, bytes, code) => {
    const { run, refused, pool } = dns({ allowed: () => true })
    const reply = run.answer(bytes)
    expect(rcode(reply)).toBe(code)
    expect(reply?.readUInt16BE(0)).toBe(bytes.readUInt16BE(0))
    expect(refused).toMatchObject([{ code: 'query-refused' }])
    expect(pool.size).toBe(0)
  })
  test.each<[string, Buffer]>([['a reply', patch(2, 0x81, 0x80)], ['eleven bytes', good.subarray(0, 11)], ['nothing', Buffer.alloc(0)]])('but %s gets no answer at all', (_what, bytes) => {
    expect(dns().run.answer(bytes)).toBeNull()
  })
  test('the control: the same bytes unpatched are answered', () => expect(answersOf(dns().run.answer(good))).toHaveLength(1))
})

describe('bounds', () => {
  test('a pool that is used up answers SERVFAIL, on record, and the old names keep theirs', () => {
    const { run, refused } = dns({ names: 3 })
    for (const name of ['a', 'b', 'c']) expect(rcode(run.answer(query(`${name}.wild.example`)))).toBe(0)
    expect(rcode(run.answer(query('d.wild.example')))).toBe(2)
    expect(refused).toMatchObject([{ name: 'd.wild.example', code: 'names-exhausted' }])
    expect(answersOf(run.answer(query('b.wild.example')))).toMatchObject([{ data: '198.18.1.1' }])
  })

  test('new names below a wildcard are limited in rate, known ones are not', () => {
    const { run, refused, pool, wait } = dns({ names: 100_000 })
    for (let i = 0; i < 1000; i++) run.answer(query(`n${i}.wild.example`))
    expect(pool.size).toBe(500)
    expect(refused[0]).toMatchObject({ name: 'n500.wild.example', code: 'too-many-queries' })
    expect(answersOf(run.answer(query('n1.wild.example')))).toHaveLength(1)
    wait(1000)
    for (let i = 1000; i < 1100; i++) run.answer(query(`n${i}.wild.example`))
    expect(pool.size).toBe(520)
  })

  test('one million random names: most get no answer, none an address, and nothing of them is kept', () => {
    let records = 0
    const coalescer = new Coalescer<DnsRefusal>(() => { records += 1 })
    const { run, pool, wait } = dns({ refused: (refusal) => coalescer.note(refusal.code, refusal.name, () => refusal) })
    const base = query('xxxxxxxx.evil.example')
    global.gc?.()
    const before = process.memoryUsage().heapUsed
    let answered = 0
    for (let i = 0; i < 1_000_000; i++) {
      base.write(i.toString(36).padStart(8, '0'), 13, 'latin1')
      if (run.answer(base) !== null) answered += 1
      if (i % 100 === 0) wait(1) // 100,000 a second
    }
    expect(answered).toBeLessThan(2000 + 500 * 10 + 1)
    expect(run.dropped).toBe(1_000_000 - answered)
    expect(pool.size).toBe(0)
    coalescer.flush()
    expect(records).toBeLessThanOrEqual(36)
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(64 * 2 ** 20)
  })

  test('the pool never gives an address to a second name, nor the namespace\'s own block', () => {
    const pool = new SyntheticPool(Infinity)
    const seen = new Set<string>()
    for (let i = 0; i < SYNTHETIC_COUNT; i++) {
      const address = pool.addressOf(`n${i}`)
      if (address === null || seen.has(address)) throw new Error(`${address} at ${i}`)
      seen.add(address)
    }
    expect(pool.addressOf('one-more')).toBeNull()
    expect([...seen].filter((address) => address.startsWith('198.18.0.') || !isSynthetic(address))).toEqual([])
    expect([pool.nameOf('198.18.1.0'), pool.nameOf('198.19.255.255'), pool.nameOf('198.18.0.1'), pool.nameOf('198.20.0.0'), pool.nameOf('::1')]).toEqual(['n0', `n${SYNTHETIC_COUNT - 1}`, null, null, null])
  })
})

describe('TCP framing', () => {
  test('gives the messages whatever the cuts', () => {
    fc.assert(fc.property(fc.array(fc.uint8Array({ maxLength: 80 }), { maxLength: 10 }), fc.integer({ min: 1, max: 60 }), (messages, size) => {
      const stream = Buffer.concat(messages.map((one) => frameMessage(Buffer.from(one))))
      const frames = new DnsFrames(100)
      const got: Buffer[] = []
      for (let at = 0; at < stream.length; at += size) got.push(...(frames.feed(stream.subarray(at, at + size)) ?? []))
      expect(got.map((one) => one.toString('hex'))).toEqual(messages.map((one) => Buffer.from(one).toString('hex')))
    }), { seed: 7, numRuns: 300 })
  })
  test('ends at a message over the limit', () => expect(new DnsFrames(100).feed(Buffer.from([0, 101]))).toBeNull())
})

describe('properties', () => {
  test('whatever the bytes: no exception, a reply only to its own id, never an address for a name that is not allowed', () => {
    const { run, wait, pool } = dns()
    fc.assert(fc.property(fc.uint8Array({ maxLength: 120 }), fc.integer({ min: 0, max: 60 }), fc.integer({ min: 0, max: 255 }), fc.boolean(), (random, at, byte, damaged) => {
      const bytes = damaged ? query('api.example.org') : Buffer.from(random)
      if (damaged) bytes[at % bytes.length] = byte
      wait(10)
      const reply = run.answer(bytes)
      if (reply === null) return
      expect(reply.readUInt16BE(0)).toBe(bytes.readUInt16BE(0))
      for (const answer of answersOf(reply) ?? []) expect([answer.name.toLowerCase(), answer.type]).toEqual(['api.example.org', 'A'])
    }), { seed: 8, numRuns: 5000 })
    expect(pool.size).toBeLessThanOrEqual(1)
  })
})
