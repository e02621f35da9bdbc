import type { LogRecord } from '../history/fields.ts'
import { number, where } from './describe.ts'

export interface Destination {
  readonly plugin: string
  /** `api.example.org:443`, or a name alone that was only asked for. */
  readonly where: string
  /** The name or address, to look for it in older records. */
  readonly host: string
  readonly firstMs: number
  lastMs: number
  connections: number
  bytesOut: number
  bytesIn: number
  refused: number
  /** Why, most frequent first. */
  readonly codes: Map<string, number>
  /** When the plugin first had to do with it, as far back as the log goes; null: not looked for. */
  everFirstMs: number | null
}

/** In no older record of the log. */
export function isNew({ everFirstMs, firstMs }: Destination): boolean {
  return everFirstMs !== null && everFirstMs >= firstMs
}

const MAX_DESTINATIONS = 5000

/** Where data went, or would have gone. */
export class Destinations {
  readonly #all = new Map<string, Destination>()
  /** Refusals and connections of destinations beyond MAX_DESTINATIONS. */
  leftOut = 0

  get all(): readonly Destination[] {
    return [...this.#all.values()]
  }

  add({ type, plugin, data }: LogRecord, ms: number): void {
    if (plugin === null) return
    if (type === 'egress.attempted') {
      const attempts = data['attempts']
      for (const one of Array.isArray(attempts) ? attempts : []) if (isAttempt(one)) this.#refuse(plugin, one.destination, bare(one.destination), 'second-wall', one.count, ms)
      return
    }
    const host = typeof data['name'] === 'string' ? data['name'] : typeof data['dialled'] === 'string' ? data['dialled'] : null
    if (host === null) return
    if (type === 'egress.refused' || type === 'dns.refused') return this.#refuse(plugin, where(data), host, typeof data['code'] === 'string' ? data['code'] : '?', 1 + number(data, 'coalesced') - number(data, 'others'), ms)
    if (type !== 'egress.opened' && type !== 'egress.closed') return
    const destination = this.#of(plugin, where(data), host, ms)
    if (destination === null) return
    if (type === 'egress.opened') destination.connections += 1
    destination.bytesOut += number(data, 'bytesOut')
    destination.bytesIn += number(data, 'bytesIn')
  }

  #refuse(plugin: string, text: string, host: string, code: string, times: number, ms: number): void {
    const destination = this.#of(plugin, text, host, ms)
    if (destination === null) return
    destination.refused += times
    destination.codes.set(code, (destination.codes.get(code) ?? 0) + times)
  }

  #of(plugin: string, text: string, host: string, ms: number): Destination | null {
    const key = JSON.stringify([plugin, text])
    const known = this.#all.get(key)
    if (known !== undefined) {
      known.lastMs = Math.max(known.lastMs, ms)
      return known
    }
    if (this.#all.size >= MAX_DESTINATIONS) {
      this.leftOut += 1
      return null
    }
    const destination: Destination = { plugin, where: text, host, firstMs: ms, lastMs: ms, connections: 0, bytesOut: 0, bytesIn: 0, refused: 0, codes: new Map(), everFirstMs: null }
    this.#all.set(key, destination)
    return destination
  }
}

function isAttempt(value: unknown): value is { readonly destination: string; readonly count: number } {
  return typeof value === 'object' && value !== null && 'destination' in value && typeof value.destination === 'string' && 'count' in value && typeof value.count === 'number'
}

/** `tcp [2001:db8::1]:443` without protocol and port. */
function bare(destination: string): string {
  return destination.slice(destination.lastIndexOf(' ') + 1).replace(/:[0-9]{1,5}$/, '').replace(/^\[(.*)\]$/, '$1')
}
