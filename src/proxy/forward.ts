import type { IncomingMessage, ServerResponse } from 'node:http'
import { Transform, type TransformCallback } from 'node:stream'
import type { Dispatcher } from 'undici'
import type { Identity } from '../access/identity.ts'
import type { Endpoint } from '../registry/registry.ts'
import type { FrontLimits } from './limits.ts'
import type { Inner } from './paths.ts'
import { problem, sendProblem, type Problem } from './problem.ts'
import { requestHeaders } from './request-headers.ts'
import { responseHeaders } from './response-headers.ts'

/** One request on its way to one plugin; access was decided before. */
export interface Passage {
  readonly req: IncomingMessage
  readonly res: ServerResponse
  readonly endpoint: Endpoint
  readonly inner: Inner
  /** null: a public path without a caller. */
  readonly identity: Identity | null
  /** UUID, the same in the plugin's header and in our record. */
  readonly requestId: string
  /** Security headers of the origin that answers. */
  readonly guards: readonly string[]
  readonly limits: FrontLimits
  /** Milliseconds since the plugin became `running`; null when unknown. */
  readonly runningForMs: () => number | null
  /** Asked when the plugin broke off: is there a better word for it than that? */
  readonly shutIn: () => Problem | null
  readonly done: (outcome: Outcome) => void
}

export interface Outcome {
  readonly status: number
  readonly bytesIn: number
  readonly bytesOut: number
}

/** Rust plugins mount their routes after `ready` and answer an empty 404 until then (protocol section 13). */
const GRACE_MS = 1_000
const GRACE_RETRY_MS = 100
/** Above this copying costs more than it saves. */
const JOINED_MAX_BYTES = 8 * 1024
const RESPONSE_HEADERS_MAX = 200
const UNAVAILABLE_DETAIL = 'The plugin did not give a usable answer.'

/**
 * Forward and stream both ways (protocol section 12.5), straight onto undici's dispatcher. `@fastify/reply-from` alone, with our pool and no
 * rule of ours, carries 0.6 of a bare `undici.stream` proxy at 32 connections and spends twice its CPU time: URL building, three copies of
 * the headers, a Readable per response. This, with every rule, carries 0.9 to 1.0 and spends 1.2 times (test/bench/proxy.ts).
 */
export function forward(passage: Passage): void {
  new Exchange(passage).start()
}

class Exchange implements Dispatcher.DispatchHandler {
  readonly #p: Passage
  readonly #body: CountedBody | null
  #controller: Dispatcher.DispatchController | null = null
  #queueTimer: NodeJS.Timeout | null = null
  #graceTimer: NodeJS.Timeout | null = null
  /** Runs while the caller has to read before anything goes on. */
  #stallTimer: NodeJS.Timeout | null = null
  /** Nothing more may be written: answered, refused, or the client is gone. */
  #over = false
  /** This response is thrown away and asked for again. */
  #discard = false
  #resent = false
  #wrote = false
  #drains = false
  #bytesOut = 0

  constructor(passage: Passage) {
    this.#p = passage
    this.#body = hasBody(passage.req) ? new CountedBody(passage.req, passage.limits.requestBodyBytes) : null
  }

  start(): void {
    const { req, res } = this.#p
    res.on('close', () => this.#closed())
    // An error on a reply whose reader left; `close` follows and does what is needed.
    res.on('error', () => undefined)
    // Only now: a caller that was refused must not upload first.
    if (this.#body !== null && req.headers.expect !== undefined) res.writeContinue()
    this.#dispatch()
  }

  #dispatch(): void {
    const { req, endpoint, inner, identity, requestId, limits } = this.#p
    const sealed = { plugin: endpoint.plugin, requestId, secret: endpoint.secret, identity }
    this.#queueTimer = setTimeout(() => this.#refuse(problem('PROXY_BUSY', 'No connection to the plugin became free in time.'), { 'retry-after': '5' }), limits.queueTimeoutMs)
    endpoint.dispatcher.dispatch(
      {
        origin: 'http://localhost',
        path: inner.target,
        method: req.method ?? 'GET',
        headers: requestHeaders(req.rawHeaders, req.headers.connection, sealed),
        body: this.#body,
        headersTimeout: limits.responseHeadersTimeoutMs,
        bodyTimeout: 0,
      },
      this,
    )
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#stopQueueTimer()
    this.#controller = controller
    if (this.#over) controller.abort(new Error('the caller is gone'))
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number): void {
    if (status < 200 || this.#over) return
    const raw = Array.isArray(controller.rawHeaders) ? controller.rawHeaders : []
    // undici bounds the bytes of names and values; thousands of tiny headers are within that and choke the reader.
    if (raw.length > RESPONSE_HEADERS_MAX * 2) throw new Error('too many response headers')
    const reply = responseHeaders(raw, this.#p.endpoint.plugin, this.#p.guards)
    if (this.#isTooEarly(status, reply.length)) {
      this.#discard = true
      return
    }
    // Throws on a status or a header that HTTP does not allow; undici then calls onResponseError.
    this.#p.res.writeHead(status, reply.headers)
    // Node holds headers back until the first chunk. If that did not come in the same read, the reader must not wait for it.
    process.nextTick(() => {
      if (!this.#wrote && !this.#over) this.#p.res.flushHeaders()
    })
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#over || this.#discard) return
    const first = !this.#wrote
    this.#wrote = true
    this.#bytesOut += chunk.length
    // As Latin-1 text, which is the same bytes, Node sends the first chunk in one write with the headers instead of a gathered one.
    if (first && chunk.length <= JOINED_MAX_BYTES ? this.#p.res.write(chunk.toString('latin1'), 'latin1') : this.#p.res.write(chunk)) return
    controller.pause()
    this.#awaitReader()
    if (this.#drains) return
    this.#drains = true
    this.#p.res.on('drain', () => {
      if (this.#over) return
      this.#stopStallTimer()
      this.#controller?.resume()
    })
  }

  onResponseEnd(): void {
    if (this.#over) return
    if (this.#discard) {
      this.#discard = false
      this.#graceTimer = setTimeout(() => this.#dispatch(), GRACE_RETRY_MS)
      return
    }
    this.#over = true
    this.#p.res.end()
    if (this.#p.res.writableLength > 0) this.#awaitReader()
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.#stopQueueTimer()
    if (this.#over) return
    const code = 'code' in error ? error.code : undefined
    const started = this.#p.res.headersSent
    if (!started && !this.#resent && this.#p.shutIn() === null && this.#isRepeatable() && LOST.has(String(code))) {
      this.#resent = true
      this.#dispatch()
      return
    }
    if (error instanceof BodyTooLarge) this.#refuse(problem('PROXY_BODY_TOO_LARGE', error.message), { connection: 'close' })
    else if (LATE.has(String(code))) this.#refuse(problem('PROXY_TIMEOUT', 'The plugin did not answer in time.'))
    // Fixed words: causes name host paths and transport internals.
    else this.#refuse(this.#p.shutIn() ?? problem('PROXY_UNAVAILABLE', UNAVAILABLE_DETAIL))
  }

  #refuse(p: Problem, more: Record<string, string> = {}): void {
    if (this.#over) return
    this.#over = true
    this.#controller?.abort(new Error('refused'))
    // After the first bytes only a broken connection says that the rest is missing.
    sendProblem(this.#p.res, p, this.#p.guards, more)
  }

  #closed(): void {
    this.#stopQueueTimer()
    this.#stopStallTimer()
    if (this.#graceTimer !== null) clearTimeout(this.#graceTimer)
    if (!this.#over) {
      this.#over = true
      this.#controller?.abort(new Error('the caller is gone'))
    }
    this.#p.done({ status: this.#p.res.statusCode, bytesIn: this.#body?.count ?? 0, bytesOut: this.#bytesOut })
  }

  #awaitReader(): void {
    this.#stallTimer ??= setTimeout(() => this.#p.res.destroy(), this.#p.limits.readerStallMs)
  }

  #stopStallTimer(): void {
    if (this.#stallTimer !== null) clearTimeout(this.#stallTimer)
    this.#stallTimer = null
  }

  #stopQueueTimer(): void {
    if (this.#queueTimer !== null) clearTimeout(this.#queueTimer)
    this.#queueTimer = null
  }

  /** Without a body and without effect: may be sent again (RFC 9110, 9.2.2). */
  #isRepeatable(): boolean {
    const { method } = this.#p.req
    return this.#body === null && (method === 'GET' || method === 'HEAD')
  }

  #isTooEarly(status: number, length: string | null): boolean {
    if (status !== 404 || length !== '0' || !this.#isRepeatable()) return false
    const ms = this.#p.runningForMs()
    return ms !== null && ms >= 0 && ms < GRACE_MS
  }
}

/** The plugin closed an idle connection just as we used it: nothing of the request was answered. */
const LOST = new Set(['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE'])
const LATE = new Set(['UND_ERR_HEADERS_TIMEOUT', 'UND_ERR_CONNECT_TIMEOUT'])

class BodyTooLarge extends Error {}

/**
 * The request body on its way, counted. A stream of its own, for undici destroys what it was given when a plugin answers early, and
 * destroying the request itself would cut the caller off before our answer.
 */
class CountedBody extends Transform {
  count = 0
  readonly #max: number

  constructor(req: IncomingMessage, maxBytes: number) {
    super()
    this.#max = maxBytes
    // Whoever waits for this body hears of errors from undici; without a listener one here would end the process.
    this.on('error', () => undefined)
    req.on('close', () => {
      if (!req.complete) this.destroy(new Error('the caller left in the middle of its body'))
    })
    req.pipe(this)
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.count += chunk.length
    if (this.count > this.#max) done(new BodyTooLarge(`a request body of more than ${this.#max} bytes`))
    else done(null, chunk)
  }
}

function hasBody(req: IncomingMessage): boolean {
  const length = req.headers['content-length']
  return req.headers['transfer-encoding'] !== undefined || (length !== undefined && Number(length) > 0)
}
