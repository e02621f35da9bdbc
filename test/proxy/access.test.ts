import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { Bed, codeOf, echo, echoed, SECRET, TOKEN } from './fixture.ts'

const bed = new Bed()
const HTML = { accept: 'text/html', 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document', 'sec-fetch-site': 'none' }

beforeAll(async () => {
  await bed.start()
  await bed.plugin('seo', echo, { publicPaths: ['/hooks/in', '/_temps', '/'] })
  await bed.plugin('cron', echo)
  for (const state of ['stopped', 'disabled', 'waiting', 'starting', 'backoff', 'failed', 'quarantined'] as const) bed.absent(state, state)
})
afterAll(() => bed.stop())
afterEach(() => {
  bed.clock = () => Date.now()
})

describe('origins', () => {
  test.each(['evil.example', 'localhost', 'localhost:1', 'a.b.localhost', 'plugins.localhost'])('Host %s gets 421 and nothing of ours', async (host) => {
    const reply = await bed.api('/api/x/plugins', { host })
    expect([reply.status, codeOf(reply)]).toEqual([421, 'ACCESS_WRONG_HOST'])
  })
  test('127.0.0.1 and [::1] are the console as localhost is', async () => {
    for (const host of [bed.host, `127.0.0.1:${bed.port}`, `[::1]:${bed.port}`]) expect((await bed.api('/api/x/seo/a', { host })).status).toBe(200)
  })
  test('a plugin\'s origin serves its own unmodified paths to its session', async () => {
    const cookie = await bed.signIn('seo')
    const reply = await bed.get('/api/x/seo/ui/app.js?v=1', { host: bed.site('seo'), cookie })
    expect(reply.status).toBe(200)
    expect(echoed(reply).url).toBe('/ui/app.js?v=1')
  })
  test('there, other plugins, the host API and everything else do not exist, session or token or not', async () => {
    const cookie = await bed.signIn('seo')
    for (const path of ['/api/x/cron/a', '/api/x/plugins', '/api/x/plugins/seo/status', '/api/openapi.json', '/healthz', '/api/x/%73eo/a', '/x']) {
      const reply = await bed.get(path, { host: bed.site('seo'), cookie, authorization: `Bearer ${TOKEN}` })
      expect([path, reply.status]).toEqual([path, 404])
    }
  })
  test('its root leads to its page', async () => {
    const reply = await bed.get('/', { host: bed.site('seo') })
    expect([reply.status, reply.headers.location]).toEqual([302, '/api/x/seo/ui/'])
  })
  test('a browser on the console\'s origin is sent to the plugin\'s', async () => {
    for (const headers of [HTML, { accept: 'text/html,*/*' }]) {
      const reply = await bed.get('/api/x/seo/ui/?a=b', headers)
      expect([reply.status, reply.headers.location]).toEqual([307, `http://seo.localhost:${bed.port}/api/x/seo/ui/?a=b`])
    }
  })
  test('a browser\'s subresource from a public path is sent there too: the console\'s origin gives browsers no plugin bytes', async () => {
    const reply = await bed.get('/api/x/seo/hooks/in', { 'sec-fetch-mode': 'no-cors', 'sec-fetch-site': 'same-origin' })
    expect(reply.status).toBe(307)
  })
  test('an API client gets plugin bytes in a sandbox that no page can frame', async () => {
    const reply = await bed.api('/api/x/seo/a')
    expect(reply.headers['content-security-policy']).toBe("sandbox; default-src 'none'; frame-ancestors 'none'")
    expect(reply.headers['x-frame-options']).toBe('DENY')
  })
  test('plugin pages are framed by themselves and the console only; refusals on their origin too', async () => {
    const cookie = await bed.signIn('seo')
    const want = `frame-ancestors 'self' http://localhost:${bed.port} http://127.0.0.1:${bed.port}`
    for (const headers of [{ cookie }, {}]) {
      const reply = await bed.get('/api/x/seo/a', { host: bed.site('seo'), ...headers })
      expect(reply.headers['content-security-policy']).toBe(want)
      expect(reply.headers['cross-origin-resource-policy']).toBe('same-origin')
      expect(reply.headers['x-content-type-options']).toBe('nosniff')
    }
  })
  test('the console\'s own answers cannot be framed', async () => {
    for (const path of ['/healthz', '/nothing', '/api/x/plugins']) {
      const reply = await bed.api(path)
      expect(reply.headers['x-frame-options']).toBe('DENY')
      expect(reply.headers['content-security-policy']).toContain("frame-ancestors 'none'")
    }
  })
  test('a service worker script is refused where the same script as a plain file is served', async () => {
    const cookie = await bed.signIn('seo')
    const own = { host: bed.site('seo'), cookie, 'sec-fetch-site': 'same-origin' }
    expect((await bed.get('/api/x/seo/sw.js', own)).status).toBe(200)
    const reply = await bed.get('/api/x/seo/sw.js', { ...own, 'service-worker': 'script' })
    expect([reply.status, codeOf(reply)]).toEqual([403, 'ACCESS_SERVICE_WORKER'])
  })
})

describe('sessions', () => {
  test('the cookie of plugin A is refused at plugin B and on the console', async () => {
    const cookie = await bed.signIn('seo')
    expect((await bed.get('/api/x/seo/a', { host: bed.site('seo'), cookie })).status).toBe(200)
    expect((await bed.get('/api/x/cron/a', { host: bed.site('cron'), cookie })).status).toBe(401)
    expect((await bed.get('/api/x/seo/a', { cookie })).status).toBe(401)
    expect((await bed.get('/api/x/plugins', { cookie })).status).toBe(401)
  })
  test('a one-time link works once, and not on another plugin\'s origin', async () => {
    const url = new URL(bed.link('seo'))
    const path = url.pathname + url.search
    expect((await bed.get(path, { host: bed.site('cron') })).status).toBe(410)
    const first = await bed.get(path, { host: url.host })
    expect([first.status, first.headers.location]).toEqual([303, '/api/x/seo/ui/'])
    expect(first.headers['set-cookie']?.[0]).toMatch(/HttpOnly; SameSite=Strict$/)
    expect(first.headers['cache-control']).toBe('no-store')
    const second = await bed.get(path, { host: url.host })
    expect([second.status, codeOf(second), second.headers['set-cookie']]).toEqual([410, 'ACCESS_LINK_SPENT', undefined])
  })
  test('what loads ahead of the user leaves the link unspent', async () => {
    const url = new URL(bed.link('seo'))
    const path = url.pathname + url.search
    for (const headers of [{ 'sec-purpose': 'prefetch;prerender' }, { purpose: 'prefetch' }, { 'x-moz': 'prefetch' }, { 'sec-fetch-mode': 'no-cors' }]) {
      expect((await bed.get(path, { host: url.host, ...headers })).status).toBe(405)
    }
    expect((await bed.send('HEAD', path, { host: url.host })).status).toBe(405)
    expect((await bed.send('POST', path, { host: url.host })).status).toBe(405)
    expect((await bed.get(path, { host: url.host, ...HTML })).status).toBe(303)
  })
  test('in a frame the session is partitioned', async () => {
    const url = new URL(bed.link('seo'))
    const reply = await bed.get(url.pathname + url.search, { host: url.host, ...HTML, 'sec-fetch-dest': 'iframe', 'sec-fetch-site': 'cross-site' })
    expect(reply.headers['set-cookie']?.[0]).toMatch(/HttpOnly; SameSite=None; Secure; Partitioned$/)
  })
  test('links end after five minutes, sessions after twelve hours', async () => {
    const start = Date.now()
    const url = new URL(bed.link('seo'))
    const cookie = await bed.signIn('seo')
    bed.clock = () => start + 6 * 60_000
    expect((await bed.get(url.pathname + url.search, { host: url.host })).status).toBe(410)
    expect((await bed.get('/api/x/seo/a', { host: bed.site('seo'), cookie })).status).toBe(200)
    bed.clock = () => start + 13 * 3_600_000
    expect((await bed.get('/api/x/seo/a', { host: bed.site('seo'), cookie })).status).toBe(401)
  })
  test('a sibling that makes the browser send the cookie is refused, the page itself is not', async () => {
    const cookie = await bed.signIn('seo')
    const post = (headers: Record<string, string>) => bed.send('POST', '/api/x/seo/delete', { host: bed.site('seo'), cookie, ...headers })
    expect((await post({ origin: `http://seo.localhost:${bed.port}` })).status).toBe(200)
    expect((await post({ 'sec-fetch-site': 'same-origin' })).status).toBe(200)
    for (const headers of [{ origin: `http://cron.localhost:${bed.port}` }, { origin: `http://localhost:${bed.port}` }, { 'sec-fetch-site': 'same-site' }, { 'sec-fetch-site': 'cross-site', ...{ 'sec-fetch-mode': 'navigate' } }, {}]) {
      const reply = await post(headers as Record<string, string>)
      expect([headers, reply.status, codeOf(reply)]).toEqual([headers, 403, 'ACCESS_CROSS_ORIGIN'])
    }
  })
  test('on a public path what a sibling sends with the cookie is anonymous', async () => {
    const cookie = await bed.signIn('seo')
    const own = await bed.send('POST', '/api/x/seo/hooks/in', { host: bed.site('seo'), cookie, 'sec-fetch-site': 'same-origin' })
    expect(echoed(own).headers['x-temps-user-role']).toBe('admin')
    const sibling = await bed.send('POST', '/api/x/seo/hooks/in', { host: bed.site('seo'), cookie, 'sec-fetch-site': 'same-site' })
    expect(sibling.status).toBe(200)
    expect(echoed(sibling).headers['x-temps-user-role']).toBeUndefined()
  })
})

describe('who may call', () => {
  test('a token: the plugin hears admin, whole; nothing of the credentials', async () => {
    const seen = echoed(await bed.api('/api/x/seo/a', { cookie: 'a=b', 'x-temps-user-id': '7', 'x_temps_user_email': 'e', 'x-temps-actor-token': 't' }))
    expect(seen.headers).toMatchObject({ host: 'localhost', 'x-temps-plugin': 'seo', 'x-temps-auth-signature': SECRET, 'x-temps-user-role': 'admin', 'x-temps-user-id': '1', 'x-temps-user-email': 'admin@localhost' })
    expect(seen.headers['x-temps-request-id']).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4/)
    for (const name of ['authorization', 'cookie', 'x_temps_user_email', 'x-temps-actor-token']) expect(seen.headers[name]).toBeUndefined()
  })
  test('nobody: 401 in the words of the protocol, for plugins that exist and that do not', async () => {
    for (const path of ['/api/x/seo/a', '/api/x/nope/a', '/api/x/stopped/a', '/api/x/seo/_temps/channel', '/api/x/seo']) {
      const reply = await bed.get(path)
      expect([path, reply.status, reply.headers['content-type']]).toEqual([path, 401, 'application/problem+json'])
      expect(JSON.parse(reply.body)).toMatchObject({ title: 'Authentication Required', code: 'ACCESS_NO_CREDENTIALS' })
    }
  })
  test('a declared public path: anyone, without identity; its neighbours: nobody', async () => {
    const seen = echoed(await bed.send('POST', '/api/x/seo/hooks/in/x', { 'x-temps-user-role': 'admin' }, 'body'))
    expect(seen.body).toBe('body')
    expect(seen.headers).toMatchObject({ 'x-temps-plugin': 'seo', 'x-temps-auth-signature': SECRET })
    expect(Object.keys(seen.headers).filter((name) => name.startsWith('x-temps-user'))).toEqual([])
    for (const path of ['/api/x/seo/hooks/in-admin', '/api/x/seo/hooks', '/api/x/seo/', '/api/x/cron/hooks/in']) expect((await bed.get(path)).status).toBe(401)
    expect((await bed.get('/api/x/seo/hooks/in', { host: bed.site('seo') })).status).toBe(200)
  })
  test('a webhook may carry its own Authorization scheme; a wrong bearer token stays wrong', async () => {
    expect((await bed.get('/api/x/seo/hooks/in', { authorization: 'Basic eDp5' })).status).toBe(200)
    expect((await bed.get('/api/x/seo/hooks/in', { authorization: 'Bearer nope' })).status).toBe(401)
    expect((await bed.get('/api/x/seo/a', { authorization: 'Basic eDp5' })).status).toBe(401)
  })
  test('a token is not taken on a plugin\'s origin', async () => {
    expect((await bed.get('/api/x/seo/a', { host: bed.site('seo'), authorization: `Bearer ${TOKEN}` })).status).toBe(401)
  })
  test('/healthz says ok to anyone; every other path of the console needs a token, unknown and encoded ones too', async () => {
    expect(JSON.parse((await bed.get('/healthz')).body)).toEqual({ status: 'ok' })
    for (const path of ['/', '/api', '/api/x/plugins', '/%61pi/x/plugins', '/api/x/%70lugins', '/api/openapi.json', '/nothing', '/healthz/x']) expect([path, (await bed.get(path)).status]).toEqual([path, 401])
    expect((await bed.api('/nothing')).status).toBe(404)
  })
})

describe('plugins that are not there', () => {
  test.each([
    ['nope', 404, 'PROXY_NOT_FOUND', undefined], ['stopped', 404, 'PROXY_NOT_RUNNING', undefined], ['disabled', 404, 'PROXY_NOT_RUNNING', undefined], ['waiting', 404, 'PROXY_NOT_RUNNING', undefined],
    ['starting', 503, 'PROXY_STARTING', '2'], ['backoff', 503, 'PROXY_STARTING', '2'], ['failed', 502, 'PROXY_UNAVAILABLE', undefined],
    ['quarantined', 503, 'PROXY_QUARANTINED', undefined],
  ])('%s: %i %s', async (name, status, code, retry) => {
    const reply = await bed.api(`/api/x/${name}/a`)
    expect([reply.status, codeOf(reply), reply.headers['retry-after'], reply.headers['content-type']]).toEqual([status, code, retry, 'application/problem+json'])
  })
  test('one in quarantine has a problem type of its own, which a stranger does not see', async () => {
    const { type, title, detail } = JSON.parse((await bed.api('/api/x/quarantined/a')).body) as Record<string, unknown>
    expect([type, title, detail]).toEqual(['urn:cordon:problem:plugin-quarantined', 'Plugin Quarantined', 'The plugin is in quarantine.'])
    expect((await bed.get('/api/x/quarantined/a')).status).toBe(401)
  })
  test('a webhook that comes while its plugin starts is told to come again', async () => {
    const reply = await bed.send('POST', '/api/x/starting/hooks/in', {})
    expect([reply.status, reply.headers['retry-after']]).toEqual([503, '2'])
  })
})

describe('guessing', () => {
  test('after ten wrong tokens the address waits, even with the right one; then it may again', async () => {
    const guess = new Bed()
    try {
      await guess.start()
      const start = Date.now()
      guess.clock = () => start
      for (let i = 0; i < 10; i++) expect((await guess.get('/api/x/plugins', { authorization: 'Bearer wrong' })).status).toBe(401)
      const reply = await guess.api('/api/x/plugins')
      expect([reply.status, codeOf(reply), reply.headers['retry-after']]).toEqual([429, 'ACCESS_TOO_MANY_TRIES', '60'])
      expect((await guess.api('/api/x/seo/a')).status).toBe(429)
      const url = new URL(guess.link('seo'))
      expect((await guess.get(url.pathname + url.search, { host: url.host })).status).toBe(303) // links are counted apart
      guess.clock = () => start + 60_000
      expect((await guess.api('/api/x/plugins')).status).toBe(200)
    } finally {
      await guess.stop()
    }
    const denied = guess.events.filter((event) => event.type === 'access.denied')
    expect(denied).toEqual([
      { type: 'access.denied', path: '/api/x/plugins', client: '127.0.0.1', reason: 'a wrong token', coalesced: 0 },
      { type: 'access.denied', path: '/api/x/plugins', client: '127.0.0.1', reason: 'too many failed tries', coalesced: 0 },
      { type: 'access.denied', path: '/api/x/plugins', client: '127.0.0.1', reason: 'a wrong token', coalesced: 9 },
      { type: 'access.denied', path: '/api/x/seo/a', client: '127.0.0.1', reason: 'too many failed tries', coalesced: 1 },
    ])
  })
  test('ten wrong links shut the address for links; those that a page makes its browser open shut nothing, and none shuts the API', async () => {
    const guess = new Bed()
    try {
      await guess.start()
      const wrong = async (headers: Record<string, string>): Promise<number> => (await guess.get(`/_cordon/open?t=${'x'.repeat(43)}`, { host: guess.site('seo'), ...headers })).status
      for (const site of ['same-origin', 'same-site', 'cross-site']) {
        for (let i = 0; i < 10; i++) expect(await wrong({ 'sec-fetch-site': site, 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'iframe' })).toBe(410)
      }
      for (let i = 0; i < 10; i++) expect(await wrong(i % 2 === 0 ? {} : { 'sec-fetch-site': 'none', 'sec-fetch-mode': 'navigate' })).toBe(410)
      expect(await wrong({})).toBe(429)
      expect((await guess.api('/api/x/plugins')).status).toBe(200)
    } finally {
      await guess.stop()
    }
  })
})
