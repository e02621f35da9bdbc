import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createSocket } from 'node:dgram'
import { connect, createServer, type AddressInfo, type Server } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { decode, encode, type Answer } from 'dns-packet'
import { afterEach, describe, expect, test } from 'vitest'
import type { HostName } from '../../src/base/host-name.ts'
import { dial } from '../../src/egress/dial.ts'
import { RunResolver } from '../../src/egress/resolver.ts'

const cleanup: (() => void)[] = []
afterEach(() => cleanup.splice(0).forEach((undo) => undo()))
const never = new AbortController().signal

async function listen(host: string): Promise<number> {
  const server: Server = createServer((socket) => socket.on('error', () => {})).listen(0, host)
  await once(server, 'listening')
  cleanup.push(() => server.close())
  return (server.address() as AddressInfo).port
}

/** A port whose queue is full and whose program sleeps: the kernel does not answer further connections. */
async function silentPort(host: string): Promise<number> {
  const program = `const s=require('net').createServer().listen({port:0,host:'${host}',backlog:1},()=>console.log(s.address().port))`
  const child = spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'inherit'] })
  cleanup.push(() => child.kill('SIGKILL'))
  const port = Number(String((await once(child.stdout, 'data'))[0]))
  child.kill('SIGSTOP')
  for (let i = 0; i < 4; i++) {
    const socket = connect(port, host)
    socket.on('error', () => {})
    cleanup.push(() => socket.destroy())
  }
  await sleep(100)
  return port
}

describe('dialling', () => {
  test('takes the first address that answers and closes the others', async () => {
    const port = await listen('127.0.0.2')
    const dialled = await dial(['127.0.0.1', '127.0.0.2', '127.0.0.3'], port, never)
    if ('failed' in dialled) throw new Error(dialled.failed)
    expect([dialled.address, dialled.socket.remoteAddress]).toEqual(['127.0.0.2', '127.0.0.2'])
    dialled.socket.destroy()
  })
  test('gives a silent address a head start only, and gives up on it in time', async () => {
    const port = await silentPort('127.0.0.1')
    const started = performance.now()
    expect(await dial(['127.0.0.1'], port, never, { timeoutMs: 300, staggerMs: 30 })).toEqual({ failed: 'connect-timeout' })
    expect(performance.now() - started).toBeGreaterThan(250)
    const server = createServer().listen(port, '127.0.0.2')
    await once(server, 'listening')
    cleanup.push(() => server.close())
    const dialled = await dial(['127.0.0.1', '127.0.0.2'], port, never, { timeoutMs: 20_000, staggerMs: 30 })
    if ('failed' in dialled) throw new Error(dialled.failed)
    expect(dialled.address).toBe('127.0.0.2')
    dialled.socket.destroy()
  })
  test('says that nothing listens', async () => {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    server.close()
    await once(server, 'close')
    expect(await dial(['127.0.0.1', '127.0.0.2'], port, never)).toEqual({ failed: 'connect-refused' })
  })
  test('ends at once when it is no longer wanted, and with nothing to dial', async () => {
    const control = new AbortController()
    control.abort()
    expect(await dial(['127.0.0.1'], 1, control.signal)).toEqual({ failed: 'connect-failed' })
    expect(await dial([], 1, never)).toEqual({ failed: 'connect-failed' })
  })
})

/** A resolver on the loopback; `silent` names are never answered. */
async function pretendDns(zone: Readonly<Record<string, readonly string[]>>, silent: readonly string[] = []) {
  const asked: string[] = []
  const socket = createSocket('udp4')
  socket.on('message', (message, from) => {
    const query = decode(message)
    const [question] = query.questions ?? []
    const name = question?.name ?? ''
    asked.push(`${name} ${question?.type}`)
    if (silent.includes(name)) return
    const known = zone[name]
    const answers = (known ?? []).filter((address) => address.includes(':') === (question?.type === 'AAAA'))
      .map((data): Answer => ({ type: question?.type === 'AAAA' ? 'AAAA' : 'A', name, ttl: 60, data }))
    socket.send(encode({ type: 'response', id: query.id ?? 0, flags: known === undefined ? 3 : 0, questions: query.questions ?? [], answers }), from.port, from.address)
  })
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  cleanup.push(() => socket.close())
  return { asked, server: `127.0.0.1:${socket.address().port}` }
}

const name = (text: string): HostName => text as HostName

describe('resolving', () => {
  test('gives both families, asks for the whole name only, and remembers it for seconds', async () => {
    const { asked, server } = await pretendDns({ 'example.org': ['192.0.2.1', '2001:db8::1'] })
    let now = 0
    const resolver = new RunResolver({ servers: () => [server], now: () => now })
    expect(await resolver.resolve(name('example.org'))).toMatchObject({ addresses: ['192.0.2.1', '2001:db8::1'] })
    expect(asked.sort()).toEqual(['example.org A', 'example.org AAAA'])
    await resolver.resolve(name('example.org'))
    expect(asked).toHaveLength(2)
    now = 6000
    await resolver.resolve(name('example.org'))
    expect(asked).toHaveLength(4)
  })
  test('asks once for a thousand connections at once', async () => {
    const { asked, server } = await pretendDns({ 'example.org': ['192.0.2.1'] })
    const resolver = new RunResolver({ servers: () => [server], now: () => 0 })
    await Promise.all(Array.from({ length: 1000 }, () => resolver.resolve(name('example.org'))))
    expect(asked).toHaveLength(2)
  })
  test('tells a name without addresses from a resolver that is silent', async () => {
    const { server } = await pretendDns({ 'empty.example': [] }, ['silent.example'])
    const patient = { servers: () => [server], now: () => 0, timeoutMs: 20_000 }
    const resolver = new RunResolver(patient)
    expect(await resolver.resolve(name('empty.example'))).toEqual({ failed: 'resolve-empty' })
    expect(await resolver.resolve(name('none.example'))).toEqual({ failed: 'resolve-empty' })
    expect(await new RunResolver({ ...patient, timeoutMs: 400 }).resolve(name('silent.example'))).toEqual({ failed: 'resolve-timeout' })
  })
  test('a name whose servers are silent delays nobody, and their number is limited', async () => {
    const silent = Array.from({ length: 6 }, (_, i) => `s${i}.example`)
    const { server } = await pretendDns({ 'example.org': ['192.0.2.1'] }, silent)
    const resolver = new RunResolver({ servers: () => [server], now: () => 0, timeoutMs: 5000, concurrent: 3 })
    const slow = silent.map((one) => resolver.resolve(name(one)))
    expect(await resolver.resolve(name('example.org'))).toEqual({ failed: 'too-many-resolves' })
    const other = new RunResolver({ servers: () => [server], now: () => 0 })
    let over = false
    void Promise.race(slow).then(() => { over = true })
    expect(await other.resolve(name('example.org'))).toMatchObject({ addresses: ['192.0.2.1'] })
    expect(over).toBe(false)
    expect(await Promise.all(slow)).toEqual(silent.map(() => ({ failed: 'resolve-timeout' })))
    expect(await resolver.resolve(name('example.org'))).toMatchObject({ addresses: ['192.0.2.1'] })
  })
  test('is cancelled as a whole when the run ends', async () => {
    const { server } = await pretendDns({}, ['silent.example', 'other.example'])
    const resolver = new RunResolver({ servers: () => [server], now: () => 0, concurrent: 1 })
    const under = [resolver.resolve(name('silent.example')), resolver.resolve(name('other.example'))]
    resolver.close()
    expect(await Promise.all(under)).toEqual([{ failed: 'resolve-failed' }, { failed: 'resolve-failed' }]) // and not `resolve-timeout`
    expect(await resolver.resolve(name('late.example'))).toEqual({ failed: 'too-many-resolves' })
  })
})
