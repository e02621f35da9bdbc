import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import fastify, { type FastifyInstance } from 'fastify'
import { addHostApi, send, sendAs, type HostApiDeps } from './host-api.ts'
import { clientOf, pathOf, queryOf, refuseBrokenRequest } from './judge.ts'
import type { Ledger } from './ledger.ts'
import { problem, problemOf } from './problem.ts'
import { API_GUARDS } from './response-headers.ts'
import type { CheckToken } from './token-check.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Answers without a token. Everything that does not say so needs one, unknown paths too. */
    open?: true
  }
}

export interface HostApp {
  readonly app: FastifyInstance
  /** One request for the host API; the listener has judged it. */
  serve(req: IncomingMessage, res: ServerResponse): void
}

/**
 * No route has a schema, so none is compiled. Without this fastify loads its two compilers (ajv, fast-json-stringify) all the same, and
 * keeps 3 MiB of them for good.
 */
const NO_SCHEMAS = { buildValidator: noSchema, buildSerializer: noSchema }

/** What stands around every route of the host API: guards, the token, the record, and what becomes of an error. */
export function createHostApp(server: Server, checkToken: CheckToken, ledger: Ledger, deps: HostApiDeps): HostApp {
  const router: { serve: HostApp['serve'] } = { serve: (_req, res) => res.destroy() }
  /** Requests to the host API whose sender is nobody that we know: `access.denied` tells of them, and counts where they are many. */
  const turnedAway = new WeakSet<IncomingMessage>()
  const app = fastify({
    logger: false,
    schemaController: { compilersFactory: NO_SCHEMAS },
    serverFactory: (handler) => {
      router.serve = handler
      return server
    },
    clientErrorHandler: refuseBrokenRequest,
    frameworkErrors: (error, _request, reply) => void send(reply, 'PROXY_BAD_PATH', error.message),
  })
  app.removeAllContentTypeParsers()
  // No route of the host reads a body.
  app.addContentTypeParser('*', { parseAs: 'buffer', bodyLimit: 64 * 1024 }, (_request, _body, done) => done(null, undefined))
  app.addHook('onRequest', (request, reply, done) => {
    for (let i = 0; i + 1 < API_GUARDS.length; i += 2) void reply.header(API_GUARDS[i] ?? '', API_GUARDS[i + 1] ?? '')
    void reply.header('cache-control', 'no-store')
    if (request.routeOptions.config?.open === true) return done()
    const refusal = checkToken(request.raw, '')
    if (refusal === null) return done()
    turnedAway.add(request.raw)
    if (refusal.wait > 0) void reply.header('retry-after', String(refusal.wait))
    if (refusal.code !== 'ACCESS_TOO_MANY_TRIES') void reply.header('www-authenticate', 'Bearer')
    void send(reply, refusal.code, refusal.detail)
  })
  app.addHook('onResponse', (request, reply, done) => {
    if (turnedAway.has(request.raw)) return done()
    const plugin = /^\/api\/x\/plugins\/([a-z0-9-]{1,64})\//.exec(request.raw.url ?? '')?.[1] ?? ''
    ledger.request({ plugin, method: request.method, path: pathOf(request.raw), query: queryOf(request.raw), status: reply.statusCode, ms: reply.elapsedTime, bytesIn: lengthOf(request.headers['content-length']), bytesOut: lengthOf(reply.getHeader('content-length')), client: clientOf(request.raw), who: `admin via token${deps.forwarded(request.raw)}`, requestId: request.id, anonymous: false })
    done()
  })
  app.setNotFoundHandler((_request, reply) => send(reply, 'API_NOT_FOUND', 'The host has nothing at this address and method.'))
  app.setErrorHandler((error, _request, reply) => {
    return sendAs(reply, isTooLarge(error) ? problem('PROXY_BODY_TOO_LARGE', 'A body of more than 65536 bytes.') : problemOf(error))
  })
  addHostApi(app, deps)
  return { app, serve: (req, res) => router.serve(req, res) }
}

/** As announced; no route of the host streams. */
function lengthOf(header: unknown): number {
  const length = Number(header ?? 0)
  return Number.isSafeInteger(length) && length >= 0 ? length : 0
}

function isTooLarge(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'FST_ERR_CTP_BODY_TOO_LARGE'
}

function noSchema(): never {
  throw new Error('a route of the host API has a schema, and nothing here compiles one')
}
