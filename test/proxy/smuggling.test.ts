import fc from 'fast-check'
import { connect } from 'node:net'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { Bed, TOKEN } from './fixture.ts'

const bed = new Bed()
let reached: string[] = []

beforeAll(async () => {
  await bed.start()
  await bed.plugin('seo', (req, res) => {
    reached.push(`${req.method} ${req.url}`)
    req.resume().on('end', () => res.end('plugin'))
  }, { publicPaths: ['/_temps', '/_events', '/open'] })
})
afterAll(() => bed.stop())
beforeEach(() => {
  reached = []
})

const head = (first: string, ...lines: string[]): string => `${[first, `Host: ${bed.host}`, `Authorization: Bearer ${TOKEN}`, ...lines].join('\r\n')}\r\n\r\n`
const statuses = (text: string): string[] => [...text.matchAll(/HTTP\/1\.1 (\d{3})/g)].map((match) => match[1] ?? '')

describe('one request is one request', () => {
  test('control: a plain request, and two on one connection', async () => {
    expect(statuses(await bed.raw(head('GET /api/x/seo/a HTTP/1.1') + head('GET /api/x/seo/b HTTP/1.1')))).toEqual(['200', '200'])
    expect(reached).toEqual(['GET /a', 'GET /b'])
  })
  const inner = 'GET /api/x/seo/_temps/channel HTTP/1.1\r\nHost: x\r\n\r\n'
  test.each([
    ['two lengths', ['Content-Length: 0', `Content-Length: ${inner.length}`]],
    ['two equal lengths', ['Content-Length: 5', 'Content-Length: 5']],
    ['a list of lengths', ['Content-Length: 5, 5']],
    ['length and chunked', [`Content-Length: ${inner.length}`, 'Transfer-Encoding: chunked']],
    ['chunked twice', ['Transfer-Encoding: chunked', 'Transfer-Encoding: chunked']],
    ['chunked and something after it', ['Transfer-Encoding: chunked, identity']],
    ['an unknown coding', ['Transfer-Encoding: xchunked']],
    ['a signed length', ['Content-Length: +5']],
    ['a negative length', ['Content-Length: -1']],
    ['a hexadecimal length', ['Content-Length: 0x5']],
    ['a space before the colon', ['Transfer-Encoding : chunked']],
    ['a folded header', ['X-A: b', ' Transfer-Encoding: chunked']],
    ['a bare line feed', ['X-A: b\nTransfer-Encoding: chunked']],
    ['NUL in a value', ['X-A: a\u0000b']],
    ['two hosts', ['Host: evil.example']],
  ])('%s: refused, nothing reaches the plugin', async (_what, lines) => {
    const text = await bed.raw(head('POST /api/x/seo/a HTTP/1.1', ...lines) + inner)
    expect(statuses(text)[0]).toMatch(/^4/)
    expect(reached).toEqual([])
  })
  test('a chunk size with rubbish in it ends the connection', async () => {
    const text = await bed.raw(`${head('POST /api/x/seo/a HTTP/1.1', 'Transfer-Encoding: chunked')}5;\n\r\nhello\r\n0\r\n\r\n${inner}`)
    expect(reached.filter((line) => line.includes('_temps'))).toEqual([])
    expect(statuses(text)).not.toContain('200')
  })
  test.each(['GET /api/x/seo/a', 'GET /api/x/seo/a HTTP/9.9', 'G@T /api/x/seo/a HTTP/1.1', 'GET http://localhost/api/x/seo/a HTTP/1.1', 'CONNECT localhost:80 HTTP/1.1', 'PRI * HTTP/2.0', 'OPTIONS * HTTP/1.1'])('%s: refused', async (first) => {
    const text = await bed.raw(head(first))
    expect(statuses(text)[0] ?? 'closed').toMatch(/^4|^closed$/)
    expect(reached).toEqual([])
  })
  test('another transfer coding below chunked: refused; chunked alone, in any case, passes', async () => {
    const sent = async (coding: string): Promise<string[]> => statuses(await bed.raw(`${head('POST /api/x/seo/a HTTP/1.1', `Transfer-Encoding: ${coding}`)}1\r\na\r\n0\r\n\r\n`))
    expect(await sent('gzip, chunked')).toEqual(['400'])
    expect(reached).toEqual([])
    expect(await sent('Chunked')).toEqual(['200'])
  })
  test('no Host: refused', async () => {
    expect(statuses(await bed.raw('GET /healthz HTTP/1.1\r\n\r\n'))).toEqual(['400'])
  })
})

describe('limits of a request', () => {
  test('headers of 16 KiB: 431 as a problem; somewhat less passes', async () => {
    expect(statuses(await bed.raw(head('GET /api/x/seo/a HTTP/1.1', `X-A: ${'a'.repeat(12_000)}`)))).toEqual(['200'])
    expect(await bed.raw(head('GET /api/x/seo/a HTTP/1.1', `X-A: ${'a'.repeat(17_000)}`))).toMatch(/^HTTP\/1\.1 431 .*PROXY_HEADERS_TOO_LARGE/s)
  })
  test('more than 100 header lines: refused instead of dropped', async () => {
    const lines = (n: number) => Array.from({ length: n }, (_, i) => `X-${i}: a`)
    expect(statuses(await bed.raw(head('GET /api/x/seo/a HTTP/1.1', ...lines(98))))).toEqual(['200'])
    expect(await bed.raw(head('GET /api/x/seo/a HTTP/1.1', ...lines(99)))).toMatch(/^HTTP\/1\.1 431 .*PROXY_HEADERS_TOO_LARGE/s)
  })
  test.each([['says nothing', ''], ['stops in the middle of its headers', 'GET /healthz HTTP/1.1\r\nHost: '], ['sends rubbish', '\0\0\0\r\n']])('a caller who %s and keeps his end open does not keep the connection', async (_, bytes) => {
    const slow = new Bed()
    try {
      await slow.start({ limits: { headersTimeoutMs: 500, requestTimeoutMs: 1_000 } })
      const socket = connect({ port: slow.port, host: '127.0.0.1', allowHalfOpen: true })
      let text = ''
      socket.setEncoding('utf8').on('data', (part: string) => { text += part }).on('error', () => {}) // the reset at the end
      socket.write(bytes)
      const held = (): Promise<number> => new Promise((done) => slow.front?.server.getConnections((__, count) => done(count)))
      await expect.poll(held).toBe(1)
      await expect.poll(held).toBe(0)
      expect(text).toMatch(/^HTTP\/1\.1 40[08] /)
      socket.destroy()
    } finally {
      await slow.stop()
    }
  })
  test('a body that breaks off into rubbish while it is being answered puts no words of ours into the answer', async () => {
    await bed.plugin('early', (_req, res) => void res.writeHead(200, { 'content-length': '1000' }).write('begun'))
    const socket = connect(bed.port, '127.0.0.1')
    let text = ''
    const closed = new Promise<void>((done) => socket.once('close', () => done()))
    socket.on('data', (part) => { text += part.toString('latin1') }).on('error', () => {}) // the reset at the end
    socket.write(`${head('POST /api/x/early/a HTTP/1.1', 'Transfer-Encoding: chunked')}3\r\nabc\r\n`)
    await expect.poll(() => text).toContain('begun')
    socket.write('zz\r\n')
    await closed
    expect(statuses(text)).toEqual(['200'])
    expect(text.endsWith('begun')).toBe(true)
  })
  test('headers that trickle in: 408', async () => {
    const slow = new Bed()
    try {
      await slow.start({ limits: { headersTimeoutMs: 500, requestTimeoutMs: 1_000 } })
      expect(await slow.raw('GET /healthz HTTP/1.1\r\nHost: ')).toMatch(/^HTTP\/1\.1 408 .*PROXY_REQUEST_TIMEOUT/s)
    } finally {
      await slow.stop()
    }
  })
})

test('no request path reaches the doors of the protocol at the plugin, public or not (table)', async () => {
  for (const path of ['/_temps', '/_temps/channel', '/_events', '/%5ftemps/channel', '/%5Fevents', '/_TEMPS/x', '/./_temps', '/a/../_temps', '//_temps', '/;/_temps', '/%2e/_temps', '/%2f_temps', '/%5c_temps', '/\\_temps', '/%255ftemps', '/_temps%2fchannel', '/_temps;a', '/open/../_events', '/open/%2e%2e/_events', '/open/..;/_events', '/_events?x=/open', '/_events#/open']) {
    for (const auth of ['', `Authorization: Bearer ${TOKEN}\r\n`]) {
      const text = await bed.raw(`GET /api/x/seo${path} HTTP/1.1\r\nHost: ${bed.host}\r\n${auth}Connection: close\r\n\r\n`)
      expect([path, statuses(text)[0]]).toEqual([path, expect.stringMatching(/^4/)])
    }
  }
  expect(reached).toEqual([])
  expect(statuses(await bed.raw(`GET /api/x/seo/open HTTP/1.1\r\nHost: ${bed.host}\r\nConnection: close\r\n\r\n`))).toEqual(['200'])
})

test('no request path reaches them (seeded random run over one connection)', async () => {
  const piece = fc.constantFrom('/', '/', '_temps', '_events', '%5ftemps', '%5Fevents', '..', '.', '%2e', '%2f', '%5c', '\\', '%25', ';', 'a', 'channel', '?', '_TEMPS', '%ef%bc%bftemps')
  const paths = fc.sample(fc.array(piece, { minLength: 1, maxLength: 6 }).map((pieces) => `/${pieces.join('')}`), { seed: 20261120, numRuns: 600 })
  const socket = connect(bed.port, '127.0.0.1')
  let text = ''
  socket.on('data', (part) => (text += part.toString('latin1')))
  for (const path of paths) socket.write(head(`GET /api/x/seo${path} HTTP/1.1`))
  socket.write(head('GET /api/x/seo/end HTTP/1.1', 'Connection: close'))
  await new Promise((resolve, reject) => socket.once('close', resolve).once('error', reject))
  expect(statuses(text)).toHaveLength(601)
  expect(reached.at(-1)).toBe('GET /end')
  expect(reached.length).toBeGreaterThan(50)
  for (const line of reached) {
    const path = new URL((line.split(' ')[1] ?? '').replaceAll('\\', '/'), 'http://plugin').pathname
    expect(decodeURIComponent(path)).not.toMatch(/^\/+(_temps|_events)(\/|$|;)/i)
  }
})
