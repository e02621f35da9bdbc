import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { duplexPair, PassThrough, type Duplex } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import { afterEach, describe, expect, test } from 'vitest'
import { newRunId, type PluginName, type RunId } from '../../src/base/ids.ts'
import { CordonError } from '../../src/errors.ts'
import { GatewayMonitor, type GatewayHandlers } from '../../src/launcher/monitor.ts'
import { encodeData, encodeMessage, FrameReader, MAX_FRAME_BYTES, type Frame } from '../../src/wire/frame.ts'
import type { ToGateway } from '../../src/wire/requests.ts'

const RUN = '0123456789abcdef' as RunId
const children: ChildProcess[] = []
afterEach(() => children.splice(0).forEach((child) => child.kill('SIGKILL')))

interface Heard { readonly name: string; readonly message: unknown }

/** A monitor on one end of a pair; the test is the gateway on the other. */
function converse(overrides: Partial<GatewayHandlers> = {}, pair: readonly [Duplex, Duplex] = duplexPair()) {
  const [ours, gateway] = pair
  const heard: Heard[] = []
  const answers: unknown[] = []
  let closed: string | null = null
  const hear = (name: string) => (message: unknown) => void heard.push({ name, message })
  const ask = (name: string) => async (message: unknown) => { heard.push({ name, message }); return { done: name } }
  const monitor = new GatewayMonitor(ours, {
    serving: hear('serving'), taken: hear('taken'), running: hear('running'), failed: hear('failed'), record: hear('record'),
    releaseLaunchConfig: ask('releaseLaunchConfig'), takeSocket: ask('takeSocket'), act: ask('act'),
    closed: (reason) => { expect(closed).toBeNull(); closed = reason },
    ...overrides,
  })
  gateway.on('error', () => {})
  const frames = new FrameReader()
  frames.on('data', (frame: Frame) => answers.push(frame.kind === 'message' ? frame.value : frame))
  frames.on('error', () => {})
  const read = (): void => void gateway.pipe(frames)
  return { monitor, gateway, heard, answers, read, closed: () => closed, closing: () => expect.poll(() => closed) }
}

const act = (id: number) => ({ type: 'act', id, act: 'stop', plugin: 'sample', who: 'x' })
const started = (run: RunId): ToGateway => ({
  type: 'runStarted', run, plugin: 'sample' as PluginName, stream: 1, style: '2', secret: 's', socketPath: '/s', uid: 1000,
  grants: [], legacyGrants: 'deny', publicPaths: [], policyDigest: 'd',
})

describe('the launcher\'s end of the conversation with the gateway', () => {
  test('hears what is in the table and answers what asks for it', async () => {
    const { gateway, heard, answers, read, closed } = converse()
    read()
    gateway.write(encodeMessage({ type: 'serving', port: 80 }))
    gateway.write(encodeMessage(act(7)))
    gateway.write(encodeMessage({ type: 'taken', run: RUN, bytes: 5 }))
    await expect.poll(() => answers).toEqual([{ type: 'answer', id: 7, ok: { done: 'act' } }])
    expect(heard.map(({ name }) => name)).toEqual(['serving', 'act', 'taken'])
    expect(closed()).toBeNull()
  })

  test('an error goes back as code and words, an unexpected one without its words', async () => {
    let n = 0
    const { gateway, answers, read } = converse({ act: async () => { throw n++ === 0 ? new CordonError('LAUNCH_STATE', 'known') : new Error('/secret/path') } })
    read()
    gateway.write(encodeMessage(act(1)))
    gateway.write(encodeMessage(act(2)))
    await expect.poll(() => answers.length).toBe(2)
    expect(answers[0]).toMatchObject({ error: { code: 'LAUNCH_STATE', message: 'known' } })
    expect(JSON.stringify(answers[1])).toMatch(/INTERNAL_BUG/)
    expect(JSON.stringify(answers[1])).not.toContain('/secret')
  })

  const raw = (bytes: number, ...rest: number[]): Buffer => Buffer.concat([Buffer.from([0, 0, 0, bytes]), Buffer.from(rest)])
  test.each<[string, () => Buffer, RegExp]>([
    ['a frame over the limit', () => { const b = Buffer.alloc(5); b.writeUInt32BE(MAX_FRAME_BYTES + 1); return b }, /no frames.*are accepted/],
    ['a frame of no bytes', () => raw(0, 0), /no frames/],
    ['an unknown kind', () => raw(2, 9, 9), /unknown kind 9/],
    ['a data frame without its stream', () => raw(2, 1, 9), /unknown kind/],
    ['a data frame', () => encodeData(1, Buffer.from('x')), /data frame/],
    ['no JSON', () => raw(3, 0, 0x7b, 0x7b), /no frames/],
    ['no object', () => encodeMessage(null), /outside the table/],
    ['an unknown type', () => encodeMessage({ type: 'exec', argv: ['/bin/sh'] }), /outside the table/],
    ['a type of the other direction', () => encodeMessage({ type: 'shutdown' }), /outside the table/],
    ['a field too many', () => encodeMessage({ type: 'serving', port: 80, path: '/etc' }), /outside the table/],
    ['a plugin name that is a path', () => encodeMessage({ ...act(1), plugin: '../../etc' }), /outside the table/],
    ['an act that widens', () => encodeMessage({ ...act(1), act: 'enable' }), /outside the table/],
    ['a run id that is none', () => encodeMessage({ type: 'taken', run: '../x', bytes: 1 }), /outside the table/],
    ['a text over its limit', () => encodeMessage({ ...act(1), who: 'x'.repeat(201) }), /outside the table/],
    ['an unknown record', () => encodeMessage({ type: 'record', event: { type: 'daemon.started' } }), /outside the table/],
    ['a second `serving`', () => Buffer.concat([encodeMessage({ type: 'serving', port: 80 }), encodeMessage({ type: 'serving', port: 81 })]), /"serving" a second time/],
    ['an answer that nobody asked for', () => encodeMessage({ type: 'answer', id: 1, ok: null }), /never asked/],
    ['an answer to a negative id', () => encodeMessage({ type: 'answer', id: -1, ok: null }), /never asked/],
    ['a prototype as type', () => Buffer.from('\u0000\u0000\u0000\u0019\u0000{"type":"__proto__"   }  ', 'latin1'), /outside the table/],
  ])('%s ends it', async (_what, bytes, reason) => {
    const { gateway, closing, heard } = converse()
    gateway.write(bytes())
    await closing().toMatch(reason)
    gateway.write(encodeMessage({ type: 'serving', port: 1 }))
    await sleep(5)
    expect(heard.filter(({ name }) => name !== 'serving')).toEqual([])
  })

  test('half a frame is waited for, and its end in the middle is the end', async () => {
    const { gateway, heard, closed, closing } = converse()
    const frame = encodeMessage({ type: 'serving', port: 80 })
    for (const byte of frame.subarray(0, -1)) gateway.write(Buffer.from([byte]))
    await sleep(20)
    expect([heard.length, closed()]).toEqual([0, null])
    gateway.end()
    await closing().toMatch(/closed/)
  })

  test('a request comes once for each run; of a run that is over or never was it is the handler\'s to refuse', async () => {
    const { monitor, gateway, heard, closing, closed } = converse()
    monitor.say(started(RUN))
    gateway.write(encodeMessage({ type: 'failed', run: RUN, code: 'X', message: 'm' }))
    for (let n = 0; n < 3; n++) gateway.write(encodeMessage({ type: 'failed', run: newRunId(), code: 'X', message: 'm' }))
    await expect.poll(() => heard.length).toBe(4)
    expect(closed()).toBeNull()
    gateway.write(encodeMessage({ type: 'failed', run: RUN, code: 'X', message: 'm' }))
    await closing().toMatch(/"failed" a second time/)
  })

  test('a run that is over can say its last words late', async () => {
    const { monitor, gateway, heard, closed } = converse()
    monitor.say(started(RUN))
    monitor.forget(RUN)
    for (let n = 0; n < 2; n++) gateway.write(encodeMessage({ type: 'running', run: RUN, generation: '2', version: '1' }))
    await expect.poll(() => heard.length).toBe(2)
    expect(closed()).toBeNull()
  })

  test('more requests at a time than it works on end it', async () => {
    const { gateway, closing } = converse({ act: () => new Promise(() => {}) })
    for (let id = 0; id < 65; id++) gateway.write(encodeMessage(act(id)))
    await closing().toMatch(/more than 64 requests at a time/)
  })

  test('open questions are answered with the end', async () => {
    const { monitor, gateway, closing } = converse()
    const link = monitor.mintLink('sample' as PluginName)
    const expected = expect(link).rejects.toMatchObject({ code: 'WIRE_CLOSED' })
    gateway.destroy()
    await closing().toMatch(/closed/)
    await expected
  })

  test('a gateway that never reads is given up at 4 MiB', async () => {
    const { monitor, closing, closed } = converse()
    let said = 0
    for (; closed() === null && said < 200; said++) monitor.data(1, Buffer.alloc(64 * 1024))
    await closing().toMatch(/left more than 4194304 bytes unread/)
    expect(said).toBeLessThan(80)
  })

  test('a seeded storm of bytes and half-true messages never throws and ends it at most once', async () => {
    const message = fc.oneof(
      fc.record({ type: fc.constantFrom('serving', 'taken', 'act', 'record', 'answer', 'failed', 'running', 'takeSocket'), id: fc.integer(), run: fc.constantFrom(RUN, 'x'), bytes: fc.integer(), port: fc.nat() }, { requiredKeys: ['type'] }).map(encodeMessage),
      fc.uint8Array({ maxLength: 400 }).map((bytes) => Buffer.from(bytes)),
      fc.uint8Array({ maxLength: 40 }).map((bytes) => encodeData(1, bytes)),
    )
    await fc.assert(fc.asyncProperty(fc.array(message, { maxLength: 12 }), async (messages) => {
      const { gateway, closing } = converse()
      for (const bytes of messages) gateway.write(bytes)
      gateway.end()
      await closing().not.toBeNull()
    }), { seed: 20261120, numRuns: 200 })
  })

  test('floods of records and of words about runs that never were leave no memory behind', async () => {
    const { gateway, heard, closed } = converse({ record: () => {}, failed: () => {}, running: () => {} })
    const event = { type: 'http.count', plugin: 'sample', requests: 1, failed: 0 }
    const storm = async (rounds: number): Promise<void> => {
      for (let n = 0; n < rounds; n++) {
        const run = newRunId()
        const bytes = Buffer.concat([encodeMessage({ type: 'record', event }), encodeMessage({ type: 'failed', run, code: 'X', message: 'm' }), encodeMessage({ type: 'running', run, generation: '2', version: '1' })])
        if (!gateway.write(bytes)) await once(gateway, 'drain')
      }
      await sleep(50)
    }
    await storm(2000)
    const before = settledHeap()
    await storm(30_000)
    expect(settledHeap() - before).toBeLessThan(3 << 20) // remembering each of those runs would take 8 MB
    expect([closed(), heard.length]).toEqual([null, 0])
  })

  test('a stream that fails is the end, not a crash', async () => {
    const broken = new PassThrough()
    const { closing } = converse({}, [broken, new PassThrough()])
    broken.destroy(new Error('EIO'))
    await closing().toMatch(/the connection failed: EIO/)
  })
})

/** A child that is not ours: 20,000 times argv[1] and an open descriptor over its fd 3. */
const SENDER = `
import os, socket, sys
peer = socket.socket(fileno=3)
null = os.open('/dev/null', os.O_RDONLY)
sent = 0
try:
    while sent < 20000:
        socket.send_fds(peer, [bytes.fromhex(sys.argv[1])], [null])
        sent += 1
except OSError as error:
    sys.stderr.write('%s\\n' % error)
sys.stdout.write('%d' % sent)
sys.stdout.flush()
sys.stdin.read()
`

describe('descriptors that a gateway passes', () => {
  const descriptors = (): number => readdirSync('/proc/self/fd').length

  function sender(hex: string): { pair: Duplex; sent: Promise<number> } {
    const child = spawn('/usr/bin/python3', ['-c', SENDER, hex], { stdio: ['pipe', 'pipe', 'ignore', 'pipe'] })
    children.push(child)
    const { stdout } = child
    if (stdout === null) throw new Error('no stdout')
    return { pair: child.stdio[3] as Duplex, sent: once(stdout, 'data').then(([bytes]) => Number(String(bytes))) }
  }

  test('do not stay in the launcher that reads their bytes', async () => {
    const before = descriptors()
    const { pair, sent } = sender(encodeMessage({ type: 'taken', run: RUN, bytes: 1 }).toString('hex'))
    const { heard, closed } = converse({}, [pair, new PassThrough()])
    expect(await sent).toBe(20_000)
    await expect.poll(() => heard.length, { timeout: 50_000 }).toBe(20_000)
    expect(closed()).toBeNull()
    expect(descriptors() - before).toBeLessThan(10)
  })

  test('end with the conversation when their bytes are no frames', async () => {
    const before = descriptors()
    const { pair } = sender('ffffffff00')
    const { closing } = converse({}, [pair, new PassThrough()])
    await closing().toMatch(/no frames/)
    await expect.poll(() => descriptors() - before).toBeLessThan(10)
  })

  test('wait in the kernel, bounded, on the pair that is only lent', async () => {
    const before = descriptors()
    const child = spawn('/usr/bin/python3', ['-c', `
import os, socket, sys
peer = socket.socket(fileno=3); peer.setblocking(False)
null = os.open('/dev/null', os.O_RDONLY)
sent = 0
try:
    while sent < 20000:
        socket.send_fds(peer, [b'x'], [null]); sent += 1
except OSError as error:
    sys.stdout.write('%d %s' % (sent, error.strerror)); sys.stdout.flush()
sys.stdin.read()
`], { stdio: ['pipe', 'pipe', 'inherit', 'pipe'] })
    children.push(child)
    const lent = child.stdio[3] as Duplex & { readonly _handle: { readStop(): number } }
    lent.pause()
    lent._handle.readStop()
    lent.on('error', () => {})
    let read = 0
    lent.on('readable', () => { read += 1 })
    lent._handle.readStop()
    const [said] = (await once(child.stdout ?? child, 'data')) as [Buffer]
    const [sent = '0'] = said.toString().split(' ')
    expect(Number(sent)).toBeLessThan(20_000)
    expect(descriptors() - before).toBeLessThan(10)
  })
})

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

function settledHeap(): number {
  collect()
  return process.memoryUsage().heapUsed
}
