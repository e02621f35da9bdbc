import { once } from 'node:events'
import { createHash, randomBytes } from 'node:crypto'
import { createServer as createTcp, connect, type Socket } from 'node:net'
import { request, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Bed, codeOf, echo, echoed, TOKEN, until } from './fixture.ts'

const bed = new Bed()
const MIB = 1024 * 1024

beforeAll(async () => {
  await bed.start({ limits: { responseHeadersTimeoutMs: 1_000, requestBodyBytes: MIB, queueTimeoutMs: 1_500 } })
  await bed.plugin('echo', echo)
})
afterAll(() => bed.stop())

/** A request whose response is read as it comes. */
async function open(path: string, method = 'GET'): Promise<IncomingMessage> {
  const req = request({ host: '127.0.0.1', port: bed.port, path, method, agent: false, headers: { host: bed.host, authorization: `Bearer ${TOKEN}` } })
  req.end()
  const [res] = (await once(req, 'response')) as [IncomingMessage]
  return res
}

/** A plugin that speaks bytes instead of HTTP. */
async function bytes(name: string, answer: string, end = true): Promise<void> {
  const server = createTcp((socket) => {
    socket.on('error', () => undefined)
    socket.once('data', () => (end ? socket.end(answer, 'latin1') : socket.write(answer, 'latin1')))
  })
  const path = join(bed.dir, `${name}.sock`)
  await new Promise<void>((resolve) => server.listen(path, resolve))
  server.unref()
  bed.attach(name, path)
}

describe('what passes', () => {
  test.each(['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'PROPFIND', 'QUERY'])('%s with its body', async (method) => {
    const seen = echoed(await bed.api('/api/x/echo/a?b=%2e', { 'content-type': 'text/plain', 'content-length': '5' }, method, 'hello'))
    expect([seen.method, seen.url, seen.body, seen.headers['content-type']]).toEqual([method, '/a?b=%2e', 'hello', 'text/plain'])
  })
  test('HEAD without a body, with its headers', async () => {
    const reply = await bed.api('/api/x/echo/a', {}, 'HEAD')
    expect([reply.status, reply.headers['content-type'], reply.body]).toEqual([200, 'application/json', ''])
  })
  test('a chunked upload, piece by piece', async () => {
    const pieces: string[] = []
    await bed.plugin('reads', (req, res) => void req.on('data', (piece: Buffer) => pieces.push(piece.toString())).on('end', () => res.end(req.headers['transfer-encoding'])))
    const req = request({ host: '127.0.0.1', port: bed.port, path: '/api/x/reads/a', method: 'POST', agent: false, headers: { host: bed.host, authorization: `Bearer ${TOKEN}` } })
    req.write('one')
    await until(() => pieces.length === 1)
    req.end('two')
    const [res] = (await once(req, 'response')) as [IncomingMessage]
    expect(String((await once(res, 'data'))[0])).toBe('chunked')
    expect(pieces).toEqual(['one', 'two'])
  })
  test('status, headers and large bodies both ways, byte for byte', async () => {
    const up = new Bed()
    try {
      await up.start()
      await up.plugin('big', (req, res) => {
        res.writeHead(207, { 'x-two': ['1', '2'], etag: '"x"' })
        req.pipe(res)
      })
      const body = randomBytes(20 * MIB).toString('base64')
      const reply = await up.api('/api/x/big/a', {}, 'POST', body)
      expect([reply.status, reply.headers.etag, reply.headers['x-two']]).toEqual([207, '"x"', '1, 2'])
      expect(createHash('sha256').update(reply.body).digest('hex')).toBe(createHash('sha256').update(body).digest('hex'))
      expect(up.events.find((event) => event.type === 'http.request')).toMatchObject({ plugin: 'big', method: 'POST', status: 207, bytesIn: body.length, bytesOut: body.length, who: 'admin via token' })
    } finally {
      await up.stop()
    }
  })
  test('redirects are not followed, and stay below the plugin\'s prefix', async () => {
    await bed.plugin('moves', (_req, res) => void res.writeHead(302, { location: '/ui/', 'set-cookie': 'a=b', 'service-worker-allowed': '/', 'access-control-allow-origin': '*' }).end())
    const reply = await bed.api('/api/x/moves/ui')
    expect([reply.status, reply.headers.location]).toEqual([302, '/api/x/moves/ui/'])
    for (const name of ['set-cookie', 'service-worker-allowed', 'access-control-allow-origin']) expect(reply.headers[name]).toBeUndefined()
  })
  test('server-sent events arrive one by one while the stream stays open, headers before the first', async () => {
    let send: (text: string) => void = () => undefined
    await bed.plugin('sse', (_req, res) => {
      res.writeHead(200, { 'content-type': 'text/event-stream' })
      res.flushHeaders()
      send = (text) => void res.write(`data: ${text}\n\n`)
    })
    const res = await open('/api/x/sse/events')
    expect(res.headers['content-type']).toBe('text/event-stream')
    for (const text of ['one', 'two']) {
      const next = once(res, 'data')
      send(text)
      expect(String((await next)[0])).toBe(`data: ${text}\n\n`)
    }
    // Longer than the limit for response headers: streams may pause.
    await new Promise((resolve) => setTimeout(resolve, 2_200))
    const next = once(res, 'data')
    send('three')
    expect(String((await next)[0])).toBe('data: three\n\n')
    res.destroy()
  })
  test('100-continue: the body is invited when the request may pass, and not before', async () => {
    const head = (auth: string) => `POST /api/x/echo/a HTTP/1.1\r\nHost: ${bed.host}\r\n${auth}Content-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n`
    expect(await bed.raw(head(''))).toMatch(/^HTTP\/1\.1 401 /)
    const text = await bed.raw(`${head(`Authorization: Bearer ${TOKEN}\r\n`)}hi`)
    expect(text).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK/)
  })
})

describe('who leaves', () => {
  test('a client that goes away ends the request at the plugin', async () => {
    let gone = false
    await bed.plugin('slow', (_req, res) => {
      res.write('x')
      res.on('close', () => (gone = true))
    })
    const res = await open('/api/x/slow/a')
    await once(res, 'data')
    expect(gone).toBe(false)
    res.destroy()
    await until(() => gone)
  })
  test('one that goes away before the answer, or in the middle of its upload, too', async () => {
    let [came, closed] = [0, 0]
    await bed.plugin('mute', (req) => {
      came++
      req.on('close', () => closed++)
      req.on('error', () => undefined)
    })
    for (const text of ['GET /api/x/mute/a HTTP/1.1\r\n', 'POST /api/x/mute/a HTTP/1.1\r\nContent-Length: 100\r\n']) {
      const [before, there] = [closed, came]
      const socket = connect(bed.port, '127.0.0.1')
      socket.write(`${text}Host: ${bed.host}\r\nAuthorization: Bearer ${TOKEN}\r\n\r\nabc`)
      await until(() => came > there)
      socket.destroy()
      await until(() => closed > before)
    }
  })
  test('a client that takes nothing of what lies ready for it is let go; one that has nothing to take is not', async () => {
    const strict = new Bed()
    try {
      await strict.start({ limits: { readerStallMs: 500 } })
      const gone = new Set<string>()
      const stream = (name: string, more: (res: ServerResponse) => void): RequestListener => (_req, res) => {
        res.on('close', () => gone.add(name))
        more(res)
      }
      await strict.plugin('endless', stream('endless', (res) => {
        const go = (): void => { while (res.write(Buffer.alloc(65_536))); res.once('drain', go) }
        go()
      }))
      await strict.plugin('large', stream('large', (res) => res.end(Buffer.alloc(16 * MIB))))
      await strict.plugin('pauses', (_req, res) => {
        res.write('one')
        setTimeout(() => res.end('two'), 1_500)
      })
      const ask = (name: string): Socket => {
        const socket = connect(strict.port, '127.0.0.1')
        socket.on('error', () => {}) // the reset at the end
        socket.write(`GET /api/x/${name}/a HTTP/1.1\r\nHost: ${strict.host}\r\nAuthorization: Bearer ${TOKEN}\r\n\r\n`)
        return socket
      }
      const silent = [ask('endless'), ask('large')]
      for (const socket of silent) socket.pause()
      const held = (): Promise<number> => new Promise((done) => strict.front?.server.getConnections((_, count) => done(count)))
      await expect.poll(held).toBe(2)
      let text = ''
      ask('pauses').on('data', (part) => { text += part.toString() })
      await expect.poll(held).toBe(1) // the one that is being read
      await expect.poll(() => [...gone].sort()).toEqual(['endless', 'large'])
      await expect.poll(() => text).toMatch(/one.*two/s)
      for (const socket of silent) socket.destroy()
    } finally {
      await strict.stop()
    }
  })
  test('a plugin that breaks off in the middle breaks the connection: no half answer looks whole', async () => {
    await bed.plugin('breaks', (_req, res) => {
      res.write('half')
      setTimeout(() => res.destroy(), 50)
    })
    await expect(bed.api('/api/x/breaks/a')).rejects.toThrow()
  })
})

describe('what fails', () => {
  const unavailable = { title: 'Plugin Unavailable', detail: 'The plugin did not give a usable answer.', code: 'PROXY_UNAVAILABLE' }

  test('a plugin whose socket nobody serves: 502 with fixed words', async () => {
    const server = await bed.plugin('dead', echo)
    server.closeAllConnections()
    await new Promise<void>((resolve) => server.close(() => resolve()))
    const reply = await bed.api('/api/x/dead/a')
    expect(reply.status).toBe(502)
    expect(JSON.parse(reply.body)).toMatchObject(unavailable)
    expect(reply.body).not.toMatch(/proc|sock|ECONN|ENOENT/i)
  })
  test.each([
    ['garbage', 'nonsense\r\n\r\n'],
    ['noanswer', ''],
    ['gigantic', `HTTP/1.1 200 OK\r\nX-Big: ${'a'.repeat(1024 * 1024)}\r\n\r\n`],
    ['manyheaders', `HTTP/1.1 200 OK\r\n${'X: y\r\n'.repeat(20_000)}\r\n`],
    ['uninvited', 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n'],
    ['twolengths', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!'],
    ['negative', 'HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello'],
  ])('%s: 502', async (name, answer) => {
    await bytes(name, answer)
    const reply = await bed.api(`/api/x/${name}/a`)
    expect(reply.status).toBe(502)
    expect(JSON.parse(reply.body)).toMatchObject(unavailable)
  })
  test('headers without end (a gigabyte, were it read) end at 64 KiB with 502', async () => {
    let sent = 0
    const server = createTcp((socket) => {
      socket.on('error', () => undefined)
      socket.write('HTTP/1.1 200 OK\r\nX-Big: ')
      const more = (): void => {
        while (!socket.destroyed && sent < 1024 * MIB) {
          sent += 65_536
          if (!socket.write('a'.repeat(65_536))) return void socket.once('drain', more)
        }
      }
      more()
    })
    const path = join(bed.dir, 'endless.sock')
    await new Promise<void>((resolve) => server.listen(path, resolve))
    server.unref()
    bed.attach('endless', path)
    expect((await bed.api('/api/x/endless/a')).status).toBe(502)
    expect(sent).toBeLessThan(16 * MIB)
  })
  test('no response headers in time: 504', async () => {
    await bed.plugin('sleeps', () => undefined)
    const reply = await bed.api('/api/x/sleeps/a')
    expect([reply.status, codeOf(reply)]).toEqual([504, 'PROXY_TIMEOUT'])
  })
  test('all connections taken by streams: 503 and when to come again, not an endless wait', async () => {
    await bed.plugin('full', (_req, res) => void res.write('x'))
    const streams = await Promise.all(Array.from({ length: 64 }, () => open('/api/x/full/a')))
    const reply = await bed.api('/api/x/full/a')
    expect([reply.status, codeOf(reply), reply.headers['retry-after']]).toEqual([503, 'PROXY_BUSY', '5'])
    for (const stream of streams) stream.destroy()
  })
  test('a declared body over the limit: 413 before a byte reaches the plugin; one at the limit passes', async () => {
    let reached = 0
    await bed.plugin('takes', (req, res) => {
      reached++
      req.resume().on('end', () => res.end())
    })
    expect((await bed.api('/api/x/takes/a', {}, 'POST', Buffer.alloc(MIB))).status).toBe(200)
    expect(await bed.raw(`POST /api/x/takes/a HTTP/1.1\r\nHost: ${bed.host}\r\nAuthorization: Bearer ${TOKEN}\r\nContent-Length: ${MIB + 1}\r\n\r\n`)).toMatch(/^HTTP\/1\.1 413 .*PROXY_BODY_TOO_LARGE/s)
    expect(reached).toBe(1)
  })
  test('a chunked body that grows over the limit: 413', async () => {
    await bed.plugin('takes2', (req, res) => void req.resume().on('end', () => res.end()).on('error', () => undefined))
    const piece = `${(65_536).toString(16)}\r\n${'a'.repeat(65_536)}\r\n`
    const head = `POST /api/x/takes2/a HTTP/1.1\r\nHost: ${bed.host}\r\nAuthorization: Bearer ${TOKEN}\r\nTransfer-Encoding: chunked\r\n\r\n`
    expect(await bed.raw(head + piece.repeat(17))).toMatch(/^HTTP\/1\.1 413 .*PROXY_BODY_TOO_LARGE/s)
  })
  test('a plugin that answers before it read the body: its answer arrives', async () => {
    await bed.plugin('early', (_req, res) => void res.writeHead(403).end('no'))
    const reply = await bed.api('/api/x/early/a', {}, 'POST', Buffer.alloc(MIB))
    expect([reply.status, reply.body]).toEqual([403, 'no'])
  })
  test('an upgrade: 501, whatever the protocol', async () => {
    for (const to of ['websocket', 'h2c']) {
      const reply = await bed.raw(`GET /api/x/echo/a HTTP/1.1\r\nHost: ${bed.host}\r\nAuthorization: Bearer ${TOKEN}\r\nConnection: Upgrade\r\nUpgrade: ${to}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\r\n`)
      expect(reply).toMatch(/^HTTP\/1\.1 501 .*PROXY_UPGRADE_REFUSED/s)
    }
  })
  test('TRACE, which would read the secret back: 405', async () => {
    const reply = await bed.api('/api/x/echo/a', {}, 'TRACE')
    expect([reply.status, codeOf(reply)]).toEqual([405, 'PROXY_METHOD_REFUSED'])
  })
})

describe('the first second', () => {
  const flaky = (fails: number, body = '') => {
    let calls = 0
    return { calls: () => calls, listener: (_req: unknown, res: import('node:http').ServerResponse) => void (calls++ < fails ? res.writeHead(404, { 'content-length': Buffer.byteLength(body) }).end(body) : res.end('here')) }
  }
  test('an empty 404 is asked for again until the routes are there', async () => {
    const late = flaky(3)
    await bed.plugin('late', late.listener, { since: new Date().toISOString() })
    expect([(await bed.api('/api/x/late/a')).body, late.calls()]).toEqual(['here', 4])
  })
  test('an empty 404 stays one after that second; so do a 404 with a body and one to a POST', async () => {
    const now = new Date().toISOString()
    for (const [name, since, body, method] of [['late1', '2020-01-01T00:00:00Z', '', 'GET'], ['late2', now, 'gone', 'GET'], ['late3', now, '', 'POST']] as const) {
      const late = flaky(1, body)
      await bed.plugin(name, late.listener, { since })
      expect([name, (await bed.api(`/api/x/${name}/a`, {}, method)).status, late.calls()]).toEqual([name, 404, 1])
    }
  })
  test('an idle connection that the plugin closed is replaced without a word for a GET', async () => {
    let calls = 0
    await bed.plugin('closes', (req, res) => {
      if (++calls === 2) return void req.socket.destroy()
      res.end('fine')
    })
    expect((await bed.api('/api/x/closes/a')).body).toBe('fine')
    expect((await bed.api('/api/x/closes/a')).body).toBe('fine')
    expect(calls).toBe(3)
    calls = 1
    expect((await bed.api('/api/x/closes/a', {}, 'POST')).status).toBe(502)
    expect(calls).toBe(2)
  })
})
