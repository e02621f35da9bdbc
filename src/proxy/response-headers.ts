import type { PluginName } from '../base/ids.ts'
import { namedIn } from './request-headers.ts'

/**
 * What a plugin may not say to a browser or to a server in front of us:
 * - hop-by-hop (RFC 9110, 7.6.1), and prompts for credentials that could never reach it;
 * - cookies, storage and service workers: the origin's cookie is ours, and nothing of a plugin may outlive it;
 * - promises that stick to a host name or lead elsewhere: HSTS, Alt-Svc, pins, reporting, Refresh;
 * - CORS: its answers are made with the operator's session, so it must not open itself to other origins;
 * - what a reverse proxy obeys (X-Accel-Redirect names files of the host);
 * - what we set ourselves below.
 * Link stays (pagination uses it); it can do nothing that the page's own markup cannot.
 */
const DROPPED = new Set([
  'connection', 'keep-alive', 'te', 'trailer', 'transfer-encoding', 'upgrade', 'proxy-connection', 'proxy-authenticate', 'proxy-authentication-info',
  'www-authenticate', 'authentication-info',
  'set-cookie', 'set-cookie2', 'clear-site-data', 'service-worker-allowed',
  'strict-transport-security', 'alt-svc', 'public-key-pins', 'public-key-pins-report-only', 'expect-ct', 'refresh',
  'report-to', 'reporting-endpoints', 'nel', 'timing-allow-origin',
  'x-accel-redirect', 'x-accel-charset', 'x-accel-expires', 'x-accel-limit-rate', 'x-sendfile', 'x-lighttpd-send-file', 'x-reproxy-url',
  'x-frame-options', 'x-content-type-options', 'referrer-policy', 'cross-origin-opener-policy', 'cross-origin-resource-policy', 'origin-agent-cluster',
])

/** What is left of a plugin's headers, and ours; names lower case. */
export interface Reply {
  /** Names and values in turn, for `writeHead`. */
  readonly headers: string[]
  /** Content-Length, null when it was not given. */
  readonly length: string | null
}

/**
 * @param raw names and values in turn, attacker-controlled
 * @param guards names and values that we add: see `pluginGuards`, `apiGuards`
 */
export function responseHeaders(raw: readonly (Buffer | string)[], plugin: PluginName, guards: readonly string[]): Reply {
  const headers: string[] = []
  let named: Set<string> | null = null
  let length: string | null = null
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = textOf(raw[i]).toLowerCase()
    if (name === 'connection') {
      const more = namedIn(textOf(raw[i + 1]))
      if (more !== null) named = new Set([...(named ?? []), ...more])
      continue
    }
    if (DROPPED.has(name) || name.startsWith('x-temps-') || name.startsWith('access-control-')) continue
    const value = textOf(raw[i + 1])
    if (name === 'content-length') length = value
    headers.push(name, name === 'location' ? rewriteLocation(value, plugin) : value)
  }
  const kept = named === null ? headers : withoutNamed(headers, named)
  for (const text of guards) kept.push(text)
  return { headers: kept, length }
}

/** `/ui/` -> `/api/x/NAME/ui/`: Node and Python redirect `/ui` without knowing their prefix (protocol section 12.5). */
export function rewriteLocation(location: string, plugin: PluginName): string {
  if (!location.startsWith('/') || location.startsWith('//')) return location
  const prefix = `/api/x/${plugin}`
  const already = location.startsWith(prefix) && (location.length === prefix.length || '/?#'.includes(location.charAt(prefix.length)))
  return already ? location : prefix + location
}

/**
 * On the plugin's own origin. The CSP is a further header, so a stricter one of the plugin stays in force beside it.
 * It may be framed by itself and by the console, not by another plugin and not by strangers.
 */
export function pluginGuards(consoleOrigins: readonly string[]): readonly string[] {
  return [
    'content-security-policy', `frame-ancestors 'self' ${consoleOrigins.join(' ')}`,
    'cross-origin-resource-policy', 'same-origin',
    'cross-origin-opener-policy', 'same-origin',
    'referrer-policy', 'same-origin',
    'x-content-type-options', 'nosniff',
  ]
}

/**
 * On the console's origin, where only API clients get plugin bytes. Should a browser render them all the same, it does so in a
 * sandbox with an origin of its own, without script.
 */
export const API_GUARDS: readonly string[] = [
  'content-security-policy', "sandbox; default-src 'none'; frame-ancestors 'none'",
  'x-frame-options', 'DENY',
  'cross-origin-resource-policy', 'same-origin',
  'cross-origin-opener-policy', 'same-origin',
  'referrer-policy', 'no-referrer',
  'x-content-type-options', 'nosniff',
]

function withoutNamed(headers: readonly string[], named: Set<string>): string[] {
  const out: string[] = []
  for (let i = 0; i + 1 < headers.length; i += 2) {
    const name = headers[i] ?? ''
    if (!named.has(name)) out.push(name, headers[i + 1] ?? '')
  }
  return out
}

/** Header bytes are Latin-1 on the wire; this round-trips any of them. */
function textOf(part: Buffer | string | undefined): string {
  return typeof part === 'string' ? part : (part?.toString('latin1') ?? '')
}
