import { STATUS_CODES, type OutgoingHttpHeaders, type ServerResponse } from 'node:http'
import { ERRORS, toSafeError, type ErrorCode } from '../errors.ts'

/** RFC 9457, with our code and hint beside its members. `status` is the HTTP status of the code. */
export interface Problem {
  /** `about:blank` but where a caller may have to tell this problem from others of the same status. */
  readonly type: string
  readonly title: string
  readonly status: number
  readonly detail: string
  readonly code: ErrorCode
  readonly hint: string
}

/** Titles that the protocol fixes (sections 12.4, 12.5); others are the words of the status. */
const TITLES: Partial<Record<ErrorCode, string>> = {
  ACCESS_NO_CREDENTIALS: 'Authentication Required',
  ACCESS_BAD_TOKEN: 'Authentication Required',
  PROXY_UNAVAILABLE: 'Plugin Unavailable',
  PROXY_QUARANTINED: 'Plugin Quarantined',
  PROXY_PAUSED: 'Plugin Paused',
}

const TYPES: Partial<Record<ErrorCode, string>> = {
  PROXY_QUARANTINED: 'urn:cordon:problem:plugin-quarantined',
}

/** @param detail what was found and what was expected; no host path, nothing of a plugin's */
export function problem(code: ErrorCode, detail: string): Problem {
  const { http, hint } = ERRORS[code]
  return { type: TYPES[code] ?? 'about:blank', title: TITLES[code] ?? STATUS_CODES[http] ?? 'Error', status: http, detail, code, hint }
}

/** Any error as a problem: ours keep code and message, others become INTERNAL_BUG without their text. */
export function problemOf(error: unknown): Problem {
  const safe = toSafeError(error)
  return problem(safe.code, safe.message)
}

/** @param guards security headers of the origin, names and values in turn; a problem page is framed and read by the same rules */
export function sendProblem(res: ServerResponse, p: Problem, guards: readonly string[], more: OutgoingHttpHeaders = {}): void {
  if (res.headersSent) {
    res.destroy()
    return
  }
  const body = JSON.stringify(p)
  const headers: OutgoingHttpHeaders = { 'content-type': 'application/problem+json', 'content-length': Buffer.byteLength(body), 'cache-control': 'no-store' }
  for (let i = 0; i + 1 < guards.length; i += 2) headers[guards[i] ?? ''] = guards[i + 1] ?? ''
  res.writeHead(p.status, { ...headers, ...more })
  res.end(body)
}

/** @param location ours, or a path that `parseTarget` accepted */
export function redirect(res: ServerResponse, status: 302 | 303 | 307, location: string, guards: readonly string[], more: Record<string, string> = {}): void {
  const headers: Record<string, string> = {}
  for (let i = 0; i + 1 < guards.length; i += 2) headers[guards[i] ?? ''] = guards[i + 1] ?? ''
  res.writeHead(status, { ...headers, location, 'content-length': '0', 'cache-control': 'no-store', ...more })
  res.end()
}
