import { isSafeMethod } from '../access/origins.ts'
import { printable, printableWithin } from '../base/printable.ts'
import type { GatewayEvent } from '../wire/events.ts'

const PERIOD_MS = 60_000
/** Callers remembered per period; further ones share a row per reason. */
const DENIED_ROWS_MAX = 256
const GRANTED_ROWS_MAX = 256
const GRANTED_AGAIN_MS = 12 * 60 * 60_000

export interface RequestSeen {
  /** '' for the host's own API. */
  readonly plugin: string
  readonly method: string
  /** Without the query, which may hold secrets. */
  readonly path: string
  readonly query: string | null
  readonly status: number
  readonly ms: number
  readonly bytesIn: number
  readonly bytesOut: number
  readonly client: string
  readonly who: string
  readonly requestId: string
  /** Let in by a public path alone. */
  readonly anonymous: boolean
}

/** What the front puts on record: writing and public requests one by one, the rest as counts, refusals coalesced. */
export class Ledger {
  readonly #record: (event: GatewayEvent) => void
  readonly #now: () => number
  readonly #counts = new Map<string, { requests: number; failed: number }>()
  readonly #denied = new Map<string, { path: string; client: string; reason: string; more: number }>()
  readonly #granted = new Map<string, number>()
  #timer: NodeJS.Timeout | null = null

  constructor(record: (event: GatewayEvent) => void, now: () => number) {
    this.#record = record
    this.#now = now
  }

  start(): void {
    this.#timer ??= setInterval(() => this.flush(), PERIOD_MS).unref()
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#timer = null
    this.flush()
  }

  request(seen: RequestSeen): void {
    if (seen.anonymous || !isSafeMethod(seen.method)) {
      const { anonymous: _, ...rest } = seen
      this.#record({ type: 'http.request', ...rest, method: printable(seen.method, 15), path: printable(seen.path, 500), query: seen.query === null ? null : printableWithin(seen.query, 2048), client: printable(seen.client, 60), ms: Math.max(0, Math.round(seen.ms)) })
      return
    }
    const row = this.#counts.get(seen.plugin)
    const failed = seen.status >= 500 ? 1 : 0
    if (row === undefined) this.#counts.set(seen.plugin, { requests: 1, failed })
    else {
      row.requests++
      row.failed += failed
    }
  }

  /** The first of a kind at once; repeats within the period as one record that says how many. */
  denied(path: string, client: string, reason: string): void {
    const known = this.#denied.get(`${client} ${reason}`)
    const key = known !== undefined || this.#denied.size < DENIED_ROWS_MAX ? `${client} ${reason}` : `* ${reason}`
    const row = known ?? this.#denied.get(key)
    const safePath = printable(path, 500)
    if (row !== undefined) {
      row.more++
      row.path = safePath
      return
    }
    const fresh = { path: safePath, client: printable(key.startsWith('* ') ? '*' : client, 60), reason, more: 0 }
    this.#denied.set(key, fresh)
    this.#record({ type: 'access.denied', path: fresh.path, client: fresh.client, reason, coalesced: 0 })
  }

  /** A token is used with every request: on record once per address and plugin in twelve hours. */
  granted(plugin: string, client: string, how: 'one-time-link' | 'token'): void {
    if (how === 'token') {
      const key = `${client} ${plugin}`
      const last = this.#granted.get(key)
      if (last !== undefined && this.#now() - last < GRANTED_AGAIN_MS) return
      this.#granted.delete(key)
      this.#granted.set(key, this.#now())
      if (this.#granted.size > GRANTED_ROWS_MAX) for (const oldest of this.#granted.keys()) { this.#granted.delete(oldest); break }
    }
    this.#record({ type: 'access.granted', plugin, client: printable(client, 60), how })
  }

  flush(): void {
    for (const [plugin, row] of this.#counts) this.#record({ type: 'http.count', plugin, ...row })
    this.#counts.clear()
    for (const row of this.#denied.values()) {
      if (row.more > 0) this.#record({ type: 'access.denied', path: row.path, client: row.client, reason: row.reason, coalesced: row.more })
    }
    this.#denied.clear()
  }
}
