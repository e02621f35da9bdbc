import { execFile, execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { PluginDriver } from './plugin-driver.ts'

const HOSTILE = resolve('deploy/samples/hostile')

const running: PluginDriver[] = []
afterEach(async () => {
  for (const driver of running.splice(0)) await driver.stop()
})
async function start(env: Record<string, string> = {}): Promise<{ plugin: PluginDriver; hello: Record<string, unknown>; ready: Record<string, unknown> }> {
  const plugin = new PluginDriver(HOSTILE, '2', { env })
  running.push(plugin)
  return { plugin, ...(await plugin.start()) }
}

function openChannel(plugin: PluginDriver, secret = plugin.secret): WebSocket {
  const headers = { 'x-temps-auth-signature': secret }
  return new WebSocket(`ws+unix://${plugin.socketPath}:/_temps/channel`, { headers, perMessageDeflate: false })
}

/** Status, stdout and stderr of one use from the command line. */
function use(args: readonly string[], env: Record<string, string> = {}): Promise<{ status: number; stdout: string; stderr: string }> {
  return new Promise((done) => {
    execFile(HOSTILE, args, { env, encoding: 'utf8', timeout: 50_000 }, (error, stdout, stderr) => {
      done({ status: error === null ? 0 : typeof error.code === 'number' ? error.code : -1, stdout, stderr })
    })
  })
}

describe('the hostile sample as a plugin', () => {
  test('speaks generation 2 under the name that it is given', async () => {
    const { plugin, hello, ready } = await start({ CORDON_PLUGIN_NAME: 'harmless' })
    expect(hello).toMatchObject({ type: 'hello', protocol_version: 2, manifest: { name: 'harmless', version: '1.0.0', host_permissions: [] } })
    expect(ready).toEqual({ type: 'ready', ready: true, has_ui: true, protocol_version: 2 })
    expect((await plugin.http('GET', '/health')).json()).toEqual({ status: 'ok', plugin: 'harmless' })
    expect((await plugin.http('GET', '/api/x/harmless/health')).status).toBe(200)
  })

  test('accepts one channel, by secret, answers pings and keeps it open', async () => {
    const { plugin } = await start()
    const [refused] = await once(openChannel(plugin, 'x'.repeat(40)), 'error')
    expect(String(refused)).toContain('401')
    const channel = openChannel(plugin)
    await once(channel, 'open') // ws checks Sec-WebSocket-Accept, and so the SHA-1 in Perl
    channel.ping('are you there')
    expect(String((await once(channel, 'pong'))[0])).toBe('are you there')
    channel.send('x'.repeat(100_000))
    channel.ping('still')
    await once(channel, 'pong')
    const [second] = await once(openChannel(plugin), 'error')
    expect(String(second)).toContain('409')
    channel.close()
    await once(channel, 'close')
  })

  test('serves a page that leaves its results in window.__results, and tries to plant cookies', async () => {
    const { plugin } = await start()
    const page = await plugin.http('GET', '/ui/')
    expect(page.headers['content-type']).toContain('text/html')
    expect(page.text).toContain('window.__results')
    expect(page.headers['set-cookie']).toHaveLength(1)
    expect((await plugin.http('GET', '/ui/sw.js')).headers['service-worker-allowed']).toBe('/')
    expect((await plugin.http('GET', '/nothing')).status).toBe(404)
    expect((await plugin.http('POST', '/nothing', { body: 'x'.repeat(1000) })).status).toBe(404)
  })

  test('reports all attempts, and stays in service meanwhile', async () => {
    const { plugin } = await start()
    const report = plugin.http('GET', '/report')
    expect((await plugin.http('GET', '/health')).status).toBe(200)
    const rows = (await report).json()
    expect(Array.isArray(rows) && rows.at(-1)).toMatchObject({ summary: true })
  })

  test('misbehaves on request', async () => {
    const { plugin } = await start()
    await expect(plugin.http('GET', '/attack/huge-header')).rejects.toThrow(/Header overflow/)
    await expect(plugin.http('GET', '/attack/short-body')).rejects.toThrow(/aborted/)
    await expect(plugin.http('GET', '/attack/two-lengths')).rejects.toThrow(/Content-Length/)
    const channel = openChannel(plugin)
    await once(channel, 'open')
    void plugin.http('GET', '/attack/frame-bomb')
    const [error] = await once(channel, 'error')
    expect(String(error)).toContain('payload')
  })

  test.each(['SIGTERM', 'SIGINT'] as const)('stops on %s and takes its socket away', async (signal) => {
    const { plugin } = await start()
    plugin.process.kill(signal)
    expect(await plugin.exited).toBe(0)
    expect(existsSync(plugin.socketPath)).toBe(false)
  })
})

describe('the hostile sample on the command line', () => {
  test('makes one attempt and says in one line what came of it', async () => {
    const { status, stdout } = await use(['read-file', '/nonexistent/file'])
    expect(status).toBe(0)
    expect(JSON.parse(stdout)).toEqual({ wall: 'user', probe: 'read-file', detail: '/nonexistent/file', result: 'ENOENT' })
  })

  test('tells what it could not try from what was refused', async () => {
    const { status, stdout } = await use(['cgroup-limit', 'no.such.file'])
    expect(status).toBe(3)
    expect(JSON.parse(stdout)).toMatchObject({ result: 'NONE', reason: 'no.such.file cannot be seen from here' })
  })

  test('answers unknown words with a usage line', async () => {
    expect(await use(['no-such-verb'])).toMatchObject({ status: 64, stdout: '' })
    expect(await use([])).toMatchObject({ status: 64 })
    expect(await use(['--socket-path', '/tmp/x'])).toMatchObject({ status: 64 })
  })

  test('knows every verb that its list of all attempts uses, and needs nothing but perl-base', () => {
    const text = readFileSync(HOSTILE, 'utf8')
    const modules = [...text.matchAll(/^use ([A-Z]\w+(?:::\w+)*)/gm)].map((match) => match[1])
    expect(modules).toEqual(['DynaLoader', 'Errno', 'Fcntl', 'IO::Handle', 'POSIX', 'Socket'])
    const verbs = new Set(execFileSync(HOSTILE, ['verbs'], { encoding: 'utf8' }).trim().split('\n'))
    const used = [...text.matchAll(/^ {4}\['[a-z]+', ['"]([a-z0-9_-]+)/gm)].map((match) => match[1] ?? '')
    expect(used.length).toBeGreaterThan(60)
    expect(used.filter((verb) => !verbs.has(verb))).toEqual([])
  })
})

describe.skipIf(process.getuid?.() !== 0)('the hostile sample as root outside walls', () => {
  test('refuses whatever has a side effect', async () => {
    expect(await use(['mount'])).toMatchObject({ status: 4, stdout: '' })
    expect(await use(['fork-until-fail', '5'])).toMatchObject({ status: 4, stdout: '' })
    expect(await use(['--all'])).toMatchObject({ status: 4, stdout: '' })
    expect(await use(['identity'])).toMatchObject({ status: 0 })
  })
})
