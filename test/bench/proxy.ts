/**
 * What the front costs: requests per second at 32 connections and added latency at one, against a bare node:http + undici.stream
 * proxy and against @fastify/reply-from, all to one plugin socket in the same run. Load comes from `wrk`, a process of its own.
 * It prints figures and judges nothing: a timed test would fail on a busy machine. There, look at the CPU time per request of the
 * proxy process, whose inverse is what one core can carry; requests per second then depend on who else runs.
 *
 *   node test/bench/proxy.ts [rounds=3] [seconds=3]
 */
import { execFile, fork, type ChildProcess } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import fastify from 'fastify'
import replyFrom from '@fastify/reply-from'
import { newRunId, type PluginName } from '../../src/base/ids.ts'
import { openSocketDispatcher } from '../../src/proxy/dispatcher.ts'
import { createFront } from '../../src/proxy/front.ts'
import type { PluginView } from '../../src/registry/registry.ts'

const TOKEN = 'b'.repeat(64)
const KINDS = ['direct', 'bare', 'reply-from', 'front'] as const
type Kind = (typeof KINDS)[number]

const [kind, socket] = process.argv.slice(2)
if (process.send !== undefined && socket !== undefined) await serve(kind as Kind | 'plugin', socket)
else await measure(Number(process.argv[2] ?? 3), Number(process.argv[3] ?? 3))

/** One server per process, as in real life. */
async function serve(what: Kind | 'plugin', path: string): Promise<void> {
  process.on('message', () => process.send?.({ cpuUs: process.cpuUsage().user + process.cpuUsage().system }))
  const answer = (_req: unknown, res: import('node:http').ServerResponse): void => {
    res.writeHead(200, { 'content-type': 'text/plain', 'content-length': '5' })
    res.end('hello')
  }
  if (what === 'plugin') {
    createServer({ keepAliveTimeout: 60_000 }, answer).listen(path, () => process.send?.({ port: 0 }))
    return
  }
  if (what === 'direct') {
    // The plugin itself on TCP: what a caller would see without any proxy.
    const server = createServer(answer).listen(0, '127.0.0.1', () => ready(server))
    return
  }
  const stat = statSync(path, { bigint: true })
  const { dispatcher } = openSocketDispatcher(path, { dev: String(stat.dev), ino: String(stat.ino), uid: Number(stat.uid) })
  if (what === 'bare') {
    const server = createServer((req, res) => {
      const { connection: _connection, host: _host, ...headers } = req.headers
      dispatcher.stream({ origin: 'http://localhost', path: req.url ?? '/', method: 'GET', headers }, ({ statusCode, headers: back }) => res.writeHead(statusCode, back), () => undefined)
    }).listen(0, '127.0.0.1', () => ready(server))
    return
  }
  if (what === 'reply-from') {
    const app = fastify({ logger: false })
    // It carries types of an undici of its own; at run time any object with `request` will do.
    const requestable = { request: dispatcher.request.bind(dispatcher) as never }
    await app.register(replyFrom, { base: 'http://localhost', disableRequestLogging: true, undici: requestable })
    app.all('/*', (request, reply) => reply.from(request.raw.url ?? '/'))
    await app.listen({ port: 0, host: '127.0.0.1' })
    ready(app.server)
    return
  }
  let port = 0
  const view: PluginView = {
    status: { name: 'seo' as PluginName, state: 'running', reason: null, run: null, since: '2020-01-01T00:00:00Z', restarts: 0, policyDigest: null, executableSha256: null, generation: null, version: null, unenforced: [], learning: null, door: 'shut', temporary: 0 },
    endpoint: {
      plugin: 'seo' as PluginName, run: newRunId(), secret: 's'.repeat(64), publicPaths: ['/hooks'], dispatcher, openapi: null,
      manifest: { name: 'seo', version: '1', display_name: null, description: null, nav: [], ui: null, requires_db: false, requires_host_data_access: false, health_path: '/health', hide_header: false, public_paths: [], capabilities: [], host_permissions: null, events: [] },
    },
  }
  const front = createFront({
    registry: { get: (name) => (name === 'seo' ? view : null), list: () => [view] },
    adminTokenSha256: createHash('sha256').update(TOKEN).digest('hex'),
    port: () => port, act: async () => null, record: () => undefined, now: () => Date.now(), version: '0', forwardedUser: null,
  })
  await front.app.ready()
  front.server.listen(0, '127.0.0.1', () => {
    port = ready(front.server)
  })
}

function ready(server: import('node:net').Server): number {
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  process.send?.({ port })
  return port
}

async function measure(rounds: number, seconds: number): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'bench-'))
  const children: ChildProcess[] = []
  const start = async (what: string): Promise<{ port: number; child: ChildProcess }> => {
    const child = fork(import.meta.filename, [what, join(dir, 'plugin.sock')])
    children.push(child)
    const [message] = (await once(child, 'message')) as [{ port: number }]
    return { port: message.port, child }
  }
  try {
    await start('plugin')
    const servers = new Map<Kind, { port: number; child: ChildProcess }>()
    for (const what of KINDS) servers.set(what, await start(what))
    const cpu = new Map<Kind, number[]>(KINDS.map((what) => [what, []]))
    const rate = new Map<Kind, number[]>(KINDS.map((what) => [what, []]))
    const p50 = new Map<Kind, number[]>(KINDS.map((what) => [what, []]))
    // One round warms up; then the kinds take turns, so that a slow moment of the machine hits all of them.
    for (let round = 0; round <= rounds; round++) {
      for (const what of KINDS) {
        const server = servers.get(what)
        if (server === undefined) throw new Error(`no server for ${what}`)
        const before = await cpuUs(server.child)
        const full = await wrk(server.port, 32, seconds)
        const used = (await cpuUs(server.child)) - before
        const single = await wrk(server.port, 1, seconds)
        if (round === 0) continue
        cpu.get(what)?.push(used / full.requests)
        rate.get(what)?.push(full.perSecond)
        p50.get(what)?.push(single.p50Us)
      }
    }
    const bare = median(rate.get('bare'))
    const bareCpu = median(cpu.get('bare'))
    const direct = median(p50.get('direct'))
    console.log('              req/s (32 conn.)  of bare   CPU per request  of bare   p50 (1 conn.)    added')
    for (const what of KINDS) {
      const [perSecond, cpuEach, us] = [median(rate.get(what)), median(cpu.get(what)), median(p50.get(what))]
      console.log(`${what.padEnd(12)} ${perSecond.toFixed(0).padStart(17)} ${(perSecond / bare).toFixed(2).padStart(8)} ${cpuEach.toFixed(1).padStart(14)} µs ${(bareCpu / cpuEach).toFixed(2).padStart(8)} ${us.toFixed(0).padStart(12)} µs ${(us - direct).toFixed(0).padStart(5)} µs`)
    }
  } finally {
    for (const child of children) child.kill()
    rmSync(dir, { recursive: true, force: true })
  }
}

async function cpuUs(child: ChildProcess): Promise<number> {
  child.send('cpu')
  const [message] = (await once(child, 'message')) as [{ cpuUs: number }]
  return message.cpuUs
}

async function wrk(port: number, connections: number, seconds: number): Promise<{ perSecond: number; p50Us: number; requests: number }> {
  const args = ['-t1', `-c${connections}`, `-d${seconds}s`, '--latency', '-H', `Host: localhost:${port}`, '-H', `Authorization: Bearer ${TOKEN}`, `http://127.0.0.1:${port}/api/x/seo/a?b=c`]
  const { stdout } = await promisify(execFile)('/usr/bin/wrk', args)
  if (/Non-2xx/.test(stdout)) throw new Error(`not every answer was 200:\n${stdout}`)
  const [, value = '0', unit = 'us'] = /50%\s+([\d.]+)(us|ms|s)/.exec(stdout) ?? []
  return { requests: Number(/(\d+) requests in/.exec(stdout)?.[1] ?? 0), perSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1] ?? 0), p50Us: Number(value) * (unit === 's' ? 1e6 : unit === 'ms' ? 1e3 : 1) }
}

function median(values: readonly number[] = []): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0
}
