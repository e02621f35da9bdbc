import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ADMIN } from '../../src/access/identity.ts'
import type { PluginName } from '../../src/base/ids.ts'
import { repeatedHeader, requestHeaders } from '../../src/proxy/request-headers.ts'
import { API_GUARDS, pluginGuards, responseHeaders, rewriteLocation } from '../../src/proxy/response-headers.ts'

const seo = 'seo' as PluginName
const sealed = { plugin: seo, requestId: 'id', secret: 's', identity: null }
const names = (flat: readonly string[]): string[] => flat.filter((_, i) => i % 2 === 0)

describe('towards the plugin', () => {
  test.each([
    'Cookie', 'Authorization', 'Proxy-Authorization', 'Connection', 'Keep-Alive', 'TE', 'Trailer', 'Transfer-Encoding', 'Upgrade', 'Proxy-Connection', 'HTTP2-Settings', 'Expect', 'Host',
    'X-Temps-User-Role', 'x-temps-anything', 'X_Temps_User_Id', 'x-Temps_actor-Token', 'Proxy_Authorization',
  ])('%s of a caller is dropped', (name) => {
    expect(requestHeaders([name, 'evil', 'Accept', 'a'], undefined, sealed)).not.toContain('evil')
    expect(requestHeaders([name, 'evil', 'Accept', 'a'], undefined, sealed)).toContain('Accept')
  })
  test('headers that Connection names end here, but cannot take ours or the length away', () => {
    const out = requestHeaders(['X-Hop', '1', 'Content-Length', '5', 'X-End', '2'], 'close, X-Hop, content-length, x-temps-plugin, host', sealed)
    expect(out).toEqual(['Content-Length', '5', 'X-End', '2', 'host', 'localhost', 'x-temps-plugin', 'seo', 'x-temps-request-id', 'id', 'x-temps-auth-signature', 's'])
  })
  test('identity goes as a whole or not at all', () => {
    expect(requestHeaders([], undefined, sealed).join()).not.toContain('user')
    const named = names(requestHeaders([], undefined, { ...sealed, identity: ADMIN })).filter((name) => name.includes('user'))
    expect(named).toEqual(['x-temps-user-role', 'x-temps-user-id', 'x-temps-user-email', 'x-temps-user-permissions'])
    expect(ADMIN.permissions).toMatch(/^[a-z_:]+(,[a-z_:]+)*$/)
  })
  test('a header that two readers could read differently must not come twice', () => {
    expect(repeatedHeader(['Host', 'a', 'hOST', 'a'])).toBe('host')
    expect(repeatedHeader(['Content-Length', '1', 'content-length', '1'])).toBe('content-length')
    expect(repeatedHeader(['Host', 'a', 'Accept', 'a', 'Accept', 'b'])).toBeNull()
  })
  test('whatever a caller sends, each of our headers reaches the plugin once, with our value (seeded random run)', () => {
    const name = fc.oneof(fc.constantFrom('X-Temps-Plugin', 'x_temps_plugin', 'HOST', 'x-temps-auth-signature', 'X-TEMPS-USER-ROLE', 'connection'), fc.stringMatching(/^[A-Za-z_-]{1,20}$/))
    fc.assert(fc.property(fc.array(fc.tuple(name, fc.string()), { maxLength: 20 }), fc.string(), (pairs, connection) => {
      const out = requestHeaders(pairs.flat(), connection, sealed)
      const ours = out.flatMap((text, i) => (i % 2 === 0 && /^(x[-_]temps[-_]|host$)/i.test(text) ? [text, out[i + 1]] : []))
      expect(ours).toEqual(['host', 'localhost', 'x-temps-plugin', 'seo', 'x-temps-request-id', 'id', 'x-temps-auth-signature', 's'])
    }), { seed: 20261120, numRuns: 2_000 })
  })
})

describe('from the plugin', () => {
  test.each([
    'Set-Cookie', 'Set-Cookie2', 'Clear-Site-Data', 'Service-Worker-Allowed', 'X-Temps-Auth-Signature', 'Strict-Transport-Security', 'Alt-Svc', 'Public-Key-Pins', 'Refresh', 'Report-To', 'Reporting-Endpoints', 'NEL',
    'Access-Control-Allow-Origin', 'Access-Control-Allow-Credentials', 'Timing-Allow-Origin', 'X-Accel-Redirect', 'X-Sendfile', 'WWW-Authenticate', 'Connection', 'Keep-Alive', 'Transfer-Encoding', 'Trailer', 'Upgrade',
    'X-Frame-Options', 'Cross-Origin-Resource-Policy', 'Cross-Origin-Opener-Policy', 'Referrer-Policy', 'X-Content-Type-Options',
  ])('%s is dropped', (name) => {
    expect(responseHeaders([Buffer.from(name), Buffer.from('evil'), Buffer.from('ETag'), Buffer.from('x')], seo, []).headers).toEqual(['etag', 'x'])
  })
  test('other headers stay, duplicates and Latin-1 bytes as they were', () => {
    const raw = ['Link', 'a', 'Link', 'b', 'X-Text', '\u00e9'].map((text) => Buffer.from(text, 'latin1'))
    expect(responseHeaders(raw, seo, []).headers).toEqual(['link', 'a', 'link', 'b', 'x-text', '\u00e9'])
  })
  test('headers that its Connection names are dropped, wherever it stands', () => {
    expect(responseHeaders(['X-Hop', '1', 'Connection', 'x-hop', 'X-End', '2'], seo, ['x-hop', 'ours']).headers).toEqual(['x-end', '2', 'x-hop', 'ours'])
  })
  test('its own CSP stays in force beside ours, and it may be framed by itself and the console alone', () => {
    const { headers } = responseHeaders(['Content-Security-Policy', "default-src 'self'"], seo, pluginGuards(['http://localhost:1']))
    expect(headers.slice(0, 4)).toEqual(['content-security-policy', "default-src 'self'", 'content-security-policy', "frame-ancestors 'self' http://localhost:1"])
    expect(API_GUARDS).toContain("sandbox; default-src 'none'; frame-ancestors 'none'")
  })
  test.each([
    ['/ui/', '/api/x/seo/ui/'], ['/', '/api/x/seo/'], ['/api/x/seo', '/api/x/seo'], ['/api/x/seo/ui', '/api/x/seo/ui'], ['/api/x/seo?a', '/api/x/seo?a'], ['/api/x/seo2/ui', '/api/x/seo/api/x/seo2/ui'],
    ['//evil.example/', '//evil.example/'], ['https://evil.example/', 'https://evil.example/'], ['ui/', 'ui/'], ['', ''],
  ])('Location %j becomes %j', (from, to) => {
    expect(rewriteLocation(from, seo)).toBe(to)
  })
})
