import { execFileSync, spawn } from 'node:child_process'
import { appendFileSync, chmodSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { PluginStatus } from '../../src/wire/requests.ts'
import { canRun } from '../kernel/require.ts'
import { TestHost } from './host.ts'

/** One daemon, every misbehaviour at once, and three friendly plugins that must not notice. */
const REFUSED = {
  'silent': 'HANDSHAKE_TIMEOUT',
  'never-ready': 'HANDSHAKE_TIMEOUT',
  'endless-line': 'HANDSHAKE_TOO_LONG',
  'binary-garbage': 'HANDSHAKE_MALFORMED',
  'invalid-json': 'HANDSHAKE_MALFORMED',
  'deep-json': 'HANDSHAKE_MANIFEST',
  'wrong-version': 'HANDSHAKE_VERSION',
  'wrong-name': 'HANDSHAKE_NAME',
  'name-dots': 'HANDSHAKE_MANIFEST',
  'name-plugins': 'HANDSHAKE_MANIFEST',
  'name-long': 'HANDSHAKE_MANIFEST',
  'needs-db': 'HANDSHAKE_REQUIRES_DB',
  'never-listens': 'HANDSHAKE_SOCKET',
  'socket-symlink': 'HANDSHAKE_SOCKET',
  'socket-fifo': 'HANDSHAKE_SOCKET',
  'channel-refuses': 'CHANNEL_REFUSED',
  'terminal-escapes': 'HANDSHAKE_MANIFEST',
} as const

const STORE = {
  'not-there': 'STORE_ABSENT',
  'not-executable': 'STORE_REFUSED',
  'pinned-wrong': 'STORE_PIN_MISMATCH',
  'a-fifo': 'STORE_REFUSED',
  'a-symlink': 'STORE_REFUSED',
} as const

const SERVE = ['good-gen2', 'good-gen1', 'legacy-rust-like', 'socket-0600', 'forks', 'fills-tmp', 'fills-socket-dir', 'big-header', 'stderr-flood', 'stdout-flood-after-ready', 'socket-swapped'] as const
const ENDED = { 'exits-at-once': /exit 3/, 'exits-after-ready': /exit 4/, 'eats-memory': /oom-kill/ } as const

const TEN_MISTAKES = `plugin: ten
executable: { path: relative/path, sha256: abc }
limits: { MemoryMax: lots, TasksMax: 0, CPUQuotas: 5% }
egress: { mode: allow }
read: [{ path: / }]
env: { LD_PRELOAD: /tmp/x.so, 1BAD: x }
restart: { on: sometimes }
networks: none
`

const ESCAPES = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2028]/u

describe.skipIf(!canRun('/usr/sbin/runc'))('a host full of broken and hostile plugins', () => {
  const host = new TestHost(0)
  let statuses: ReadonlyMap<string, PluginStatus>

  const of = (name: string): PluginStatus => {
    const status = statuses.get(name)
    if (status === undefined) throw new Error(`${name} is not in the status`)
    return status
  }

  beforeAll(async () => {
    for (const name of Object.keys(REFUSED)) {
      if (name.startsWith('name-')) host.plugin(name, { env: { BAD_NAME: { 'name-dots': '../x', 'name-plugins': 'plugins', 'name-long': 'long' }[name] } }, 'bad-names')
      else host.plugin(name)
    }
    for (const name of [...SERVE, ...Object.keys(ENDED)]) host.plugin(name)
    host.plugin('escaped-version', { env: { ESCAPES_IN: 'version,description,logs' } }, 'terminal-escapes')

    host.policy('not-there', { executable: { path: `${host.pluginsDir}/not-there` } })
    host.plugin('not-executable', {}, 'good-gen2')
    chmodSync(`${host.pluginsDir}/not-executable`, 0o644)
    host.policy('pinned-wrong', { executable: { path: host.install('pinned-wrong', 'good-gen2'), sha256: '0'.repeat(64) } })
    execFileSync('/usr/bin/mkfifo', ['-m', '755', `${host.pluginsDir}/a-fifo`])
    host.policy('a-fifo', { executable: { path: `${host.pluginsDir}/a-fifo` } })
    symlinkSync(`${host.pluginsDir}/good-gen2`, `${host.pluginsDir}/a-symlink`)
    host.policy('a-symlink', { executable: { path: `${host.pluginsDir}/a-symlink` } })

    // Half copied: it grows until that was noticed, and is whole after that. Reading it takes longer than a pause of its writer.
    host.plugin('half-copied', { restart: { on: 'failure', backoff: '1s..2s', start_limit: '50 in 10m' } }, 'good-gen2')
    const growing = `${host.pluginsDir}/half-copied`
    appendFileSync(growing, `#${'#'.repeat(1 << 20)}\n`.repeat(16))
    const writer = spawn('/usr/bin/python3', ['-c', 'import sys,time\nwith open(sys.argv[1], "ab", buffering=0) as f:\n  while True: f.write(b"# padding\\n"); time.sleep(0.0005)', growing], { stdio: 'ignore' })

    writeFileSync(`${host.policiesDir}/ten.yaml`, TEN_MISTAKES)
    host.policy('anyones', { executable: { path: host.install('anyones', 'good-gen2') } })
    chmodSync(`${host.policiesDir}/anyones.yaml`, 0o666)

    await host.start()
    await host.recorded((record) => record.plugin === 'half-copied' && record.type === 'plugin.failed', 120_000).finally(() => writer.kill('SIGKILL'))
    await host.settled([...SERVE.filter((name) => name !== 'socket-swapped'), 'half-copied'], ['running'])
    const known = await host.settled([...Object.keys(REFUSED), ...Object.keys(STORE), ...Object.keys(ENDED)], ['failed'])
    statuses = new Map([...(await host.status()).plugins, ...known].map((status) => [status.name, status]))
  })

  afterAll(() => host.close())

  test.each(Object.entries({ ...REFUSED, ...STORE }))('%s fails as %s: in status, why and start, with what to do', async (name, code) => {
    expect(of(name).reason).toContain(code)
    const why = await host.cli(['why', name])
    expect(why.status).toBe(1)
    expect(why.stdout).toContain(code)
    expect(why.stdout).toMatch(/^fix: {3}\S/m)
    const failed = host.records().find((record) => record.type === 'plugin.failed' && record.plugin === name)
    expect(`${String(failed?.data['code'] ?? '')} ${String(failed?.data['reason'] ?? '')}`).toContain(code)
  })

  test('a start that fails says so on the command line: code, reason and hint', async () => {
    const started = await host.cli(['start', 'pinned-wrong'])
    expect(started).toMatchObject({ status: 69, stderr: expect.stringMatching(/^error: LAUNCH_FAILED .*STORE_PIN_MISMATCH.*\nhint: {2}\S/) as string })
  })

  test.each(Object.entries(ENDED))('%s is noticed at its end, with the reason', (name, reason) => {
    expect(of(name).reason).toMatch(reason)
    expect(host.records().some((record) => record.type === 'plugin.exited' && record.plugin === name && reason.test(String(record.data['reason'])))).toBe(true)
  })

  test('a plugin that says nothing at all is tried with every argument style, and each try is on record', () => {
    const tried = host.records().filter((record) => record.type === 'plugin.start' && record.plugin === 'exits-at-once').map((record) => record.data['generation'])
    expect(tried).toEqual(['2', '1', '1db'])
    expect(of('exits-at-once').reason).toContain('generation 1 with a database')
  })

  test('a policy with ten mistakes names them all at once, and costs no other plugin anything', async () => {
    const check = await host.cli(['policy', 'check', 'ten'])
    expect(check.status).toBe(65)
    expect((check.stdout + check.stderr).match(/^error: POLICY_\w+ \S*ten\.yaml:\d+:\d+ /gm)?.length).toBeGreaterThanOrEqual(10)
    const why = await host.cli(['why', 'ten'])
    expect(why).toMatchObject({ status: 1, stdout: expect.stringContaining('its policy was refused') as string })
    expect((await host.recorded((record) => record.type === 'policy.refused' && String(record.data['file']).includes('ten.yaml'))).data).toMatchObject({ code: 'POLICY_INVALID' })
  })

  test('a policy that others can write is not believed', async () => {
    expect((await host.cli(['policy', 'check'])).stdout).toMatch(/^error: POLICY_UNTRUSTED .*anyones\.yaml has mode 0666/m)
    expect(await host.cli(['why', 'anyones'])).toMatchObject({ status: 1, stdout: expect.stringMatching(/refused: .*anyones\.yaml.*\n.*\n?fix: .*chown root/s) as string })
    expect(host.records().some((record) => record.type === 'policy.refused' && record.data['code'] === 'POLICY_UNTRUSTED')).toBe(true)
  })

  test('a program that was being written is not run until it is whole', () => {
    const mine = host.records().filter((record) => record.plugin === 'half-copied')
    expect(mine.some((record) => record.type === 'plugin.failed' && record.data['code'] === 'STORE_CHANGING')).toBe(true)
    expect(mine.findIndex((record) => record.type === 'plugin.start')).toBeGreaterThan(mine.findIndex((record) => record.type === 'plugin.failed'))
  })

  test.each(['good-gen2', 'good-gen1', 'socket-0600', 'legacy-rust-like', 'stderr-flood', 'stdout-flood-after-ready'])('%s goes on serving among them', async (name) => {
    expect(await host.http(`/api/x/${name}/`)).toEqual({ status: 200, text: 'ok' })
  })

  test('generation 1 was found out by trying, and is remembered', async () => {
    const generations = JSON.parse(readFileSync(`${host.stateDir}/generations.json`, 'utf8')) as Record<string, string>
    for (const [name, style] of [['good-gen2', '2'], ['good-gen1', '1'], ['legacy-rust-like', '1db']] as const) {
      expect(generations[of(name).executableSha256 ?? '']).toBe(style)
    }
    const before = host.records().length
    expect((await host.cli(['restart', 'legacy-rust-like'])).status).toBe(0)
    expect(host.records().slice(before).filter((record) => record.type === 'plugin.start').map((record) => record.data['generation'])).toEqual(['1db'])
  })

  test('a fork bomb stops at TasksMax and goes on answering', async () => {
    await expect.poll(async () => JSON.parse((await host.http('/api/x/forks/report')).text) as object, { timeout: 60_000 }).toMatchObject({ done: true, why: 'Resource temporarily unavailable' })
    expect(host.processesOf('forks').length).toBeLessThanOrEqual(32)
  })

  test.each([['fills-tmp', 4 << 20], ['fills-socket-dir', 64 << 10]])('%s meets the end of its own space, not of the host\'s', async (name, bytes) => {
    await expect.poll(async () => JSON.parse((await host.http(`/api/x/${name}/report`)).text) as object, { timeout: 60_000 }).toMatchObject({ done: true, why: 'No space left on device, files: No space left on device' })
    const report = JSON.parse((await host.http(`/api/x/${name}/report`)).text) as { bytes: number; files: number }
    expect(report.bytes).toBeLessThanOrEqual(bytes)
    expect(report.files).toBeLessThan(20_000)
  })

  test('headers without end are cut off, and the plugin is not lost', async () => {
    expect((await host.http('/api/x/big-header/big')).status).toBe(502)
    expect((await host.http('/api/x/big-header/')).text).toBe('ok')
  })

  test('a swapped socket is never followed', async () => {
    for (let n = 0; n < 5; n++) expect((await host.http('/api/x/socket-swapped/')).text).not.toContain('swapped"')
    expect((await host.http('/api/x/socket-swapped/')).text).not.toBe('swapped')
  })

  test('escape sequences of a plugin reach no terminal', async () => {
    await host.settled(['escaped-version'], ['running', 'failed'])
    for (const args of [['status'], ['list'], ['status', 'terminal-escapes'], ['status', 'escaped-version'], ['why', 'terminal-escapes'], ['logs', 'terminal-escapes'], ['logs', 'escaped-version'], ['audit', 'tail', '-n', '2000'], ['audit', 'tail', '-n', '2000', '--json']]) {
      const shown = await host.cli(args)
      expect(shown.stdout.length, args.join(' ')).toBeGreaterThan(10)
      expect(ESCAPES.exec(shown.stdout)?.index, args.join(' ')).toBeUndefined()
    }
    expect((await host.cli(['logs', 'terminal-escapes'])).stdout).toContain('a line\\x1b[2J')
    expect(ESCAPES.exec(host.log)?.index).toBeUndefined()
  })

  test('a plugin that ignores SIGINT and SIGTERM is killed after five seconds and one more', async () => {
    host.plugin('ignores-signals')
    expect((await host.cli(['reload'])).stdout).toContain('ignores-signals')
    await host.settled(['ignores-signals'], ['running'])
    const before = Date.now()
    expect((await host.cli(['stop', 'ignores-signals'])).status).toBe(0)
    expect(Date.now() - before).toBeGreaterThanOrEqual(6000)
    expect(Date.now() - before).toBeLessThan(20_000)
    expect(host.processesOf('ignores-signals')).toEqual([])
    expect((await host.recorded((record) => record.type === 'plugin.exited' && record.plugin === 'ignores-signals')).data['reason']).toMatch(/SIGKILL/)
  })

  test('the log of it all is whole', async () => {
    const verify = await host.cli(['audit', 'verify', '--json'])
    expect(['whole', 'gap']).toContain((verify.json() as { verdict: string }).verdict)
    // Only what a plugin's own budget coalesced may be missing.
    for (const gap of host.records().filter((record) => record.type === 'gap')) expect(gap.data['reason']).toMatch(/^budget$|kernel set holds/)
  })
})
