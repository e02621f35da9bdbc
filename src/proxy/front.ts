import { randomUUID } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { FastifyInstance } from 'fastify'
import { ADMIN } from '../access/identity.ts'
import { consoleOrigins, isNavigation, maySpendSession, pluginOrigin, siteOf } from '../access/origins.ts'
import { Sessions } from '../access/sessions.ts'
import type { PluginName } from '../base/ids.ts'
import type { Endpoint, PluginView, Registry } from '../registry/registry.ts'
import type { GatewayEvent } from '../wire/events.ts'
import { isOpen, QUARANTINED, RESERVED, SOON, STARTING, unavailable } from './availability.ts'
import { forward } from './forward.ts'
import { forwardedUser, type ForwardedUser } from './forwarded-user.ts'
import type { Act } from './host-api.ts'
import { createHostApp } from './host-app.ts'
import { clientOf, judge, pathOf, queryOf } from './judge.ts'
import { Ledger } from './ledger.ts'
import { FRONT_LIMITS, type FrontLimits } from './limits.ts'
import { linkOpener } from './open-link.ts'
import { parseTarget, type Inner } from './paths.ts'
import { problem, redirect, sendProblem } from './problem.ts'
import { API_GUARDS, pluginGuards } from './response-headers.ts'
import { tokenChecker } from './token-check.ts'

/** What is being answered may end; streams, which do not, are cut then. */
const CLOSE_GRACE_MS = 2_000

export interface FrontDeps {
  readonly registry: Registry
  /** 64 hex digits. */
  readonly adminTokenSha256: string
  /** Where we listen, known once we do: part of every origin. */
  port(): number
  act(act: Act, plugin: PluginName | null, who: string): Promise<unknown>
  record(event: GatewayEvent): void
  /** Milliseconds since 1970. */
  now(): number
  readonly version: string
  readonly forwardedUser: ForwardedUser | null
  readonly limits?: Partial<FrontLimits>
}

export interface Front {
  readonly app: FastifyInstance
  /** After `await app.ready()`: `server.listen(handle)`. */
  readonly server: Server
  /** A link that opens the plugin's page once, within five minutes. */
  mintLink(plugin: PluginName): string
  /** Stops listening, puts the last counts on record, and lets what is being answered end. */
  close(): Promise<void>
}

/**
 * The HTTP front. One listener judges Host, headers and path; then plugin traffic goes straight to its plugin and never meets the
 * router that serves the host API, which has the console's origin for itself.
 */
export function createFront(deps: FrontDeps): Front {
  const limits: FrontLimits = { ...FRONT_LIMITS, ...deps.limits }
  const sessions = new Sessions()
  const ledger = new Ledger(deps.record, deps.now)
  const checkToken = tokenChecker(deps.adminTokenSha256, ledger, () => deps.now())
  const openLink = linkOpener(sessions, ledger, () => deps.now())
  const forwarded = forwardedUser(deps.forwardedUser)
  let guardsFor: { port: number; guards: readonly string[] } | null = null

  const server = createServer({
    maxHeaderSize: limits.headerBytes,
    headersTimeout: limits.headersTimeoutMs,
    requestTimeout: limits.requestTimeoutMs,
    keepAliveTimeout: limits.keepAliveTimeoutMs,
    connectionsCheckingInterval: Math.min(5_000, limits.headersTimeoutMs),
    insecureHTTPParser: false,
  })
  server.maxConnections = limits.connections
  // Node drops what is above its count without a word; the bytes are bounded, and `judge` refuses above ours.
  server.maxHeadersCount = 0
  server.on('request', serve)
  // Without this Node would invite the body before anybody looked at who sends it.
  server.on('checkContinue', serve)

  const { app, serve: serveHostApi } = createHostApp(server, checkToken, ledger, { ...deps, forwarded })
  app.addHook('onClose', (_app, done) => {
    ledger.stop()
    done()
  })
  ledger.start()

  return {
    app,
    server,
    mintLink: (plugin) => `${pluginOrigin(plugin, deps.port())}/_cordon/open?t=${sessions.mintLink(plugin, deps.now())}`,
    async close() {
      await app.close()
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      server.closeIdleConnections()
      const rest = setTimeout(() => server.closeAllConnections(), CLOSE_GRACE_MS)
      await closed
      clearTimeout(rest)
    },
  }

  function serve(req: IncomingMessage, res: ServerResponse): void {
    const port = deps.port()
    const site = siteOf(req.headers.host, port)
    const guards = site.kind === 'plugin' ? guardsOf(port) : API_GUARDS
    const refusal = judge(req, limits)
    if (refusal !== null) return sendProblem(res, problem(refusal.code, refusal.detail), guards, refusal.close ? { connection: 'close' } : {})
    if (site.kind === 'other') {
      ledger.denied(pathOf(req), clientOf(req), 'wrong host name')
      return sendProblem(res, problem('ACCESS_WRONG_HOST', 'This host name is none of ours.'), guards)
    }
    const target = parseTarget(req.url ?? '')
    if (target.kind === 'bad') return sendProblem(res, problem('PROXY_BAD_PATH', `The path holds ${target.why}.`), guards)
    if (site.kind === 'plugin') {
      if (target.kind === 'host') return serveOwnPath(req, res, site.plugin, target.path, guards)
      if (target.plugin !== site.plugin) return sendProblem(res, problem('PROXY_NOT_FOUND', 'This host name serves one plugin only.'), guards)
      return servePluginSite(req, res, site.plugin, target.inner, guards)
    }
    if (target.kind === 'plugin') return serveApiClient(req, res, target.plugin, target.inner)
    serveHostApi(req, res)
  }

  /** The few paths of a plugin's origin that are ours. The host API is not among them: its page would be next to it. */
  function serveOwnPath(req: IncomingMessage, res: ServerResponse, plugin: PluginName, path: string, guards: readonly string[]): void {
    if (path === '/' && (req.method === 'GET' || req.method === 'HEAD')) return redirect(res, 302, `/api/x/${plugin}/ui/`, guards)
    if (path === '/_cordon/open') return openLink(req, res, plugin, deps.port(), guards)
    sendProblem(res, problem('PROXY_NOT_FOUND', `This host name serves /api/x/${plugin}/ only.`), guards)
  }

  /** A browser on a plugin's own origin: its session cookie, or a public path. A token is not taken here: its page could see it. */
  function servePluginSite(req: IncomingMessage, res: ServerResponse, plugin: PluginName, inner: Inner, guards: readonly string[]): void {
    const port = deps.port()
    const signedIn = sessions.accepts(req.headers.cookie, plugin, port, deps.now())
    if (signedIn && maySpendSession(req.method ?? '', req.headers, pluginOrigin(plugin, port))) {
      return pass(req, res, plugin, inner, 'admin via link', guards)
    }
    const view = deps.registry.get(plugin)
    // What another site sends here counts for nothing, even if the browser adds the cookie.
    if (isOpen(view, inner)) return pass(req, res, plugin, inner, 'anonymous', guards)
    if (signedIn) {
      ledger.denied(pathOf(req), clientOf(req), 'the session of a plugin used from another origin')
      return sendProblem(res, problem('ACCESS_CROSS_ORIGIN', 'This request did not come from the page of the plugin.'), guards)
    }
    refuseStranger(req, res, view, guards)
  }

  /** The console's origin: plugin bytes for API clients only, so that no browser ever takes them for the console's own. */
  function serveApiClient(req: IncomingMessage, res: ServerResponse, plugin: PluginName, inner: Inner): void {
    const { headers } = req
    const view = deps.registry.get(plugin)
    const open = isOpen(view, inner)
    // On a public path another scheme is the sender's own habit (webhooks); a bearer token is always ours to check.
    const anonymous = headers.authorization === undefined || (open && !/^bearer /i.test(headers.authorization))
    if (!anonymous) {
      const refusal = checkToken(req, plugin)
      if (refusal === null) return pass(req, res, plugin, inner, 'admin via token', API_GUARDS)
      return sendProblem(res, problem(refusal.code, refusal.detail), API_GUARDS, refusal.wait > 0 ? { 'retry-after': String(refusal.wait) } : { 'www-authenticate': 'Bearer' })
    }
    if (isNavigation(req.method ?? '', headers) || (open && headers['sec-fetch-mode'] !== undefined)) {
      return redirect(res, 307, pluginOrigin(plugin, deps.port()) + (req.url ?? '/'), API_GUARDS)
    }
    if (open) return pass(req, res, plugin, inner, 'anonymous', API_GUARDS)
    refuseStranger(req, res, view, API_GUARDS)
  }

  function pass(req: IncomingMessage, res: ServerResponse, plugin: PluginName, inner: Inner, who: Who, guards: readonly string[]): void {
    const requestId = randomUUID()
    const start = performance.now()
    const client = clientOf(req)
    const named = `${who}${forwarded(req)}`
    const done = (status: number, bytesIn: number, bytesOut: number): void =>
      ledger.request({ plugin, method: req.method ?? '', path: pathOf(req), query: queryOf(req), status, ms: performance.now() - start, bytesIn, bytesOut, client, who: named, requestId, anonymous: who === 'anonymous' })
    const view = deps.registry.get(plugin)
    const refusal = inner.reserved ? RESERVED : unavailable(view)
    if (refusal !== null || view?.endpoint == null) {
      const { code, detail, retryAfter } = refusal ?? STARTING
      sendProblem(res, problem(code, detail), guards, retryAfter === undefined ? {} : { 'retry-after': retryAfter })
      return done(res.statusCode, 0, 0)
    }
    const { endpoint } = view
    forward({
      req, res, endpoint, inner, requestId, guards, limits,
      identity: who === 'anonymous' ? null : ADMIN,
      runningForMs: () => runningFor(endpoint),
      shutIn: () => (deps.registry.get(plugin)?.status.state === 'quarantined' ? problem(QUARANTINED.code, QUARANTINED.detail) : null),
      done: (outcome) => done(outcome.status, outcome.bytesIn, outcome.bytesOut),
    })
  }

  /** null when the registry has moved on to another run meanwhile. */
  function runningFor(endpoint: Endpoint): number | null {
    const view = deps.registry.get(endpoint.plugin)
    if (view?.endpoint?.run !== endpoint.run) return null
    const since = Date.parse(view.status.since)
    return Number.isNaN(since) ? null : deps.now() - since
  }

  /** Whether a plugin of that name exists is not for strangers; but a webhook's sender must hear "later" instead of "never" while it starts. */
  function refuseStranger(req: IncomingMessage, res: ServerResponse, view: PluginView | null, guards: readonly string[]): void {
    const soon = view === null || view.endpoint !== null ? null : SOON[view.status.state]
    if (soon != null) return sendProblem(res, problem(soon.code, soon.detail), guards, { 'retry-after': soon.retryAfter })
    ledger.denied(pathOf(req), clientOf(req), 'no credentials')
    sendProblem(res, problem('ACCESS_NO_CREDENTIALS', 'This needs a session or a token.'), guards, guards === API_GUARDS ? { 'www-authenticate': 'Bearer' } : {})
  }

  function guardsOf(port: number): readonly string[] {
    if (guardsFor?.port !== port) guardsFor = { port, guards: pluginGuards(consoleOrigins(port)) }
    return guardsFor.guards
  }
}

/** In records. */
type Who = 'admin via token' | 'admin via link' | 'anonymous'
