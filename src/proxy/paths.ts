import { isPluginName, type PluginName } from '../base/ids.ts'

/**
 * The request target, judged before any rule looks at it (protocol section 12.1). We forward the path as it came, and the plugin's
 * server may normalise it once more (Bun's URL parser does); so whatever could mean another path after normalising is refused,
 * not repaired: dot and empty segments, backslashes, encoded separators, anything encoded twice, NUL, invalid UTF-8.
 */
export type Target =
  | { readonly kind: 'plugin'; readonly plugin: PluginName; readonly inner: Inner }
  /** Everything outside /api/x/NAME: the host's own routes. */
  | { readonly kind: 'host'; readonly path: string }
  | { readonly kind: 'bad'; readonly why: string }

/** A path below a plugin's prefix. */
export interface Inner {
  /** As it came, with its query; starts with `/`. What the plugin gets. */
  readonly target: string
  /** Decoded once, without query; for comparisons only. */
  readonly segments: readonly string[]
  /** The protocol's own doors (`/_events`, `/_temps/…`): the host may knock there, a caller never (section 12.2). */
  readonly reserved: boolean
}

const PREFIX = '/api/x/'
/** Visible ASCII; no fragment (never sent by a client), no backslash (a slash to WHATWG URL parsers). */
const TARGET = /^\/[!"$-[\]-~]*$/
/** Paths without any of these need no decoding. */
const PLAIN = /^[A-Za-z0-9\-_.~!$&'()*+,=:@/]*$/

/** @param url as on the request line, attacker-controlled; the absolute form (for forward proxies) is refused */
export function parseTarget(url: string): Target {
  if (!TARGET.test(url)) return bad('a target that is not an absolute path of visible ASCII')
  const question = url.indexOf('?')
  const path = question === -1 ? url : url.slice(0, question)
  const all = segmentsOf(path)
  if (typeof all === 'string') return bad(all)
  if (!path.startsWith(PREFIX)) return { kind: 'host', path }
  const end = path.indexOf('/', PREFIX.length)
  const name = end === -1 ? path.slice(PREFIX.length) : path.slice(PREFIX.length, end)
  const rest = end === -1 ? '/' : path.slice(end)
  // An encoded or reserved name is no plugin: it goes to the host's routes, which know it or answer 404.
  if (!isPluginName(name)) return { kind: 'host', path }
  const segments = all.slice(3)
  const target = rest + (question === -1 ? '' : url.slice(question))
  return { kind: 'plugin', plugin: name, inner: { target, segments, reserved: isReserved(segments[0] ?? '') } }
}

/** Does one of the public paths cover it? Whole segments: `/hooks/in` covers `/hooks/in/x`, not `/hooks/in-admin`. */
export function isPublic(inner: Inner, publicPaths: readonly string[]): boolean {
  return !inner.reserved && publicPaths.some((entry) => covers(entry, inner.segments))
}

function covers(entry: string, segments: readonly string[]): boolean {
  const want = entry.split('/').filter((part) => part !== '')
  // `/` would open every route; such an entry opens none.
  return want.length > 0 && want.every((part, at) => segments[at] === part)
}

/** @returns decoded segments without the leading slash, a trailing slash dropped; or why not */
function segmentsOf(path: string): readonly string[] | string {
  if (PLAIN.test(path)) return checkSegments(path)
  const once = decodeOnce(path)
  if (once === null) return 'a percent sign without two hex digits, or bytes that are not UTF-8'
  if (/%[0-9a-f]{2}/i.test(once)) return 'a character that is encoded twice'
  if (/[\u0000-\u001f\u007f\\]/.test(once)) return 'a control character or a backslash'
  if (slashes(once) !== slashes(path)) return 'an encoded slash'
  const segments = checkSegments(once)
  if (typeof segments === 'string') return segments
  // Fullwidth and other compatibility forms of dots and slashes become real ones in servers that fold (NFKC).
  const folded = once.normalize('NFKC')
  if (folded !== once) {
    if (slashes(folded) !== slashes(once) || folded.includes('\\')) return 'a character that folds into a separator'
    const again = checkSegments(folded)
    if (typeof again === 'string') return again
  }
  return segments
}

function checkSegments(decoded: string): readonly string[] | string {
  const segments = decoded.slice(1).split('/')
  if (segments.at(-1) === '') segments.pop()
  for (const segment of segments) {
    // Some servers cut path parameters off: `..;x` is `..` to them, and `;x` is nothing.
    const bare = cut(segment)
    if (bare === '') return 'an empty segment'
    if (bare === '.' || bare === '..') return 'a dot segment'
  }
  return segments
}

/** Wider than the letter of the rule: routers that ignore case, trim, fold or know path parameters see the same name here. */
function isReserved(first: string): boolean {
  // No underscore and nothing that could fold into one: almost every request.
  if (/^[A-Za-z0-9.~-]*$/.test(first)) return false
  const name = cut(first.normalize('NFKC')).trim().replace(/\.+$/, '').toLowerCase()
  return name === '_events' || name === '_temps'
}

function cut(segment: string): string {
  const at = segment.indexOf(';')
  return at === -1 ? segment : segment.slice(0, at)
}

function decodeOnce(text: string): string | null {
  try {
    return decodeURIComponent(text)
  } catch {
    return null // the one error of decodeURIComponent: malformed; the caller says so
  }
}

function slashes(text: string): number {
  return text.split('/').length
}

function bad(why: string): Target {
  return { kind: 'bad', why }
}
