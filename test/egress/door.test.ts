import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { newRunId } from '../../src/base/ids.ts'
import { mostOf } from '../../src/egress/door-core.ts'
import { DOOR_STATS } from '../../src/wire/door.ts'
import { encodeData, encodeMessage } from '../../src/wire/frame.ts'
import { buildDoor, FakeLauncher, remove } from './door-kit.ts'
import { rule, rules } from './relay-kit.ts'

let files = { dir: '', door: '', helper: '' }
let launcher: FakeLauncher
const sockets: Socket[] = []
const servers: Server[] = []
beforeAll(async () => { files = await buildDoor() })
afterAll(() => remove(files.dir))
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy()
  for (const server of servers.splice(0)) server.close()
  await launcher.close()
})

async function door(): Promise<FakeLauncher> {
  launcher = new FakeLauncher(files)
  await launcher.configure()
  return launcher
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

/** What the plugin does: without a sealed namespace only loopback addresses reach the listener, which the door resets. */
async function attempt(port: number): Promise<'reset' | 'refused'> {
  const socket = connect(port, '127.0.0.1')
  sockets.push(socket)
  const [error] = (await once(socket, 'error').catch((thrown: unknown) => [thrown])) as [NodeJS.ErrnoException]
  return error.code === 'ECONNREFUSED' ? 'refused' : 'reset'
}

describe('the door process', () => {
  test('serves once all listeners of a run are handed over, and decides on what comes', async () => {
    const launcher = await door()
    const run = newRunId()
    const port = await freePort()
    expect(await launcher.open(run, rules(), [port])).toMatchObject({ ok: {} })
    expect(await launcher.lend(run, [port])).toEqual({ status: 0, stderr: '' })
    expect((await launcher.serving(run)).missing).toEqual(['udp4:53', 'tcp4:53'])
    expect(await attempt(port)).toBe('reset')
    expect(await launcher.event('egress.refused')).toMatchObject({ plugin: 'indexnow', run, dialled: '127.0.0.1', port, code: 'loopback-reset', coalesced: 0 })
    const stats = DOOR_STATS.parse((await launcher.ask({ type: 'stats', run })).ok)
    expect(stats).toMatchObject({ serving: true, open: [], totals: { refused: 1, opened: 0 }, refused: [{ what: `127.0.0.1:${port}`, code: 'loopback-reset', count: 1 }] })
  })

  test('makes room of what nobody reads: of the run that has most of it, and of none where there is none', async () => {
    const launcher = await door()
    await launcher.open(newRunId(), rules(), [await freePort()])
    expect(await launcher.ask({ type: 'makeRoom' })).toMatchObject({ ok: { closed: 0 } })
    expect(mostOf([['a'], ['b', 'b'], [], ['c']])).toEqual(['b', 'b'])
    expect(mostOf([])).toEqual([])
  })

  test('closes the listeners of a run that ends, and of no other', async () => {
    const launcher = await door()
    const [one, other] = [newRunId(), newRunId()]
    const [first, second] = [await freePort(), await freePort()]
    await launcher.open(one, rules(), [first])
    await launcher.lend(one, [first])
    await launcher.open(other, rules(), [second])
    await launcher.lend(other, [second])
    expect(await launcher.ask({ type: 'closeRun', run: one, code: 'stopping' })).toMatchObject({ ok: { spent: { bytes: 0 } } })
    expect([await attempt(first), await attempt(second)]).toEqual(['refused', 'reset'])
  })

  test('takes further ports while a run goes on, and the helper names one that is held by somebody else', async () => {
    const launcher = await door()
    const run = newRunId()
    const held = createServer().listen(0, '0.0.0.0')
    servers.push(held)
    await once(held, 'listening')
    const taken = (held.address() as AddressInfo).port
    const port = await freePort()
    await launcher.open(run, rules(), [])
    await launcher.lend(run, [])
    await launcher.serving(run)
    expect(await launcher.ask({ type: 'swapRules', run, rules: rules(rule(1, { kind: 'public' }, [port])), ports: [taken, port] })).toMatchObject({ ok: { closed: 0 } })
    const { status, stderr } = await launcher.lend(run, [taken, port])
    expect([status, JSON.parse(stderr)]).toEqual([75, { port: taken, protocol: 'tcp', family: 4, errno: 'EADDRINUSE' }])
    expect(launcher.messages.filter((message) => message.type === 'serving').at(-1)).toMatchObject({ missing: ['udp4:53', 'tcp4:53', `tcp4:${taken}`] })
    expect(await attempt(port)).toBe('reset')
  })

  test('gives back the listeners of a run that it does not know', async () => {
    const launcher = await door()
    const port = await freePort()
    expect(await launcher.lend(newRunId(), [port])).toMatchObject({ status: 0 })
    expect(await attempt(port)).toBe('refused')
  })

  test('answers an order that does not fit its state, and goes on', async () => {
    const launcher = await door()
    const run = newRunId()
    expect(await launcher.ask({ type: 'stats', run })).toMatchObject({ error: { code: 'DOOR_STATE' } })
    await launcher.open(run, rules(), [])
    expect(await launcher.open(run, rules(), [])).toMatchObject({ error: { code: 'DOOR_STATE' } })
    expect(await launcher.ask({ type: 'stats', run })).toMatchObject({ ok: { serving: false } })
  })

  test('opens nothing before it knows which addresses are the host\'s own', async () => {
    launcher = new FakeLauncher(files)
    expect(await launcher.open(newRunId(), rules(), [])).toMatchObject({ error: { code: 'DOOR_STATE' } })
    expect(await launcher.ask({ type: 'configure', resolvers: [], hostAddresses: ['nonsense'], onLink: [], ownPorts: [], name: '' })).toMatchObject({ error: { code: 'WIRE_MALFORMED' } })
    expect(await launcher.open(newRunId(), rules(), [])).toMatchObject({ error: { code: 'DOOR_STATE' } })
  })

  test('leaves when it is told, and when the launcher is gone', async () => {
    const launcher = await door()
    launcher.say({ type: 'shutdown' })
    expect(await launcher.ended()).toBe(0)
    const orphan = await door()
    ;(orphan.door.stdio[3] as Socket).destroy()
    expect(await orphan.ended()).toBe(0)
  })

  test.each([
    ['bytes that are no frames', Buffer.alloc(64, 0xff)], ['an order that is not in the table', encodeMessage({ type: 'dial', address: '192.0.2.1' })],
    ['a data frame', encodeData(1, Buffer.from('x'))], ['an answer to nothing', encodeMessage({ type: 'answer', id: 99 })],
    ['a rule with a field too many', encodeMessage({ type: 'swapRules', id: 1, run: newRunId(), ports: [], rules: { mode: 'enforce', until: null, allow: [{ x: 1 }] } })],
  ])('ends at %s', async (_what, bytes) => {
    const launcher = await door()
    launcher.sayBytes(bytes)
    expect(await launcher.ended()).toBe(70)
    expect(launcher.stderr).toContain('WIRE_MALFORMED')
  })

  test('is quick to turn away ten thousand connections, in few records and little memory', async () => {
    const launcher = await door()
    const run = newRunId()
    const port = await freePort()
    await launcher.open(run, rules(), [port])
    await launcher.lend(run, [port])
    for (let round = 0; round < 100; round++) {
      await Promise.all(Array.from({ length: 100 }, () => new Promise((resolve) => connect(port, '127.0.0.1').on('error', resolve).on('close', resolve))))
    }
    await sleep(50)
    expect(launcher.messages.filter((message) => message.type === 'record').length).toBeLessThan(10)
    expect(await launcher.ask({ type: 'stats', run })).toMatchObject({ ok: { totals: { refused: 10_000 }, open: [] } })
  })
})

describe('the door\'s helper', () => {
  test.each([[['nonsense', '0', '0']], [[newRunId(), '0', '0', '0']], [[newRunId(), '0', '0', '65536']], [[newRunId(), '0', '0', '80x']]])('refuses %s', async (args) => {
    launcher = new FakeLauncher(files)
    const { spawn } = await import('node:child_process')
    const child = spawn(process.execPath, [files.helper, ...args], { stdio: ['ignore', 'ignore', 'pipe', 'ipc'] })
    let stderr = ''
    child.stderr?.on('data', (bytes: Buffer) => { stderr += bytes.toString() })
    expect(await once(child, 'close')).toEqual([71, null])
    expect(stderr).toBe('{"errno":"EINVAL"}\n')
  })
})
