import { hash, randomBytes } from 'node:crypto'
import type { PluginName } from '../base/ids.ts'

/** A link is followed at once or never. */
const LINK_LIFE_MS = 5 * 60_000
const SESSION_LIFE_MS = 12 * 60 * 60_000
/** Oldest go first; a human does not have more open. */
const LINKS_MAX = 64
const SESSIONS_MAX = 256
/** A page can plant more cookies of our name (cookie tossing); so many are looked at. */
const COOKIES_LOOKED_AT = 4

/** Secrets of 256 bits, each good for one plugin until a time. Only digests are kept, so a memory dump opens nothing. */
class Secrets {
  readonly #byDigest = new Map<string, { readonly plugin: PluginName; readonly until: number }>()
  readonly #life: number
  readonly #max: number

  constructor(lifeMs: number, max: number) {
    this.#life = lifeMs
    this.#max = max
  }

  issue(plugin: PluginName, now: number): string {
    const secret = randomBytes(32).toString('base64url')
    this.#byDigest.set(hash('sha256', secret), { plugin, until: now + this.#life })
    if (this.#byDigest.size > this.#max) for (const oldest of this.#byDigest.keys()) { this.#byDigest.delete(oldest); break }
    return secret
  }

  /** @param secret attacker-controlled; looked up by digest, so timing tells nothing about stored ones */
  holds(secret: string, plugin: PluginName, now: number): boolean {
    if (secret.length !== 43) return false
    const entry = this.#byDigest.get(hash('sha256', secret))
    return entry !== undefined && entry.plugin === plugin && entry.until > now
  }

  spend(secret: string, plugin: PluginName, now: number): boolean {
    return this.holds(secret, plugin, now) && this.#byDigest.delete(hash('sha256', secret))
  }
}

/**
 * Browser access to one plugin: a one-time link becomes a cookie. Cookies know no ports, hence ours in the name, or two
 * instances on one machine would log each other out. Another server on a different port of the same name would be sent
 * the cookie too: that is how cookies are (RFC 6265, 8.5), and why a session opens one plugin only and ends after 12 h.
 */
export class Sessions {
  readonly #links = new Secrets(LINK_LIFE_MS, LINKS_MAX)
  readonly #sessions = new Secrets(SESSION_LIFE_MS, SESSIONS_MAX)

  mintLink(plugin: PluginName, now: number): string {
    return this.#links.issue(plugin, now)
  }

  /**
   * Trade a link's token for a Set-Cookie value, or null when it is spent, expired, another plugin's or invented.
   * Host-only (no Domain) and HttpOnly always. In a window: SameSite=Strict. In a frame of the console the two host names are
   * different sites, and Chromium sends only `SameSite=None; Secure; Partitioned` cookies there (localhost counts as
   * secure). Partitioned binds it to the console as top-level page; against siblings in that page `maySpendSession` stands.
   */
  open(link: string, plugin: PluginName, port: number, framed: boolean, now: number): string | null {
    if (!this.#links.spend(link, plugin, now)) return null
    const session = this.#sessions.issue(plugin, now)
    const rules = framed ? 'SameSite=None; Secure; Partitioned' : 'SameSite=Strict'
    return `${cookieName(port)}=${session}; Path=/; Max-Age=${SESSION_LIFE_MS / 1000}; HttpOnly; ${rules}`
  }

  /** @param cookie the Cookie header, attacker-controlled */
  accepts(cookie: string | undefined, plugin: PluginName, port: number, now: number): boolean {
    if (cookie === undefined) return false
    const start = `${cookieName(port)}=`
    let looked = 0
    for (const part of cookie.split(';')) {
      const pair = part.trim()
      if (!pair.startsWith(start)) continue
      if (this.#sessions.holds(pair.slice(start.length), plugin, now)) return true
      if (++looked === COOKIES_LOOKED_AT) return false
    }
    return false
  }
}

function cookieName(port: number): string {
  return `cordon_${port}`
}
