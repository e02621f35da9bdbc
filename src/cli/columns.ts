/** Two columns each on terminals: wide and fullwidth of UAX #11, as far as scripts and pictures in use go. */
const WIDE = /[\u1100-\u115f\u2e80-\u303e\u3041-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\ua960-\ua97c\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{16fe0}-\u{18cff}\u{1aff0}-\u{1b2ff}\u{20000}-\u{3fffd}]|\p{Emoji_Presentation}/u
/** None: they sit on what comes before. */
const ON_TOP = /[\p{Mn}\p{Me}]/u
const PLAIN = /^[ -~]*$/

/** How many columns of a terminal a printable text takes. */
export function columnsOf(text: string): number {
  if (PLAIN.test(text)) return text.length
  let columns = 0
  for (const character of text) columns += columnsOfOne(character)
  return columns
}

/** @param text printable @returns at most `width` columns of it; what was cut ends in "…" */
export function cutTo(text: string, width: number): string {
  if (columnsOf(text) <= width) return text
  return width < 1 ? '' : `${takeColumns(text, width - 1)}…`
}

/** The beginning of a printable text, at most so many columns of it. */
export function takeColumns(text: string, width: number): string {
  let kept = ''
  let columns = 0
  for (const character of text) {
    columns += columnsOfOne(character)
    if (columns > width) break
    kept += character
  }
  return kept
}

/** @returns exactly `width` columns, blanks behind the text */
export function padTo(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - columnsOf(text)))
}

function columnsOfOne(character: string): number {
  return ON_TOP.test(character) ? 0 : WIDE.test(character) ? 2 : 1
}
