import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { hostReply, PluginDriver } from './plugin-driver.ts'

let built = ''
beforeAll(() => {
  built = mkdtempSync(join(tmpdir(), 'samples-'))
  execFileSync(resolve('deploy/samples/build.sh'), [built, 'notes', 'clock', 'count'])
})
afterAll(() => rmSync(built, { recursive: true, force: true }))

const running: PluginDriver[] = []
afterEach(async () => {
  for (const driver of running.splice(0)) await driver.stop()
})
function start(name: string, style: '2' | '1', extra: string[] = [], successorOf?: PluginDriver): PluginDriver {
  const file = join(built, name === 'notes' ? 'notes/bin/notes' : name)
  const driver = new PluginDriver(file, style, { env: { CORDON_NODE: process.execPath }, extra, ...(successorOf && { directory: successorOf.directory }) })
  running.push(driver)
  return driver
}

test('what the build leaves behind, nobody but its owner can write', () => {
  for (const name of ['notes', 'notes/bin/notes', 'clock', 'count']) expect(statSync(join(built, name)).mode & 0o777, name).toBe(0o755)
  for (const name of ['notes/main.ts', 'notes/ui/notes.js']) expect(statSync(join(built, name)).mode & 0o777, name).toBe(0o644)
})

describe('notes', () => {
  const JSON_BODY = { 'content-type': 'application/json' }

  test('keeps, edits and deletes notes, and asks the host for projects over the channel', async () => {
    const notes = start('notes', '2')
    const { hello, ready } = await notes.start()
    expect(hello).toMatchObject({ type: 'hello', protocol_version: 2, manifest: { name: 'notes', host_permissions: ['projects_read'] } })
    expect(ready).toEqual({ type: 'ready', ready: true, has_ui: true, protocol_version: 2 })
    expect(statSync(notes.socketPath).mode & 0o777).toBe(0o600)
    expect((await notes.http('GET', '/notes')).status).toBe(503)
    await notes.openChannel(hostReply)

    const identity = { 'x-temps-user-id': '3', 'x-temps-user-email': 'eve@example.org', 'x-temps-user-role': 'user' }
    const made = await notes.http('POST', '/notes', { body: '{"text":"buy salt"}', headers: { ...JSON_BODY, ...identity } })
    expect(made.status).toBe(201)
    expect(made.json()).toMatchObject({ id: 1, text: 'buy salt', author: 'eve@example.org' })
    expect((await notes.http('PUT', '/notes/1', { body: '{"text":"buy sugar"}', headers: JSON_BODY })).status).toBe(200)
    expect((await notes.http('GET', '/notes')).json()).toMatchObject([{ text: 'buy sugar' }])
    expect((await notes.http('DELETE', '/notes/1')).status).toBe(204)
    expect((await notes.http('GET', '/notes/1')).status).toBe(404)
    expect((await notes.http('POST', '/notes', { body: '[]', headers: JSON_BODY })).status).toBe(400)
    expect((await notes.http('GET', '/host')).json()).toMatchObject({ projects: { result: [{ name: 'shop' }] } })

    const page = await notes.http('GET', '/ui/')
    expect(page.headers['content-type']).toContain('text/html')
    expect(page.text).toContain('/api/x/notes/ui/notes.js')
    expect((await notes.http('GET', '/ui/notes.css')).status).toBe(200)
    expect((await notes.http('GET', '/ui')).headers.location).toBe('/ui/')
  })

  test('shows a refused call as refused and goes on', async () => {
    const notes = start('notes', '2')
    await notes.start()
    await notes.openChannel(({ id }) => ({ type: 'response', id, outcome: { err: { code: 'permission_denied', message: 'no' } } }))
    expect((await notes.http('GET', '/host')).json()).toMatchObject({ projects: { refused: 'permission_denied' } })
  })

  test('refuses a missing secret, half an identity, a second channel and a wrong secret on it', async () => {
    const notes = start('notes', '2')
    await notes.start()
    await expect(notes.openChannel(hostReply, 'x'.repeat(36))).rejects.toThrow('401')
    await notes.openChannel(hostReply)
    await expect(notes.openChannel(hostReply)).rejects.toThrow('409')
    expect((await notes.http('GET', '/notes', { noSecret: true })).status).toBe(401)
    expect((await notes.http('GET', '/health', { noSecret: true })).status).toBe(200)
    expect((await notes.http('GET', '/notes', { headers: { 'x-temps-user-role': 'admin' } })).status).toBe(401)
  })

  test.each([
    ['an unknown flag', ['--auth-secret', 'x'], {}],
    ['a database that it did not ask for', [], { database_url: 'postgres://x' }],
    ['a blank secret', [], { auth_secret: ' ' }],
    ['another protocol version', [], { protocol_version: 3 }],
  ])('ends on %s', async (_what, extra, changes) => {
    const notes = start('notes', '2', extra)
    notes.sendLaunchConfig(changes)
    expect(await notes.exited).not.toBe(0)
  })

  test.each(['SIGINT', 'SIGTERM'] as const)('ends with status 0 on %s', async (signal) => {
    const notes = start('notes', '2')
    await notes.start()
    notes.process.kill(signal)
    expect(await notes.exited).toBe(0)
  })
})

describe('clock', () => {
  test('speaks generation 1 and serves its page, its stream and its projects', async () => {
    const clock = start('clock', '1')
    expect(await clock.line()).toMatchObject({ type: 'manifest', name: 'clock', display_name: 'Clock', requires_db: false })
    expect(await clock.line()).toEqual({ type: 'ready', ready: true, has_ui: true })
    expect((await clock.http('GET', '/health')).json()).toEqual({ status: 'ok', plugin: 'clock' })
    expect((await clock.http('GET', '/now')).status).toBe(503)
    await clock.openChannel(hostReply)
    expect((await clock.http('GET', '/projects')).json()).toEqual({ projects: [{ id: 7, name: 'shop' }] })
    expect((await clock.http('GET', '/now')).json()).toHaveProperty('now')
    expect((await clock.http('GET', '/ui/')).text).toContain('/api/x/clock/ui/clock.js')
    expect((await clock.http('GET', '/ui/clock.js')).headers['content-type']).toContain('text/javascript')
    expect(await firstChunk(clock.socketPath, '/ticks')).toMatch(/^data: \{"now": "20\d\d-.*\}\n\n$/)
    clock.process.kill('SIGINT')
    expect(await clock.exited).toBe(0)
  })

  test('says nothing on stdout and ends when it is started as generation 2', async () => {
    const clock = start('clock', '2')
    await expect(clock.line()).rejects.toThrow('stdout ended')
    expect(await clock.exited).toBe(1)
    expect(clock.stderr).toContain('--auth-secret')
  })
})

describe('count', () => {
  test('counts across restarts, and asks the host over the channel', async () => {
    const count = start('count', '2', ['--some-flag', 'ignored'])
    const { hello } = await count.start()
    expect(hello).toMatchObject({ type: 'hello', manifest: { name: 'count', public_paths: ['/hit'] } })
    expect((await count.http('GET', '/value')).status).toBe(503)
    await count.openChannel(hostReply)
    expect((await count.http('POST', '/value')).json()).toEqual({ count: 1 })
    expect((await count.http('POST', '/hit')).json()).toEqual({ count: 2 })
    expect((await count.http('GET', '/host')).json()).toEqual({ projects: { result: [{ id: 7, name: 'shop' }] } })
    expect((await count.http('GET', '/ui/')).text).toContain('/api/x/count')
    expect((await count.http('GET', '/value', { noSecret: true })).status).toBe(401)
    count.process.kill('SIGTERM')
    expect(await count.exited).toBe(0)

    const again = start('count', '2', [], count)
    await again.start()
    await again.openChannel(hostReply)
    expect((await again.http('GET', '/value')).json()).toEqual({ count: 2 })
  })

  test('aborts when it is started as generation 1', async () => {
    const count = start('count', '1')
    expect(await count.exited).not.toBe(0)
    expect(count.stderr).toContain('--auth-secret')
  })
})

/** The first chunk of a reply that does not end. */
function firstChunk(socketPath: string, path: string): Promise<string> {
  return new Promise((done, fail) => {
    const call = request({ socketPath, path, headers: { host: 'localhost' } }, (response) => {
      response.once('data', (chunk: Buffer) => {
        done(chunk.toString('utf8'))
        call.destroy()
      })
    })
    call.on('error', fail)
    call.end()
  })
}
