import { createSocket, type Socket as DatagramSocket } from 'node:dgram'
import { once } from 'node:events'
import { connect, createServer, Socket, type AddressInfo, type Server } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { decode, encode } from 'dns-packet'
import { afterEach, describe, expect, test } from 'vitest'
import type { Egress } from '../../src/base/egress-rule.ts'
import { newRunId, type PluginName } from '../../src/base/ids.ts'
import type { HostView } from '../../src/egress/addresses.ts'
import { dial } from '../../src/egress/dial.ts'
import { RELAY_LIMITS } from '../../src/egress/relay.ts'
import { RunDoor } from '../../src/egress/run-door.ts'
import { Turns } from '../../src/egress/turns.ts'
import { DOOR_EVENTS, DOOR_STATS, type DoorEvent } from '../../src/wire/door.ts'
import { encodeMessage, MAX_FRAME_BYTES } from '../../src/wire/frame.ts'
import { hello, serverName } from './hello.ts'
import { rule, rules } from './relay-kit.ts'

const cleanup: (() => void)[] = []
afterEach(() => cleanup.splice(0).reverse().forEach((undo) => undo()))

async function listening(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  cleanup.push(() => server.close())
  return (server.address() as AddressInfo).port
}

const SECRET = '0123456789abcdef0123456789abcdef01234567'

/** A run whose plugin is said to have dialled `address` (host.internal is dialled without a resolver), and whose peers echo. */
async function start(terms: { rules?: Egress; maxConnections?: number; egressMax?: number; address?: string; port?: number; now?: () => number; host?: () => HostView } = {}) {
  const events: DoorEvent[] = []
  const accepted: Socket[] = []
  let upstream = 0
  const run = newRunId()
  const door = new RunDoor({
    run, plugin: 'indexnow' as PluginName,
    rules: terms.rules ?? rules(rule(1, { kind: 'host.internal' }, [5432], { tls: 'off' })),
    decoys: { names: ['vault.example'], secrets: [SECRET] },
    limits: { maxConnections: terms.maxConnections ?? 256, egressMaxPerDay: terms.egressMax ?? null, spent: { day: '2026-01-01', bytes: 0 } },
  }, {
    note: (event) => events.push(DOOR_EVENTS.parse(event)),
    record: async (event) => { events.push(DOOR_EVENTS.parse(event)) },
    dial: (addresses, _port, signal) => dial(addresses.slice(0, 1), upstream, signal),
    host: terms.host ?? (() => ({ hostAddresses: [], onLink: [], ownPorts: [] })),
    resolvers: () => [], now: terms.now ?? Date.now, ticks: () => performance.now(), relayLimits: RELAY_LIMITS, turns: new Turns(() => performance.now()),
  })
  cleanup.push(() => door.close('stopping'))
  upstream = await listening(createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {})
    socket.pipe(socket)
  }))
  const port = await listening(createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
    Object.defineProperties(socket, { localAddress: { value: terms.address ?? '198.18.1.0' }, localPort: { value: terms.port ?? 5432 } })
    accepted.push(socket)
    door.accept(socket)
  }))
  const dns: DatagramSocket = createSocket('udp4').bind(0, '127.0.0.1')
  await once(dns, 'listening')
  door.addDatagrams(dns)
  const client = createSocket('udp4').bind(0, '127.0.0.1')
  cleanup.push(() => client.close())
  return {
    door, events, accepted,
    lookUp: async (name: string) => {
      client.send(encode({ type: 'query', id: 1, questions: [{ name, type: 'A' }] }), dns.address().port, '127.0.0.1')
      return decode((await once(client, 'message'))[0] as Buffer)
    },
    plugin: (): Socket => {
      const socket = connect(port, '127.0.0.1')
      socket.on('error', () => {})
      cleanup.push(() => socket.destroy())
      return socket
    },
  }
}

const closed = (socket: Socket): Promise<void> => new Promise((resolve) => { socket.on('close', () => resolve()) })

async function echoed(socket: Socket): Promise<boolean> {
  socket.write('x')
  return Promise.race([once(socket, 'data').then(() => true), closed(socket).then(() => false)])
}

/** That nothing comes shows only for as long as one looks. */
async function isSilent(socket: Socket): Promise<boolean> {
  socket.write('x')
  return Promise.race([once(socket, 'data').then(() => false), sleep(150).then(() => true)])
}

describe('one run', () => {
  test('looks a name up and connects to what it stands for; statistics and records tell of both', async () => {
    const { door, events, lookUp, plugin } = await start()
    expect((await lookUp('host.internal')).answers).toMatchObject([{ data: '198.18.1.0' }])
    expect(await lookUp('evil.example')).toMatchObject({ rcode: 'NXDOMAIN', answers: [] })
    const socket = plugin()
    expect(await echoed(socket)).toBe(true)
    expect(DOOR_STATS.parse(door.stats())).toMatchObject({
      open: [{ connection: 1, name: 'host.internal', address: '127.0.0.1', port: 5432, rule: 1, bytesOut: 1, bytesIn: 1 }],
      totals: { opened: 1, refused: 0, queries: 2, names: 1, bytesOut: 1 }, refused: [{ what: 'evil.example', code: 'name-not-allowed', count: 1 }], spent: { bytes: 1 },
    })
    expect(events.map(({ type }) => type)).toEqual(['dns.refused', 'egress.opened'])
    socket.end()
    await closed(socket)
    while (events.length < 3) await sleep(5)
    expect(events[2]).toMatchObject({ type: 'egress.closed', name: 'host.internal', bytesOut: 1, bytesIn: 1, by: 'plugin' })
  })

  test('has at most so many connections; as many wait, unread, and one takes the place of one that ends', async () => {
    const { door, events, lookUp, plugin } = await start({ maxConnections: 3 })
    await lookUp('host.internal')
    const open = [plugin(), plugin(), plugin()]
    for (const socket of open) expect(await echoed(socket)).toBe(true)
    const waiting = plugin()
    while (door.stats().totals.waiting < 1) await sleep(5)
    expect(await isSilent(waiting)).toBe(true)
    expect(door.stats().totals.waiting).toBe(1)
    const first = once(waiting, 'data')
    open[0]?.destroy()
    await first
    expect(door.stats()).toMatchObject({ open: [{ connection: 2 }, { connection: 3 }, { connection: 4 }], totals: { waiting: 0 } })
    const more = [plugin(), plugin(), plugin()]
    while (door.stats().totals.waiting < 3) await sleep(5)
    const away = plugin()
    await closed(away)
    expect(events.at(-1)).toMatchObject({ type: 'egress.refused', code: 'too-many-connections', name: 'host.internal' })
    for (const socket of more) expect(socket.destroyed).toBe(false)
  })

  test('closes what new rules forbid, at once, and refuses what comes after', async () => {
    const { door, events, lookUp, plugin } = await start()
    await lookUp('host.internal')
    const [one, other] = [plugin(), plugin()]
    expect([await echoed(one), await echoed(other)]).toEqual([true, true])
    expect(door.swapRules(rules(rule(7, { kind: 'host.internal' }, [5432], { tls: 'off' })))).toBe(0)
    expect(door.stats().open).toMatchObject([{ rule: 7 }, { rule: 7 }])
    expect(door.swapRules(rules())).toBe(2)
    await closed(one)
    await closed(plugin())
    while (door.stats().totals.refused === 0) await sleep(5)
    expect(events.slice(-3)).toMatchObject([{ type: 'egress.closed', code: 'policy-changed' }, { type: 'egress.closed', code: 'policy-changed' }, { type: 'egress.refused', code: 'name-not-allowed' }])
  })

  test('says of what the day\'s bytes broke off why it did', async () => {
    const { door, events, plugin, lookUp } = await start({ egressMax: 3 })
    await lookUp('host.internal')
    const socket = plugin()
    expect(await echoed(socket)).toBe(true)
    socket.write('too much')
    await closed(socket)
    expect(events.at(-1)).toMatchObject({ type: 'egress.closed', by: 'door', code: 'budget-spent', bytesOut: 1 })
    expect(door.stats().refused).toMatchObject([{ what: 'host.internal:5432', code: 'budget-spent', count: 1 }])
  })

  test('closes what has become the host\'s own, and each decision names what it was compared with', async () => {
    let host: HostView = { hostAddresses: [], onLink: [], ownPorts: [], name: 'before' }
    const { door, events, plugin, lookUp } = await start({ host: () => host })
    await lookUp('host.internal')
    const socket = plugin()
    expect(await echoed(socket)).toBe(true)
    host = { ...host, ownPorts: [5432], name: 'after' }
    door.hostChanged()
    await closed(socket)
    await closed(plugin())
    expect(events).toMatchObject([{ type: 'egress.opened', network: 'before' }, { type: 'egress.closed', by: 'door', code: 'own-port' }, { type: 'egress.refused', code: 'own-port', network: 'after' }])
  })

  test('closes what time alone has ended', async () => {
    let now = Date.now()
    const { lookUp, plugin, events } = await start({ now: () => now, rules: rules(rule(1, { kind: 'host.internal' }, [5432], { tls: 'off', until: new Date(now + 60_000).toISOString() })) })
    await lookUp('host.internal')
    const socket = plugin()
    expect(await echoed(socket)).toBe(true)
    now += 60_000
    await closed(socket)
    expect(events.at(-1)).toMatchObject({ type: 'egress.closed', by: 'door', code: 'rule-expired' })
  })

  test('256 at once and two thousand in a row leave nothing behind', async () => {
    const { door, events, lookUp, plugin } = await start()
    await lookUp('host.internal')
    const all = Array.from({ length: 256 }, () => plugin())
    expect((await Promise.all(all.map((socket) => once(socket, 'connect').then(() => { socket.write('x'); return once(socket, 'data') })))).length).toBe(256)
    expect(door.stats()).toMatchObject({ totals: { open: 256, waiting: 0 } })
    expect(encodeMessage(door.stats()).length).toBeLessThan(MAX_FRAME_BYTES)
    for (const socket of all) socket.destroy()
    while (door.stats().open.length > 0) await sleep(5)
    for (let i = 0; i < 2000; i++) {
      const socket = plugin()
      socket.resume()
      socket.end('x')
      await closed(socket)
    }
    while (door.stats().open.length > 0) await sleep(5)
    expect(door.stats().totals).toMatchObject({ opened: 2256, refused: 0, bytesOut: 2256, bytesIn: 2256 })
    expect(events.filter(({ type }) => type === 'egress.closed')).toHaveLength(2256)
  })

  test('a decoy name that is looked up, or named in a hello or a request, is a tripwire', async () => {
    const { events, lookUp, plugin } = await start({ port: 80, rules: rules(rule(1, { kind: 'host.internal' }, [80]), rule(2, { kind: 'public' }, [443])) })
    expect(await lookUp('VAULT.example')).toMatchObject({ rcode: 'NXDOMAIN' })
    await lookUp('host.internal')
    for (const bytes of ['GET / HTTP/1.1\r\nHost: vault.example:80\r\n\r\n', hello({ extensions: [serverName('vault.example')] })]) {
      const socket = plugin()
      socket.write(bytes)
      await closed(socket)
    }
    const refusals = events.filter(({ type }) => type !== 'tripwire.touched')
    expect(refusals).toMatchObject([{ type: 'dns.refused', name: 'vault.example', code: 'tripwire' }, { type: 'egress.refused', code: 'tripwire' }])
    expect(events.filter(({ type }) => type === 'tripwire.touched')).toMatchObject([
      { severity: 'critical', decoy: 'name', where: 'look-up', connection: null, say: 'it asked for the decoy name vault.example' },
      { severity: 'critical', decoy: 'name', where: 'connection', connection: 1, say: 'it asked for the decoy name vault.example' },
    ])
  })

  test.each([
    ['a header of a request', `GET / HTTP/1.1\r\nHost: host.internal\r\nAuthorization: Bearer bk_${SECRET}\r\n\r\n`],
    ['Basic credentials', `GET / HTTP/1.1\r\nHost: host.internal\r\nAuthorization: Basic ${Buffer.from(`backup:bk_${SECRET}`).toString('base64')}\r\n\r\n`],
    ['a body', `POST / HTTP/1.1\r\nHost: host.internal\r\nContent-Length: 50\r\n\r\n${SECRET}xxxxxxxxxx`],
  ])('the decoy secret in %s goes nowhere and is told at once, whatever else fills the records', async (_, request) => {
    const { door, events, lookUp, plugin } = await start({ port: 80, rules: rules(rule(1, { kind: 'host.internal' }, [80])) })
    for (let n = 0; n < 60; n++) await lookUp(`junk${n}.example`)
    await lookUp('host.internal')
    const socket = plugin()
    socket.write(request.slice(0, -30))
    await sleep(20)
    socket.write(request.slice(-30)) // also across two pieces
    await closed(socket)
    expect(events.filter(({ type }) => type === 'tripwire.touched')).toMatchObject([{ decoy: 'secret', where: 'connection', connection: 1, say: 'it sent the decoy secret to host.internal:80' }])
    expect(door.stats().refused.at(-1)).toMatchObject({ what: 'host.internal:80', code: 'tripwire' })
  })

  test('the decoy secret in a name, in pieces or where the rules allow every name, is not looked up', async () => {
    const { events, lookUp } = await start({ rules: rules(rule(1, { kind: 'public' }, [443])) })
    expect(await lookUp(`${SECRET}.evil.example.org`)).toMatchObject({ rcode: 'NXDOMAIN' })
    expect(await lookUp(`${SECRET.slice(0, 20)}.${SECRET.slice(20)}.evil.example.org`.toUpperCase())).toMatchObject({ rcode: 'NXDOMAIN' })
    await lookUp(`bk_${SECRET}.evil.example.org`)
    expect(events.filter(({ type }) => type === 'tripwire.touched')).toMatchObject(Array(3).fill({ decoy: 'secret', where: 'look-up' }))
    expect(await lookUp('fine.example.org')).toMatchObject({ rcode: 'NOERROR' })
  })

  test('what a plugin writes always fits into a record, whatever it escapes to', async () => {
    const { events, lookUp, plugin } = await start({ port: 80, rules: rules(rule(1, { kind: 'host.internal' }, [80])) })
    await lookUp('host.internal')
    const names = [Buffer.alloc(80, 0), Buffer.alloc(255, 0x85), Buffer.alloc(5000, 0x9f), Buffer.from('\u202e'.repeat(80))]
    const heads = names.map((name) => Buffer.concat([Buffer.from('GET / HTTP/1.1\r\nHost: '), name, Buffer.from('\r\n\r\n')]))
    for (const bytes of [...names.map((name) => hello({ extensions: [serverName(name)] })), ...heads]) {
      const socket = plugin()
      socket.write(bytes)
      await closed(socket)
    }
    expect(new Set(events.map((event) => ('code' in event ? event.code : '')))).toEqual(new Set(['sni-malformed', 'http-host-other', 'http-malformed']))
  })

  test('knows which connections are held up by a side that does not read, and no others', async () => {
    const { door, lookUp, plugin } = await start()
    await lookUp('host.internal')
    const [reads, held, idle] = [plugin(), plugin(), plugin()]
    expect([await echoed(reads), await echoed(held), await echoed(idle)]).toEqual([true, true, true])
    reads.on('data', () => {})
    held.removeAllListeners('data').pause()
    const chunk = Buffer.alloc(1 << 20)
    for (let n = 0; n < 32; n++) held.write(chunk) // which come back
    reads.write(chunk)
    expect(door.unread()).toEqual([]) // nobody was looked at before
    let unread = door.unread()
    while (unread.length === 0) {
      await sleep(250)
      unread = door.unread()
    }
    const [relay, ...more] = unread
    expect([relay?.id, more]).toEqual([2, []])
    relay?.close('unread')
    expect(door.unread()).toEqual([])
    expect(door.stats().refused).toMatchObject([{ what: 'host.internal:5432', code: 'unread', count: 1 }])
    held.resume()
    await closed(held)
  })

  test('a clock that is set back says nothing wrong', async () => {
    let now = Date.now()
    const { events, lookUp, plugin } = await start({ now: () => now })
    await lookUp('host.internal')
    const socket = plugin()
    expect(await echoed(socket)).toBe(true)
    now -= 3_600_000
    socket.destroy()
    while (events.length < 2) await sleep(5)
    expect(events[1]).toMatchObject({ type: 'egress.closed' })
    expect(Number(events[1]?.type === 'egress.closed' ? events[1].ms : -1)).toBeLessThan(5000)
  })

  test('ends as a whole: connections, those that wait, and further ones', async () => {
    const { door, events, lookUp, plugin } = await start({ maxConnections: 1 })
    await lookUp('host.internal')
    const [one, waiting] = [plugin(), plugin()]
    expect(await echoed(one)).toBe(true)
    while (door.stats().totals.waiting < 1) await sleep(5)
    expect(await isSilent(waiting)).toBe(true)
    door.close('quarantined')
    await Promise.all([closed(one), closed(waiting)])
    expect(events.slice(-2)).toMatchObject([
      { type: 'egress.refused', code: 'quarantined', name: 'host.internal', port: 5432, say: expect.stringContaining('waiting') as string }, { type: 'egress.closed', by: 'door', code: 'quarantined' },
    ])
    await closed(plugin())
  })

  test('each of those that wait when it ends is on record, also those that had no turn yet', async () => {
    const { door, events, lookUp, plugin } = await start({ maxConnections: 2 })
    await lookUp('host.internal')
    const open = [plugin(), plugin()]
    for (const socket of open) expect(await echoed(socket)).toBe(true)
    const waiting = [plugin(), plugin()]
    while (door.stats().totals.waiting < 2) await sleep(5)
    for (let n = 0; n < 3; n++) door.accept(new Socket())
    door.close('stopping')
    await Promise.all([...open, ...waiting].map(closed))
    expect(refusals(events, 'stopping')).toBe(5)
    expect(door.stats().totals).toMatchObject({ refused: 5, waiting: 0 })
  })

  test('what ends while it waits for a place is on record when its turn comes', async () => {
    const { door, events, accepted, lookUp, plugin } = await start({ maxConnections: 2 })
    await lookUp('host.internal')
    const open = [plugin(), plugin()]
    for (const socket of open) expect(await echoed(socket)).toBe(true)
    plugin()
    while (door.stats().totals.waiting < 1) await sleep(5)
    accepted[2]?.destroy()
    const reset = plugin()
    while (door.stats().totals.waiting < 2) await sleep(5)
    reset.resetAndDestroy() // of this the kernel tells only who reads: it has a place, for a moment
    for (const socket of open) socket.destroy()
    const told = (of: DoorEvent['type'], connection: number): DoorEvent | undefined => events.find((event) => event.type === of && 'connection' in event && event.connection === connection)
    while (told('egress.closed', 3) === undefined || told('egress.refused', 0) === undefined) await sleep(5)
    expect(told('egress.opened', 3)).toBeDefined()
    expect(told('egress.refused', 0)).toMatchObject({ name: 'host.internal', port: 5432, code: 'plugin-left', say: expect.stringContaining('MaxConnections') as string })
  })
})

/** Attempts that were refused, as the records tell them. */
function refusals(events: readonly DoorEvent[], code: string): number {
  return events.reduce((sum, event) => sum + (event.type === 'egress.refused' && event.code === code ? 1 + event.coalesced : 0), 0)
}
