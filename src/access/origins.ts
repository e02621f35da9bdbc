import type { IncomingHttpHeaders } from 'node:http'
import { isPluginName, type PluginName } from '../base/ids.ts'

/**
 * Which of our origins a request is for. A plugin's bytes come only from its own host name: script on the console's
 * origin would be admin, whatever cookies or tokens guard it (same origin passes HttpOnly, SameSite and CSRF checks).
 */
export type Site = { readonly kind: 'console' } | { readonly kind: 'plugin'; readonly plugin: PluginName } | { readonly kind: 'other' }

const SUFFIX = '.localhost'
const CONSOLE: Site = { kind: 'console' }
const OTHER: Site = { kind: 'other' }

/**
 * @param host the Host header, attacker-controlled (DNS rebinding shows itself here); compared exactly, apart from case
 * @param port where we listen; only for port 80 may it be left out
 */
export function siteOf(host: string | undefined, port: number): Site {
  if (host === undefined) return OTHER
  const name = hostName(host.toLowerCase(), port)
  if (name === null) return OTHER
  if (name === 'localhost' || name === '127.0.0.1' || name === '[::1]') return CONSOLE
  if (!name.endsWith(SUFFIX)) return OTHER
  const plugin = name.slice(0, -SUFFIX.length)
  return isPluginName(plugin) ? { kind: 'plugin', plugin } : OTHER
}

function hostName(host: string, port: number): string | null {
  const tail = `:${port}`
  if (host.endsWith(tail)) return host.slice(0, -tail.length)
  return port === 80 && !/:\d*$/.test(host) ? host : null
}

export function pluginOrigin(plugin: PluginName, port: number): string {
  return `http://${plugin}${SUFFIX}${port === 80 ? '' : `:${port}`}`
}

/** The only pages that may frame a plugin's page, apart from itself. CSP has no syntax for [::1]. */
export function consoleOrigins(port: number): readonly string[] {
  const tail = port === 80 ? '' : `:${port}`
  return [`http://localhost${tail}`, `http://127.0.0.1${tail}`]
}

/** A browser on its way to a page. Older browsers send no Sec-Fetch headers; there a GET for HTML counts. */
export function isNavigation(method: string, headers: IncomingHttpHeaders): boolean {
  const mode = headers['sec-fetch-mode']
  if (mode !== undefined) return mode === 'navigate'
  return (method === 'GET' || method === 'HEAD') && (headers.accept ?? '').includes('text/html')
}

/** Methods without effect (RFC 9110, 9.2.1); everything else counts as writing. */
export function isSafeMethod(method: string): boolean {
  return method === 'GET' || method === 'HEAD' || method === 'OPTIONS'
}

/**
 * May this request use the session of a plugin's origin? Browsers attach the cookie to what sibling plugins send as well
 * (they are same-site under a shared domain, and SameSite=None when framed), so the cookie alone says nothing about who asks.
 * - Sec-Fetch-Site says same-origin or none (typed, bookmarked): yes, unless Origin contradicts.
 * - It says otherwise: only a GET navigation of a window or frame; a stranger cannot read it, and who may frame it CSP says.
 * - It is absent (old browser, no browser): Origin must be ours exactly; only safe methods may come without one.
 */
export function maySpendSession(method: string, headers: IncomingHttpHeaders, own: string): boolean {
  const { origin } = headers
  const site = headers['sec-fetch-site']
  const safe = isSafeMethod(method)
  if (site === 'same-origin' || site === 'none') {
    // `null` is what a same-origin form sends under a strict referrer policy of the page.
    return origin === undefined || origin === own || origin === 'null'
  }
  if (site !== undefined) {
    const dest = headers['sec-fetch-dest']
    return method === 'GET' && headers['sec-fetch-mode'] === 'navigate' && (dest === 'document' || dest === 'iframe' || dest === 'frame')
  }
  return origin === undefined ? safe : origin === own
}
