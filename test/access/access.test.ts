import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { isNavigation, maySpendSession, siteOf } from '../../src/access/origins.ts'
import { Sessions } from '../../src/access/sessions.ts'
import { bearerOf, tokenCheck } from '../../src/access/tokens.ts'
import { FailedTries } from '../../src/access/tries.ts'
import type { PluginName } from '../../src/base/ids.ts'

const a = 'a' as PluginName
const b = 'b' as PluginName

describe('which origin a Host header names', () => {
  test.each(['localhost:80', 'LOCALHOST:80', 'localhost', '127.0.0.1:80', '[::1]:80', '[::1]'])('%s is the console on port 80', (host) => {
    expect(siteOf(host, 80)).toEqual({ kind: 'console' })
  })
  test('a plugin is one label below localhost', () => {
    expect(siteOf('a.localhost:8080', 8080)).toEqual({ kind: 'plugin', plugin: 'a' })
  })
  test.each([
    undefined, '', 'localhost', 'localhost:8081', 'localhost.:8080', 'evil.example:8080', 'a.b.localhost:8080', '.localhost:8080', 'a.localhost.evil.example:8080',
    'localhost:8080@evil', 'a_b.localhost:8080', '-a.localhost:8080', 'plugins.localhost:8080', 'cordon.localhost:8080', '127.0.0.2:8080', '0.0.0.0:8080', 'localhost:08080', 'a.localhost:8080:8080', 'xn--.localhost :8080',
  ])('%s is none of ours on port 8080', (host) => {
    expect(siteOf(host, 8080)).toEqual({ kind: 'other' })
  })
})

describe('who may spend a session', () => {
  const own = 'http://a.localhost:1'
  const sibling = 'http://b.localhost:1'
  test.each([
    ['POST', { origin: own }, true],
    ['POST', { origin: own, 'sec-fetch-site': 'same-origin' }, true],
    ['POST', { origin: 'null', 'sec-fetch-site': 'same-origin' }, true],
    ['GET', { 'sec-fetch-site': 'none' }, true],
    ['GET', {}, true],
    ['GET', { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' }, true],
    ['POST', {}, false],
    ['POST', { origin: 'null' }, false],
    ['POST', { origin: sibling }, false],
    ['POST', { origin: `${own}0` }, false],
    ['POST', { origin: own.toUpperCase() }, false],
    ['POST', { origin: sibling, 'sec-fetch-site': 'same-origin' }, false],
    ['POST', { origin: sibling, 'sec-fetch-site': 'same-site' }, false],
    ['POST', { origin: own, 'sec-fetch-site': 'same-site' }, false],
    ['POST', { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' }, false],
    ['GET', { origin: sibling }, false],
    ['GET', { 'sec-fetch-site': 'same-site', 'sec-fetch-mode': 'no-cors', 'sec-fetch-dest': 'script' }, false],
    ['GET', { 'sec-fetch-site': 'same-site', 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'object' }, false],
    ['DELETE', { 'sec-fetch-site': 'same-site', 'sec-fetch-mode': 'cors' }, false],
  ])('%s with %j: %s', (method, headers, allowed) => {
    expect(maySpendSession(method, headers, own)).toBe(allowed)
  })
  test('an old browser on its way to a page is known by what it accepts', () => {
    expect(isNavigation('GET', { accept: 'text/html,*/*' })).toBe(true)
    expect(isNavigation('POST', { accept: 'text/html,*/*' })).toBe(false)
    expect(isNavigation('GET', { accept: 'text/html', 'sec-fetch-mode': 'cors' })).toBe(false)
  })
})

describe('sessions', () => {
  const open = (sessions: Sessions, plugin: PluginName, now: number): string | null => sessions.open(sessions.mintLink(plugin, now), plugin, 80, false, now)

  test('a link works once, for its plugin, for five minutes', () => {
    const sessions = new Sessions()
    const link = sessions.mintLink(a, 0)
    expect(sessions.open(link, b, 80, false, 0)).toBeNull()
    expect(sessions.open(link, a, 80, false, 0)).toMatch(/^cordon_80=[\w-]{43}; Path=\/; Max-Age=43200; HttpOnly; SameSite=Strict$/)
    expect(sessions.open(link, a, 80, false, 0)).toBeNull()
    const late = sessions.mintLink(a, 0)
    expect(sessions.open(late, a, 80, false, 5 * 60_000)).toBeNull()
    const inTime = sessions.mintLink(a, 0)
    expect(sessions.open(inTime, a, 80, false, 5 * 60_000 - 1)).not.toBeNull()
  })
  test('in a frame the cookie is partitioned and secure', () => {
    const sessions = new Sessions()
    expect(sessions.open(sessions.mintLink(a, 0), a, 80, true, 0)).toMatch(/HttpOnly; SameSite=None; Secure; Partitioned$/)
  })
  test('a session opens its own plugin, on its own port, for twelve hours', () => {
    const sessions = new Sessions()
    const cookie = open(sessions, a, 0)?.split(';')[0] ?? ''
    const hours = 12 * 3_600_000
    expect(sessions.accepts(`x=1; ${cookie}`, a, 80, hours - 1)).toBe(true)
    expect(sessions.accepts(cookie, b, 80, 0)).toBe(false)
    expect(sessions.accepts(cookie, a, 81, 0)).toBe(false)
    expect(sessions.accepts(cookie, a, 80, hours)).toBe(false)
    expect(sessions.accepts(cookie.slice(0, -1), a, 80, 0)).toBe(false)
    expect(sessions.accepts(undefined, a, 80, 0)).toBe(false)
  })
  test('a planted cookie of the same name does not hide the real one, and a thousand do not cost a thousand hashes', () => {
    const sessions = new Sessions()
    const cookie = open(sessions, a, 0)?.split(';')[0] ?? ''
    const planted = `cordon_80=${'x'.repeat(43)}; `
    expect(sessions.accepts(planted.repeat(3) + cookie, a, 80, 0)).toBe(true)
    expect(sessions.accepts(planted.repeat(4) + cookie, a, 80, 0)).toBe(false)
  })
  test('the tables are bounded: the oldest go', () => {
    const sessions = new Sessions()
    const first = sessions.mintLink(a, 0)
    for (let i = 0; i < 64; i++) sessions.mintLink(a, 0)
    expect(sessions.open(first, a, 80, false, 0)).toBeNull()
    const cookie = open(sessions, a, 0)?.split(';')[0]
    for (let i = 0; i < 256; i++) open(sessions, a, 0)
    expect(sessions.accepts(cookie, a, 80, 0)).toBe(false)
  })
})

describe('tokens', () => {
  test.each([
    ['Bearer abc', 'abc'], ['bearer  abc ', 'abc'], ['BEARER a.b-c_d~e+f/g==', 'a.b-c_d~e+f/g=='],
    ['Basic abc', null], ['Bearer', null], ['Bearer a b', null], ['Bearer a,b', null], [undefined, null], [`Bearer ${'a'.repeat(600)}`, null],
  ])('%s gives %s', (header, token) => {
    expect(bearerOf(header)).toBe(token)
  })
  test('only the token of the digest is accepted', () => {
    const check = tokenCheck(createHash('sha256').update('right').digest('hex'))
    expect(check('right')).toBe(true)
    expect(check('right ')).toBe(false)
    expect(() => tokenCheck('short')).toThrow(TypeError)
  })
})

describe('failed tries', () => {
  test('ten in a minute shut an address for the rest of it, and no other address', () => {
    const tries = new FailedTries()
    for (let i = 0; i < 10; i++) {
      expect(tries.waitSeconds('10.0.0.1', 0)).toBe(0)
      tries.failed('10.0.0.1', 0)
    }
    expect(tries.waitSeconds('10.0.0.1', 1_000)).toBe(59)
    expect(tries.waitSeconds('::ffff:10.0.0.1', 1_000)).toBe(59)
    expect(tries.waitSeconds('10.0.0.2', 1_000)).toBe(0)
    expect(tries.waitSeconds('10.0.0.1', 60_000)).toBe(0)
  })
  test('IPv6 is counted by /64', () => {
    const tries = new FailedTries()
    for (let i = 0; i < 10; i++) tries.failed(`2001:db8:0:1::${i}`, 0)
    expect(tries.waitSeconds('2001:0db8::1:ffff:0:0:1', 0)).toBe(60)
    expect(tries.waitSeconds('2001:db8:0:2::1', 0)).toBe(0)
  })
  test('the table is bounded', () => {
    const tries = new FailedTries()
    for (let i = 0; i < 3_000; i++) tries.failed(`10.1.${i >> 8}.${i & 255}`, 0)
    expect(tries.size).toBe(1024)
  })
})
