import { printableWithin } from '../base/printable.ts'

const WIDTH = 80
const LEAST = 6

/**
 * A table of at most 80 columns: the widest columns give way first, cut cells end in "…". `--json` has everything in full.
 * @param rows cells may hold untrusted text
 */
export function formatTable(head: readonly string[], rows: readonly (readonly string[])[], width = WIDTH): string[] {
  const cells = [head, ...rows].map((row) => head.map((_, column) => printableWithin(row[column] ?? '', 200)))
  const widths = head.map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)))
  const room = width - 2 * (head.length - 1)
  for (let over = sum(widths) - room; over > 0; over--) {
    const widest = widths.indexOf(Math.max(...widths))
    if ((widths[widest] ?? 0) <= LEAST) break
    widths[widest] = (widths[widest] ?? 0) - 1
  }
  return cells.map((row) => row.map((cell, column) => fit(cell, widths[column] ?? 0)).join('  ').trimEnd())
}

function fit(text: string, width: number): string {
  return (text.length <= width ? text : `${text.slice(0, Math.max(0, width - 1))}…`).padEnd(width)
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, one) => total + one, 0)
}

/** Text broken at blanks to at most `width` columns, continued lines indented. Blanks at its beginning stay. */
export function wrap(text: string, width = WIDTH, indent = ''): string[] {
  const lines: string[] = []
  let line: string | null = null
  for (const word of text.split(' ')) {
    if (line !== null && line.trim() !== '' && line.length + 1 + word.length > width) {
      lines.push(line)
      line = indent + word
    } else {
      line = line === null ? word : `${line} ${word}`
    }
  }
  return line === null ? lines : [...lines, line]
}
