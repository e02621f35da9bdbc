import { printableWithin } from '../base/printable.ts'
import { columnsOf, cutTo, padTo, takeColumns } from './columns.ts'
import type { CommandIo } from './io.ts'

const WIDTH = 80
const LEAST = 6

/**
 * A table of at most 80 columns: the widest columns give way first, cut cells end in "…". `--json` has everything in full.
 * @param rows cells may hold untrusted text
 */
export function formatTable(head: readonly string[], rows: readonly (readonly string[])[], width = WIDTH): string[] {
  const cells = [head, ...rows].map((row) => head.map((_, column) => printableWithin(row[column] ?? '', 200)))
  const widths = head.map((_, column) => Math.max(...cells.map((row) => columnsOf(row[column] ?? ''))))
  const room = width - 2 * (head.length - 1)
  for (let over = sum(widths) - room; over > 0; over--) {
    const widest = widths.indexOf(Math.max(...widths))
    if ((widths[widest] ?? 0) <= LEAST) break
    widths[widest] = (widths[widest] ?? 0) - 1
  }
  return cells.map((row) => row.map((cell, column) => padTo(cutTo(cell, widths[column] ?? 0), widths[column] ?? 0)).join('  ').trimEnd())
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, one) => total + one, 0)
}

/** Text broken at blanks to at most `width` columns, continued lines indented. Blanks at its beginning stay. */
export function wrap(text: string, width = WIDTH, indent = ''): string[] {
  const lines: string[] = []
  let line: string | null = null
  for (const word of text.split(' ')) {
    if (line !== null && line.trim() !== '' && columnsOf(line) + 1 + columnsOf(word) > width) {
      lines.push(line)
      line = indent + word
    } else {
      line = line === null ? word : `${line} ${word}`
    }
  }
  return line === null ? lines : [...lines, line]
}

/**
 * Sentences for whoever reads them: broken at 80 columns on a terminal, left whole for a program.
 * @param indent of what is continued
 */
export function prose({ terminal = false }: Pick<CommandIo, 'terminal'>, line: string, indent = '  '): string[] {
  return terminal ? wrap(line, WIDTH, indent).flatMap((piece) => pieces(piece, indent)) : [line]
}

/** A word without blanks that is longer than a line, as JSON is. */
function pieces(line: string, indent: string): string[] {
  if (columnsOf(line) <= WIDTH) return [line]
  const head = takeColumns(line, WIDTH)
  return [head, ...pieces(indent + line.slice(head.length), indent)]
}
