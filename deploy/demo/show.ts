import { printable } from '../../src/base/printable.ts'

/** A terminal that does not know its size says 0. */
const WIDTH = Math.min(80, Math.max(40, process.stdout.columns || 80))
const COLOURED = process.stdout.isTTY === true && process.env['NO_COLOR'] === undefined
const SLOW_MS = 2000
const CELL_MAX = 400

type Cell = string | { readonly good: string } | { readonly bad: string }

export function line(text: string): void {
  process.stdout.write(`${text}\n`)
}

export function heading(text: string): void {
  line(`\n${paint(text, '1')}`)
}

export function subheading(text: string): void {
  line(paint(` ${text}`, '36'))
}

/** Each line of the text, wrapped at the width and indented; foreign text is made printable first. */
export function wrapped(text: string): void {
  for (const part of text.trimEnd().split('\n')) {
    const own = /^ */.exec(part)?.[0].length ?? 0
    for (const piece of wrap(printable(part.trim(), 2000), Math.max(20, WIDTH - 2 - own))) line(`  ${' '.repeat(own)}${piece}`)
  }
}

/** Columns as wide as they need to be; the last one wraps, except links, which must stay whole to be clicked. */
export function table(rows: readonly (readonly Cell[])[]): void {
  const shown = rows.map((row) => row.map((cell) => printable(textOf(cell), CELL_MAX)))
  const columns = Math.max(0, ...shown.map((row) => row.length))
  const widths = Array.from({ length: columns }, (_none, index) => Math.min(32, Math.max(...shown.map((row) => row[index]?.length ?? 0))))
  const before = widths.slice(0, -1).reduce((sum, width) => sum + width + 2, 2)
  for (const [number, row] of shown.entries()) {
    const first = row.slice(0, -1).map((text, index) => painted(text.padEnd(widths[index] ?? 0), rows[number]?.[index]))
    const last = row.at(-1) ?? ''
    const pieces = last.includes('://') ? [last] : wrap(last, Math.max(20, WIDTH - before))
    line(`  ${[...first, pieces[0] ?? ''].join('  ')}`.trimEnd())
    for (const more of pieces.slice(1)) line(`${' '.repeat(before)}${more}`)
  }
}

/** Says what takes longer than two seconds, and how long it took. */
export async function progress<T>(what: string, work: Promise<T>): Promise<T> {
  const start = performance.now()
  let said = false
  const timer = setTimeout(() => {
    said = true
    line(`${what} …`)
  }, SLOW_MS)
  try {
    const result = await work
    if (said) line(`${what}: done in ${((performance.now() - start) / 1000).toFixed(1)} s`)
    return result
  } finally {
    clearTimeout(timer)
  }
}

/** @param width at least 1 */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = []
  let rest = text
  while (rest.length > width) {
    const space = rest.lastIndexOf(' ', width)
    const cut = space > 0 ? space : width
    lines.push(rest.slice(0, cut))
    rest = rest.slice(cut).trimStart()
  }
  return [...lines, rest]
}

function textOf(cell: Cell): string {
  if (typeof cell === 'string') return cell
  return 'good' in cell ? cell.good : cell.bad
}

function painted(text: string, cell: Cell | undefined): string {
  if (cell === undefined || typeof cell === 'string') return text
  return paint(text, 'good' in cell ? '32' : '1;31')
}

function paint(text: string, code: string): string {
  return COLOURED ? `\x1b[${code}m${text}\x1b[0m` : text
}
