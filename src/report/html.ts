import { printable } from '../base/printable.ts'

/** Text that is markup already. Everything else that gets into a page is escaped. */
export class Html {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
}

type Part = string | number | Html | readonly Html[] | null

/**
 * html`<b>${name}</b>`: every value but Html is attacker-controlled text and becomes visible characters (control characters and
 * bidirectional overrides too), safe in elements and in quoted attributes.
 */
export function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Html {
  return new Html(strings.reduce((done, string, index) => `${done}${markup(parts[index - 1] ?? null)}${string}`))
}

export const NOTHING = new Html('')

export function join(parts: readonly Html[]): Html {
  return new Html(parts.map(({ text }) => text).join(''))
}

function markup(part: Part): string {
  if (part === null) return ''
  if (part instanceof Html) return part.text
  if (typeof part === 'object') return part.map(({ text }) => text).join('')
  return escapeText(String(part))
}

const MAX_TEXT = 4000
const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', '\'': '&#39;', '`': '&#96;' }

function escapeText(text: string): string {
  return printable(text, MAX_TEXT).replace(/[&<>"'`]/g, (c) => ENTITIES[c] ?? '')
}
