import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { createServer, request, type IncomingHttpHeaders, type RequestListener, type Server } from 'node:http'
import { connect, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { newRunId, type PluginName } from '../../src/base/ids.ts'
import type { Manifest } from '../../src/handshake/manifest.ts'
import { openSocketDispatcher, type SocketDispatcher } from '../../src/proxy/dispatcher.ts'
import { createFront, type Front, type FrontDeps } from '../../src/proxy/front.ts'
import type { Endpoint, PluginView, Registry } from '../../src/registry/registry.ts'
import type { GatewayEvent } from '../../src/wire/events.ts'
import { GATEWAY_EVENTS } from '../../src/wire/events.ts'
import type { PluginState } from '../../src/wire/requests.ts'

export const TOKEN = 'a'.repeat(64)
export const SECRET = '5ec4e7'.repeat(8)

export interface PluginSpec {
  readonly publicPaths?: readonly string[]
  readonly state?: PluginState
  readonly since?: string
  readonly openapi?: unknown
  readonly manifest?: Partial<Manifest>
}

/** A front with real plugins behind real sockets, and a registry that says what the test says. */
export class Bed {
  readonly dir = mkdtempSync(join(tmpdir(), 'front-'))
  readonly events: GatewayEvent[] = []
  readonly acts: unknown[] = []
  readonly views = new Map<string, PluginView>()
  clock: () => number = () => Date.now()
  onAct: () => Promise<unknown> = async () => null
  port = 0
  front: Front | null = null
  readonly #servers: Server[] = []
  readonly #dispatchers: SocketDispatcher[] = []

  /** @param routes further routes of the console's origin */
  async start(deps: Partial<FrontDeps> = {}, routes: (app: Front['app']) => void = () => undefined): Promise<this> {
    const registry: Registry = { get: (name) => this.views.get(name) ?? null, list: () => [...this.views.values()] }
    this.front = createFront({
      registry,
      adminTokenSha256: createHash('sha256').update(TOKEN).digest('hex'),
      port: () => this.port,
      act: (act, plugin, who) => {
        this.acts.push({ act, plugin, who })
        return this.onAct()
      },
      // The launcher would end the connection over an event that does not fit.
      record: (event) => void this.events.push(GATEWAY_EVENTS.parse(event)),
      now: () => this.clock(),
      version: '0.0.0',
      forwardedUser: null,
      ...deps,
    })
    routes(this.front.app)
    await this.front.app.ready()
    const { server } = this.front
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    this.port = (server.address() as AddressInfo).port
    return this
  }

  async plugin(name: string, listener: RequestListener, spec: PluginSpec = {}): Promise<Server> {
    const server = createServer({ keepAliveTimeout: 60_000 }, listener)
    const path = join(this.dir, `${name}-${this.#servers.length}.sock`)
    await new Promise<void>((resolve) => server.listen(path, resolve))
    this.#servers.push(server)
    this.attach(name, path, spec)
    return server
  }

  attach(name: string, path: string, spec: PluginSpec = {}): void {
    const stat = statSync(path, { bigint: true })
    const opened = openSocketDispatcher(path, { dev: String(stat.dev), ino: String(stat.ino), uid: Number(stat.uid) })
    this.#dispatchers.push(opened)
    const endpoint: Endpoint = {
      plugin: name as PluginName,
      run: newRunId(),
      secret: SECRET,
      manifest: manifest(name, spec.manifest),
      publicPaths: spec.publicPaths ?? [],
      dispatcher: opened.dispatcher,
      openapi: spec.openapi ?? null,
    }
    this.views.set(name, { status: status(name, 'running', spec.since), endpoint })
  }

  absent(name: string, state: PluginState): void {
    this.views.set(name, { status: status(name, state), endpoint: null })
  }

  link(name: string): string {
    return this.front?.mintLink(name as PluginName) ?? ''
  }

  /** Opens a one-time link as a browser would and gives the cookie pair. */
  async signIn(name: string): Promise<string> {
    const url = new URL(this.link(name))
    const reply = await this.get(url.pathname + url.search, { host: url.host })
    return (reply.headers['set-cookie']?.[0] ?? '').split(';')[0] ?? ''
  }

  get host(): string {
    return `localhost:${this.port}`
  }

  site(name: string): string {
    return `${name}.localhost:${this.port}`
  }

  get(path: string, headers: Record<string, string> = {}): Promise<Reply> {
    return this.send('GET', path, headers)
  }

  /** With the admin token, on the console's origin. */
  api(path: string, headers: Record<string, string> = {}, method = 'GET', body?: string | Buffer): Promise<Reply> {
    return this.send(method, path, { authorization: `Bearer ${TOKEN}`, ...headers }, body)
  }

  send(method: string, path: string, headers: Record<string, string>, body?: string | Buffer): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const req = request({ host: '127.0.0.1', port: this.port, method, path, agent: false, headers: { host: this.host, ...headers } }, (res) => {
        const parts: Buffer[] = []
        res.on('data', (part: Buffer) => parts.push(part))
        res.on('end', () => resolve({ status: res.statusCode ?? 0, headers: res.headers, raw: res.rawHeaders, body: Buffer.concat(parts).toString() }))
        res.on('error', reject)
      })
      req.on('error', reject)
      req.end(body)
    })
  }

  /** Bytes as they are; the answer until the server closes or, once it has begun, falls silent. */
  raw(bytes: string, quietMs = 600): Promise<string> {
    return new Promise((resolve, reject) => {
      const socket = connect(this.port, '127.0.0.1')
      let text = ''
      socket.setTimeout(20_000, () => socket.destroy())
      socket.once('data', () => void socket.setTimeout(quietMs))
      socket.on('data', (part) => (text += part.toString('latin1')))
      socket.on('close', () => resolve(text))
      socket.on('error', (error: NodeJS.ErrnoException) => (error.code === 'ECONNRESET' || error.code === 'EPIPE' ? resolve(text) : reject(error)))
      socket.write(bytes, 'latin1')
    })
  }

  async stop(): Promise<void> {
    await this.front?.close()
    for (const opened of this.#dispatchers) await opened.close()
    for (const server of this.#servers) {
      server.closeAllConnections()
      await new Promise<void>((resolve) => server.close(() => resolve()))
    }
    rmSync(this.dir, { recursive: true, force: true })
  }
}

export interface Reply {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly raw: readonly string[]
  readonly body: string
}

export function codeOf(reply: Reply): string {
  return String((JSON.parse(reply.body) as { code: unknown }).code)
}

/** A plugin that says what reached it. */
export const echo: RequestListener = (req, res) => {
  const parts: Buffer[] = []
  req.on('data', (part: Buffer) => parts.push(part))
  req.on('end', () => {
    res.setHeader('content-type', 'application/json')
    res.end(JSON.stringify({ method: req.method, url: req.url, headers: req.headers, raw: req.rawHeaders, body: Buffer.concat(parts).toString() }))
  })
}

export interface Echo {
  readonly method: string
  readonly url: string
  readonly headers: Record<string, string>
  readonly raw: string[]
  readonly body: string
}

export function echoed(reply: Reply): Echo {
  return JSON.parse(reply.body) as Echo
}

export function until(condition: () => boolean, ms = 20_000): Promise<void> {
  const end = Date.now() + ms
  return new Promise((resolve, reject) => {
    const look = (): void => {
      if (condition()) resolve()
      else if (Date.now() > end) reject(new Error('the condition did not come true in time'))
      else setTimeout(look, 10)
    }
    look()
  })
}

function manifest(name: string, more: Partial<Manifest> = {}): Manifest {
  return {
    name, version: '1.0.0', display_name: null, description: null, nav: [], ui: null, requires_db: false, requires_host_data_access: false,
    health_path: '/health', hide_header: false, public_paths: [], capabilities: [], host_permissions: null, events: [], ...more,
  }
}

function status(name: string, state: PluginState, since = '2020-01-01T00:00:00Z'): PluginView['status'] {
  return { name: name as PluginName, state, reason: state === 'failed' ? 'start-limit' : null, run: null, since, restarts: 0, policyDigest: null, executableSha256: null, generation: null, version: null, unenforced: [], learning: null, door: 'shut', temporary: 0 }
}
