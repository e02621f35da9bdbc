import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { HttpHosts, MAX_HEAD_BYTES, MAX_LINE_BYTES, type HttpStep } from '../../src/egress/http-host.ts'

const NAME = 'example.org'
const lines = (...all: string[]): string => all.map((line) => `${line}\r\n`).join('')
const get = (...headers: string[]): string => lines('GET / HTTP/1.1', ...headers, '')

function feed(text: string, size = text.length || 1): { passed: string; refused: HttpStep['refused']; requests: number; held: number } {
  const hosts = new HttpHosts(NAME, 80)
  const bytes = Buffer.from(text, 'latin1')
  let passed = ''
  let refused: HttpStep['refused'] = null
  for (let at = 0; at < bytes.length; at += size) {
    const step = hosts.feed(bytes.subarray(at, at + size))
    passed += Buffer.concat(step.pass).toString('latin1')
    refused = step.refused
  }
  return { passed, refused, requests: hosts.requests, held: hosts.heldBytes }
}

const POST = lines('POST /x HTTP/1.1', 'Host: example.org', 'Content-Length: 40', '') + 'GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n'.padEnd(40, '.')
const CHUNKED = lines('POST /x HTTP/1.1', 'Host: example.org', 'Transfer-Encoding: chunked', '', '1a;name=value') + 'GET /evil HTTP/1.1\r\nHost:\n' + lines('', '0', 'X-Trailer: yes', '')

describe('requests for the name pass unchanged', () => {
  test.each<[string, string, number]>([
    ['a plain one', get('Host: example.org'), 1],
    ['HTTP/1.0 with a Host', lines('GET / HTTP/1.0', 'Host: example.org', ''), 1],
    ['in capitals, with the port and blanks', get('HOST:  EXAMPLE.org:80 \t'), 1],
    ['a dot at the end of the name', get('Host: example.org.'), 1],
    ['absolute form', lines('GET http://example.org/a?b HTTP/1.1', 'Host: example.org', ''), 1],
    ['absolute form without a path', lines('GET http://example.org:80 HTTP/1.1', 'Host: example.org', ''), 1],
    ['OPTIONS *', lines('OPTIONS * HTTP/1.1', 'Host: example.org', ''), 1],
    ['a body that looks like a request', POST, 1],
    ['chunks that look like a request', CHUNKED, 1],
    ['an empty body', lines('POST / HTTP/1.1', 'Host: example.org', 'Content-Length: 0', '') + get('Host: example.org'), 2],
    ['pipelined requests', get('Host: example.org').repeat(50) + POST + CHUNKED + get('Host: example.org'), 53],
  ])('%s', (_what, text, requests) => {
    for (const size of [text.length, 1, 2, 7, 64]) expect(feed(text, size)).toEqual({ passed: text, refused: null, requests, held: 0 })
  })
})

describe('a request is refused, and none of its head passes', () => {
  test.each<[string, string, string]>([
    ['http-host-other', 'another host', get('Host: evil.example')],
    ['http-host-other', 'a subdomain', get('Host: www.example.org')],
    ['http-host-other', 'a name that ends alike', get('Host: notexample.org')],
    ['http-host-other', 'another port', get('Host: example.org:8080')],
    ['http-host-other', 'an address', get('Host: 192.0.2.1')],
    ['http-host-other', 'an IPv6 address', get('Host: [2001:db8::1]')],
    ['http-host-other', 'user information', get('Host: example.org@evil.example')],
    ['http-host-other', 'a percent sign', get('Host: example.org%2eevil.example')],
    ['http-host-other', 'a list', get('Host: example.org, evil.example')],
    ['http-host-other', 'another authority in absolute form', lines('GET http://evil.example/ HTTP/1.1', 'Host: example.org', '')],
    ['http-host-other', 'user information in absolute form', lines('GET http://example.org@evil.example/ HTTP/1.1', 'Host: example.org', '')],
    ['http-no-host', 'no host', get('Accept: */*')],
    ['http-no-host', 'an empty host', get('Host:')],
    ['http-no-host', 'HTTP/1.0 without a host', lines('GET / HTTP/1.0', '')],
    ['http-host-several', 'two hosts', get('Host: example.org', 'Host: evil.example')],
    ['http-host-several', 'the same host twice', get('Host: example.org', 'host: example.org')],
    ['http-connect', 'CONNECT', lines('CONNECT example.org:80 HTTP/1.1', 'Host: example.org', '')],
    ['http-upgrade', 'WebSocket', get('Host: example.org', 'Connection: keep-alive, Upgrade', 'Upgrade: websocket')],
    ['http-upgrade', 'h2c', get('Host: example.org', 'Upgrade: h2c', 'HTTP2-Settings: x')],
    ['http-upgrade', 'Connection alone', get('Host: example.org', 'Connection: upgrade')],
    ['http-malformed', 'the preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
    ['http-malformed', 'HTTP/0.9', 'GET /\r\n\r\n'],
    ['http-malformed', 'a folded header', get('Host: example.org', 'X: a', ' b')],
    ['http-malformed', 'a folded Host', lines('GET / HTTP/1.1', 'Host:', ' example.org', '')],
    ['http-malformed', 'a blank before the colon', get('Host : example.org')],
    ['http-malformed', 'a bare LF that hides a Host', lines('GET / HTTP/1.1', 'X: a\nHost: evil.example', 'Host: example.org', '')],
    ['http-malformed', 'a bare CR', get('Host: example.org', 'X: a\rb')],
    ['http-malformed', 'a NUL', get('Host: example.org', 'X: a\0b')],
    ['http-malformed', 'two blanks in the request line', lines('GET  / HTTP/1.1', 'Host: example.org', '')],
    ['http-malformed', 'an empty line before the request', `\r\n${get('Host: example.org')}`],
    ['http-malformed', 'https in absolute form', lines('GET https://example.org/ HTTP/1.1', 'Host: example.org', '')],
    ['http-malformed', 'GET *', lines('GET * HTTP/1.1', 'Host: example.org', '')],
    ['http-body-ambiguous', 'both lengths', get('Host: example.org', 'Content-Length: 3', 'Transfer-Encoding: chunked')],
    ['http-body-ambiguous', 'two lengths', get('Host: example.org', 'Content-Length: 3', 'Content-Length: 3')],
    ['http-body-ambiguous', 'a list of lengths', get('Host: example.org', 'Content-Length: 3, 3')],
    ['http-body-ambiguous', 'a signed length', get('Host: example.org', 'Content-Length: +3')],
    ['http-body-ambiguous', 'a length beyond 2^53', get('Host: example.org', 'Content-Length: 9007199254740993')],
    ['http-body-ambiguous', 'two codings', get('Host: example.org', 'Transfer-Encoding: gzip, chunked')],
    ['http-body-ambiguous', 'a coding twice', get('Host: example.org', 'Transfer-Encoding: chunked', 'Transfer-Encoding: chunked')],
    ['http-body-ambiguous', 'an unknown coding', get('Host: example.org', 'Transfer-Encoding: xchunked')],
    ['http-body-ambiguous', 'chunked in HTTP/1.0', lines('GET / HTTP/1.0', 'Host: example.org', 'Transfer-Encoding: chunked', '')],
    ['http-head-too-large', 'a head without end', `GET / HTTP/1.1\r\nX: ${'a'.repeat(MAX_HEAD_BYTES)}`],
  ])('%s: %s', (code, _what, text) => {
    for (const size of [text.length, 1, 3, 1000]) {
      expect(feed(text, size)).toMatchObject({ passed: '', refused: { code }, requests: 0, held: 0 })
      const first = get('Host: example.org') // on the same connection, after one that was fine
      expect(feed(first + text, size)).toMatchObject({ passed: first, refused: { code }, requests: 1 })
    }
  })

  test.each<[string, string]>([
    ['a chunk size that is none', 'zz\r\n'], ['an empty one', '\r\n'], ['a negative one', '-1\r\n'], ['one with 0x', '0x1\r\n'], ['one with a bare LF', '1\na\r\n'],
    ['a chunk that is longer than it says', '1\r\nabc'], ['a Host in the trailers', '0\r\nHost: evil.example\r\n\r\n'], ['a folded trailer', '0\r\nX: a\r\n b\r\n\r\n'],
  ])('http-malformed: %s', (_what, body) => {
    const head = lines('POST / HTTP/1.1', 'Host: example.org', 'Transfer-Encoding: chunked', '')
    expect(feed(head + body).refused?.code).toBe('http-malformed')
    expect(feed(head + body, 1).refused?.code).toBe('http-malformed')
  })
  test('http-head-too-large: a chunk-size line without end', () => {
    expect(feed(`${lines('POST / HTTP/1.1', 'Host: example.org', 'Transfer-Encoding: chunked', '')}1;${'a'.repeat(MAX_LINE_BYTES)}`).refused?.code).toBe('http-head-too-large')
  })
  test('and nothing after it passes either', () => {
    const hosts = new HttpHosts(NAME, 80)
    expect(hosts.feed(Buffer.from(get('Host: evil.example'))).refused?.host).toBe('evil.example')
    expect(hosts.feed(Buffer.from(get('Host: example.org')))).toMatchObject({ pass: [], refused: { code: 'http-host-other' } })
  })
})

describe('properties', () => {
  const body = fc.string({ maxLength: 60 }).map((text) => text.replaceAll(/[^\x00-\xff]/g, '?'))
  const request = fc.oneof(
    fc.constant(get('Host: example.org')),
    body.map((text) => lines('PUT /a HTTP/1.1', 'host: example.org:80', `content-length: ${text.length}`, '') + text),
    fc.array(body.filter((text) => text.length > 0), { maxLength: 4 }).map((chunks) => lines('PUT /a HTTP/1.1', 'Host: example.org', 'transfer-encoding: Chunked', '')
      + chunks.map((chunk) => `${chunk.length.toString(16)}\r\n${chunk}\r\n`).join('') + '0\r\n\r\n'),
  )

  test('good requests pass byte for byte, whatever the cuts, and a bad one after them never does', () => {
    fc.assert(fc.property(fc.array(request, { minLength: 1, maxLength: 8 }), fc.integer({ min: 1, max: 50 }), (requests, size) => {
      const text = requests.join('')
      expect(feed(text, size)).toEqual({ passed: text, refused: null, requests: requests.length, held: 0 })
      expect(feed(text + get('Host: evil.example'), size)).toMatchObject({ passed: text, refused: { code: 'http-host-other' } })
    }), { seed: 5, numRuns: 400 })
  })

  test('whatever the bytes: no exception, nothing changed or reordered, and little held', () => {
    const piece = fc.oneof(fc.constantFrom('GET / HTTP/1.1\r\n', 'Host: example.org\r\n', 'Host: evil\r\n', '\r\n', 'Content-Length: 5\r\n', 'Transfer-Encoding: chunked\r\n', '5\r\n', '0\r\n', ':', ' ', '\n'), body)
    fc.assert(fc.property(fc.array(piece, { maxLength: 20 }), fc.integer({ min: 1, max: 30 }), (pieces, size) => {
      const text = pieces.join('')
      const { passed, refused, held } = feed(text, size)
      expect(text.startsWith(passed)).toBe(true)
      expect(held).toBeLessThanOrEqual(MAX_HEAD_BYTES)
      if (refused === null) expect(passed.length + held).toBe(text.length)
    }), { seed: 6, numRuns: 2000 })
  })
})
