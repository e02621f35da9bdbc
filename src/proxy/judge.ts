import type { IncomingMessage } from 'node:http'
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
  if (req.headers.upgrade !== undefined) return { code: 'PROXY_UPGRADE_REFUSED', detail: 'Connections are not upgraded.', close: true }
  // TRACE would read the plugin's secret back to the caller.
  if (req.method === 'TRACE' || req.method === 'CONNECT') return { code: 'PROXY_METHOD_REFUSED', detail: 'This method is not forwarded.', close: true }
  // A worker would go on answering for the plugin after it was stopped or replaced.
  if (req.headers['service-worker'] !== undefined) return { code: 'ACCESS_SERVICE_WORKER', detail: 'Service workers are not served.', close: false }
  if (Number(req.headers['content-length'] ?? 0) > limits.requestBodyBytes) return { code: 'PROXY_BODY_TOO_LARGE', detail: `A request body of more than ${limits.requestBodyBytes} bytes.`, close: true }
  return null
}

/** What Node's parser refused: there is a socket, not yet a request. */
export function refuseBrokenRequest(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
    return
  }
  const p = error.code === 'HPE_HEADER_OVERFLOW' ? problem('PROXY_HEADERS_TOO_LARGE', 'The headers are too long.')
    : error.code === 'ERR_HTTP_REQUEST_TIMEOUT' ? problem('PROXY_REQUEST_TIMEOUT', 'The request did not arrive in time.')
      : problem('PROXY_BAD_REQUEST', 'This is not a well-formed HTTP request.')
  const body = JSON.stringify(p)
  socket.end(`HTTP/1.1 ${p.status} ${p.title}\r\ncontent-type: application/problem+json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\r\n${body}`)
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
