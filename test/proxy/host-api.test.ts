import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { CordonError } from '../../src/errors.ts'
import { Bed, codeOf, echo, until } from './fixture.ts'

const bed = new Bed()

beforeAll(async () => {
  await bed.start()
  await bed.plugin('seo', echo, { manifest: { display_name: 'SEO', public_paths: ['/hooks'] }, openapi: { openapi: '3.0.3', paths: { '/a': { get: { responses: {} } } } } })
  bed.absent('cron', 'stopped')
})
afterAll(() => bed.stop())
beforeEach(() => {
  bed.acts.length = 0
  bed.events.length = 0
  bed.onAct = async () => null
})

test('the list holds whole manifests of running plugins, nulls explicit and defaults filled in', async () => {
  const reply = await bed.api('/api/x/plugins')
  expect(reply.status).toBe(200)
  expect(JSON.parse(reply.body)).toEqual([{
    name: 'seo', version: '1.0.0', display_name: 'SEO', description: null, nav: [], ui: null, requires_db: false, requires_host_data_access: false,
    health_path: '/health', hide_header: false, public_paths: ['/hooks'], capabilities: [], host_permissions: [], events: [],
  }])
  expect(reply.body).not.toContain('5ec4e7')
})

describe('acts', () => {
  test.each(['start', 'stop', 'restart', 'disable', 'quarantine'])('%s asks for the plugin by name, says who asks, and answers with its status', async (act) => {
    const reply = await bed.api(`/api/x/plugins/cron/${act}`, {}, 'POST')
    expect([reply.status, bed.acts]).toEqual([200, [{ act, plugin: 'cron', who: 'admin token from 127.0.0.1' }]])
    expect(JSON.parse(reply.body)).toMatchObject({ name: 'cron', state: 'stopped', configured: false, setup_path: '/settings/plugins' })
    expect(bed.events.find((event) => event.type === 'http.request')).toMatchObject({ plugin: 'cron', method: 'POST', path: `/api/x/plugins/cron/${act}`, status: 200 })
  })
  test('of an act without a token it is on record that it was denied, and no request of the administrator', async () => {
    expect((await bed.send('POST', '/api/x/plugins/cron/stop', {})).status).toBe(401)
    await until(() => bed.events.length > 0)
    expect(bed.events).toEqual([{ type: 'access.denied', path: '/api/x/plugins/cron/stop', client: '127.0.0.1', reason: 'no credentials', coalesced: 0 }])
    await bed.api('/api/x/plugins/cron/stop?why=because', {}, 'POST', 'four')
    await until(() => bed.events.some((event) => event.type === 'http.request'))
    expect(bed.events.at(-1)).toMatchObject({ type: 'http.request', path: '/api/x/plugins/cron/stop', query: 'why=because', bytesIn: 4, who: 'admin via token' })
    expect(bed.events.at(-1)).not.toMatchObject({ bytesOut: 0 })
  })
  test.each(['enable', 'approve', 'release'])('%s, which is the operator\'s, does not exist', async (act) => {
    expect((await bed.api(`/api/x/plugins/cron/${act}`, {}, 'POST')).status).toBe(404)
    expect(bed.acts).toEqual([])
  })
  test('a refusal of the launcher keeps its code; an unexpected error shows nothing of itself', async () => {
    bed.onAct = () => Promise.reject(new CordonError('LAUNCH_FAILED', 'it did not start'))
    const refused = await bed.api('/api/x/plugins/cron/start', {}, 'POST')
    expect([refused.status, codeOf(refused), JSON.parse(refused.body).detail]).toEqual([502, 'LAUNCH_FAILED', 'it did not start'])
    bed.onAct = () => Promise.reject(new Error('/secret/path'))
    const failed = await bed.api('/api/x/plugins/cron/start', {}, 'POST')
    expect([failed.status, codeOf(failed)]).toEqual([500, 'INTERNAL_BUG'])
    expect(failed.body).not.toContain('/secret')
  })
  test('an unknown plugin, a name that is none, a wrong method: 404, nothing asked', async () => {
    for (const name of ['nope', 'NOPE', '%41', 'plugins', 'a%20b', 'x'.repeat(90)]) {
      const reply = await bed.api(`/api/x/plugins/${name}/stop`, {}, 'POST')
      expect([name, reply.status, reply.headers['content-type']]).toEqual([name, 404, 'application/problem+json'])
    }
    expect((await bed.api('/api/x/plugins/seo/stop')).status).toBe(404)
    expect(bed.acts).toEqual([])
  })
  test('a body, of whatever type, is bounded and not looked at', async () => {
    expect((await bed.api('/api/x/plugins/seo/stop', { 'content-type': 'application/json' }, 'POST', '{"bad')).status).toBe(200)
    const reply = await bed.api('/api/x/plugins/seo/stop', { 'content-type': 'x/y' }, 'POST', Buffer.alloc(70_000))
    expect([reply.status, codeOf(reply)]).toEqual([413, 'PROXY_BODY_TOO_LARGE'])
  })
})

test('reload: 200 when all run, 207 when some failed, 502 when none runs and one failed', async () => {
  const views = new Map(bed.views)
  expect((await bed.api('/api/x/plugins/reload', {}, 'POST')).status).toBe(200)
  bed.absent('bad', 'failed')
  const some = await bed.api('/api/x/plugins/reload', {}, 'POST')
  expect([some.status, JSON.parse(some.body)]).toEqual([207, { loaded: 1, plugins: ['seo'], failures: [{ plugin: 'bad', reason: 'start-limit' }], message: '1 running, 1 failed' }])
  bed.views.delete('seo')
  expect((await bed.api('/api/x/plugins/reload', {}, 'POST')).status).toBe(502)
  bed.views.clear()
  expect((await bed.api('/api/x/plugins/reload', {}, 'POST')).status).toBe(200)
  for (const [name, view] of views) bed.views.set(name, view)
  bed.onAct = () => Promise.resolve({ failures: [{ plugin: 'seo', reason: 'POLICY_WIDENS' }, { plugin: null, reason: 'POLICY_NAME_MISMATCH' }] })
  const left = await bed.api('/api/x/plugins/reload', {}, 'POST')
  expect([left.status, JSON.parse(left.body)]).toMatchObject([207, { plugins: ['seo'], failures: [{ plugin: 'seo', reason: 'POLICY_WIDENS' }, { reason: 'POLICY_NAME_MISMATCH' }] }])
  bed.onAct = () => Promise.resolve(null)
  expect(bed.acts).toHaveLength(5)
})

test('status tells state and reason of plugins that run and that do not', async () => {
  bed.absent('bad', 'failed')
  expect(JSON.parse((await bed.api('/api/x/plugins/bad/status')).body)).toMatchObject({ configured: false, state: 'failed', reason: 'start-limit' })
  expect(JSON.parse((await bed.api('/api/x/plugins/seo/status')).body)).toMatchObject({ configured: true, state: 'running' })
  bed.views.delete('bad')
})

test('catalogues are unavailable, which is an answer; installs and grants are not offered', async () => {
  for (const path of ['/api/x/plugins/catalog', '/api/x/plugins/catalog/repositories']) expect(JSON.parse((await bed.api(path)).body)).toMatchObject({ available: false, plugins: [] })
  for (const [method, path] of [['POST', '/api/x/plugins/install/repository'], ['PUT', '/api/x/plugins/seo/grants'], ['GET', '/api/x/plugins/seo/grants'], ['POST', '/api/x/plugins/seo/update']] as const) {
    const reply = await bed.api(path, {}, method)
    expect([path, reply.status, codeOf(reply), reply.headers['content-type']]).toEqual([path, 501, 'API_NOT_OFFERED', 'application/problem+json'])
  }
})

test('the OpenAPI document names the host and its running plugins', async () => {
  const document = JSON.parse((await bed.api('/api/openapi.json')).body) as { openapi: string; paths: object }
  expect(document.openapi).toBe('3.1.0')
  expect(Object.keys(document.paths)).toEqual(expect.arrayContaining(['/x/plugins', '/x/plugins/{name}/status', '/x/seo/a']))
})

test('without the token every one of these is 401 and asks nothing', async () => {
  for (const [method, path] of [['GET', '/api/x/plugins'], ['POST', '/api/x/plugins/reload'], ['POST', '/api/x/plugins/seo/stop'], ['GET', '/api/x/plugins/seo/status'], ['GET', '/api/x/plugins/catalog'], ['PUT', '/api/x/plugins/seo/grants']] as const) {
    expect((await bed.send(method, path, {})).status).toBe(401)
  }
  expect(bed.acts).toEqual([])
})
