import { decode, encode, RECURSION_DESIRED, type Answer } from 'dns-packet'
import { parseHostName } from '../../src/base/host-name.ts'
import { HelloReader, type HelloStep } from '../../src/egress/client-hello.ts'
import { RunDns } from '../../src/egress/dns.ts'
import { HttpHosts, MAX_HEAD_BYTES } from '../../src/egress/http-host.ts'
import { REASONS } from '../../src/egress/reasons.ts'
import { SyntheticPool } from '../../src/egress/synthetic.ts'
import { alpn, hello, message, records, serverName } from '../egress/hello.ts'

/** Inputs per outcome. */
export type Counts = Record<string, number>

/** xorshift32: the same inputs for the same seed on every machine. */
export function random(seed: number): (below: number) => number {
  let state = (seed * 2_654_435_761 + 1) >>> 0 || 1
  return (below) => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    state >>>= 0
    return state % below
  }
}

/** A few bytes changed, cut out, doubled or put in. */
function mutate(seed: Buffer, pick: (below: number) => number): Buffer {
  let bytes = Buffer.from(seed)
  for (let changes = pick(5); changes > 0 && bytes.length > 0; changes--) {
    const at = pick(bytes.length)
    switch (pick(5)) {
      case 0: bytes[at] = pick(256); break
      case 1: bytes[at] = [0, 1, 0x7f, 0x80, 0xc0, 0xff, 0x2e, 0x0a, 0x0d, 0x3a][pick(10)] ?? 0; break
      case 2: bytes = bytes.subarray(0, at); break
      case 3: bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + pick(4))]); break
      default: bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(pick(at + 1), at), bytes.subarray(at)])
    }
  }
  return bytes
}

function note(counts: Counts, outcome: string): void {
  counts[outcome] = (counts[outcome] ?? 0) + 1
}

function promise(kept: boolean, what: string, input: Buffer): void {
  if (!kept) throw new Error(`${what}: ${input.toString('hex')}`)
}

/** Promises: it never throws, says the same whatever the cuts, and a name only in canonical form. */
export function fuzzClientHello(inputs: number, seed: number): Counts {
  const pick = random(seed)
  const counts: Counts = {}
  const seeds = [
    hello(), hello({ extensions: null }), hello({ extensions: [[0x0a0a, Buffer.alloc(0)], alpn('h2', 'http/1.1'), serverName('a.example.org'), [0xfe0d, Buffer.alloc(40)]] }),
    hello({ extensions: [serverName('example.org', 'evil.example')] }), records(message(), 20), Buffer.from([0x80, 0x2e, 1, 3, 1, 0, 0x15]),
  ]
  for (let i = 0; i < inputs; i++) {
    const bytes = mutate(seeds[pick(seeds.length)] ?? Buffer.alloc(0), pick)
    const whole = new HelloReader().feed(bytes)
    if (whole.kind === 'hello' && whole.sni !== null) {
      const parsed = parseHostName(whole.sni)
      promise(parsed.ok && parsed.name === whole.sni, 'a name that is not canonical', bytes)
    }
    const cuts = new HelloReader()
    let step: HelloStep = { kind: 'more' }
    for (let at = 0; at < bytes.length;) {
      const size = 1 + pick(60)
      step = cuts.feed(bytes.subarray(at, at + size))
      at += size
    }
    promise(JSON.stringify(step) === JSON.stringify(whole), 'the cuts change the outcome', bytes)
    note(counts, whole.kind === 'refused' ? whole.code : whole.kind)
  }
  return counts
}

const REQUESTS = [
  'GET /a HTTP/1.1\r\nHost: example.org\r\nAccept: */*\r\n\r\n', 'POST / HTTP/1.1\r\nHost: example.org:80\r\nContent-Length: 5\r\n\r\nhello',
  'POST / HTTP/1.1\r\nhost: example.org\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n', 'GET http://example.org/ HTTP/1.1\r\nHost: example.org\r\n\r\n',
  'GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n',
].map((text) => Buffer.from(text, 'latin1'))

/** Promises: it never throws, passes a prefix of what came whatever the cuts, holds little, and nothing passes once it has refused. */
export function fuzzHttpHost(inputs: number, seed: number): Counts {
  const pick = random(seed)
  const counts: Counts = {}
  for (let i = 0; i < inputs; i++) {
    const bytes = mutate(Buffer.concat(Array.from({ length: 1 + pick(3) }, () => REQUESTS[pick(REQUESTS.length)] ?? Buffer.alloc(0))), pick)
    const run = (size: () => number): { passed: Buffer; code: string | null; held: number } => {
      const hosts = new HttpHosts('example.org', 80)
      const passed: Buffer[] = []
      let code: string | null = null
      for (let at = 0; at < bytes.length;) {
        const length = size()
        const step = hosts.feed(bytes.subarray(at, at + length))
        promise(code === null || step.pass.length === 0, 'bytes passed after a refusal', bytes)
        passed.push(...step.pass)
        code = step.refused?.code ?? null
        at += length
      }
      return { passed: Buffer.concat(passed), code, held: hosts.heldBytes }
    }
    const whole = run(() => bytes.length)
    const cut = run(() => 1 + pick(40))
    promise(bytes.subarray(0, whole.passed.length).equals(whole.passed), 'bytes were changed', bytes)
    promise(whole.code === cut.code && whole.held === cut.held && whole.passed.equals(cut.passed), 'the cuts change the outcome', bytes)
    promise(whole.code !== null || whole.passed.length + whole.held === bytes.length, 'bytes were lost', bytes)
    promise(whole.held <= MAX_HEAD_BYTES, 'too much is held', bytes)
    note(counts, whole.code ?? (whole.held > 0 ? 'waiting' : 'passed'))
  }
  return counts
}

const OPT = { type: 'OPT', name: '.', udpPayloadSize: 1232, flags: 0, options: [] } as unknown as Answer
const QUERIES = (['example.org', 'api.example.org', 'evil.example.net'] as const).flatMap((name) => (['A', 'AAAA'] as const).flatMap((type) => [[], [OPT]].map((additionals) => encode({
  type: 'query', id: 4711, flags: RECURSION_DESIRED, questions: [{ name, type }], additionals,
}))))

/** Promises: it never throws, answers only the allowed name with an address, repeats the id, and gives one address per name. */
export function fuzzDns(inputs: number, seed: number): Counts {
  const pick = random(seed)
  const counts: Counts = {}
  const pool = new SyntheticPool(4)
  let ticks = 0
  const run = new RunDns({
    pool, now: () => ticks, reason: (code) => REASONS[code], refused: () => {},
    judge: (name) => (name === 'example.org' || name === 'api.example.org' ? { allowed: true } : { allowed: false, code: 'name-not-allowed', say: '' }),
  })
  for (let i = 0; i < inputs; i++) {
    ticks += 5
    const bytes = mutate(QUERIES[pick(QUERIES.length)] ?? Buffer.alloc(0), pick)
    const reply = run.answer(bytes)
    if (reply === null) {
      note(counts, 'no reply')
      continue
    }
    promise(reply.readUInt16BE(0) === bytes.readUInt16BE(0) && reply.length <= bytes.length + 64, 'a reply that does not fit', bytes)
    const { answers, rcode } = decode(reply) as ReturnType<typeof decode> & { rcode: string }
    for (const answer of answers ?? []) promise(answer.type === 'A' && /^(api\.)?example\.org$/i.test(answer.name), 'an address for another name', bytes)
    note(counts, (answers ?? []).length > 0 ? 'address' : rcode)
  }
  if (pool.size > 2) throw new Error(`${pool.size} names have an address`)
  return counts
}
