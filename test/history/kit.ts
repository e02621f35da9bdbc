import { createHash } from 'node:crypto'
import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs'
import { canonicalJson } from '../../src/base/canonical-json.ts'

export interface Made {
  readonly type: string
  readonly plugin?: string | null
  readonly policy?: string | null
  readonly run?: string | null
  readonly origin?: string
  /** ms since 1970. */
  readonly ms: number
  readonly data: Readonly<Record<string, unknown>>
}

/** Line `seq` of a log, canonical and chained as the writer does it; without seals. */
export function lineOf({ type, plugin = null, policy = null, run = null, origin = 'launcher', ms, data }: Made, seq: number, prev: string): string {
  const text = (value: string | null): string => (value === null ? 'null' : JSON.stringify(value))
  return `{"boot":"b","class_uid":1007,"data":${canonicalJson(data)},"mono_ms":${seq},"origin":${text(origin)},"plugin":${text(plugin)},"policy":${text(policy)},"prev":"${prev}","run":${text(run)},"seq":${seq},"time":"${new Date(ms).toISOString()}","type":${text(type)},"v":1}`
}

export function hashOf(line: string): string {
  return createHash('sha256').update('\0').update(line).digest('hex')
}

/**
 * A log of `stateDir`, cut into segments of about `segmentBytes`.
 * @returns the lines of the segments' beginnings, by `seq`
 */
export function writeSegments(stateDir: string, records: Iterable<Made>, segmentBytes = Number.MAX_SAFE_INTEGER, from: { readonly seq: number; readonly prev: string } = { seq: 0, prev: '0'.repeat(64) }): { seq: number; prev: string; segments: number[] } {
  const dir = `${stateDir}/audit/records`
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  let { seq, prev } = from
  const segments = [seq]
  let fd = openSync(`${dir}/${String(seq).padStart(16, '0')}.jsonl`, 'a', 0o600)
  let size = 0
  let waiting: string[] = []
  const flush = (): void => {
    writeSync(fd, waiting.join(''))
    waiting = []
  }
  for (const record of records) {
    if (size >= segmentBytes) {
      flush()
      closeSync(fd)
      fd = openSync(`${dir}/${String(seq).padStart(16, '0')}.jsonl`, 'a', 0o600)
      segments.push(seq)
      size = 0
    }
    const line = lineOf(record, seq, prev)
    prev = hashOf(line)
    size += line.length + 1
    waiting.push(`${line}\n`)
    seq += 1
    if (waiting.length === 2000) flush()
  }
  flush()
  closeSync(fd)
  return { seq, prev, segments }
}

const PLUGINS = ['indexnow', 'seo', 'image', 'crawler', 'notes', 'backup', 'mail', 'gallery']
const HOSTS = Array.from({ length: 400 }, (_, n) => `host${n}.example.org`)

/** What a busy host records: mostly connections and requests, some snapshots, now and then an act. Seeded. */
export function* busyHost(count: number, startMs: number, stepMs: number): Generator<Made> {
  let state = 1
  const random = (below: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    return (state >>> 8) % below
  }
  const hex = (length: number): string => Array.from({ length: length / 8 }, () => (random(1 << 24) * 256 + random(256)).toString(16).padStart(8, '0')).join('').slice(0, length)
  const digests = PLUGINS.map(() => hex(64))
  let runs = PLUGINS.map(() => hex(16))
  for (let n = 0; n < count; n++) {
    const which = random(PLUGINS.length)
    const plugin = PLUGINS[which] ?? ''
    const at = { plugin, policy: digests[which] ?? null, run: runs[which] ?? null, ms: startMs + n * stepMs }
    const name = HOSTS[Math.min(random(400), random(400))] ?? ''
    const dial = { connection: n, name, dialled: `198.18.${random(4)}.${random(250)}`, port: 443, rule: 1, sni: name, address: `203.0.113.${random(250)}` }
    const draw = random(1000)
    if (draw < 350) yield { ...at, type: 'egress.opened', origin: 'door', data: { ...dial, ech: false, alpn: ['h2'], code: 'allowed', ms: random(90) } }
    else if (draw < 700) yield { ...at, type: 'egress.closed', origin: 'door', data: { ...dial, bytesOut: random(100_000), bytesIn: random(1_000_000), by: 'peer', code: null, requests: 0, ms: random(9000) } }
    else if (draw < 900) yield { ...at, type: 'http.request', origin: 'gateway', data: { method: 'POST', path: `/api/x/${plugin}/items/${random(10_000)}`, status: random(50) === 0 ? 500 : 200, ms: random(300), bytesIn: 20, bytesOut: 300, client: `192.0.2.${random(250)}`, who: 'session', requestId: hex(16) } }
    else if (draw < 950) yield { ...at, type: 'resources.snapshot', data: { memory_bytes: { min: 1e7, mean: 2e7, max: 3e7 }, tasks: { min: 3, mean: 4, max: 5 }, cpu_us: random(1e6), samples: 6 } }
    else if (draw < 980) yield { ...at, type: 'channel.call', origin: 'gateway', data: { method: 'get_project', outcome: 'ok', ms: 3 } }
    else if (draw < 999) yield { ...at, type: 'dns.refused', origin: 'door', data: { name: `x${random(100_000)}.tracker.example.net`, query: 'A', code: 'name-not-allowed', say: 'no rule names it', coalesced: 0 } }
    else {
      if (random(10) === 0) runs = runs.map(() => hex(16))
      yield { ...at, type: 'admin.act', origin: 'operator', policy: null, run: null, data: { act: 'restart', who: 'root (loginuid 1000)' } }
    }
  }
}
