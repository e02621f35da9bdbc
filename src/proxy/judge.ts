import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { ErrorCode } from '../errors.ts'
import type { FrontLimits } from './limits.ts'
import { problem } from './problem.ts'
import { repeatedHeader } from './request-headers.ts'

export interface Refusal {
  readonly code: ErrorCode
  readonly detail: string
  /** The connection cannot be used any further: its bytes are in doubt, or a body that nobody wants follows. */
  readonly close: boolean
}

/** Rules that hold on every origin, before anything is looked up. */
export function judge(req: IncomingMessage, limits: FrontLimits): Refusal | null {
  if (req.rawHeaders.length > limits.headerCount * 2) return { code: 'PROXY_HEADERS_TOO_LARGE', detail: `More than ${limits.headerCount} header lines.`, close: true }
  // HTTP/0.9, which Node's parser still takes, has neither Host nor an end.
  if (req.httpVersionMajor !== 1) return { code: 'PROXY_BAD_REQUEST', detail: 'Only HTTP/1.0 and HTTP/1.1 are spoken.', close: true }
  const twice = repeatedHeader(req.rawHeaders)
  if (twice !== null) return { code: 'PROXY_BAD_REQUEST', detail: `The header ${twice} came twice.`, close: true }
  // We undo `chunked` and no other: what is left inside would reach the plugin under no name.
  if (req.headers['transfer-encoding'] !== undefined && req.headers['transfer-encoding'].toLowerCase() !== 'chunked') return { code: 'PROXY_BAD_REQUEST', detail: 'A transfer coding other than chunked.', close: true }
  if (req.headers.upgrade !== undefined) return { code: 'PROXY_UPGRADE_REFUSED', detail: 'Connections are not upgraded.', close: true }
  // TRACE would read the plugin's secret back to the caller.
  if (req.method === 'TRACE' || req.method === 'CONNECT') return { code: 'PROXY_METHOD_REFUSED', detail: 'This method is not forwarded.', close: true }
  // A worker would go on answering for the plugin after it was stopped or replaced.
  if (req.headers['service-worker'] !== undefined) return { code: 'ACCESS_SERVICE_WORKER', detail: 'Service workers are not served.', close: false }
  if (Number(req.headers['content-length'] ?? 0) > limits.requestBodyBytes) return { code: 'PROXY_BODY_TOO_LARGE', detail: `A request body of more than ${limits.requestBodyBytes} bytes.`, close: true }
  return null
}

/** For a caller to read why; then the connection goes, whether or not he closes his end. */
const LAST_WORDS_MS = 1_000

/** What Node's parser refused, or did not get in time: there is a socket, and mostly no request yet. */
export function refuseBrokenRequest(error: NodeJS.ErrnoException, socket: Socket): void {
  // Of an answer that has begun our words would become a part. Node's own handler asks the same way; there is no public one.
  const { _httpMessage: answer } = socket as unknown as { readonly _httpMessage?: ServerResponse | null }
  if (error.code === 'ECONNRESET' || !socket.writable || answer?.headersSent === true) {
    socket.destroy()
    return
  }
  const p = error.code === 'HPE_HEADER_OVERFLOW' ? problem('PROXY_HEADERS_TOO_LARGE', 'The headers are too long.')
    : error.code === 'ERR_HTTP_REQUEST_TIMEOUT' ? problem('PROXY_REQUEST_TIMEOUT', 'The request did not arrive in time.')
      : problem('PROXY_BAD_REQUEST', 'This is not a well-formed HTTP request.')
  const body = JSON.stringify(p)
  socket.end(`HTTP/1.1 ${p.status} ${p.title}\r\ncontent-type: application/problem+json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\r\n${body}`)
  // A server's sockets may stay half open, and a caller who keeps his half would keep one of our connections for ever.
  const cut = setTimeout(() => socket.destroy(), LAST_WORDS_MS)
  socket.once('close', () => clearTimeout(cut))
}

export function clientOf(req: IncomingMessage): string {
  return req.socket.remoteAddress ?? ''
}

/** Without the query: it may hold secrets, and records live long. Their `query` is kept as a keyed hash. */
export function pathOf(req: IncomingMessage): string {
  const url = req.url ?? ''
  const question = url.indexOf('?')
  return question === -1 ? url : url.slice(0, question)
}

/** What follows the question mark; null: nothing does. */
export function queryOf(req: IncomingMessage): string | null {
  const question = (req.url ?? '').indexOf('?')
  return question === -1 ? null : (req.url ?? '').slice(question + 1)
}
