import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { connect } from 'node:tls'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { HelloReader, MAX_HELLO_BYTES, MAX_HELLO_RAW_BYTES, type HelloStep } from '../../src/egress/client-hello.ts'
import { alpn, hello, message, record, records, serverName, uint16, vector } from './hello.ts'

const read = (bytes: Buffer): HelloStep => new HelloReader().feed(bytes)
const inPieces = (bytes: Buffer, size: number): HelloStep => {
  const reader = new HelloReader()
  let step: HelloStep = { kind: 'more' }
  for (let at = 0; at < bytes.length && step.kind === 'more'; at += size) step = reader.feed(bytes.subarray(at, at + size))
  return step
}
const ok = { kind: 'hello', sni: 'example.org', ech: false, alpn: [] }
const refused = (code: string) => expect.objectContaining({ kind: 'refused', code })

describe('a TLS hello is read', () => {
  test('in one piece', () => expect(read(hello())).toEqual(ok))
  test.each([1, 2, 3, 5, 7, 100])('in TCP segments of %i bytes', (size) => expect(inPieces(hello(), size)).toEqual(ok))
  test.each([1, 3, 4, 50])('over TLS records of %i bytes', (size) => {
    const bytes = records(message(), size)
    expect(read(bytes)).toEqual(ok)
    expect(inPieces(bytes, 1)).toEqual(ok)
  })
  test('whatever follows in further records', () => expect(read(Buffer.concat([hello(), record(Buffer.alloc(20), 23)]))).toEqual(ok))
  test('with GREASE among versions, ciphers, extensions and ALPN', () => {
    const extensions = [[0x0a0a, Buffer.alloc(0)], serverName('example.org'), alpn('\x0a\x0a', 'h2', 'http/1.1'), [0xfafa, Buffer.from([0])]] as const
    expect(read(hello({ extensions, ciphers: Buffer.from([0x1a, 0x1a, 0x13, 1]) }))).toEqual({ ...ok, alpn: ['h2', 'http/1.1'] })
  })
  test('without a server name', () => expect(read(hello({ extensions: [] }))).toEqual({ ...ok, sni: null }))
  test('without any extensions, as old clients send it', () => expect(read(hello({ extensions: null }))).toEqual({ ...ok, sni: null }))
  test('with a server name in capitals, which means the same host', () => expect(read(hello({ extensions: [serverName('EXAMPLE.Org')] }))).toEqual(ok))
  test('with an encrypted hello inside, which is told', () => expect(read(hello({ extensions: [serverName('example.org'), [0xfe0d, Buffer.alloc(8)]] }))).toEqual({ ...ok, ech: true }))
  test('as large as post-quantum key shares make it', () => expect(read(hello({ extensions: [[51, Buffer.alloc(8000)], serverName('example.org')] }))).toEqual(ok))
  test('from Node itself', async () => {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const client = connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', servername: 'real.example.net', ALPNProtocols: ['h2', 'http/1.1'] })
    client.on('error', () => {})
    const [socket] = await once(server, 'connection')
    const [bytes] = await once(socket, 'data')
    expect(read(bytes as Buffer)).toEqual({ kind: 'hello', sni: 'real.example.net', ech: false, alpn: ['h2', 'http/1.1'] })
    client.destroy()
    server.close()
  })
})

describe('what is not a TLS hello is told at its first byte that shows it', () => {
  test.each([
    ['HTTP', Buffer.from('GET / HTTP/1.1\r\n\r\n')], ['SSH', Buffer.from('SSH-2.0-x')], ['PostgreSQL SSLRequest', Buffer.from([0, 0, 0, 8, 4, 210, 22, 47])],
    ['one letter', Buffer.from('G')], ['an alert record', Buffer.from([21, 3, 3, 0, 2, 1, 0])], ['a handshake type of another protocol', Buffer.from([22, 1])],
    ['bytes with the top bit that are no SSL 2', Buffer.from([0x80, 0x2e, 7])],
  ])('%s', (_what, bytes) => expect(read(bytes)).toEqual({ kind: 'not-tls' }))
  test('and stays so', () => {
    const reader = new HelloReader()
    expect(reader.feed(Buffer.from('GET'))).toEqual({ kind: 'not-tls' })
    expect(reader.feed(hello())).toEqual({ kind: 'not-tls' })
  })
  test.each([['nothing', Buffer.alloc(0)], ['a part of a header', Buffer.from([22, 3, 1])], ['all but the last byte', hello().subarray(0, -1)]])('but %s wants more', (_what, bytes) => {
    expect(read(bytes)).toEqual({ kind: 'more' })
  })
})

describe('a hello that servers could read differently is refused', () => {
  test.each<[string, string, Buffer]>([
    ['tls-sslv2', 'SSL 2 form', Buffer.from([0x80, 0x2e, 1, 0, 2, 0, 0x15])],
    ['tls-sslv2', 'SSL 2 form that offers SSL 3', Buffer.from([0x80, 0x2e, 1, 3, 0, 0, 0x15])],
    ['sni-several', 'two names', hello({ extensions: [serverName('example.org', 'evil.example')] })],
    ['sni-several', 'the same name twice', hello({ extensions: [serverName('example.org', 'example.org')] })],
    ['sni-malformed', 'an IPv4 address', hello({ extensions: [serverName('192.0.2.1')] })],
    ['sni-malformed', 'an IPv4 address as one number', hello({ extensions: [serverName('3221225985')] })],
    ['sni-malformed', 'an IPv6 address', hello({ extensions: [serverName('2001:db8::1')] })],
    ['sni-malformed', 'a NUL', hello({ extensions: [serverName('evil.example\0.example.org')] })],
    ['sni-malformed', 'a dot at the end', hello({ extensions: [serverName('example.org.')] })],
    ['sni-malformed', 'an underscore', hello({ extensions: [serverName('a_b.example.org')] })],
    ['sni-malformed', 'a letter outside ASCII', hello({ extensions: [serverName('exämple.org')] })],
    ['sni-malformed', 'an empty name', hello({ extensions: [serverName('')] })],
    ['sni-malformed', '300 characters', hello({ extensions: [serverName('a.'.repeat(150))] })],
    ['tls-malformed', 'an empty server name list', hello({ extensions: [[0, vector(2, Buffer.alloc(0))]] })],
    ['tls-malformed', 'an empty server name extension', hello({ extensions: [[0, Buffer.alloc(0)]] })],
    ['tls-malformed', 'a name of unknown type', hello({ extensions: [[0, vector(2, Buffer.concat([Buffer.from([1]), vector(2, Buffer.from('example.org'))]))]] })],
    ['tls-malformed', 'two server name extensions', hello({ extensions: [serverName('example.org'), serverName('evil.example')] })],
    ['tls-malformed', 'bytes behind the name list', hello({ extensions: [[0, Buffer.concat([serverName('example.org')[1], Buffer.from([0])])]] })],
    ['tls-malformed', 'bytes behind the extensions', hello({ trailing: Buffer.from([0]) })],
    ['tls-malformed', 'an extension longer than the list', record(Buffer.concat([message({ extensions: null }).subarray(0, 0), patched()]))],
    ['tls-malformed', 'a session id of 33 bytes', hello({ sessionId: Buffer.alloc(33) })],
    ['tls-malformed', 'no ciphers', hello({ ciphers: Buffer.alloc(0) })],
    ['tls-malformed', 'half a cipher', hello({ ciphers: Buffer.alloc(3) })],
    ['tls-malformed', 'no compression method', hello({ compressions: Buffer.alloc(0) })],
    ['tls-malformed', 'an empty ALPN name', hello({ extensions: [alpn('')] })],
    ['tls-malformed', 'another message behind it in its record', record(Buffer.concat([message(), message()]))],
    ['tls-malformed', 'a ServerHello', record(Buffer.from([2, 0, 0, 0]))],
    ['tls-malformed', 'an empty record', record(Buffer.alloc(0))],
    ['tls-malformed', 'an empty hello', record(Buffer.from([1, 0, 0, 0]))],
    ['tls-malformed', 'application data in the middle', Buffer.concat([record(message().subarray(0, 10)), record(message().subarray(10), 23)])],
    ['tls-malformed', 'a record over 2^14 bytes', Buffer.from([22, 3, 1, 0x40, 1])],
    ['tls-oversized', 'a hello that announces 16 MiB', record(Buffer.from([1, 255, 255, 255]))],
    ['tls-oversized', 'a hello just over the limit', records(Buffer.concat([Buffer.from([1]), vector(3, Buffer.alloc(MAX_HELLO_BYTES - 3))]), 16_000)],
    ['tls-oversized', 'records of one byte without end', records(Buffer.concat([Buffer.from([1]), vector(3, Buffer.alloc(10_000))]), 1)],
  ])('%s: %s', (code, _what, bytes) => {
    expect(read(bytes)).toEqual(refused(code))
    expect(inPieces(bytes, 1)).toEqual(refused(code))
  })
})

/** A hello whose one extension says that it is longer than it is. */
function patched(): Buffer {
  const bytes = message({ extensions: [[21, Buffer.alloc(4)]] })
  uint16(5).copy(bytes, bytes.length - 6)
  return bytes
}

describe('properties', () => {
  const label = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?$/)
  const name = fc.tuple(label, label, fc.constantFrom('org', 'example', 'xn--p1ai')).map((labels) => labels.join('.'))

  test('the outcome does not depend on the cuts into segments and records', () => {
    fc.assert(fc.property(name, fc.integer({ min: 1, max: 600 }), fc.array(fc.integer({ min: 1, max: 200 }), { maxLength: 20 }), fc.boolean(), (host, recordSize, cuts, damaged) => {
      const bytes = records(message({ extensions: [alpn('h2'), serverName(host)] }), recordSize)
      if (damaged) bytes[Math.min(bytes.length - 1, cuts[0] ?? 9)] = 0xff
      const whole = read(bytes)
      const reader = new HelloReader()
      let at = 0
      let step: HelloStep = { kind: 'more' }
      for (const cut of [...cuts, bytes.length]) {
        step = reader.feed(bytes.subarray(at, at + cut))
        at += cut
      }
      expect(step).toEqual(whole)
      if (!damaged) expect(whole).toEqual({ kind: 'hello', sni: host, ech: false, alpn: ['h2'] })
    }), { seed: 3, numRuns: 500 })
  })

  test('whatever the bytes: no exception, an end within the limit, and a name only in canonical form', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), fc.boolean(), (bytes, likeTls) => {
      const reader = new HelloReader()
      const step = reader.feed(likeTls ? Buffer.concat([Buffer.from([22, 3, 1]), bytes]) : bytes)
      if (step.kind === 'hello' && step.sni !== null) expect(step.sni).toMatch(/^[a-z0-9.-]+$/)
      let last: HelloStep = step
      for (let sent = 0; sent <= MAX_HELLO_RAW_BYTES && last.kind === 'more'; sent += 1000) last = reader.feed(Buffer.alloc(1000))
      expect(last.kind).not.toBe('more')
    }), { seed: 4, numRuns: 2000 })
  })
})
