import { spawn, type ChildProcess } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { request, type IncomingHttpHeaders } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface, type Interface } from 'node:readline'
import { WebSocket } from 'ws'

export interface Reply {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly text: string
  json(): unknown
}

const WAIT_MS = 30_000

/** A host in miniature and without walls: it starts one plugin by hand so that a test can look at each step. */
export class PluginDriver {
  readonly secret: string = randomUUID()
  /** Holds the socket and the data directory. */
  readonly directory: string
  readonly socketPath: string
  readonly process: ChildProcess
  readonly exited: Promise<number | null>
  stderr = ''
  readonly #lines: AsyncIterator<string>
  readonly #reader: Interface
  #channel: WebSocket | null = null

  /** @param style argument style of the protocol's section 6 */
  constructor(file: string, style: '2' | '1' | '1db', options: { env?: Record<string, string>; extra?: string[]; directory?: string } = {}) {
    this.directory = options.directory ?? mkdtempSync(join(tmpdir(), 'plugin-'))
    this.socketPath = join(this.directory, 's')
    const base = ['--socket-path', this.socketPath, '--data-dir', join(this.directory, 'data')]
    const old = style === '2' ? [] : ['--auth-secret', this.secret, ...(style === '1db' ? ['--database-url', 'none:'] : [])]
    this.process = spawn(file, [...base, ...old, ...(options.extra ?? [])], { env: options.env ?? {}, stdio: ['pipe', 'pipe', 'pipe'] })
    this.exited = once(this.process, 'exit').then(([code]) => code as number | null)
    const { stdin, stdout, stderr } = this.process
    if (stdin === null || stdout === null || stderr === null) throw new Error('spawn gave no pipes')
    stdin.on('error', () => {}) // a plugin that ended early; its exit status is what the test looks at
    stderr.setEncoding('utf8').on('data', (text: string) => { this.stderr = (this.stderr + text).slice(-65_536) })
    this.#reader = createInterface({ input: stdout })
    this.#lines = this.#reader[Symbol.asyncIterator]()
  }

  /** The next line of stdout as JSON. */
  async line(): Promise<Record<string, unknown>> {
    const next = await within(this.#lines.next(), 'a line on stdout')
    if (next.done === true) throw new Error(`stdout ended; stderr: ${this.stderr}`)
    return JSON.parse(next.value) as Record<string, unknown>
  }

  sendLaunchConfig(changes: object = {}): void {
    const config = { protocol_version: 2, auth_secret: this.secret, database_url: null, host_data_dir: null, ...changes }
    this.process.stdin?.end(`${JSON.stringify(config)}\n`)
  }

  /** Everything up to `ready`, generation 2. */
  async start(): Promise<{ hello: Record<string, unknown>; ready: Record<string, unknown> }> {
    const hello = await this.line()
    this.sendLaunchConfig()
    return { hello, ready: await this.line() }
  }

  http(method: string, path: string, options: { headers?: Record<string, string>; body?: string; noSecret?: boolean } = {}): Promise<Reply> {
    const secret = options.noSecret === true ? {} : { 'x-temps-auth-signature': this.secret }
    const length = options.body === undefined ? {} : { 'content-length': String(Buffer.byteLength(options.body)) }
    return within(new Promise((resolve, reject) => {
      const call = request({ socketPath: this.socketPath, agent: false, method, path, headers: { host: 'localhost', ...secret, ...length, ...options.headers } }, (response) => {
        let text = ''
        response.setEncoding('utf8').on('data', (chunk: string) => { text += chunk })
        response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text, json: () => JSON.parse(text) as unknown }))
        response.on('error', reject)
      })
      call.on('error', reject)
      call.end(options.body)
    }), `${method} ${path}`)
  }

  /** Opens the channel; `reply` gets each request of the plugin and returns the frame to send back. */
  async openChannel(reply: (message: Record<string, unknown>) => unknown, secret = this.secret): Promise<void> {
    const socket = new WebSocket(`ws+unix://${this.socketPath}:/_temps/channel`, {
      headers: { host: 'localhost', 'x-temps-auth-signature': secret },
      perMessageDeflate: false,
    })
    socket.on('message', (data) => socket.send(JSON.stringify(reply(JSON.parse(String(data)) as Record<string, unknown>))))
    await within(once(socket, 'open'), 'the channel')
    this.#channel = socket
    // Between channel and first answer lies the plugin's own start (protocol section 13); a host waits for its end, and so do we.
    const until = Date.now() + WAIT_MS
    while (Date.now() < until && (await this.http('GET', '/__ready-probe')).status === 503) await new Promise((resolve) => setTimeout(resolve, 10))
  }

  async stop(): Promise<void> {
    this.#channel?.terminate()
    if (this.process.exitCode === null && this.process.signalCode === null) {
      this.process.kill('SIGKILL')
      await this.exited
    }
    this.#reader.close()
    rmSync(this.directory, { recursive: true, force: true })
  }
}

async function within<T>(promise: Promise<T>, what: string): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => reject(new Error(`${what}: nothing within ${WAIT_MS / 1000} s`)), WAIT_MS)
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

/** Answers of a host to the typed dialect (`call`) and to the other two. */
export function hostReply(message: Record<string, unknown>): unknown {
  const call = message['call'] as { method: string } | undefined
  const method = call?.method ?? message['method']
  const result = method === 'list_projects' ? [{ id: 7, name: 'shop' }] : { permissions: ['projects_read'] }
  if (call === undefined) return { id: message['id'], result }
  return { type: 'response', id: message['id'], outcome: { ok: { method, result } } }
}
