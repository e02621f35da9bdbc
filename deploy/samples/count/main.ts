// Sample plugin, generation 2, compiled to a single binary by bun: it shows that a program with its own runtime inside needs no mount.
// Behaves like the loose Node SDK: unknown flags are ignored, except those that show a host of the other generation.
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { join } from 'node:path'
import page from './page.html' with { type: 'text' }

/** What this file uses of Bun; the sample has no dependencies, so no types package either. */
interface Socket {
  send(text: string): unknown
}
interface Server {
  upgrade(request: Request): boolean
  stop(force: boolean): unknown
}
declare const Bun: {
  serve(options: {
    unix: string
    fetch(request: Request, server: Server): Response | undefined | Promise<Response | undefined>
    websocket: { open(socket: Socket): void; message(socket: Socket, message: unknown): void; close(): void }
  }): Server
}

const SECRET = /^[A-Za-z0-9_-]{32,256}$/
const LAUNCH_WAIT_MS = 30_000
const CALL_TIMEOUT_MS = 10_000
const NAME = 'count'
const MANIFEST = {
  name: NAME,
  version: '1.0.0',
  display_name: 'Count',
  description: 'A counter that survives restarts',
  nav: [{ label: 'Count', icon: 'hash', section: 'platform', path: '/count', order: 42 }],
  health_path: '/health',
  public_paths: ['/hit'],
  capabilities: [],
  host_permissions: ['projects_read'],
  events: [],
}

const { socketPath, dataDir } = parseArguments(process.argv.slice(2))
say({ type: 'hello', protocol_version: 2, manifest: MANIFEST })
const secret = await readSecret()

mkdirSync(dataDir, { recursive: true })
const file = join(dataDir, 'count')
let count = readCount()
let channel: Socket | null = null
let lastId = 0
const waiting = new Map<number, (reply: Reply) => void>()

interface Reply {
  readonly id?: unknown
  readonly outcome?: { ok?: { result?: unknown }; err?: { code?: unknown } }
}

rmSync(socketPath, { force: true })
const server = Bun.serve({
  unix: socketPath,
  fetch: answer,
  websocket: {
    open(socket) {
      channel = socket
      console.error('channel open')
    },
    message(_socket, message) {
      if (typeof message !== 'string') return
      const reply = JSON.parse(message) as Reply
      if (typeof reply.id === 'number') waiting.get(reply.id)?.(reply)
    },
    close: () => console.error('channel closed'),
  },
})
say({ type: 'ready', ready: true, has_ui: true, protocol_version: 2 })

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    server.stop(true)
    process.exit(0)
  })
}

async function answer(request: Request, own: Server): Promise<Response | undefined> {
  const path = new URL(request.url).pathname
  if (path === '/health') return Response.json({ status: 'ok', plugin: NAME })
  if (request.headers.get('x-temps-auth-signature') !== secret) return new Response('Unauthorized', { status: 401 })
  if (path === '/_temps/channel') {
    if (channel !== null) return new Response('Conflict', { status: 409 })
    return own.upgrade(request) ? undefined : new Response('Bad Request', { status: 400 })
  }
  if (channel === null) return new Response('Plugin initializing', { status: 503 })

  if (path === '/' || path === '/ui') return new Response(null, { status: 302, headers: { location: '/ui/' } })
  if (path === '/ui/') return new Response(page, { headers: { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-cache' } })
  if (path === '/value' && request.method === 'GET') return Response.json({ count })
  if ((path === '/value' || path === '/hit') && request.method === 'POST') return Response.json({ count: writeCount(count + 1) })
  if (path === '/value' && request.method === 'DELETE') return Response.json({ count: writeCount(0) })
  if (path === '/host' && request.method === 'GET') return Response.json({ projects: await call('list_projects') })
  return Response.json({ title: 'Not Found', detail: 'no such route' }, { status: 404 })
}

function call(method: string): Promise<{ result: unknown } | { refused: string }> {
  const id = ++lastId
  return new Promise((resolve) => {
    const settle = (reply: Reply) => {
      clearTimeout(timer)
      waiting.delete(id)
      const { ok, err } = reply.outcome ?? {}
      resolve(ok === undefined ? { refused: String(err?.code ?? 'no_answer') } : { result: ok.result })
    }
    const timer = setTimeout(() => settle({}), CALL_TIMEOUT_MS)
    waiting.set(id, settle)
    channel?.send(JSON.stringify({ type: 'request', id, call: { method, params: {} } }))
  })
}

function readCount(): number {
  try {
    const value = Number(readFileSync(file, 'utf8'))
    return Number.isSafeInteger(value) ? value : 0
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return 0 // the first start
    throw error
  }
}

function writeCount(value: number): number {
  writeFileSync(`${file}.new`, String(value))
  renameSync(`${file}.new`, file)
  count = value
  return value
}

function parseArguments(argv: readonly string[]): { socketPath: string; dataDir: string } {
  for (const old of ['--auth-secret', '--database-url']) if (argv.includes(old)) throw new Error(`${old} belongs to an older host`)
  const valueOf = (flag: string) => {
    const at = argv.indexOf(flag)
    const value = at < 0 ? undefined : argv[at + 1]
    if (value === undefined) throw new Error(`${flag} is required`)
    return value
  }
  return { socketPath: valueOf('--socket-path'), dataDir: valueOf('--data-dir') }
}

/** stdout belongs to the handshake. */
function say(message: object): void {
  process.stdout.write(`${JSON.stringify(message)}\n`)
}

async function readSecret(): Promise<string> {
  const timer = setTimeout(() => {
    console.error(`no launch config within ${LAUNCH_WAIT_MS / 1000} s`)
    process.exit(1)
  }, LAUNCH_WAIT_MS)
  for await (const line of createInterface({ input: process.stdin })) {
    clearTimeout(timer)
    const config = JSON.parse(line) as Record<string, unknown>
    const given = config['auth_secret']
    if (config['protocol_version'] !== 2 || typeof given !== 'string' || !SECRET.test(given)) throw new Error('launch config: bad version or secret')
    return given
  }
  throw new Error('stdin ended before the launch config')
}
