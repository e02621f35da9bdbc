import type { Duplex } from 'node:stream'
import { afterEach, describe, expect, it } from 'vitest'
import { connectHost, startPeer, type HostOptions, type HostSide, type Peer } from './peer.ts'

let peers: Peer[] = []
let hosts: HostSide[] = []
afterEach(async () => {
  for (const host of hosts) host.channel.close()
  for (const peer of peers) await peer.close()
  peers = []
  hosts = []
})

async function peer(onUpgrade?: (socket: Duplex) => void): Promise<Peer> {
  const started = await startPeer(onUpgrade)
  peers.push(started)
  return started
}

async function pair(options: HostOptions = {}) {
  const plugin = await peer()
  const host = await connectHost(plugin.path, options)
  hosts.push(host)
  return { plugin, host, socket: await plugin.socket }
}

const until = async (condition: () => boolean): Promise<void> => {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5))
}

describe('the upgrade', () => {
  it('is what every SDK expects: path, host, secret, version 13, no extension, no subprotocol', async () => {
    const { plugin } = await pair()
    const request = await plugin.upgrade
    expect(request.url).toBe('/_temps/channel')
    expect(request.headers).toMatchObject({ host: 'localhost', 'x-temps-auth-signature': 's3cret', 'sec-websocket-version': '13' })
    expect(request.headers).not.toHaveProperty('sec-websocket-extensions')
    expect(request.headers).not.toHaveProperty('sec-websocket-protocol')
  })

  it('fails with CHANNEL_REFUSED where nobody listens, on 401, 404 and a redirect, and on garbage', async () => {
    await expect(connectHost('/nowhere/plugin.sock')).rejects.toMatchObject({ code: 'CHANNEL_REFUSED' })
    for (const answer of ['HTTP/1.1 401 U\r\ncontent-length: 0\r\n\r\n', 'HTTP/1.1 404 N\r\ncontent-length: 0\r\n\r\n', 'HTTP/1.1 302 F\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n', '\0\0\0\0']) {
      const plugin = await peer((raw) => raw.end(answer))
      await expect(connectHost(plugin.path)).rejects.toMatchObject({ code: 'CHANNEL_REFUSED' })
    }
  })

  it('gives up after its time limit, also when the plugin dribbles header bytes', async () => {
    const silent = await peer(() => {})
    await expect(connectHost(silent.path, { limits: { handshakeMs: 60 } })).rejects.toMatchObject({ code: 'CHANNEL_REFUSED' })
    const dribbling = await peer((raw) => {
      raw.write('HTTP/1.1 101 S\r\nx: ')
      const timer = setInterval(() => raw.write('y'), 5)
      raw.on('close', () => clearInterval(timer)).on('error', () => {})
    })
    await expect(connectHost(dribbling.path, { limits: { handshakeMs: 60 } })).rejects.toMatchObject({ message: expect.stringContaining('no answer to the upgrade') as string })
  })
})

describe('the dialects', () => {
  it('answers a Rust, a Node and a Python peer in their own shape on one connection', async () => {
    const { plugin, socket, host } = await pair({ manifest: { host_permissions: ['projects_read'] }, grants: ['projects_read'] })
    socket.send('{"type":"request","id":1,"call":{"method":"list_projects","params":{}}}')
    expect(await plugin.next()).toEqual({ type: 'response', id: 1, outcome: { ok: { method: 'list_projects', result: [] } } })
    socket.send('{"type":"request","id":2,"method":"list_projects","params":{"limit":10}}')
    expect(await plugin.next()).toEqual({ type: 'response', id: 2, result: [] })
    socket.send('{"id":"0e1c","method":"list_deployments","params":{"project_id":1}}')
    expect(await plugin.next()).toEqual({ type: 'response', id: '0e1c', error: { code: 'permission_denied', message: expect.any(String) as string } })
    expect(host.calls.map(({ method, outcome }) => [method, outcome])).toEqual([['list_projects', 'ok'], ['list_projects', 'ok'], ['list_deployments', 'permission_denied']])
  })

  it('applies grants to a plugin that declares none only where the policy says so', async () => {
    for (const [legacy, outcome] of [['deny', 'permission_denied'], ['grant', 'ok']] as const) {
      const { plugin, socket, host } = await pair({ grants: ['projects_read'], legacy })
      socket.send('{"id":"a","method":"list_projects","params":{}}')
      await plugin.next()
      expect(host.calls[0]?.outcome).toBe(outcome)
    }
  })

  it('answers out of order by id when the provider is slow', async () => {
    let release = (): void => {}
    const slow = new Promise<void>((resolve) => (release = resolve))
    const provider = { getProject: async () => (await slow, null) }
    const { plugin, socket } = await pair({ manifest: { host_permissions: ['projects_read'] }, grants: ['projects_read'], provider })
    socket.send('{"type":"request","id":1,"method":"get_project","params":{"project_id":1}}')
    socket.send('{"type":"request","id":2,"method":"get_host_capabilities","params":{}}')
    expect(await plugin.next()).toMatchObject({ id: 2 })
    release()
    expect(await plugin.next()).toMatchObject({ id: 1, error: { code: 'not_found' } })
  })

  it('ignores binary frames and text without an id, answers what has one, and stays open', async () => {
    const { plugin, socket, host } = await pair()
    socket.send(Buffer.from('{"type":"request","id":1,"method":"get_host_capabilities"}'))
    for (const text of ['', 'x', '[]', '{}', '{"id":{}}']) socket.send(text)
    socket.send('{"id": 41, broken')
    expect(await plugin.next()).toMatchObject({ id: 41, error: { code: 'method_not_found' } })
    socket.send('{"type":"mystery","id":42}')
    expect(await plugin.next()).toMatchObject({ id: 42, error: { code: 'method_not_found' } })
    socket.send('{"type":"request","id":43,"method":"nope\\u001b","params":{}}')
    expect(await plugin.next()).toMatchObject({ id: 43, error: { code: 'method_not_found' } })
    expect(plugin.texts).toHaveLength(3)
    expect(host.calls).toMatchObject([{ method: 'nope\\x1b', outcome: 'method_not_found' }])
  })

  it('answers pings', async () => {
    const { socket } = await pair()
    const pong = new Promise((resolve) => socket.once('pong', (data) => resolve(String(data))))
    socket.ping('still there?')
    expect(await pong).toBe('still there?')
  })
})

describe('limits', () => {
  it('answers the 33rd call at once with internal', async () => {
    const provider = { getProject: () => new Promise<null>(() => {}) }
    const { plugin, socket } = await pair({ manifest: { host_permissions: ['projects_read'] }, grants: ['projects_read'], provider })
    for (let id = 1; id <= 33; id += 1) socket.send(`{"type":"request","id":${id},"method":"get_project","params":{"project_id":1}}`)
    expect(await plugin.next()).toMatchObject({ id: 33, error: { code: 'internal' } })
  })

  it('answers internal when the provider fails or takes too long', async () => {
    const provider = { getProject: () => new Promise<null>(() => {}), getEnvironment: () => Promise.reject(new Error('secret path /x')) }
    const { plugin, socket } = await pair({ manifest: { host_permissions: ['projects_read', 'environments_read'] }, grants: ['projects_read', 'environments_read'], provider, limits: { callMs: 30 } })
    socket.send('{"type":"request","id":1,"method":"get_environment","params":{"environment_id":1}}')
    expect(await plugin.next()).toEqual({ type: 'response', id: 1, error: { code: 'internal', message: 'the host failed to answer' } })
    socket.send('{"type":"request","id":2,"method":"get_project","params":{"project_id":1}}')
    expect(await plugin.next()).toMatchObject({ id: 2, error: { code: 'internal' } })
  })

  it('replaces an answer that is too large for a frame with internal', async () => {
    const provider = { listProjects: async () => [{ name: 'x'.repeat(2000) }] as never }
    const { plugin, socket } = await pair({ manifest: { host_permissions: ['projects_read'] }, grants: ['projects_read'], provider, limits: { maxMessageBytes: 1000 } })
    socket.send('{"type":"request","id":1,"method":"list_projects","params":{}}')
    expect(await plugin.next()).toMatchObject({ id: 1, error: { code: 'internal' } })
  })

  it('closes on a message above 4 MiB and says so; one just below is only ignored', async () => {
    const { socket, host, plugin } = await pair()
    socket.send('x'.repeat(4 * 1024 * 1024))
    socket.send('{"type":"request","id":1,"method":"get_host_capabilities"}')
    await plugin.next()
    socket.send('x'.repeat(4 * 1024 * 1024 + 1))
    expect(await host.channel.closed).toMatch(/max payload size exceeded/i)
  })

  it.each([
    ['a frame that claims 2^63 bytes', Buffer.from([0x81, 0x7f, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])],
    ['a masked frame', Buffer.from([0x81, 0x81, 1, 2, 3, 4, 5])],
    ['a reserved bit', Buffer.from([0xc1, 0x01, 0x61])],
    ['an unknown opcode', Buffer.from([0x83, 0x00])],
    ['a fragmented ping', Buffer.from([0x09, 0x00])],
    ['a long ping', Buffer.concat([Buffer.from([0x89, 0x7e, 0x00, 0x80]), Buffer.alloc(128)])],
    ['text that is not UTF-8', Buffer.from([0x81, 0x02, 0xff, 0xfe])],
    ['a continuation of nothing', Buffer.from([0x80, 0x00])],
    ['endless empty fragments', Buffer.concat([Buffer.from([0x01, 0x00]), ...Array.from({ length: 20_000 }, () => Buffer.from([0x00, 0x00]))])],
  ])('closes on %s', async (_, bytes) => {
    const { socket, host } = await pair()
    ;(socket as unknown as { _socket: Duplex })._socket.write(bytes)
    expect(await host.channel.closed).not.toBe('')
  })

  it('does not wait for a plugin that broke the rules, or said goodbye, to hang up', async () => {
    for (const bytes of [Buffer.from([0x83, 0x00]), Buffer.from([0x88, 0x02, 0x03, 0xe8])]) {
      const { socket, host } = await pair()
      socket.pause()
      ;(socket as unknown as { _socket: Duplex })._socket.write(bytes)
      expect(await Promise.race([host.channel.closed, new Promise((resolve) => setTimeout(resolve, 15_000, 'still open'))])).not.toBe('still open')
    }
  })

  it('slows a flood of calls down without losing one of them', async () => {
    const { plugin, socket, host } = await pair({ limits: { messagesPerSecond: 2000, messagesBurst: 100 } })
    const started = Date.now()
    for (let id = 1; id <= 1500; id += 1) socket.send(`{"type":"request","id":${id},"method":"get_host_capabilities","params":{"pad":"${'x'.repeat(1000)}"}}`)
    await until(() => plugin.texts.length === 1500)
    expect(Date.now() - started).toBeGreaterThan(300)
    expect(host.calls.filter(({ outcome }) => outcome === 'ok')).toHaveLength(1500)
  })

  it('reads large messages the more slowly, whatever is in them', async () => {
    const { plugin, socket } = await pair({ limits: { messagesPerSecond: 2000, messagesBurst: 100 } })
    const started = Date.now()
    for (let n = 0; n < 3; n += 1) socket.send(`{"x":"${'x'.repeat(4_000_000)}"}`) // 977 tokens each
    socket.send('{"type":"request","id":1,"method":"get_host_capabilities"}')
    await until(() => plugin.texts.length === 1)
    expect(Date.now() - started).toBeGreaterThan(700)
  })

  it('does not take a burst of quick calls for too many at once', async () => {
    const { plugin, socket, host } = await pair()
    for (let id = 1; id <= 200; id += 1) socket.send(`{"type":"request","id":${id},"method":"get_host_capabilities"}`)
    await until(() => plugin.texts.length === 200)
    expect(host.calls.filter(({ outcome }) => outcome === 'ok')).toHaveLength(200)
  })

  it('cuts off, or stops reading, a plugin that never reads its answers; what it holds stays bounded', async () => {
    const { socket, host } = await pair({ limits: { messagesPerSecond: 1e6, messagesBurst: 1e6, pauseAboveBytes: 16 * 1024, maxQueuedBytes: 64 * 1024 } })
    socket.pause()
    const before = process.memoryUsage().arrayBuffers
    const raw = (socket as unknown as { _socket: Duplex })._socket
    for (let id = 1; id <= 20_000 && raw.writable; id += 1) socket.send(`{"type":"request","id":${id},"method":"nope","params":{}}`)
    await new Promise((resolve) => setTimeout(resolve, 300))
    expect(host.calls.length).toBeLessThan(20_000)
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(64 * 1024 * 1024)
  })

  it('tells when the plugin closes the channel', async () => {
    const { socket, host } = await pair()
    socket.close(1000)
    expect(await host.channel.closed).toBe('closed by the plugin (code 1000)')
  })
})
