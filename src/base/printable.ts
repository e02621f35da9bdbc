/**
 * Make untrusted text safe to print on a terminal, in a log line or in an error: every control character, bidirectional
 * override and lone surrogate becomes a visible \xNN or \u{NNNN} escape, and the length is capped.
 * @param text attacker-controlled
 * @param max  characters kept; a longer text ends in "…"
 */
export function printable(text: string, max = 200): string {
  const cut = text.length > max ? text.slice(0, max) : text
  const safe = cut.replace(UNSAFE, (c) => {
    const point = c.codePointAt(0) ?? 0
    return point < 0x100 ? `\\x${point.toString(16).padStart(2, '0')}` : `\\u{${point.toString(16)}}`
  })
  return text.length > max ? `${safe}…` : safe
}

// C0, DEL, C1; zero-width and bidirectional controls (CVE-2021-42574 "Trojan Source"); line and paragraph separators;
// byte order mark; lone surrogates.
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]|\p{Surrogate}/gu

/** As `printable`, and never longer than `max` after escaping: for fields with a fixed size (records, wire messages). */
export function printableWithin(text: string, max: number): string {
  return printable(text, max).slice(0, max).replace(/[\ud800-\udbff]$/, '')
}
