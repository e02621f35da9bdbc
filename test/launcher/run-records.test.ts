import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, onTestFinished, test } from 'vitest'
import type { AuditSink } from '../../src/audit/record.ts'
import type { RunId } from '../../src/base/ids.ts'
import { CordonError } from '../../src/errors.ts'
import { acceptedEvent, serveRunRecords } from '../../src/launcher/run-records.ts'
import { DOOR_EVENTS } from '../../src/wire/door.ts'
import { encodeData, encodeMessage, FrameReader, type Frame } from '../../src/wire/frame.ts'

const RUN = '0123456789abcdef' as RunId
const OTHER = 'fedcba9876543210'
const ENDED = { type: 'run.ended', run: RUN, reason: 'exit 0', oom_kills: 0 }

async function server(append: AuditSink['append'] = async () => ({ seq: 7 })) {
  const dir = mkdtempSync(join(tmpdir(), 'cordon-runs-'))
  const path = join(dir, 'runs.sock')
  const noted: unknown[] = []
  const logged: string[] = []
  const served = await serveRunRecords(path, { append, note: (event, origin) => void noted.push([origin, event]) }, (message) => logged.push(message))
  onTestFinished(() => {
    served.close()
    rmSync(dir, { recursive: true, force: true })
  })
  return { path, noted, logged, served }
}

function talk(path: string): { socket: Socket; frames: unknown[]; say(...messages: unknown[]): void } {
  const socket = connect(path)
  const frames: unknown[] = []
  socket.on('error', () => {}).pipe(new FrameReader()).on('error', () => {}).on('data', (frame: Frame) => frames.push(frame.kind === 'message' ? frame.value : frame))
  return { socket, frames, say: (...messages) => void socket.write(Buffer.concat(messages.map(encodeMessage))) }
}

describe('the socket on which a cordon run has its records kept', () => {
  test('is for its owner alone', async () => {
    expect(statSync((await server()).path).mode & 0o777).toBe(0o600)
  })

  test('answers once a record is durable, passes on what nobody awaits, and marks both as of a run', async () => {
    const appended: unknown[] = []
    const { path, noted } = await server(async (event, origin) => ({ seq: appended.push([origin, event]) }))
    const { frames, say, socket } = talk(path)
    say({ type: 'begin', run: RUN }, { type: 'record', id: 5, event: ENDED }, { type: 'record', id: null, event: { type: 'gap', reason: 'unavailable' } })
    await expect.poll(() => frames).toEqual([{ type: 'answer', id: 5, seq: 1 }])
    expect(appended).toEqual([['run', ENDED]])
    socket.end()
    await once(socket, 'close')
    await expect.poll(() => noted).toEqual([['run', { type: 'gap', reason: 'unavailable', run: RUN }]])
  })

  test('what cannot be recorded is refused with its error; the connection goes on', async () => {
    const { path } = await server(() => Promise.reject(new CordonError('AUDIT_UNAVAILABLE', 'records: ENOSPC')))
    const { frames, say } = talk(path)
    say({ type: 'begin', run: RUN })
    for (const id of [1, 2]) say({ type: 'record', id, event: ENDED })
    await expect.poll(() => frames).toEqual([1, 2].map((id) => ({ type: 'answer-error', id, error: expect.objectContaining({ code: 'AUDIT_UNAVAILABLE', message: 'records: ENOSPC' }) as unknown })))
  })

  test('of one that goes away without the record of its end, that is on record', async () => {
    const { path, noted } = await server()
    const { say, socket } = talk(path)
    say({ type: 'begin', run: RUN })
    socket.end()
    await expect.poll(() => noted).toEqual([['launcher', expect.objectContaining({ type: 'gap', run: RUN, reason: expect.stringContaining('went away') as string })]])
  })

  test('of one that was killed the connections that it had open have their end on record', async () => {
    const { path, noted } = await server()
    const { say, socket, frames } = talk(path)
    const about = { plugin: 'run', run: RUN, name: 'example.org', dialled: '198.18.1.0', port: 443, rule: 1, sni: null, address: '93.184.215.14' }
    const opened = (connection: number) => ({ type: 'egress.opened', ...about, connection, ech: false, alpn: [], code: 'allowed', ms: 1 })
    say({ type: 'begin', run: RUN }, { type: 'record', id: 1, event: opened(1) }, { type: 'record', id: 2, event: opened(2) })
    await expect.poll(() => frames).toHaveLength(2)
    say({ type: 'record', id: null, event: { type: 'egress.closed', ...about, connection: 1, bytesOut: 1, bytesIn: 1, ms: 1, by: 'peer', code: null, requests: 0 } })
    await expect.poll(() => noted).toHaveLength(1)
    socket.end()
    await expect.poll(() => noted.slice(1)).toMatchObject([['run', { type: 'egress.closed', run: RUN, connection: 2, code: 'door-ended' }], ['launcher', { type: 'gap' }]])
  })

  test.each<[string, Buffer]>([
    ['a record before it says who it is', encodeMessage({ type: 'record', id: 1, event: ENDED })],
    ['two beginnings', Buffer.concat([encodeMessage({ type: 'begin', run: RUN }), encodeMessage({ type: 'begin', run: RUN })])],
    ['no run id', encodeMessage({ type: 'begin', run: '../../x' })],
    ['data', encodeData(1, Buffer.from('x'))],
    ['an unknown message', encodeMessage({ type: 'seal' })],
    ['a record of an operator', Buffer.concat([encodeMessage({ type: 'begin', run: RUN }), encodeMessage({ type: 'record', id: 1, event: { type: 'admin.act', act: 'stop', who: 'root' } })])],
    ['no frame', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
  ])('%s ends the connection and is told', async (_what, bytes) => {
    const { path, logged, noted } = await server(async () => { throw new Error('nothing reaches the log') })
    const { socket, frames } = talk(path)
    socket.write(bytes)
    await once(socket, 'close')
    expect(frames).toEqual([])
    expect(logged).toEqual([expect.stringContaining('was cut off')])
    expect(noted.filter((one) => !JSON.stringify(one).includes('went away'))).toEqual([])
  })

  test('one that sends faster than the disk is read no further, and all of it is recorded in the end', async () => {
    let waiting: (() => void)[] = []
    let [pending, most, seq] = [0, 0, 0]
    const { path } = await server(() => new Promise((resolve) => {
      most = Math.max(most, ++pending)
      waiting.push(() => {
        pending -= 1
        resolve({ seq: seq++ })
      })
    }))
    const { frames, say } = talk(path)
    say({ type: 'begin', run: RUN })
    for (let id = 1; id <= 500; id++) say({ type: 'record', id, event: ENDED })
    await expect.poll(() => {
      for (const done of waiting.splice(0)) done()
      return frames.length
    }, { timeout: 30_000, interval: 5 }).toBe(500)
    expect(most).toBeLessThan(64 + 32) // what was on its way through the reader
    waiting = []
  })
})

describe('what a cordon run may have recorded', () => {
  test('records of its door\'s own process are tied to it', () => {
    expect(acceptedEvent(RUN, { type: 'door.started', run: OTHER })).toEqual({ type: 'door.started', run: OTHER, of: RUN })
    expect(acceptedEvent(RUN, { type: 'gap', reason: 'x' })).toEqual({ type: 'gap', reason: 'x', run: RUN })
    expect(acceptedEvent(RUN, ENDED)).toEqual(ENDED)
  })

  test('every type that a run, its door and what watches it hand to the log is among them', () => {
    const sources = ['launcher/door-child.ts', 'launcher/door-keeper.ts', 'launcher/egress-watch.ts', 'launcher/snapshots.ts', 'launcher/sandbox.ts', 'launcher/unended-connections.ts', 'cli/run.ts']
    const types = sources.flatMap((file) => [...readFileSync(join(import.meta.dirname, '../../src', file), 'utf8').matchAll(/(?:note|append)\(\{\s*type: '([a-z.]+)'/g)].map((match) => match[1] ?? ''))
    expect(types.length).toBeGreaterThan(10)
    for (const type of [...types, ...DOOR_EVENTS.options.map(({ shape }) => shape.type.value)]) expect(acceptedEvent(RUN, { type }), type).not.toMatch(/^a record of type/)
    const network = { type: 'host.network', name: 'n', addresses: [], on_link: [], own_ports: [], more: 0 }
    expect(acceptedEvent(RUN, network)).toEqual({ ...network, of: RUN })
  })

  test.each<[string, Record<string, unknown> & { type: string }]>([
    ['another run', { ...ENDED, run: OTHER }],
    ['a plugin', { type: 'gap', reason: 'x', plugin: 'billing' }],
    ['an act of the daemon', { type: 'daemon.stopped', reason: 'x' }],
    ['a seal', { type: 'seal' }],
    ['a type that is none', { type: '__proto__' }],
    ['a field too many', { ...ENDED, more: 1 }],
    ['a field too few', { type: 'run.ended', run: RUN }],
    ['a float', { ...ENDED, oom_kills: 0.5 }],
    ['whose door it is, in its own words', { type: 'door.started', run: OTHER, of: OTHER }],
  ])('not %s', (_what, event) => {
    expect(acceptedEvent(RUN, event)).toEqual(expect.any(String))
  })

  test('whatever it sends, what is accepted names that run and no plugin', () => {
    const types = fc.constantFrom('run.started', 'run.ended', 'isolation.attested', 'door.started', 'gap', 'egress.closed', 'plugin.start', 'policy.loaded')
    fc.assert(fc.property(types, fc.dictionary(fc.constantFrom('run', 'of', 'plugin', 'reason', 'oom_kills', 'x'), fc.oneof(fc.constantFrom(RUN, OTHER, 'run', 'billing'), fc.integer(), fc.string())), (type, fields) => {
      const event = acceptedEvent(RUN, { ...fields, type })
      if (typeof event === 'string') return
      expect([('of' in event ? event.of : undefined) ?? ('run' in event ? event.run : null), 'plugin' in event ? event.plugin : 'run']).toEqual([RUN, 'run'])
    }), { seed: 4, numRuns: 2000 })
  })
})
