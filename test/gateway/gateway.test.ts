import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { encodeMessage } from '../../src/wire/frame.ts'
import { buildGateway, FakeLauncher } from './fake-launcher.ts'

let built = ''
let bundle = ''
let launcher: FakeLauncher
beforeAll(async () => {
  built = await mkdtemp(join(tmpdir(), 'cordon-gw-build-'))
  bundle = await buildGateway(built)
})
afterAll(() => rm(built, { recursive: true, force: true }))
beforeEach(async () => {
  launcher = await FakeLauncher.start(bundle)
})
afterEach(() => launcher.close())

const until = async (condition: () => boolean): Promise<void> => {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 10))
}

describe('a generation 2 plugin', () => {
  it('is driven to running, reached by HTTP, answered over its channel, and recorded', async () => {
    const run = await launcher.plugin('good-gen2', { grants: ['projects_read'] })
    expect(await launcher.heard('running', run)).toMatchObject({ generation: '2', version: '1.0.0' })
    expect(launcher.messages.filter((m) => 'run' in m && m.run === run.id && m.type !== 'taken').map((m) => m.type)).toEqual(['releaseLaunchConfig', 'takeSocket', 'running'])
    expect(launcher.records('plugin.handshake', run)).toMatchObject([{ generation: '2', name: 'good-gen2', requested: ['projects_read'], granted: ['projects_read'] }])

    const echo = await launcher.get('/api/x/good-gen2/echo', { headers: { cookie: 'a=b', 'x-temps-user-role': 'forged' } })
    expect(echo.status).toBe(200)
    const { headers } = JSON.parse(echo.body) as { headers: Record<string, string> }
    expect(headers).toMatchObject({ host: 'localhost', 'x-temps-plugin': 'good-gen2' })
    expect(headers).not.toHaveProperty('cookie')
    expect(headers).not.toHaveProperty('authorization')
    expect(headers['x-temps-user-role']).not.toBe('forged')

    const projects = await launcher.get('/api/x/good-gen2/projects')
    expect(JSON.parse(projects.body)).toEqual({ ok: { method: 'list_projects', result: [] } })
    expect(launcher.records('channel.call', run)).toMatchObject([{ method: 'list_projects', outcome: 'ok' }])
    await until(() => launcher.records('health.changed', run).length > 0)
    expect(launcher.records('health.changed', run)).toMatchObject([{ healthy: true }])
  })

  it('is denied what its policy does not grant, and asks get_host_capabilities all the same', async () => {
    const run = await launcher.plugin('good-gen2')
    await launcher.heard('running', run)
    expect((await launcher.get('/api/x/good-gen2/projects')).body).toContain('permission_denied')
    expect(JSON.parse((await launcher.get('/api/x/good-gen2/capabilities')).body)).toMatchObject({ ok: { result: { permissions: [], ai: { configured: false } } } })
  })

  it('is not reachable before the launcher says that it runs, nor after its run has ended', async () => {
    const run = await launcher.plugin('good-gen2')
    await launcher.heard('running', run)
    expect((await launcher.get('/api/x/good-gen2/')).status).toBe(200)
    launcher.setState(run, 'stopping')
    expect((await launcher.get('/api/x/good-gen2/')).status).not.toBe(200)
    run.child.kill('SIGKILL')
    await once(run.child, 'exit')
    expect((await launcher.get('/api/x/good-gen2/')).status).not.toBe(200)
    expect(launcher.records('plugin.refused', run)).toEqual([])
  })

  it('whose process ends is left to the launcher; whose channel alone ends is given up', async () => {
    const ends = await launcher.plugin('exits-after-ready')
    await once(ends.child, 'close')
    await new Promise((resolve) => setTimeout(resolve, 1300)) // longer than it waits before it gives a verdict
    expect(launcher.messages.filter((m) => m.type === 'failed')).toEqual([])
    expect(launcher.records('channel.closed', ends).length).toBeLessThanOrEqual(1) // none where the launcher's word of the end came first

    const bombs = await launcher.plugin('channel-bomb', { env: { CHANNEL_BOMB: 'length' } })
    expect(await launcher.heard('failed', bombs)).toMatchObject({ code: 'CHANNEL_LOST' })
  })
})

describe('the descriptors of the gateway', () => {
  it('are given back when runs end', async () => {
    const open = (): number => readdirSync(`/proc/${launcher.gateway.pid}/fd`).length
    const one = async (): Promise<void> => {
      const run = await launcher.plugin('good-gen2')
      await launcher.heard('running', run)
      expect((await launcher.get('/api/x/good-gen2/')).status).toBe(200)
      run.child.kill('SIGKILL')
      await once(run.child, 'close')
    }
    await one()
    await new Promise((resolve) => setTimeout(resolve, 200))
    const before = open()
    for (let i = 0; i < 4; i += 1) await one()
    const deadline = Date.now() + 20_000
    while (open() > before && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 50))
    expect(open()).toBeLessThanOrEqual(before)
  })
})

describe('a generation 1 plugin', () => {
  it('runs without a channel and without a launch config', async () => {
    const run = await launcher.plugin('good-gen1', { style: '1' })
    expect(await launcher.heard('running', run)).toMatchObject({ generation: '1' })
    expect((await launcher.get('/api/x/good-gen1/')).body).toBe('ok')
    expect(launcher.messages.some((m) => m.type === 'releaseLaunchConfig')).toBe(false)
  })

  it('started with generation 2 arguments ends without a word, which is no failure of the gateway\'s making', async () => {
    const run = await launcher.plugin('good-gen1')
    await once(run.child, 'close')
    await new Promise((resolve) => setTimeout(resolve, 1300))
    expect(launcher.messages.filter((m) => m.type === 'failed')).toEqual([])
  })
})

describe('a bad plugin', () => {
  it.each([
    ['bad-names', { BAD_NAME: '../x' }, 'HANDSHAKE_MANIFEST'],
    ['bad-names', { BAD_NAME: 'other' }, 'HANDSHAKE_NAME'],
    ['wrong-name', {}, 'HANDSHAKE_NAME'],
    ['wrong-version', {}, 'HANDSHAKE_VERSION'],
    ['invalid-json', {}, 'HANDSHAKE_MALFORMED'],
    ['binary-garbage', {}, 'HANDSHAKE_'],
    ['deep-json', {}, 'HANDSHAKE_'],
    ['endless-line', {}, 'HANDSHAKE_TOO_LONG'],
    ['needs-db', {}, 'HANDSHAKE_REQUIRES_DB'],
    ['never-listens', {}, 'HANDSHAKE_SOCKET'],
    ['channel-refuses', {}, 'CHANNEL_REFUSED'],
    ['socket-fifo', {}, 'PROXY_SOCKET_REFUSED'],
    ['socket-symlink', {}, 'PROXY_SOCKET_REFUSED'],
  ])('%s %j is given up with %s, recorded, and gets no secret by the launch config unless its hello was accepted', async (fixture, env, code) => {
    const run = await launcher.plugin(fixture, { env })
    const failed = await launcher.heard('failed', run)
    expect(failed.code).toContain(code)
    expect(launcher.records('plugin.refused', run)).toMatchObject([{ code: failed.code }])
    const released = launcher.messages.some((m) => m.type === 'releaseLaunchConfig' && m.run === run.id)
    expect(released).toBe(['never-listens', 'channel-refuses', 'socket-fifo', 'socket-symlink'].includes(fixture))
    expect(launcher.gateway.exitCode).toBeNull()
  })

  it('that bombs the channel leaves others served', async () => {
    const good = await launcher.plugin('good-gen2')
    await launcher.heard('running', good)
    for (const kind of ['fragments', 'pings', 'calls', 'garbage']) {
      const run = await launcher.plugin('channel-bomb', { env: { CHANNEL_BOMB: kind } })
      await Promise.race([launcher.heard('running', run), launcher.heard('failed', run)])
      await new Promise((resolve) => setTimeout(resolve, 200))
      expect((await launcher.get('/api/x/good-gen2/')).status).toBe(200)
      run.child.kill('SIGKILL')
    }
  })

  it('that floods stdout after ready is read to the end without being kept', async () => {
    const run = await launcher.plugin('stdout-flood-after-ready')
    await launcher.heard('running', run)
    await until(() => run.taken > 8 * 1024 * 1024)
    expect((await launcher.get('/api/x/stdout-flood-after-ready/')).status).toBe(200)
  })
})

describe('the conversation with the launcher', () => {
  it('mints a one-time link on the plugin\'s own origin', async () => {
    const run = await launcher.plugin('good-gen2')
    await launcher.heard('running', run)
    launcher.say({ type: 'mintLink', id: 1, plugin: run.name })
    expect(await launcher.heard('answer')).toMatchObject({ id: 1, ok: { url: expect.stringContaining(`http://good-gen2.localhost:${launcher.port}/`) as string } })
  })

  it('ends the gateway when the launcher is gone', async () => {
    launcher.gateway.stdio[3]?.destroy()
    expect(((await once(launcher.gateway, 'exit')) as [number])[0]).toBe(0)
  })

  it('ends it in order at shutdown', async () => {
    launcher.say({ type: 'shutdown' })
    expect(((await once(launcher.gateway, 'exit')) as [number])[0]).toBe(0)
  })

  it.each<[string, Buffer]>([
    ['an unknown message', encodeMessage({ type: 'evil' })],
    ['an unknown field', encodeMessage({ type: 'shutdown', now: true })],
    ['an answer to nothing', encodeMessage({ type: 'answer', id: 77, ok: 1 })],
    ['a second configure', encodeMessage({ type: 'configure', listen: { host: '127.0.0.1', port: 1 }, adminTokenSha256: '', version: '', forwardedUser: null })],
    ['a frame that is too long', Buffer.from([0xff, 0xff, 0xff, 0xff, 0])],
    ['a message that is not JSON', Buffer.from([0, 0, 0, 2, 0, 0x7b])],
  ])('is over after %s', async (_, bytes) => {
    launcher.sayBytes(bytes)
    expect(((await once(launcher.gateway, 'exit')) as [number])[0]).toBe(70)
    expect(launcher.stderr).toMatch(/^cordon-gateway: WIRE_MALFORMED [^\n]*\n$/)
  })
})
