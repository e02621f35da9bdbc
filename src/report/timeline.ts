import type { Told, Tone } from './describe.ts'

/** One line of what happened, in the order in which it began. */
export interface Row {
  readonly firstMs: number
  lastMs: number
  readonly seq: number
  readonly plugin: string | null
  readonly text: string
  readonly tone: Tone
  times: number
  /** Different objects, the first of them by name; `more` stops growing at MAX_OBJECTS. */
  readonly objects: string[]
  more: number
}

/** A person reads some hundred lines; beyond this many only milestones are kept, and then nothing. */
const MAX_ROWS = 1500
const MAX_MILESTONES = 1000
const SHOWN_OBJECTS = 4
/** Destinations with a row of their own between two milestones. */
const MAX_APART = 20
/** Objects that are told apart within one row; a plugin can invent names without end. */
const MAX_OBJECTS = 500
/** What comes again within this time belongs to the same row. */
const AGAIN_MS = 10 * 60_000
/** A crash loop repeats its milestones: start, end, failure. Looked for among so many rows back. */
const LOOP = 6

/** What happened, with repeats gathered into one row as long as nothing new came between them. */
export class Timeline {
  readonly rows: Row[] = []
  /** Records that found no row of their own. */
  leftOut = 0
  readonly #milestones: Row[] = []
  #apart = 0
  #gathered = new Map<string, { row: Row; objects: Set<string> }>()

  add(ms: number, seq: number, plugin: string | null, told: Told): void {
    const { text, object, tone, milestone, times, apart } = told
    if (milestone) {
      const again = this.#milestones.slice(-LOOP).findLast((row) => row.text === text && row.plugin === plugin && ms - row.lastMs <= AGAIN_MS)
      if (again !== undefined) return extend(again, ms, times, object, null)
      this.#gathered = new Map()
      this.#apart = 0
      if (this.#milestones.length >= MAX_MILESTONES) return void (this.leftOut += 1)
      this.#milestones.push(this.#begin(ms, seq, plugin, text, tone, times, object))
      return
    }
    const together = JSON.stringify([plugin, text])
    const alone = apart === true && object !== null ? JSON.stringify([plugin, text, object]) : together
    const key = this.#gathered.has(alone) || this.#apart < MAX_APART ? alone : together
    if (key !== together && !this.#gathered.has(key)) this.#apart += 1
    const known = this.#gathered.get(key)
    if (known !== undefined && ms - known.row.lastMs <= AGAIN_MS) return extend(known.row, ms, times, object, known.objects)
    if (this.rows.length >= MAX_ROWS) return void (this.leftOut += 1)
    this.#gathered.set(key, { row: this.#begin(ms, seq, plugin, text, tone, times, object), objects: new Set(object === null ? [] : [object]) })
  }

  #begin(ms: number, seq: number, plugin: string | null, text: string, tone: Tone, times: number, object: string | null): Row {
    const row: Row = { firstMs: ms, lastMs: ms, seq, plugin, text, tone, times, objects: object === null ? [] : [object], more: 0 }
    this.rows.push(row)
    return row
  }
}

function extend(row: Row, ms: number, times: number, object: string | null, objects: Set<string> | null): void {
  row.lastMs = Math.max(row.lastMs, ms)
  row.times += times
  if (object === null || row.objects.includes(object) || objects?.has(object) === true || objects?.size === MAX_OBJECTS) return
  if (row.objects.length < SHOWN_OBJECTS) row.objects.push(object)
  else row.more += 1
  objects?.add(object)
}
