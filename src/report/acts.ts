import type { LogRecord } from '../history/fields.ts'
import { tell, word } from './describe.ts'

/** One thing that a person, or somebody in their name, did. */
export interface Act {
  readonly firstMs: number
  lastMs: number
  readonly who: string
  readonly plugin: string | null
  readonly what: string
  times: number
}

const MAX_ACTS = 1000

/** Who did what: acts of operators one by one, requests by who made them. */
export class Acts {
  readonly #all = new Map<string, Act>()
  leftOut = 0

  get all(): readonly Act[] {
    return [...this.#all.values()]
  }

  add(record: LogRecord, ms: number): void {
    const { type, plugin, seq, data } = record
    if (type === 'http.request') this.#count(JSON.stringify([plugin, data['who'], data['client'], data['method']]), ms, `${word(data, 'who')} from ${word(data, 'client')}`, plugin, `${word(data, 'method')} requests`)
    else if (type === 'access.granted') this.#count(JSON.stringify([plugin, data['client'], data['how']]), ms, `bearer of a ${data['how'] === 'token' ? 'token' : 'one-time link'} from ${word(data, 'client')}`, plugin, 'was let in')
    else if (typeof data['who'] === 'string' && data['who'] !== '') this.#count(String(seq), ms, data['who_verified'] === false ? `${data['who']} (by its own word)` : data['who'], plugin, (tell(record)?.text ?? type).replace(/,? (?:asked )?by .*$/, ''))
  }

  #count(key: string, ms: number, who: string, plugin: string | null, what: string): void {
    const known = this.#all.get(key)
    if (known !== undefined) {
      known.times += 1
      known.lastMs = ms
    } else if (this.#all.size >= MAX_ACTS) {
      this.leftOut += 1
    } else {
      this.#all.set(key, { firstMs: ms, lastMs: ms, who, plugin, what, times: 1 })
    }
  }
}
