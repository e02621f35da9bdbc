import type { Identity } from '../access/identity.ts'
import type { PluginName } from '../base/ids.ts'

/**
 * What never reaches a plugin (protocol section 12.3): credentials, hop-by-hop headers (RFC 9110, 7.6.1), and Expect, which we answer
 * ourselves. Every `x-temps-*` goes too. Names are compared with `_` as `-`: CGI-like servers cannot tell them apart.
 */
const DROPPED = new Set([
  'cookie', 'cookie2', 'authorization', 'proxy-authorization', 'host', 'expect',
  'connection', 'keep-alive', 'te', 'trailer', 'transfer-encoding', 'upgrade', 'proxy-connection', 'http2-settings',
])

export interface Sealed {
  readonly plugin: PluginName
  readonly requestId: string
  /** The plugin's own secret, verbatim. */
  readonly secret: string
  /** null for a public path without a caller: then none of the identity headers is set. */
  readonly identity: Identity | null
}

/**
 * @param raw names and values in turn as Node read them, attacker-controlled; duplicates of Host, Content-Length and
 * Transfer-Encoding were refused before
 * @param connection the Connection header: what it names is for this hop only
 * @returns names and values in turn, for undici
 */
export function requestHeaders(raw: readonly string[], connection: string | undefined, sealed: Sealed): string[] {
  const named = namedIn(connection)
  const out: string[] = []
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = raw[i] ?? ''
    const folded = (name.includes('_') ? name.replaceAll('_', '-') : name).toLowerCase()
    if (DROPPED.has(folded) || folded.startsWith('x-temps-') || named?.has(folded)) continue
    out.push(name, raw[i + 1] ?? '')
  }
  out.push('host', 'localhost', 'x-temps-plugin', sealed.plugin, 'x-temps-request-id', sealed.requestId, 'x-temps-auth-signature', sealed.secret)
  const who = sealed.identity
  if (who !== null) {
    out.push('x-temps-user-role', who.role, 'x-temps-user-id', who.id, 'x-temps-user-email', who.email, 'x-temps-user-permissions', who.permissions)
  }
  return out
}

/**
 * Header names that a Connection header claims for its hop; null for none. Content-Length frames the body, so it cannot be disowned.
 * The bare options `keep-alive` and `close`, which almost every message carries, name nothing that is not dropped anyway.
 */
export function namedIn(connection: string | undefined): Set<string> | null {
  if (connection === undefined || connection === 'keep-alive' || connection === 'close') return null
  const names = new Set(connection.toLowerCase().split(',').map((name) => name.trim()))
  names.delete('content-length')
  return names
}

/** Headers that must not come twice: two readers could each believe another one (request smuggling). */
const SINGLE = new Set(['host', 'content-length', 'transfer-encoding', 'authorization', 'origin', 'sec-fetch-site'])

/** @returns the name of a header that came twice though it must not, or null */
export function repeatedHeader(raw: readonly string[]): string | null {
  let seen: Set<string> | null = null
  for (let i = 0; i < raw.length; i += 2) {
    const name = (raw[i] ?? '').toLowerCase()
    if (!SINGLE.has(name)) continue
    if (seen?.has(name)) return name
    seen ??= new Set()
    seen.add(name)
  }
  return null
}
