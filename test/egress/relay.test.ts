import { once } from 'node:events'
import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, test } from 'vitest'
import { DayBudget } from '../../src/egress/day-budget.ts'
import { REASONS } from '../../src/egress/reasons.ts'
import { alpn, hello, serverName } from './hello.ts'
import { EXAMPLE, ip, Kit, rule, rules, type KitOptions, type Plugin } from './relay-kit.ts'

const HELLO = hello({ extensions: [alpn('h2'), serverName('example.org')] })
const echo = (socket: Socket): void => void socket.pipe(socket)

let kit: Kit | null = null
let reached = 0
let arrived = Buffer.alloc(0)
afterEach(() => {
  kit?.close()
  kit = null
})

async function start(options: KitOptions = {}, serve: (socket: Socket) => void = echo): Promise<Kit> {
  reached = 0
  arrived = Buffer.alloc(0)
  kit = await Kit.start((socket) => {
    reached += 1
    socket.on('data', (bytes) => { arrived = Buffer.concat([arrived, bytes]) })
    serve(socket)
  }, options)
  return kit
}

/** The plugin sends this and is reset; nothing arrived. */
async function refusal(options: KitOptions, bytes: Buffer | string | null = HELLO) {
  const door = await start(options)
  const plugin = door.plugin()
  if (bytes !== null) plugin.socket.write(bytes)
  expect(await plugin.closed).toBe('reset')
  const record = await door.record('refused')
  expect(Object.keys(REASONS)).toContain(record.code)
  expect([plugin.received.length, arrived.length]).toEqual([0, 0])
  return record
}

describe('an allowed connection', () => {
  test('is relayed unchanged, with its opening and its end on record', async () => {
    const door = await start()
    const plugin = door.plugin()
    plugin.socket.write(HELLO.subarray(0, 7))
    await sleep(20)
    plugin.socket.write(HELLO.subarray(7))
    await plugin.receives(HELLO.length)
    plugin.socket.write('more')
    expect(await plugin.receives(HELLO.length + 4)).toEqual(Buffer.concat([HELLO, Buffer.from('more')]))
    expect(door.dialled).toEqual([{ addresses: ['93.184.216.34'], port: 443 }])
    expect(door.relays[0]?.view()).toMatchObject({ name: 'example.org', bytesOut: HELLO.length + 4, bytesIn: HELLO.length + 4 })
    plugin.socket.end()
    expect(await plugin.closed).toBe('ended')
    const about = { connection: 1, name: 'example.org', dialled: '198.18.1.0', port: 443, rule: 1, sni: 'example.org', address: '93.184.216.34' }
    expect(await door.record('closed')).toMatchObject({ ...about, bytesOut: HELLO.length + 4, bytesIn: HELLO.length + 4, by: 'plugin', code: null })
    expect(door.records[0]).toMatchObject({ type: 'opened', ...about, code: 'allowed', ech: false, alpn: ['h2'] })
    expect(door.records).toHaveLength(2)
  })

  test('sends no byte before its opening is durably on record', async () => {
    let release: () => void = () => {}
    const door = await start({ opened: () => new Promise((resolve) => { release = resolve }) })
    const plugin = door.plugin()
    plugin.socket.write(HELLO)
    while (reached === 0) await sleep(5)
    await sleep(50)
    expect(arrived.length).toBe(0)
    release()
    expect(await plugin.receives(HELLO.length)).toEqual(HELLO)
  })

  test('is not made when the record is refused', async () => {
    expect(await refusal({ opened: () => Promise.reject(new Error('full')) })).toMatchObject({ code: 'not-recorded', addresses: ['93.184.216.34'] })
  })

  test.each([
    ['the plugin leaves', 'plugin', 'plugin-left', (door: Kit, plugin: Plugin) => plugin.socket.resetAndDestroy()],
    ['the run is stopped', 'door', 'stopping', (door: Kit) => door.relays[0]?.close('stopping')],
    ['its rule goes', 'door', 'policy-changed', (door: Kit) => {
      door.egress = rules(rule(2, { kind: 'host', name: 'other.example' }, [443]))
      door.relays[0]?.rejudge()
    }],
  ])('keeps its place until its opening is on record, and then has its end there: %s meanwhile', async (_what, by, code, end) => {
    let release: () => void = () => {}
    const door = await start({ opened: () => new Promise((resolve) => { release = resolve }) })
    const plugin = door.plugin()
    plugin.socket.write(HELLO)
    while (reached === 0) await sleep(5)
    let left = false
    void door.served[0]?.then(() => { left = true })
    end(door, plugin)
    while (by === 'plugin' && door.clients[0]?.closed !== true) await sleep(5)
    await sleep(50)
    expect([left, door.records]).toEqual([false, []])
    release()
    expect(await door.record('closed')).toMatchObject({ by, code, bytesOut: 0, bytesIn: 0, address: '93.184.216.34' })
    await door.served[0]
    expect(door.records.map(({ type }) => type)).toEqual(['opened', 'closed'])
    expect(arrived.length).toBe(0)
  })
  test('is on record as refused where its opening could not be written before it ended', async () => {
    let fail: (error: Error) => void = () => {}
    const door = await start({ opened: () => new Promise((_resolve, reject) => { fail = reject }) })
    const plugin = door.plugin()
    plugin.socket.write(HELLO)
    while (reached === 0) await sleep(5)
    plugin.socket.resetAndDestroy()
    while (door.clients[0]?.closed !== true) await sleep(5)
    fail(new Error('full'))
    expect(await door.record('refused')).toMatchObject({ code: 'plugin-left' })
    await door.served[0]
    expect(door.records).toHaveLength(1)
  })
  test('is held to rules that change while its name is resolved', async () => {
    const open = (lift: boolean) => rules({ ...EXAMPLE, private: lift })
    const answer = Promise.withResolvers<{ addresses: string[] }>()
    const door = await start({ rules: open(true), resolved: answer.promise })
    door.plugin().socket.write(HELLO)
    while (door.resolving === 0) await sleep(5)
    door.egress = open(false)
    door.relays[0]?.rejudge()
    answer.resolve({ addresses: ['10.1.2.3'] })
    expect(await door.record('refused')).toMatchObject({ code: 'address-private' })
    expect(door.dialled).toEqual([])
  })

  test('keeps half-closed: the plugin ends its side and still gets the whole answer', async () => {
    const door = await start({}, (socket) => socket.on('end', () => setTimeout(() => socket.end('late answer'), 50)))
    const plugin = door.plugin()
    plugin.socket.end(HELLO)
    expect(await plugin.closed).toBe('ended')
    expect(plugin.received.toString()).toBe('late answer')
    expect(arrived).toEqual(HELLO)
    expect(await door.record('closed')).toMatchObject({ by: 'plugin', code: null })
  })

  test('keeps half-closed the other way: the peer ends first and the plugin goes on sending', async () => {
    const door = await start({}, (socket) => socket.end('hi'))
    const plugin = door.plugin()
    plugin.socket.write(HELLO)
    expect(await plugin.closed).toBe('ended')
    plugin.socket.end('and more')
    expect(await door.record('closed')).toMatchObject({ by: 'peer', bytesOut: HELLO.length + 8, bytesIn: 2 })
    expect(arrived).toEqual(Buffer.concat([HELLO, Buffer.from('and more')]))
  })

  test.each(['plugin', 'peer'] as const)('whose %s ends its side and resets later ends then, and not before', async (by) => {
    let peer: Socket | null = null
    const door = await start({ limits: { halfClosedMs: 60_000 } }, (socket) => { peer = socket })
    const plugin = door.plugin()
    plugin.socket.write(HELLO)
    await door.record('opened')
    while (peer === null) await sleep(5)
    const side: Socket = by === 'plugin' ? plugin.socket : peer
    side.end()
    const [relay] = door.relays
    const probes = setInterval(() => relay?.probe(), 20)
    try {
      await sleep(200)
      expect(relay?.isOpen).toBe(true)
      side.resetAndDestroy()
      expect(await door.record('closed')).toMatchObject({ by, code: null })
    } finally {
      clearInterval(probes)
    }
  })

  test.each([['the plugin', 'plugin'], ['the peer', 'peer']] as const)('that %s resets is reset on the other side', async (_who, by) => {
    let peer: Socket | null = null
    let peerEnd = ''
    const door = await start({}, (socket) => {
      peer = socket
      socket.on('error', (error: NodeJS.ErrnoException) => { peerEnd = error.code ?? '' })
      echo(socket)
    })
    const plugin = door.plugin()
    plugin.socket.write(HELLO)
    await plugin.receives(HELLO.length)
    if (by === 'plugin') plugin.socket.resetAndDestroy()
    else (peer as Socket | null)?.resetAndDestroy()
    expect(await door.record('closed')).toMatchObject({ by, code: null })
    if (by === 'peer') expect(await plugin.closed).toBe('reset')
    else while (peerEnd === '') await sleep(5)
  })

  test.each(['out', 'in'] as const)('does not outrun a slow reader (%s): what is held stays small', async (way) => {
    const chunk = Buffer.alloc(256 * 1024)
    const flood = (socket: Socket): void => {
      while (!socket.destroyed && socket.write(chunk)) { /* until it pushes back */ }
      socket.once('drain', () => flood(socket))
    }
    const door = await start({}, (socket) => {
      if (way === 'out') socket.pause()
      else flood(socket)
    })
    const plugin = door.plugin()
    plugin.socket.write(HELLO)
    await door.record('opened')
    if (way === 'out') flood(plugin.socket)
    else plugin.socket.pause()
    const passed = (): number => (way === 'out' ? door.relays[0]?.bytesOut : door.relays[0]?.bytesIn) ?? 0
    let before = -1
    // It comes to a stand, and long before it has passed what an unread flood would come to in that time.
    await expect.poll(() => before === (before = passed()), { interval: 300 }).toBe(true)
    expect(before).toBeGreaterThan(0)
    expect(before).toBeLessThan(24 * 2 ** 20) // kernel buffers of four sockets
    await sleep(100)
    expect(passed()).toBe(before)
  })
})

describe('by address', () => {
  test.each(['127.0.0.1', '127.8.8.8', '::1', '0.0.0.0', '::', '::ffff:127.0.0.1', '198.18.0.1'])('the plugin\'s own %s is reset', async (address) => {
    expect(await refusal({ dialled: { address, port: 443 } })).toMatchObject({ code: 'loopback-reset' })
  })
  test('a synthetic address that no name was given is refused', async () => {
    expect(await refusal({ dialled: { address: '198.18.9.9', port: 443 } })).toMatchObject({ code: 'synthetic-unknown', name: null, dialled: '198.18.9.9' })
  })
  test.each(['93.184.216.34', '2606:2800:220:1::1', '10.0.5.7', '169.254.169.254'])('the literal %s is refused although a name is allowed', async (address) => {
    expect(await refusal({ dialled: { address, port: 443 } })).toMatchObject({ code: 'literal-not-allowed', name: null, dialled: address })
    expect(kit?.dialled).toEqual([])
  })
  test('a literal under a cidr rule is dialled, exactly it', async () => {
    const door = await start({ rules: rules(rule(3, { kind: 'cidr', base: '10.0.5.0', prefix: 24, family: 4 }, [5432], { private: true, tls: 'off' })), dialled: { address: '::ffff:10.0.5.7', port: 5432 } })
    const plugin = door.plugin()
    plugin.socket.write('hello')
    expect((await plugin.receives(5)).toString()).toBe('hello')
    expect(door.dialled).toEqual([{ addresses: ['10.0.5.7'], port: 5432 }])
    expect(door.records[0]).toMatchObject({ name: null, dialled: '10.0.5.7', rule: 3 })
  })
  test('a cidr rule without private opens no private address', async () => {
    const options = { rules: rules(rule(3, { kind: 'cidr', base: '10.0.5.0', prefix: 24, family: 4 }, [5432], { tls: 'off' })), dialled: { address: '10.0.5.7', port: 5432 } } as const
    expect(await refusal(options)).toMatchObject({ code: 'address-private', rule: 3 })
  })
  test.each([
    ['127.0.0.1', 'address-loopback'], ['0.0.0.0', 'address-unspecified'], ['::', 'address-unspecified'], ['::1', 'address-loopback'], ['::ffff:127.0.0.1', 'address-loopback'],
    ['10.1.2.3', 'address-private'], ['100.64.1.1', 'address-shared'], ['169.254.169.254', 'address-metadata'], ['fe80::1', 'address-link-local'], ['fd00::1', 'address-unique-local'],
    ['64:ff9b::7f00:1', 'address-translated'], ['2002:7f00:1::', 'address-translated'], ['198.18.1.0', 'address-benchmarking'], ['224.0.0.1', 'address-multicast'],
    ['203.0.114.1', 'address-host'], ['203.0.114.77', 'address-on-link'],
  ])('a name that resolves to %s is not dialled (%s)', async (address, code) => {
    const host = { hostAddresses: [{ base: ip('203.0.114.1'), prefix: 32 }], onLink: [{ base: ip('203.0.114.0'), prefix: 24 }] }
    expect(await refusal({ resolved: { addresses: [address] }, host })).toMatchObject({ code, name: 'example.org', addresses: [address], rule: 1 })
    expect(kit?.dialled).toEqual([])
  })
  test('of several addresses only those that were judged fit are dialled', async () => {
    const door = await start({ resolved: { addresses: ['169.254.169.254', '93.184.216.34', '10.0.0.1', '2606:2800:220:1::1'] } })
    const plugin = door.plugin()
    plugin.socket.write(HELLO)
    await plugin.receives(HELLO.length)
    expect(door.dialled[0]?.addresses).toEqual(['93.184.216.34', '2606:2800:220:1::1'])
  })
  test('private: true lifts private addresses, and not the metadata service', async () => {
    const own = rules(rule(1, { kind: 'host', name: 'example.org' }, [443], { private: true }))
    const door = await start({ rules: own, resolved: { addresses: ['10.0.0.1'] } })
    const plugin = door.plugin()
    plugin.socket.write(HELLO)
    await plugin.receives(HELLO.length)
    expect(door.dialled[0]?.addresses).toEqual(['10.0.0.1'])
    door.close()
    expect(await refusal({ rules: own, resolved: { addresses: ['169.254.169.254'] } })).toMatchObject({ code: 'address-metadata' })
  })
  test('host.internal means the loopback of the host, without a resolver, and never a port of Cordon\'s own', async () => {
    const own = (port: number): KitOptions => ({ rules: rules(rule(1, { kind: 'host.internal' }, [port], { tls: 'off' })), dialled: { address: '198.18.1.0', port }, names: { '198.18.1.0': 'host.internal' }, resolved: { addresses: ['192.0.2.1'] } })
    const door = await start(own(5432))
    const plugin = door.plugin()
    plugin.socket.write('x')
    await plugin.receives(1)
    expect(door.dialled).toEqual([{ addresses: ['127.0.0.1', '::1'], port: 5432 }])
    door.close()
    expect(await refusal(own(8480))).toMatchObject({ code: 'own-port' })
  })
})

describe('by rule and by what the first bytes say', () => {
  test.each<[string, string, KitOptions, Buffer | string | null]>([
    ['name-not-allowed', 'no rule', { rules: rules() }, HELLO],
    ['port-not-allowed', 'another port', { rules: rules(rule(1, { kind: 'host', name: 'example.org' }, [8443])) }, HELLO],
    ['rule-expired', 'a rule that has ended', { rules: rules({ ...EXAMPLE, until: '2020-01-01T00:00:00Z' }) }, HELLO],
    ['sni-mismatch', 'another name in the hello', {}, hello({ extensions: [serverName('evil.example')] })],
    ['sni-mismatch', 'a subdomain in the hello', {}, hello({ extensions: [serverName('www.example.org')] })],
    ['sni-missing', 'no name in the hello', {}, hello({ extensions: [] })],
    ['sni-malformed', 'a name with NUL', {}, hello({ extensions: [serverName('example.org\0.evil.example')] })],
    ['sni-several', 'two names', {}, hello({ extensions: [serverName('example.org', 'evil.example')] })],
    ['ech-refused', 'an encrypted hello', {}, hello({ extensions: [serverName('example.org'), [0xfe0d, Buffer.alloc(8)]] })],
    ['tls-required', 'plain HTTP on 443', {}, 'GET / HTTP/1.1\r\nHost: example.org\r\n\r\n'],
    ['tls-timeout', 'half a hello and no more', { limits: { helloMs: 100 } }, HELLO.subarray(0, 30)],
    ['tls-timeout', 'nothing at all', { limits: { helloMs: 100 } }, null],
    ['resolve-timeout', 'a resolver that is silent', { resolved: { failed: 'resolve-timeout' } }, HELLO],
    ['connect-refused', 'nobody there', { nobody: true }, HELLO],
    ['budget-spent', 'no bytes left today', { budget: new DayBudget(10, { day: '2999-01-01', bytes: 10 }, Date.now()) }, HELLO],
  ])('%s: %s', async (code, _what, options, bytes) => {
    const record = await refusal(options, bytes)
    expect(record.code).toBe(code)
    expect(record.say.length).toBeGreaterThan(10)
    expect(reached).toBe(0)
  })

  const PLAIN: KitOptions = { rules: rules(rule(1, { kind: 'host', name: 'example.org' }, [25])), dialled: { address: '198.18.1.0', port: 25 } }
  test('under auto the other side may speak first', async () => {
    const door = await start(PLAIN, (socket) => {
      socket.write('220 mail')
      socket.on('data', () => socket.write('250 ok'))
    })
    const plugin = door.plugin()
    expect((await plugin.receives(8)).toString()).toBe('220 mail')
    plugin.socket.write('EHLO x\r\n')
    expect((await plugin.receives(14)).toString()).toBe('220 mail250 ok')
    expect(arrived.toString()).toBe('EHLO x\r\n')
  })
  test('under auto a hello for another name never leaves', async () => {
    const door = await start(PLAIN)
    const plugin = door.plugin()
    await door.record('opened')
    const evil = hello({ extensions: [serverName('evil.example')] })
    for (const byte of evil) plugin.socket.write(Buffer.from([byte]))
    expect(await plugin.closed).toBe('reset')
    expect(await door.record('refused')).toMatchObject({ code: 'sni-mismatch', sni: 'evil.example' })
    expect(await door.record('closed')).toMatchObject({ by: 'door', code: 'sni-mismatch', bytesOut: 0 })
    expect(arrived.length).toBe(0)
  })
  test('under tls: off nothing is looked at', async () => {
    const door = await start({ rules: rules({ ...EXAMPLE, tls: 'off' }) })
    const plugin = door.plugin()
    const bytes = hello({ extensions: [serverName('evil.example')] })
    plugin.socket.write(bytes)
    expect(await plugin.receives(bytes.length)).toEqual(bytes)
    expect(door.records[0]).toMatchObject({ type: 'opened', sni: null })
  })
  test('ech: true accepts a browser\'s dummy', async () => {
    const door = await start({ rules: rules({ ...EXAMPLE, ech: true }) })
    const plugin = door.plugin()
    const bytes = hello({ extensions: [serverName('example.org'), [0xfe0d, Buffer.alloc(8)]] })
    plugin.socket.write(bytes)
    expect(await plugin.receives(bytes.length)).toEqual(bytes)
    expect(door.records[0]).toMatchObject({ type: 'opened', ech: true })
  })

  const HTTP: KitOptions = { rules: rules(rule(1, { kind: 'host', name: 'example.org' }, [80])), dialled: { address: '198.18.1.0', port: 80 } }
  const good = 'GET /a HTTP/1.1\r\nHost: example.org\r\n\r\n'
  test('on port 80 each request is held to its Host, the second one too', async () => {
    const door = await start(HTTP)
    const plugin = door.plugin()
    plugin.socket.write(good)
    await plugin.receives(good.length)
    plugin.socket.write(`${good}GET /b HTTP/1.1\r\nHost: evil.example\r\n\r\n`)
    expect(await plugin.closed).toBe('reset')
    expect(await door.record('refused')).toMatchObject({ code: 'http-host-other', host: 'evil.example', sni: null })
    expect(await door.record('closed')).toMatchObject({ by: 'door', code: 'http-host-other', requests: 2 })
    await sleep(20)
    expect(good.repeat(2).startsWith(arrived.toString())).toBe(true)
  })
  test.each([
    ['http-host-other', good.replace('example.org', 'evil.example')], ['http-malformed', 'SSH-2.0-x\r\n\r\n'], ['http-upgrade', good.replace('\r\n\r\n', '\r\nUpgrade: websocket\r\n\r\n')],
    ['sni-mismatch', hello({ extensions: [serverName('evil.example')] })],
  ])('on port 80: %s', async (code, bytes) => {
    expect((await refusal(HTTP, bytes)).code).toBe(code)
    expect(reached).toBe(0)
  })
  test('on port 80 a head that does not come to its end is not waited for', async () => {
    expect((await refusal({ ...HTTP, limits: { helloMs: 100 } }, 'GET / HTTP/1.1\r\n')).code).toBe('http-timeout')
  })
  test('a plugin that leaves before it has said anything is on record too', async () => {
    const door = await start()
    door.plugin().socket.end()
    expect(await door.record('refused')).toMatchObject({ code: 'plugin-left' })
  })
})

describe('an open connection ends', () => {
  const open = async (options: KitOptions = {}) => {
    const door = await start(options)
    const plugin = door.plugin()
    plugin.socket.write(HELLO)
    await plugin.receives(HELLO.length)
    return { door, plugin, relay: door.relays[0] }
  }
  test('when the new rules forbid it', async () => {
    const { door, plugin, relay } = await open()
    door.egress = rules(EXAMPLE, rule(2, { kind: 'host', name: 'other.example' }, [443]))
    expect(relay?.rejudge()).toBe(false)
    door.egress = rules(rule(2, { kind: 'host', name: 'other.example' }, [443]))
    expect(relay?.rejudge()).toBe(true)
    expect(await plugin.closed).toBe('reset')
    expect(await door.record('closed')).toMatchObject({ by: 'door', code: 'policy-changed' })
  })
  test('when the rule that opened it has ended', async () => {
    let now = Date.now()
    const { door, relay } = await open({ now: () => now, rules: rules({ ...EXAMPLE, until: new Date(now + 60_000).toISOString() }) })
    expect(relay?.rejudge()).toBe(false)
    now += 60_000
    expect(relay?.rejudge()).toBe(true)
    expect(door.records.at(-1)).toMatchObject({ type: 'closed', code: 'rule-expired' })
  })
  test('when learning has let it through, and ends', async () => {
    let now = Date.now()
    const { door, relay } = await open({ now: () => now, rules: { mode: 'learn', until: new Date(now + 60_000).toISOString(), allow: [] } })
    expect(relay?.rejudge()).toBe(false)
    now += 60_000
    expect(relay?.rejudge()).toBe(true)
    expect(door.records.at(-1)).toMatchObject({ type: 'closed', code: 'learning-ended' })
  })
  test('when the new rule asks for TLS and nobody looked for it', async () => {
    const { door, relay } = await open({ rules: rules({ ...EXAMPLE, tls: 'off' }) })
    door.egress = rules(EXAMPLE)
    expect(relay?.rejudge()).toBe(true)
  })
  test('before it was open, too, and then nothing is dialled', async () => {
    let answer: (value: { addresses: string[] }) => void = () => {}
    const door = await start({ resolved: new Promise((resolve) => { answer = resolve }) })
    const plugin = door.plugin()
    plugin.socket.write(HELLO)
    while (door.resolving === 0) await sleep(5)
    door.egress = rules()
    expect(door.relays[0]?.rejudge()).toBe(false)
    answer({ addresses: ['93.184.216.34'] })
    expect(await plugin.closed).toBe('reset')
    expect(await door.record('refused')).toMatchObject({ code: 'policy-changed' })
    expect(door.dialled).toEqual([])
  })
  test('when nothing passes for too long', async () => {
    const { door, plugin } = await open({ limits: { idleMs: 100 } })
    expect(await plugin.closed).toBe('reset')
    expect(await door.record('closed')).toMatchObject({ by: 'door', code: 'idle' })
  })
  test('when one side has ended and the other stays silent', async () => {
    const door = await start({ limits: { halfClosedMs: 100 } }, () => {})
    const plugin = door.plugin()
    plugin.socket.end(HELLO)
    expect(await plugin.closed).toBe('reset')
    expect(await door.record('closed')).toMatchObject({ by: 'door', code: 'idle' })
  })
  test('when the bytes of the day are spent, and what is over them never leaves', async () => {
    const { door, plugin } = await open({ budget: new DayBudget(HELLO.length + 10, { day: '2026-01-01', bytes: 0 }, Date.now()) })
    plugin.socket.write('0123456789')
    await plugin.receives(HELLO.length + 10)
    plugin.socket.write('x')
    expect(await plugin.closed).toBe('reset')
    expect(await door.record('closed')).toMatchObject({ by: 'door', code: 'budget-spent', bytesOut: HELLO.length + 10 })
    expect(arrived.length).toBe(HELLO.length + 10)
  })
  test('when the run is stopped', async () => {
    const { door, plugin, relay } = await open()
    relay?.close('stopping')
    expect(await plugin.closed).toBe('reset')
    await once(plugin.socket, 'close')
    expect(door.records.filter(({ type }) => type === 'closed')).toMatchObject([{ code: 'stopping' }])
  })
})
