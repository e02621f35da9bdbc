import type { IncomingMessage } from 'node:http'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { isPluginName, type PluginName } from '../base/ids.ts'
import { printable } from '../base/printable.ts'
import { CordonError, type ErrorCode } from '../errors.ts'
import type { Manifest } from '../handshake/manifest.ts'
import type { Endpoint, PluginView, Registry } from '../registry/registry.ts'
import { mergeOpenApi } from './openapi.ts'
import { hostDocument } from './openapi-host.ts'
import { problem, type Problem } from './problem.ts'

export type Act = 'start' | 'stop' | 'restart' | 'disable' | 'quarantine' | 'reload'

export interface HostApiDeps {
  readonly registry: Registry
  /** Asks the launcher; of what it answers callers are shown which policies a reload left out. Rejects with a CordonError that may be. */
  act(act: Act, plugin: PluginName | null, who: string): Promise<unknown>
  readonly version: string
  /** What a reverse proxy says of the user, for the record: `, forwarded user NAME` or nothing. */
  forwarded(req: IncomingMessage): string
}

/** What a caller may do with one plugin over HTTP: tighten, or start within its policy. Nothing here widens. */
const PLUGIN_ACTS = ['start', 'stop', 'restart', 'disable', 'quarantine'] as const

/** Parts of the reference host's API (protocol section 14) that are an operator's work in a terminal here. */
const NOT_OFFERED = [
  ['GET', '/api/x/plugins/installation-reporting'],
  ['PUT', '/api/x/plugins/installation-reporting'],
  ['POST', '/api/x/plugins/install'],
  ['POST', '/api/x/plugins/install/repository'],
  ['GET', '/api/x/plugins/install/progress/:id'],
  ['POST', '/api/x/plugins/:name/update'],
  ['POST', '/api/x/plugins/:name/uninstall'],
  ['GET', '/api/x/plugins/:name/grants'],
  ['PUT', '/api/x/plugins/:name/grants'],
] as const

/** The host API of the console's origin. Who may call is decided before any route runs (host-app.ts). */
export function addHostApi(app: FastifyInstance, deps: HostApiDeps): void {
  const { registry } = deps

  // Anonymous: says that this process answers, nothing else.
  app.get('/healthz', { config: { open: true } }, () => ({ status: 'ok' }))

  app.get('/api/x/plugins', () => endpoints(registry).map((endpoint) => fullManifest(endpoint.manifest)))
  app.get('/api/openapi.json', () => mergeOpenApi(hostDocument(deps.version), endpoints(registry)))

  app.post('/api/x/plugins/reload', async (request, reply) => {
    const refused = failuresOf(await deps.act('reload', null, whoOf(request, deps)))
    const plugins = registry.list().filter((view) => view.endpoint !== null).map((view) => view.status.name)
    const failures: Failure[] = registry.list().filter((view) => view.status.state === 'failed').map((view) => ({ plugin: view.status.name, reason: view.status.reason ?? 'failed' }))
    failures.push(...refused)
    const status = failures.length === 0 ? 200 : plugins.length > 0 ? 207 : 502
    return reply.code(status).send({ loaded: plugins.length, plugins, failures, message: `${plugins.length} running, ${failures.length} failed` })
  })

  app.get('/api/x/plugins/:name/status', (request) => statusOf(known(registry, request)))
  for (const act of PLUGIN_ACTS) {
    app.post(`/api/x/plugins/:name/${act}`, async (request) => {
      const { name } = known(registry, request).status
      await deps.act(act, name, whoOf(request, deps))
      return statusOf(known(registry, request))
    })
  }

  // In the reference an unavailable catalogue is an answer, not an error.
  const none = { available: false, reason: 'Cordon installs from files that the operator names; it has no catalogue.', plugins: [] }
  app.get('/api/x/plugins/catalog', () => ({ source: 'none', ...none }))
  app.get('/api/x/plugins/catalog/repositories', () => ({ source: 'none', platform: `linux-${process.arch === 'x64' ? 'amd64' : process.arch}-gnu`, ...none }))
  for (const [method, url] of NOT_OFFERED) {
    app.route({ method, url, handler: (_request, reply) => send(reply, 'API_NOT_OFFERED', 'Cordon does not offer this over HTTP.') })
  }
}

interface Failure {
  readonly plugin?: string
  readonly reason: string
}

/** Of the launcher's answer to a reload; a policy file whose name is no plugin's has no plugin. */
function failuresOf(answer: unknown): Failure[] {
  const { failures = [] } = (answer ?? {}) as { failures?: readonly { readonly plugin: string | null; readonly reason: string }[] }
  return failures.map(({ plugin, reason }) => (plugin === null ? { reason } : { plugin, reason }))
}

export function send(reply: FastifyReply, code: ErrorCode, detail: string): FastifyReply {
  return sendAs(reply, problem(code, detail))
}

/** As bytes: for text Fastify would add a charset, which problem+json does not have. */
export function sendAs(reply: FastifyReply, p: Problem): FastifyReply {
  return reply.code(p.status).header('content-type', 'application/problem+json').send(Buffer.from(JSON.stringify(p)))
}

/** What the record names as the one who asked: there is one token, so the address tells callers apart. */
function whoOf(request: FastifyRequest, { forwarded }: HostApiDeps): string {
  return `${printable(`admin token from ${request.socket.remoteAddress ?? 'unknown'}`, 100)}${forwarded(request.raw)}`
}

function endpoints(registry: Registry): Endpoint[] {
  return registry.list().flatMap((view) => (view.endpoint === null ? [] : [view.endpoint]))
}

function known(registry: Registry, request: FastifyRequest): PluginView {
  const { params } = request
  const name = typeof params === 'object' && params !== null && 'name' in params ? String(params.name) : ''
  const view = isPluginName(name) ? registry.get(name) : null
  if (view === null) throw new CordonError('API_NOT_FOUND', `no plugin is called "${printable(name, 64)}"`)
  return view
}

/** The protocol's `configured`, `reason` and `setup_path`, and our own status beside them. */
function statusOf(view: PluginView): object {
  const { reason, ...status } = view.status
  return { configured: view.endpoint !== null, ...(reason === null ? {} : { reason }), setup_path: '/settings/plugins', ...status }
}

/** Every field, nulls explicit; an absent `host_permissions` shows as the protocol's default. */
function fullManifest(manifest: Manifest): object {
  return { ...manifest, host_permissions: manifest.host_permissions ?? [] }
}
