import { spawn, type ChildProcess } from 'node:child_process'
import { createHash, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { chmod, chown, copyFile, lstat, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import type { Duplex } from 'node:stream'
import { build } from 'esbuild'
import { newRunId, type PluginName, type RunId } from '../../src/base/ids.ts'
import { encodeData, encodeMessage, FrameReader, MAX_CHUNK_BYTES, type Frame } from '../../src/wire/frame.ts'
import { FROM_GATEWAY, type FromGateway, type PluginState, type ToGateway } from '../../src/wire/requests.ts'

export const TOKEN = 'test-token'
/** No plugin ever runs as root, and the wire says so; without root the only other user is our own. */
const PLUGIN_UID = process.getuid?.() === 0 ? 65534 : (process.getuid?.() ?? 65534)
const ROOT = resolve(import.meta.dirname, '../..')

/** The gateway as it is shipped: one bundled file. */
export async function buildGateway(dir: string): Promise<string> {
  const outfile = join(dir, 'gateway.cjs')
  await build({ entryPoints: [join(ROOT, 'src/gateway.ts')], outfile, bundle: true, platform: 'node', format: 'cjs', target: 'node24', logLevel: 'error' })
  return outfile
}

interface Run {
  readonly id: RunId
  readonly name: PluginName
  readonly stream: number
  readonly secret: string
  readonly socketPath: string
  readonly child: ChildProcess
  state: PluginState
  sent: number
  taken: number
}

/** The launcher's end of the conversation, without root and walls: it spawns fixtures directly and relays their stdout. */
export class FakeLauncher {
  readonly gateway: ChildProcess
  readonly messages: FromGateway[] = []
  readonly dir: string
  readonly #requests: Duplex
  readonly #runs = new Map<RunId, Run>()
  #wake: (() => void)[] = []
  #stream = 0
  stderr = ''
  port = 0

  private constructor(gateway: ChildProcess, dir: string) {
    this.gateway = gateway
    this.dir = dir
    this.#requests = gateway.stdio[3] as Duplex
    const frames = new FrameReader()
    frames.on('data', (frame: Frame) => this.#receive(frame))
    frames.on('error', () => {})
    this.#requests.on('error', () => {})
    this.#requests.pipe(frames)
    gateway.stderr?.on('data', (bytes: Buffer) => (this.stderr += bytes.toString()))
    gateway.on('exit', () => this.#notify())
  }

  static async start(bundle: string): Promise<FakeLauncher> {
    const dir = await mkdtemp(join(tmpdir(), 'cordon-gw-'))
    await chmod(dir, 0o711)
    const gateway = spawn(process.execPath, [bundle], {
      stdio: ['ignore', 'inherit', 'pipe', 'pipe', 'pipe'],
      env: { NODE_CHANNEL_FD: '4', NODE_CHANNEL_SERIALIZATION_MODE: 'json' },
    })
    const launcher = new FakeLauncher(gateway, dir)
    const lent = gateway.stdio[4] as Duplex & { _handle: { readStop(): void } }
    lent.on('error', () => {})
    lent.pause()
    lent._handle.readStop()
    launcher.say({ type: 'configure', listen: { host: '127.0.0.1', port: 0 }, adminTokenSha256: createHash('sha256').update(TOKEN).digest('hex'), version: '0', forwardedUser: null })
    const helper = spawn(process.execPath, [join(ROOT, 'src/launcher/listen-helper.ts'), '127.0.0.1', '0'], {
      stdio: ['ignore', 'ignore', 'inherit', lent],
      env: { NODE_CHANNEL_FD: '3', NODE_CHANNEL_SERIALIZATION_MODE: 'json' },
    })
    launcher.port = (await launcher.heard('serving')).port
    const status = helper.exitCode ?? ((await once(helper, 'exit')) as [number])[0]
    if (status !== 0) throw new Error(`the helper ended with ${status}`)
    return launcher
  }

  say(message: ToGateway): void {
    this.#requests.write(encodeMessage(message))
  }

  sayBytes(bytes: Buffer): void {
    this.#requests.write(bytes)
  }

  /** Start a fixture plugin as a run; its stdout is relayed as it comes, at most 256 KiB beyond what was taken. */
  async plugin(fixture: string, options: { name?: string; style?: '2' | '1'; env?: Record<string, string>; grants?: 'projects_read'[] } = {}): Promise<Run> {
    const name = (options.name ?? fixture) as PluginName
    const id = newRunId()
    const secret = randomUUID()
    const home = join(this.dir, id)
    await mkdir(home)
    const program = join(home, fixture)
    await copyFile(join(ROOT, 'test/fixtures/plugins', fixture), program)
    await chown(home, PLUGIN_UID, PLUGIN_UID)
    const socketPath = join(home, 's')
    const style = options.style ?? '2'
    const args = ['--socket-path', socketPath, ...(style === '1' ? ['--auth-secret', secret] : []), '--data-dir', home]
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'ignore'], cwd: '/', uid: PLUGIN_UID, gid: PLUGIN_UID, env: { PATH: '/usr/bin:/bin', ...options.env } })
    child.stdin?.on('error', () => {})
    const run: Run = { id, name, stream: this.#stream++, secret, socketPath, child, state: 'starting', sent: 0, taken: 0 }
    this.#runs.set(id, run)
    this.say({
      type: 'runStarted', run: id, plugin: name, stream: run.stream, style, secret, socketPath, uid: PLUGIN_UID,
      grants: options.grants ?? [], legacyGrants: 'deny', publicPaths: [], policyDigest: '',
    })
    this.#publish()
    child.stdout?.on('data', (bytes: Buffer) => {
      for (let at = 0; at < bytes.length; at += MAX_CHUNK_BYTES) this.#requests.write(encodeData(run.stream, bytes.subarray(at, at + MAX_CHUNK_BYTES)))
      run.sent += bytes.length
      if (run.sent - run.taken > 256 * 1024) child.stdout?.pause()
    })
    child.stdout?.on('end', () => this.say({ type: 'stdoutEnd', run: id }))
    child.on('close', () => {
      run.state = 'stopped'
      this.say({ type: 'runEnded', run: id, reason: 'exited' })
      this.#publish()
    })
    return run
  }

  setState(run: Run, state: PluginState): void {
    run.state = state
    this.#publish()
  }

  /** The first message of this type, of this run where one is given; waits for it. */
  async heard<T extends FromGateway['type']>(type: T, run?: Run): Promise<Extract<FromGateway, { type: T }>> {
    for (;;) {
      const found = this.messages.find((m) => m.type === type && (run === undefined || ('run' in m && m.run === run.id)))
      if (found !== undefined) return found as Extract<FromGateway, { type: T }>
      if (this.gateway.exitCode !== null) throw new Error(`the gateway left with ${this.gateway.exitCode}: ${this.stderr}`)
      await new Promise<void>((wake) => this.#wake.push(wake))
    }
  }

  records(type: string, run?: Run): Record<string, unknown>[] {
    return this.messages.flatMap((m) => (m.type === 'record' && m.event.type === type && (run === undefined || ('run' in m.event && m.event.run === run.id)) ? [m.event] : []))
  }

  get(path: string, more: { host?: string; headers?: Record<string, string>; method?: string } = {}): Promise<{ status: number; body: string; headers: NodeJS.Dict<string | string[]> }> {
    return new Promise((settle, reject) => {
      const asked = request({
        port: this.port, host: '127.0.0.1', path, method: more.method ?? 'GET', agent: false,
        headers: { host: `${more.host ?? 'localhost'}:${this.port}`, authorization: `Bearer ${TOKEN}`, ...more.headers },
      })
      asked.on('error', reject)
      asked.on('response', (response) => {
        let body = ''
        response.on('data', (bytes: Buffer) => (body += bytes.toString()))
        response.on('end', () => settle({ status: response.statusCode ?? 0, body, headers: response.headers }))
      })
      asked.end()
    })
  }

  async close(): Promise<void> {
    for (const { child } of this.#runs.values()) child.kill('SIGKILL')
    if (this.gateway.exitCode === null && this.gateway.signalCode === null) {
      this.gateway.kill('SIGKILL')
      await once(this.gateway, 'exit')
    }
    for (const stream of this.gateway.stdio) stream?.destroy()
    await rm(this.dir, { recursive: true, force: true })
  }

  #receive(frame: Frame): void {
    if (frame.kind !== 'message') throw new Error('a data frame from the gateway')
    const message = FROM_GATEWAY.parse(frame.value)
    this.messages.push(message)
    const run = 'run' in message ? this.#runs.get(message.run) : undefined
    if (message.type === 'taken' && run !== undefined) {
      run.taken += message.bytes
      if (run.sent - run.taken <= 256 * 1024) run.child.stdout?.resume()
    }
    if (message.type === 'releaseLaunchConfig' && run !== undefined) {
      run.child.stdin?.end(`${JSON.stringify({ protocol_version: 2, auth_secret: run.secret, database_url: null, host_data_dir: null })}\n`)
      this.say({ type: 'answer', id: message.id, ok: {} })
    }
    if (message.type === 'takeSocket' && run !== undefined) void this.#takeSocket(message.id, run)
    if (message.type === 'running' && run !== undefined) this.setState(run, 'running')
    if (message.type === 'act') this.say({ type: 'answer', id: message.id, ok: null })
    this.#notify()
  }

  async #takeSocket(id: number, run: Run): Promise<void> {
    try {
      const { dev, ino } = await lstat(run.socketPath, { bigint: true })
      this.say({ type: 'answer', id, ok: { dev: String(dev), ino: String(ino) } })
    } catch {
      this.say({ type: 'answer', id, error: { code: 'HANDSHAKE_SOCKET', message: 'no socket', hint: '' } })
    }
  }

  #publish(): void {
    const latest = new Map([...this.#runs.values()].map((run) => [run.name, run]))
    this.say({
      type: 'plugins',
      plugins: [...latest.values()].map((run) => ({
        name: run.name, state: run.state, reason: null, run: run.id, since: '', restarts: 0, policyDigest: null,
        executableSha256: null, generation: null, version: null, unenforced: [], learning: null, door: 'shut', temporary: 0,
      })),
    })
  }

  #notify(): void {
    for (const wake of this.#wake.splice(0)) wake()
  }
}
