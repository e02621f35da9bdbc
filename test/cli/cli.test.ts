import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { COMMANDS } from '../../src/cli/commands.ts'
import { askDaemon } from '../../src/cli/control.ts'
import { runCli } from '../../src/cli/main.ts'
import { ERRORS } from '../../src/errors.ts'
import { DEFAULT_HOST_CONFIG } from '../../src/policy/load-host-config.ts'
import { encodeData, encodeMessage, FrameReader, type Frame } from '../../src/wire/frame.ts'
import { STATUS_ANSWER } from '../../src/wire/operator-answers.ts'
import { FROM_OPERATOR } from '../../src/wire/requests.ts'

let dir: string
let server: Server | null
let ending: AbortController
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'cordon-cli-'))
  server = null
  ending = new AbortController()
})
afterEach(async () => {
  server?.close()
  rmSync(dir, { recursive: true, force: true })
})

/** A daemon that answers with what `reply` makes of each request; a Buffer is sent as it is. */
async function daemon(reply: (request: unknown, socket: Socket) => unknown): Promise<unknown[]> {
  const asked: unknown[] = []
  server = createServer((socket) => {
    socket.on('error', () => undefined)
    socket.pipe(new FrameReader()).on('data', (frame: Frame) => {
      const value = frame.kind === 'message' ? frame.value : null
      asked.push(FROM_OPERATOR.parse(value))
      const answer = reply(value, socket)
      if (answer !== undefined) socket.end(Buffer.isBuffer(answer) ? answer : encodeMessage(answer))
    })
  }).listen(join(dir, 'control.sock'))
  await once(server, 'listening')
  return asked
}

async function cordon(...argv: string[]): Promise<{ status: number; out: string; err: string }> {
  const out: string[] = []
  const err: string[] = []
  const loadConfig = () => ({ ...DEFAULT_HOST_CONFIG, runDir: dir, stateDir: dir })
  const status = await runCli(argv, { out: (line) => out.push(line), err: (line) => err.push(line), color: false }, { tree: process.cwd(), version: '0.1.0', signal: ending.signal, loadConfig }, COMMANDS)
  return { status, out: out.join('\n'), err: err.join('\n') }
}

const plugin = (name: string, more: object = {}) => ({
  name, state: 'running', reason: null, run: '0123456789abcdef', since: '2026-01-01T00:00:00Z', restarts: 0, policyDigest: 'd'.repeat(64),
  executableSha256: 'e'.repeat(64), generation: '2', version: '1.0.0', unenforced: [], learning: null, door: 'shut', temporary: 0, ...more,
})
const statusAnswer = (...plugins: object[]) => ({ ok: { plugins, port: 8480, version: '0.1.0', refused: 0, notRecorded: [] } })

describe('list and status', () => {
  test('fit 80 columns and never send a control character of a plugin to the terminal', async () => {
    await daemon(() => statusAnswer(plugin('indexnow'), plugin('a'.repeat(64), { state: 'failed', version: '\u001b[31m9', reason: `oom-kill \u001b]0;x\u0007 ${'long '.repeat(100)}` })))
    const list = await cordon('list')
    expect(list.status).toBe(0)
    expect(list.out.split('\n')[0]).toMatch(/^NAME +STATE +VERSION +REASON$/)
    expect(list.out).toContain('oom-kill')
    const status = await cordon('status')
    expect(status.out).toContain('http://localhost:8480, 2 plugins')
    for (const text of [list.out, status.out]) {
      expect(text).toMatch(/^(?:\P{Cc}|\n)*$/u)
      expect(Math.max(...text.split('\n').map((line) => line.length))).toBeLessThanOrEqual(80)
    }
  })

  test('of one plugin says which walls are missing', async () => {
    await daemon(() => statusAnswer(plugin('indexnow'), plugin('other', { unenforced: ['MemoryHigh'] })))
    expect((await cordon('status', 'other')).out).toContain('WITHOUT MemoryHigh')
    expect((await cordon('status', 'indexnow')).out).toMatch(/walls +all/)
    expect(await cordon('status', 'nobody')).toMatchObject({ status: 66, err: expect.stringContaining('no plugin "nobody"') })
  })

  test('say what this host cannot write down', async () => {
    await daemon(() => ({ ok: { ...statusAnswer(plugin('indexnow')).ok, notRecorded: ['refused system calls (that needs crun)'] } }))
    expect((await cordon('status')).out).toContain('\nnot recorded on this host: refused system calls (that needs crun)\n')
    expect((await cordon('status', 'indexnow')).out).not.toContain('not recorded')
  })

  test('say that policy files were refused, also where no plugin is left', async () => {
    const refused = (...plugins: object[]) => ({ ok: { ...statusAnswer(...plugins).ok, refused: 2 } })
    await daemon(() => refused())
    expect(await cordon('list')).toEqual({ status: 0, out: '', err: '2 policy files refused; cordon policy check shows why' })
    expect((await cordon('status')).out).toContain('2 policy files refused; cordon policy check shows why')
  })

  test('give everything as JSON', async () => {
    await daemon(() => statusAnswer(plugin('indexnow')))
    expect(JSON.parse((await cordon('status', '--json')).out)).toEqual(statusAnswer(plugin('indexnow')).ok)
    expect(JSON.parse((await cordon('--json', 'list')).out).plugins).toHaveLength(1)
  })
})

describe('acts', () => {
  test.each(['start', 'stop', 'restart', 'enable', 'disable'])('%s names the plugins, one request each', async (act) => {
    const asked = await daemon((request) => ({ ok: { plugin: plugin((request as { plugin: string }).plugin, { state: 'stopped', reason: 'as asked' }) } }))
    expect(await cordon(act, 'one', 'two')).toEqual({ status: 0, out: 'one is stopped (as asked)\ntwo is stopped (as asked)', err: '' })
    expect(asked).toMatchObject([{ type: 'act', act, plugin: 'one', who: expect.stringMatching(/^root/) as string }, { type: 'act', act, plugin: 'two' }])
    expect((await cordon(act)).status).toBe(64)
    expect((await cordon(act, '../etc')).status).toBe(64)
  })

  test('an error of the daemon keeps its code, message, hint and exit status', async () => {
    await daemon(() => ({ error: { code: 'STORE_PIN_MISMATCH', message: 'found \u001b[2J', hint: 'look closer' } }))
    expect(await cordon('start', 'one')).toEqual({ status: 65, out: '', err: 'error: STORE_PIN_MISMATCH found \\x1b[2J\nhint:  look closer' })
    expect(JSON.parse((await cordon('start', 'one', '--json')).err)).toEqual({ error: { code: 'STORE_PIN_MISMATCH', message: 'found \\x1b[2J', hint: 'look closer' }, exit: 65, problems: [] })
  })

  test('reload ends with 65 when a policy was refused', async () => {
    await daemon(() => ({ ok: { changed: ['one'], refused: [{ file: '/etc/x.yaml', message: 'bad', hint: 'mend' }] } }))
    expect(await cordon('reload')).toEqual({ status: 65, out: 'changed: one', err: 'error: /etc/x.yaml: bad\nhint:  mend' })
  })

  test('open prints the link alone on stdout', async () => {
    await daemon(() => ({ ok: { url: 'http://one.localhost:8480/?t=x' } }))
    expect(await cordon('open', 'one')).toMatchObject({ status: 0, out: 'http://one.localhost:8480/?t=x' })
  })

  test('why ends with 1 and the line that mends it', async () => {
    await daemon(() => ({ ok: { steps: [{ ok: true, text: 'policy is valid', fix: null }, { ok: false, text: 'program is missing', fix: 'install it' }] } }))
    expect(await cordon('why', 'one')).toEqual({ status: 1, out: 'ok     policy is valid\nWRONG  program is missing\nfix:   install it', err: '' })
  })
})

describe('a daemon that', () => {
  const broken = { status: ERRORS.CONTROL_BROKEN.exit, err: expect.stringContaining('CONTROL_BROKEN') }

  test('does not run is said to not run, also when its socket was left behind', async () => {
    expect(await cordon('list')).toMatchObject({ status: 69, err: expect.stringContaining('CONTROL_NOT_RUNNING') })
    writeFileSync(join(dir, 'control.sock'), '')
    expect(await cordon('list')).toMatchObject({ status: 69 })
  })

  test('is not ours to ask says so', async () => {
    await daemon(() => statusAnswer())
    const [before, nobody] = [process.geteuid?.() ?? 0, 65534]
    if (before === 0) process.seteuid?.(nobody) // root is let through everywhere
    else chmodSync(join(dir, 'control.sock'), 0)
    try {
      expect(await cordon('list')).toMatchObject({ status: 77, err: expect.stringContaining('CONTROL_NOT_ROOT') })
    } finally {
      if (before === 0) process.seteuid?.(0)
    }
    chmodSync(join(dir, 'control.sock'), 0o600)
    expect((await cordon('list')).status).toBe(0)
  })

  test.each<[string, () => unknown]>([
    ['closes without an answer', () => Buffer.alloc(0)],
    ['sends a frame that is too long', () => Buffer.from([0xff, 0xff, 0xff, 0xff, 0])],
    ['sends no JSON', () => Buffer.from([0, 0, 0, 2, 0, 0x7b])],
    ['sends data', () => encodeData(1, Buffer.from('x'))],
    ['answers another shape', () => ({ ok: { plugins: 'many' } })],
    ['answers with unknown fields', () => ({ ok: {}, more: 1 })],
    ['answers with an unknown error', () => ({ error: { code: 'NO_SUCH', message: 'm', hint: 'h' } })],
  ])('%s is a broken one', async (_what, reply) => {
    await daemon(reply)
    expect(await cordon('list')).toMatchObject(broken)
  })

  test('does not answer is not waited for without end, and Ctrl-C ends the wait', async () => {
    await daemon(() => undefined)
    await expect(askDaemon(dir, { type: 'status' }, STATUS_ANSWER, ending.signal, 100)).rejects.toThrow(expect.objectContaining({ code: 'CONTROL_BROKEN', message: 'the daemon did not answer in time' }))
    setTimeout(() => ending.abort(), 50)
    expect(await cordon('list')).toEqual({ status: 130, out: '', err: '' })
  })
})

describe('logs', () => {
  const write = (name: string, text: string | Buffer) => {
    mkdirSync(join(dir, 'logs/indexnow'), { recursive: true })
    writeFileSync(join(dir, 'logs/indexnow', name), text)
  }

  test('show the newest lines across rotated files, escaped, without the daemon', async () => {
    write('stderr.log.2', 'one\ntw')
    write('stderr.log.1', 'o\nthree \u001b[2J\n')
    write('stderr.log', Buffer.concat([Buffer.from('four '), Buffer.from([0xff]), Buffer.from('\nunfinished')]))
    expect((await cordon('logs', 'indexnow', '-n', '4')).out).toBe('two\nthree \\x1b[2J\nfour \ufffd\nunfinished')
    expect((await cordon('logs', 'indexnow', '-n', '0')).out).toBe('')
    expect(JSON.parse((await cordon('logs', 'indexnow', '-n1', '--json')).out)).toEqual({ stream: 'stderr', line: 'unfinished' })
  })

  test('follow a file over its rotation until Ctrl-C', async () => {
    write('stderr.log', 'first\n')
    const out: string[] = []
    const running = runCli(['logs', 'indexnow', '-f'], { out: (line) => out.push(line), err: () => undefined, color: false }, { tree: '/', version: '', signal: ending.signal, loadConfig: () => ({ ...DEFAULT_HOST_CONFIG, stateDir: dir }) }, COMMANDS)
    const until = async (text: string) => {
      for (let n = 0; n < 400 && !out.includes(text); n++) await new Promise((done) => setTimeout(done, 50))
      expect(out).toContain(text)
    }
    await until('first')
    const { appendFileSync, renameSync } = await import('node:fs')
    const path = join(dir, 'logs/indexnow/stderr.log')
    appendFileSync(path, 'second\nlast of old\n')
    renameSync(path, `${path}.1`)
    writeFileSync(path, 'new file\n')
    await until('new file')
    ending.abort()
    expect(await running).toBe(0)
    expect(out).toEqual(['first', 'second', 'last of old', 'new file'])
  })

  test('that do not exist are an error with exit 66', async () => {
    expect(await cordon('logs', 'nobody')).toMatchObject({ status: 66, err: expect.stringContaining('LOG_ABSENT') })
    expect((await cordon('logs', '../x')).status).toBe(64)
    expect((await cordon('logs', 'x', '-n', '-1')).status).toBe(64)
  })
})

describe('help', () => {
  test('of every command has a summary, an example of that command and its exit codes, within 80 columns', async () => {
    expect(new Set(COMMANDS.map((one) => one.name)).size).toBe(COMMANDS.length)
    const overview = await cordon('--help')
    for (const command of COMMANDS) {
      const { status, out } = await cordon(...command.name.split(' '), '--help')
      expect(status).toBe(0)
      expect(out).toContain(command.summary)
      expect(command.example.startsWith(`cordon ${command.name}`)).toBe(true)
      expect(command.exits.length).toBeGreaterThan(0)
      expect(overview.out).toContain(command.name)
      for (const line of out.split('\n')) expect(line.length).toBeLessThanOrEqual(80)
      expect((await cordon('help', ...command.name.split(' '))).out).toBe(out)
      expect(await command.load()).toBeTypeOf('function')
    }
    for (const line of overview.out.split('\n')) expect(line.length).toBeLessThanOrEqual(80)
    expect((await cordon('policy', '--help')).out).toContain('policy explain')
  })

  test('names every error code with its exit status', async () => {
    const { out } = await cordon('help', 'exit-codes')
    for (const code of Object.keys(ERRORS)) expect(out).toContain(code)
    for (const line of out.split('\n')) expect(line.length).toBeLessThanOrEqual(80)
  })

  test('knows what a slip of the hand meant', async () => {
    for (const [slip, meant] of [['lst', 'list'], ['sttaus', 'status'], ['restrat', 'restart'], ['polciy', 'policy']]) expect(await cordon(slip ?? '')).toMatchObject({ status: 64, err: expect.stringContaining(`did you mean "${meant}"?`) })
    expect((await cordon('policy', 'chekc')).err).toContain('did you mean "policy check"?')
    expect((await cordon('policy')).err).toContain('policy init, policy check')
    expect((await cordon('xyzzy\u001b[2J')).err).toBe('error: USAGE_UNKNOWN_COMMAND unknown command "xyzzy\\x1b[2J"\nhint:  Run `cordon --help` for the list of commands.')
    expect((await cordon()).status).toBe(64)
  })

  test('gives the version', async () => {
    expect((await cordon('--version')).out).toBe('cordon 0.1.0')
  })
})

describe('options', () => {
  test('that are unknown or incomplete are refused', async () => {
    for (const argv of [['list', '--frob'], ['list', 'x'], ['--config'], ['--config', '--json'], ['--config=a', '--config=b', 'list'], ['status', 'a', 'b']]) {
      expect((await cordon(...argv)).status).toBe(64)
    }
  })

  test('behind -- belong to the program', async () => {
    const seen: unknown[] = []
    const spy = COMMANDS.map((one) => (one.name === 'run' ? { ...one, load: async () => async (args: readonly string[]) => (seen.push(args), 7) } : one))
    const loadConfig = (file: string | null) => (seen.push(file), DEFAULT_HOST_CONFIG)
    const status = await runCli(['--config', '/x.yaml', 'run', '--memory', '1M', '--', 'prog', '--json', '--help'], { out: () => undefined, err: () => undefined, color: false }, { tree: '/', version: '', signal: ending.signal, loadConfig }, spy)
    expect(status).toBe(7)
    expect(seen).toEqual(['/x.yaml', ['--memory', '1M', '--', 'prog', '--json', '--help']])
  })

  test('an unexpected failure is a defect, exit 70, and says what happened', async () => {
    const failing = COMMANDS.map((one) => ({ ...one, load: async () => async () => { throw new TypeError('x is undefined') } }))
    const err: string[] = []
    const status = await runCli(['list'], { out: () => undefined, err: (line) => err.push(line), color: false }, { tree: '/', version: '', signal: ending.signal, loadConfig: () => DEFAULT_HOST_CONFIG }, failing)
    expect([status, err[0]]).toEqual([70, 'error: INTERNAL_BUG TypeError: x is undefined'])
  })
})

test('token says where the admin token lies and never shows it', async () => {
  writeFileSync(join(dir, 'admin-token'), 'secret\n')
  const { status, out, err } = await cordon('token')
  expect([status, out]).toEqual([0, join(dir, 'admin-token')])
  expect(err).not.toContain('secret\n')
  expect(existsSync(out)).toBe(true)
})

test('token names the port that a daemon chose, where the configuration leaves it open', async () => {
  writeFileSync(join(dir, 'admin-token'), 'secret\n')
  const loadConfig = () => ({ ...DEFAULT_HOST_CONFIG, runDir: dir, stateDir: dir, listen: { host: '127.0.0.1', port: 0 } })
  const said = async (): Promise<string> => {
    const err: string[] = []
    await runCli(['token'], { out: () => {}, err: (line) => err.push(line), color: false }, { tree: '/', version: '', signal: ending.signal, loadConfig }, COMMANDS)
    return err.join('\n')
  }
  expect(await said()).toContain('http://localhost:PORT/')
  writeFileSync(join(dir, 'port'), '43107\n')
  expect(await said()).toContain('http://localhost:43107/')
})
