import { clockText } from './amounts.ts'
import { html, join, NOTHING, type Html } from './html.ts'
import { POINTS, type Curve } from './usage.ts'

const WIDTH = 760
const LEFT = 4
const RIGHT = 4
const TOP = 16
const HEIGHT = 92
const AXIS = 16

export interface CurveText {
  readonly title: string
  /** Of the limit, as the policy calls it. */
  readonly limit: string
  readonly show: (value: number) => string
  readonly kills: readonly number[]
  readonly sinceMs: number
  readonly untilMs: number
}

/** One curve as inline SVG: what was used, the limit as a line, kills as marks. Drawn for paper too. */
export function curve({ values, limits }: Curve, { title, limit, show, kills, sinceMs, untilMs }: CurveText): Html {
  const seen = values.filter((value) => value !== null)
  const bounds = limits.filter((value) => value !== null)
  if (seen.length === 0) return html`<p class="none">${title}: no figures in this time.</p>`
  const peak = Math.max(...seen)
  const bound = bounds.length === 0 ? null : Math.max(...bounds)
  const top = Math.max(peak, bound ?? 0, 1) * 1.06
  const x = (point: number): number => LEFT + (point / POINTS) * (WIDTH - LEFT - RIGHT)
  const y = (value: number): number => TOP + HEIGHT * (1 - value / top)
  const xOf = (ms: number): number => x(((ms - sinceMs) / (untilMs - sinceMs)) * POINTS)
  const last = bounds.at(-1) ?? null
  const share = bound === null || bound === 0 ? '' : `, ${Math.round((peak / bound) * 100)}\u202f% of ${limit}`
  return html`<figure>
<figcaption><b>${title}</b> peak ${show(peak)}${share}</figcaption>
<svg viewBox="0 0 ${WIDTH} ${TOP + HEIGHT + AXIS}" role="img" aria-label="${title}, peak ${show(peak)}${share}">
<line class="base" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${r(TOP + HEIGHT)}" y2="${r(TOP + HEIGHT)}"/>
${join(ticks(sinceMs, untilMs).map(({ ms, text }) => html`<line class="tick" x1="${r(xOf(ms))}" x2="${r(xOf(ms))}" y1="${TOP}" y2="${TOP + HEIGHT}"/><text class="axis" x="${r(xOf(ms))}" y="${TOP + HEIGHT + 12}" text-anchor="middle">${text}</text>`))}
${join(stretches(values).map((part) => html`<path class="area" d="${area(part, x, y, TOP + HEIGHT)}"/><path class="line" d="${line(part, x, y)}"/>`))}
${last === null ? NOTHING : html`${join(steps(limits).map(({ from, to, value }) => html`<line class="limit" x1="${r(x(from))}" x2="${r(x(to))}" y1="${r(y(value))}" y2="${r(y(value))}"/>`))}<text class="limit" x="${WIDTH - RIGHT}" y="${r(y(last) - 4)}" text-anchor="end">${limit} ${show(last)}</text>`}
${join(kills.map((ms) => html`<line class="kill" x1="${r(xOf(ms))}" x2="${r(xOf(ms))}" y1="${TOP - 3}" y2="${TOP + HEIGHT}"/>`))}${join(clusters(kills.map(xOf)).map(({ at, count }) => html`<text class="kill" x="${r(at)}" y="${TOP - 6}" text-anchor="${at > WIDTH - 60 ? 'end' : at < 60 ? 'start' : 'middle'}">killed${count === 1 ? '' : ` ×\u202f${count}`}</text>`))}
</svg></figure>`
}

/** Marks so close together that their words would lie on one another get one word. */
function clusters(at: readonly number[]): { at: number; count: number }[] {
  const found: { at: number; count: number; last: number }[] = []
  for (const x of [...at].sort((a, b) => a - b)) {
    const near = found.at(-1)
    if (near === undefined || x - near.last > 60) found.push({ at: x, count: 1, last: x })
    else {
      near.at = (near.at * near.count + x) / (near.count + 1)
      near.count += 1
      near.last = x
    }
  }
  return found
}

interface Point { readonly at: number; readonly value: number }

/** Points that belong to one line: a snapshot comes every minute or so, and a longer pause is a pause. */
function stretches(values: readonly (number | null)[]): Point[][] {
  const parts: Point[][] = []
  const gap = Math.max(3, Math.ceil(longestUsualGap(values) * 1.5))
  for (const [at, value] of values.entries()) {
    if (value === null) continue
    const part = parts.at(-1)
    const before = part?.at(-1)
    if (part !== undefined && before !== undefined && at - before.at <= gap) part.push({ at, value })
    else parts.push([{ at, value }])
  }
  return parts
}

/** In a short report the points lie far apart: the middle distance between two of them, in points. */
function longestUsualGap(values: readonly (number | null)[]): number {
  const at = values.flatMap((value, index) => (value === null ? [] : [index]))
  const gaps = at.slice(1).map((index, n) => index - (at[n] ?? index)).sort((a, b) => a - b)
  return gaps[Math.floor(gaps.length / 2)] ?? 1
}

function line(part: readonly Point[], x: (at: number) => number, y: (value: number) => number): string {
  const [only] = part
  if (part.length === 1 && only !== undefined) return `M${r(x(only.at) - 1)} ${r(y(only.value))}h2`
  return part.map(({ at, value }, index) => `${index === 0 ? 'M' : 'L'}${r(x(at))} ${r(y(value))}`).join('')
}

function area(part: readonly Point[], x: (at: number) => number, y: (value: number) => number, base: number): string {
  const [first, last] = [part[0], part.at(-1)]
  if (first === undefined || last === undefined || part.length === 1) return ''
  return `${line(part, x, y)}L${r(x(last.at))} ${r(base)}L${r(x(first.at))} ${r(base)}Z`
}

/** The limit as horizontal pieces; between two snapshots it is what it was. */
function steps(limits: readonly (number | null)[]): { from: number; to: number; value: number }[] {
  const parts: { from: number; to: number; value: number }[] = []
  let from = 0
  for (const [at, value] of limits.entries()) {
    if (value === null) continue
    const part = parts.at(-1)
    if (part !== undefined && part.value === value) part.to = at + 1
    else parts.push({ from: part?.to ?? from, to: at + 1, value })
    from = at
  }
  const last = parts.at(-1)
  if (last !== undefined) last.to = POINTS
  return parts
}

const STEPS_MIN = [1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 10_080]

function ticks(sinceMs: number, untilMs: number): { ms: number; text: string }[] {
  const minutes = STEPS_MIN.find((step) => (untilMs - sinceMs) / (step * 60_000) <= 9) ?? 43_200
  const step = minutes * 60_000
  const margin = (untilMs - sinceMs) * 0.03
  const found = []
  for (let ms = Math.ceil((sinceMs + margin) / step) * step; ms <= untilMs - margin; ms += step) found.push({ ms, text: minutes >= 1440 ? new Date(ms).toISOString().slice(5, 10) : clockText(ms).slice(0, 5) })
  return found
}

function r(value: number): string {
  return String(Math.round(value * 10) / 10)
}
