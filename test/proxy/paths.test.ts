import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { isPublic, parseTarget, type Inner } from '../../src/proxy/paths.ts'

const SEED = 20261120

function inner(url: string): Inner {
  const target = parseTarget(url)
  if (target.kind !== 'plugin') throw new Error(`${url} is ${target.kind}`)
  return target.inner
}

describe('mapping (protocol 12.1)', () => {
  test.each([
    ['/api/x/seo', '/'], ['/api/x/seo/', '/'], ['/api/x/seo?q=1', '/?q=1'], ['/api/x/seo/a/b?c=%2e%2e&d=%00', '/a/b?c=%2e%2e&d=%00'],
    ['/api/x/seo/a%20b/%C3%A9', '/a%20b/%C3%A9'], ['/api/x/seo/a/', '/a/'], ['/api/x/seo/100%25', '/100%25'], ['/api/x/seo/a;v=1', '/a;v=1'], ['/api/x/seo/...', '/...'], ['/api/x/seo/.well-known/x', '/.well-known/x'],
  ])('%s reaches the plugin as %s', (url, target) => {
    expect(inner(url).target).toBe(target)
  })
  test.each(['/', '/healthz', '/api/openapi.json', '/api/x/plugins', '/api/x/plugins/seo/status', '/api/x/cordon/a', '/api/x/%73eo/a', '/api/x/Seo/a', '/api/x', '/API/x/seo'])('%s is the host\'s', (url) => {
    expect(parseTarget(url).kind).toBe('host')
  })
})

const BAD = [
  '', '*', 'http://localhost/api/x/seo', 'api/x/seo', '/api/x/seo/../a', '/api/x/seo/..', '/api/x/seo/.', '/api/x/seo/./a', '/api/x/seo/a/../../_temps/channel', '/api/x/../x/seo',
  '/api/x/seo/%2e%2e/a', '/api/x/seo/.%2E/a', '/api/x/seo/%2e/a', '/api/x/seo/a%2fb', '/api/x/seo/a%2Fb', '/api/x/seo/a%5cb', '/api/x/seo/a\\b', '/api/x/seo\\..\\_temps',
  '/api/x/seo/%252e%252e/a', '/api/x/seo/%25%32%65', '/api/x/seo/%2525', '/api/x/seo/a%00', '/api/x/seo/a%0d%0ab', '/api/x/seo/%7f', '/api/x/seo/%', '/api/x/seo/%zz', '/api/x/seo/%e9', '/api/x/seo/%c0%ae%c0%ae', '/api/x/seo/%ed%a0%80', '/api/x/seo/%f5%80%80%80',
  '/api/x/seo//_temps/channel', '/api/x/seo//', '/api/x//seo', '//api/x/seo', '/api/x/seo/a//b', '/api/x/seo/..;/a', '/api/x/seo/.;x=1/a', '/api/x/seo/a#b', '/api/x/seo/a b', '/api/x/seo/\u00e9', '/api/x/seo/a\u0000', '/api/x/seo?a b',
  '/api/x/seo/%ef%bc%8e%ef%bc%8e/a', '/api/x/seo/%e2%80%a5', '/api/x/seo/a%ef%bc%8f_temps', '/api/x/seo/%ef%bc%bc', '/api/x/plugins/../seo', '/%2e%2e/x',
]
test.each(BAD)('%j is refused, not repaired', (url) => {
  expect(parseTarget(url).kind).toBe('bad')
})

describe('the protocol\'s own doors are shut', () => {
  test.each([
    '/_events', '/_events/', '/_events/x', '/_events?x', '/_temps', '/_temps/', '/_temps/channel', '/_temps/anything', '/%5fevents', '/%5Ftemps/channel', '/_%74emps/channel', '/_TEMPS/channel', '/_Events', '/_temps;x/channel', '/_temps%20/channel', '/_temps./x', '/%ef%bc%bftemps/channel', '/_events;/..x',
  ])('%s', (path) => {
    expect(inner(`/api/x/seo${path}`).reserved).toBe(true)
    expect(isPublic(inner(`/api/x/seo${path}`), ['/_temps', '/_events', '/_temps/channel'])).toBe(false)
  })
  test.each(['/_event', '/_eventsx', '/_tempsy/x', '/a/_temps', '/temps'])('%s is not one of them', (path) => {
    expect(inner(`/api/x/seo${path}`).reserved).toBe(false)
  })
})

describe('public paths match by whole segments', () => {
  test.each([
    ['/hooks/in', true], ['/hooks/in/', true], ['/hooks/in/x', true], ['/hooks/%69n', true], ['/hooks/in?x', true],
    ['/hooks/in-admin', false], ['/hooks', false], ['/hooks/IN', false], ['/a/hooks/in', false], ['/', false],
  ])('%s: %s', (path, open) => {
    expect(isPublic(inner(`/api/x/seo${path}`), ['/hooks/in/'])).toBe(open)
  })
  test.each(['/', '', '//'])('the entry %j opens nothing', (entry) => {
    expect(isPublic(inner('/api/x/seo/a'), [entry])).toBe(false)
    expect(isPublic(inner('/api/x/seo'), [entry])).toBe(false)
  })
})

/** What servers do to a path after us: decode (repeatedly), fold, resolve, collapse, cut parameters, ignore case. */
function everyReading(target: string): string[] {
  const path = target.split('?')[0] ?? ''
  const readings = new Set([path])
  const steps: ((p: string) => string)[] = [
    (p) => decodeURIComponent(p), (p) => p.normalize('NFKC'), (p) => p.replaceAll('\\', '/'), (p) => p.replace(/\/+/g, '/'), (p) => p.replace(/;[^/]*/g, ''), (p) => p.toLowerCase(),
    (p) => new URL(p, 'http://localhost').pathname, (p) => (p.includes('\u0000') ? p.slice(0, p.indexOf('\u0000')) : p),
  ]
  for (let round = 0; round < 3; round++) {
    for (const reading of [...readings]) for (const step of steps) {
      try { readings.add(step(reading)) } catch { /* such a server refuses the path, which is no way in */ }
    }
  }
  return [...readings]
}

test('no accepted path reads as a door of the protocol, however a server reads it (seeded random run)', () => {
  const piece = fc.constantFrom('/', '/', '..', '.', '%2e', '%2E', '%2f', '%5c', '\\', '%25', '%252e', '%00', ';', ';x=1', '_temps', '_events', '%5ftemps', '_TEMPS', 'channel', 'a', '%ef%bc%8f', '%ef%bc%8e', '%ef%bc%bf', 'temps', '_', '?', '#', '%', '%c0%ae', '//', 'events', ' ')
  let accepted = 0
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 8 }), (pieces) => {
      const target = parseTarget(`/api/x/seo/${pieces.join('')}`)
      if (target.kind !== 'plugin' || target.inner.reserved) return
      accepted++
      for (const reading of everyReading(target.inner.target)) expect(reading).not.toMatch(/^\/(_temps|_events)(\/|$)/i)
    }),
    { seed: SEED, numRuns: 20_000 },
  )
  expect(accepted).toBeGreaterThan(1_000)
})

test('any string is judged without throwing (seeded random run)', () => {
  fc.assert(fc.property(fc.oneof(fc.string({ unit: 'binary' }), fc.string().map((s) => `/api/x/seo/${s}`), fc.webPath()), (url) => {
    expect(['plugin', 'host', 'bad']).toContain(parseTarget(url).kind)
  }), { seed: SEED, numRuns: 5_000 })
})
