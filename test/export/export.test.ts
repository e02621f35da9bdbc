import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createServer as createTlsServer } from 'node:tls'
import { build } from 'esbuild'
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import type { AuditEvent } from '../../src/audit/record.ts'
import { Link } from '../../src/export/link.ts'
import { framed, journalLine, syslogMessage } from '../../src/export/message.ts'
import { startExport, type Export, type ExportOptions } from '../../src/launcher/export.ts'
import { startExportChild } from '../../src/launcher/export-child.ts'
import { openExportPlaces } from '../../src/launcher/export-places.ts'
import type { ExportSink } from '../../src/policy/export-sink.ts'
import { lineOf, writeSegments, type Made } from '../history/kit.ts'
import { OTHER, OWN } from './certificates.ts'

const MS = Date.parse('2026-11-20T12:00:00Z')
const act = (n: number): Made => ({ type: 'admin.act', origin: 'operator', ms: MS + n, data: { act: 'restart', n, who: 'root' } })

let built: string
let dir: string
let noted: AuditEvent[]
beforeAll(async () => {
  built = mkdtempSync(join(tmpdir(), 'cordon-exporter-'))
  await build({ entryPoints: ['src/export.ts'], outfile: `${built}/export.cjs`, bundle: true, platform: 'node', format: 'cjs', target: 'node24', logLevel: 'warning' })
})
afterAll(() => rmSync(built, { recursive: true, force: true }))
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'cordon-export-'))
  noted = []
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }))
})

/** A sink of which a test decides what it reads. */
class Receiver {
  readonly server: Server
  readonly sockets = new Set<Socket>()
  /** `seq` of whole messages, in their order: what a broken connection left in the middle is nobody's. */
  readonly seqs: number[] = []
  onData: (socket: Socket) => void = () => undefined

  constructor(server: (listener: (socket: Socket) => void) => Server = createServer) {
    this.server = server((socket) => {
      this.sockets.add(socket)
      let rest = Buffer.alloc(0)
      socket.on('error', () => undefined)
      socket.on('data', (chunk: Buffer) => {
        rest = Buffer.concat([rest, chunk])
        let at = 0
        for (let length = whole(rest, at); length !== null; length = whole(rest, at)) {
          this.seqs.push(Number(/"seq":(\d+),"time"/.exec(rest.toString('utf8', at, at + length))?.[1]))
          at += length
        }
        rest = rest.subarray(at)
        this.onData(socket)
      })
    })
  }

  async listen(port = 0): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      this.server.once('error', reject)
      this.server.listen(port, '127.0.0.1', resolve)
    })
    onTestFinished(() => this.close())
    return (this.server.address() as AddressInfo).port
  }

  close(): void {
    for (const socket of this.sockets) socket.destroy()
    this.server.close()
  }
}

/** Bytes of the message there with its count; null: it is not whole. */
function whole(bytes: Buffer, at: number): number | null {
  const digits = /^(\d+) /.exec(bytes.toString('latin1', at, at + 10))
  if (digits === null) return null
  const length = (digits[0]?.length ?? 0) + Number(digits[1])
  return bytes.length - at < length ? null : length
}

function begin(sink: ExportSink, more: Partial<ExportOptions> = {}): Export {
  const places = openExportPlaces(`${dir}/audit-export.json`, () => undefined)
  const running = startExport({
    sink, dir: `${dir}/audit`, places, audit: { append: async () => ({ seq: 0 }), note: (event) => void noted.push(event) }, log: () => undefined,
    start: (trouble) => startExportChild(sink, { script: `${built}/export.cjs`, uid: null }, trouble, `${dir}/journal`), pollMs: 20, stallMs: 60_000, backoffMs: [50], lastMs: 100, ...more,
  })
  onTestFinished(() => running.stop())
  return running
}

const tcp = (port: number): ExportSink => ({ kind: 'syslog', host: '127.0.0.1', port, tls: false, ca: null })
const upTo = (n: number, from = 0): number[] => Array.from({ length: n - from }, (_, i) => from + i)
const wait = { timeout: 30_000, interval: 50 }

function write(count: number, from: { seq: number; prev: string } = { seq: 0, prev: '0'.repeat(64) }): { seq: number; prev: string } {
  const file = `${dir}/audit/records/0000000000000000.jsonl`
  if (from.seq === 0) return writeSegments(dir, upTo(count).map(act))
  appendFileSync(file, upTo(count).map((n) => `${lineOf(act(n), from.seq + n, from.prev)}\n`).join(''))
  return { seq: from.seq + count, prev: from.prev }
}

/** A record at a time, until it has looked where the log ends. */
async function untilItSends(receiver: Receiver, from: ReturnType<typeof write>): Promise<ReturnType<typeof write>> {
  let last = from
  await expect.poll(() => {
    last = write(1, last)
    return receiver.seqs.length
  }, wait).toBeGreaterThan(0)
  return last
}

/** A new sink begins at the end of the log; the tests want all of it. */
function fromStart(sink: ExportSink): void {
  writeFileSync(`${dir}/audit-export.json`, JSON.stringify({ [`syslog ${sink.kind === 'syslog' ? `${sink.host}:${sink.port}` : ''}`]: { segment: 0, offset: 0, next: 0 }, journald: { segment: 0, offset: 0, next: 0 } }))
}

describe('a message', () => {
  test('is RFC 5424 with the record as JSON, and its severity says how bad it is', () => {
    const line = lineOf({ type: 'egress.refused', plugin: 'a', ms: MS, data: { name: 'ü.example.org', code: 'x' } }, 7, '0'.repeat(64))
    const text = syslogMessage(line, 'host one\u00e9').toString()
    expect(text).toBe(`<109>1 2026-11-20T12:00:00.000Z host_one_ cordon - egress.refused - @cee:${line}`)
    expect(framed(Buffer.from('ü')).toString()).toBe('2 ü')
    const severity = (type: string): string => /^<(\d+)>/.exec(journalLine(lineOf({ type, ms: MS, data: {} }, 0, '')).toString())?.[1] ?? ''
    expect(['daemon.started', 'egress.refused', 'plugin.failed', 'gap', 'isolation.violated'].map(severity)).toEqual(['6', '5', '4', '3', '1'])
    expect(journalLine('no record').toString()).toBe('<3>no record\n')
  })
})

describe('an export', () => {
  test('sends each record once and in order, what comes later too, and goes on there after a restart', async () => {
    const receiver = new Receiver()
    const sink = tcp(await receiver.listen())
    const end = write(500)
    fromStart(sink)
    const running = begin(sink, { lastMs: 30_000 })
    await expect.poll(() => receiver.seqs.length, wait).toBe(500)
    const more = write(20, end)
    await expect.poll(() => receiver.seqs.length, wait).toBe(520)
    await running.stop()
    write(30, more)
    begin(sink)
    await expect.poll(() => receiver.seqs.length, wait).toBe(550)
    expect(receiver.seqs).toEqual(upTo(550))
    expect(noted).toEqual([])
  })

  test('begins at the end of the log when it is new, and sends the last words before it stops', async () => {
    const receiver = new Receiver()
    const sink = tcp(await receiver.listen())
    const end = write(100)
    const running = begin(sink, { lastMs: 30_000 })
    const now = await untilItSends(receiver, end)
    const [begun = 0] = receiver.seqs
    expect(begun).toBeGreaterThanOrEqual(100)
    const last = write(5, now)
    await running.stop()
    await expect.poll(() => receiver.seqs, wait).toEqual(upTo(last.seq, begun))
  })

  test('to an absent sink waits, says so once, and goes on when it appears', async () => {
    const place = new Receiver()
    const sink = tcp(await place.listen())
    place.close()
    const end = write(300)
    fromStart(sink)
    begin(sink, { stallMs: 1000 })
    await expect.poll(() => noted.map(({ type }) => type), wait).toEqual(['export.stalled'])
    write(300, end) // nobody waits for the sink
    const receiver = new Receiver()
    await receiver.listen(sink.kind === 'syslog' ? sink.port : 0)
    await expect.poll(() => new Set(receiver.seqs).size, wait).toBe(600)
    expect(receiver.seqs).toEqual(upTo(600))
    expect(noted.map(({ type }) => type).slice(0, 2)).toEqual(['export.stalled', 'export.resumed'])
  })

  test('to a sink that breaks the connection again and again sends every record at least once', async () => {
    const receiver = new Receiver()
    const sink = tcp(await receiver.listen())
    let breaks = 0
    receiver.onData = (socket) => {
      if (breaks < 3 && receiver.seqs.length > breaks * 300) {
        breaks += 1
        socket.resetAndDestroy()
      }
    }
    const end = write(1000)
    fromStart(sink)
    begin(sink)
    await expect.poll(() => new Set(receiver.seqs).size, wait).toBe(1000)
    write(1000, end)
    await expect.poll(() => new Set(receiver.seqs).size, wait).toBe(2000)
    expect(breaks).toBe(3)
  })

  test('what a sink had not read when it broke the connection goes out again without another record', async () => {
    const receiver = new Receiver()
    const port = await receiver.listen()
    receiver.server.prependOnceListener('connection', (socket) => void socket.pause())
    const link = new Link({ target: { kind: 'tcp', host: '127.0.0.1', port }, preamble: Buffer.alloc(0), trouble: () => undefined, backoffMs: [50] })
    onTestFinished(() => link.close())
    await link.send(framed(syslogMessage(lineOf(act(1), 7, ''), 'here')), new AbortController().signal) // the kernel took it
    await expect.poll(() => receiver.sockets.size, wait).toBe(1)
    expect(receiver.seqs).toEqual([])
    for (const socket of receiver.sockets) socket.resetAndDestroy()
    await expect.poll(() => receiver.seqs, wait).toEqual([7])
  })

  test('to a sink that reads nothing holds one block and no more, and loses nothing', async () => {
    const receiver = new Receiver()
    const sink = tcp(await receiver.listen())
    let slow = true
    receiver.server.on('connection', (socket) => {
      if (slow) socket.pause()
    })
    let sent = 0
    writeSegments(dir, upTo(40_000).map(act)) // 12 MB: more than socket buffers hold
    fromStart(sink)
    begin(sink, {
      stallMs: 1500,
      start: (trouble) => {
        const child = startExportChild(sink, { script: `${built}/export.cjs`, uid: null }, trouble)
        return { ...child, send: (block) => { sent += block.length; return child.send(block) } }
      },
    })
    await expect.poll(() => noted.map(({ type }) => type), wait).toContain('export.stalled')
    let seen = { sent: -1, at: 0 }
    await expect.poll(() => {
      if (sent !== seen.sent) seen = { sent, at: Date.now() }
      return Date.now() - seen.at
    }, wait).toBeGreaterThan(2000)
    expect(sent).toBeLessThan(10_000_000)
    slow = false
    for (const socket of receiver.sockets) socket.resume()
    await expect.poll(() => receiver.seqs.length, wait).toBe(40_000)
    expect(receiver.seqs).toEqual(upTo(40_000))
  })

  test('to a sink that is dead for too long leaves the oldest out, counts them, and goes on with the newest', async () => {
    const place = new Receiver()
    const sink = tcp(await place.listen())
    place.close()
    const end = write(2000)
    fromStart(sink)
    let givenUp = 0
    begin(sink, {
      stallMs: 200, maxBehindBytes: 100_000,
      start: (trouble) => {
        const child = startExportChild(sink, { script: `${built}/export.cjs`, uid: null }, trouble)
        return { ...child, kill: () => { givenUp += 1; child.kill() } }
      },
    })
    await expect.poll(() => givenUp, wait).toBe(1)
    expect(noted.map(({ type }) => type)).toEqual(['export.stalled'])
    const receiver = new Receiver()
    await receiver.listen(sink.kind === 'syslog' ? sink.port : 0)
    await untilItSends(receiver, end)
    const [begun = 0] = receiver.seqs
    expect(begun).toBeGreaterThanOrEqual(2000)
    expect(noted.filter(({ type }) => type === 'export.dropped')).toMatchObject([{ records: begun, first: 0 }])
  })

  test('to journald is a stream of lines with their severity', async () => {
    let text = ''
    const server = createServer((socket) => socket.on('data', (chunk) => { text += chunk.toString() }))
    await new Promise<void>((resolve) => server.listen(`${dir}/journal`, resolve))
    onTestFinished(() => void server.close())
    write(3)
    fromStart({ kind: 'journald' })
    begin({ kind: 'journald' })
    await expect.poll(() => text.split('\n').length, wait).toBe(11)
    expect(text.startsWith('cordon\n\n6\n1\n0\n0\n0\n<6>{"boot"')).toBe(true)
    expect(text).toContain(`\n<6>${readFileSync(`${dir}/audit/records/0000000000000000.jsonl`, 'utf8').split('\n')[2] ?? '?'}\n`)
  })

  test('over TLS sends nothing to a server that the authority does not vouch for', async () => {
    writeFileSync(`${dir}/own.pem`, OWN.cert)
    writeFileSync(`${dir}/other.pem`, OTHER.cert)
    const receiver = new Receiver((listener) => createTlsServer({ key: OWN.key, cert: OWN.cert }, listener))
    receiver.server.on('tlsClientError', () => undefined)
    const port = await receiver.listen()
    write(50)
    const sink = (ca: string): ExportSink => ({ kind: 'syslog', host: '127.0.0.1', port, tls: true, ca: `${dir}/${ca}.pem` })
    fromStart(sink('other'))
    const wrong = begin(sink('other'), { stallMs: 3000 })
    await expect.poll(() => noted, wait).toMatchObject([{ type: 'export.stalled', reason: expect.stringMatching(/self-signed|certificate/) as string }])
    expect(receiver.seqs).toEqual([])
    await wrong.stop()
    fromStart(sink('own'))
    begin(sink('own'))
    await expect.poll(() => receiver.seqs, wait).toEqual(upTo(50))
  })

  test('whose process dies is started again', async () => {
    const receiver = new Receiver()
    const sink = tcp(await receiver.listen())
    const end = write(50)
    fromStart(sink)
    let children = 0
    begin(sink, {
      start: (trouble) => {
        const child = startExportChild(sink, { script: `${built}/export.cjs`, uid: null }, trouble)
        children += 1
        return children === 1 ? { ...child, send: async (block) => { child.kill(); return child.send(block) } } : child
      },
    })
    await expect.poll(() => receiver.seqs.length, wait).toBe(50)
    write(5, end)
    await expect.poll(() => receiver.seqs.at(-1), wait).toBe(54)
    expect(children).toBe(2)
  })
})
