import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import type { ArgumentStyle } from '../plan/compile.ts'

/** Digests kept; the oldest goes first. A forgotten one only costs two more starts. */
const MAX_ENTRIES = 1000

/** Which argument style a program turned out to need, by its digest, remembered only after it ran. */
export interface Generations {
  recall(sha256: string): ArgumentStyle | null
  remember(sha256: string, style: ArgumentStyle): void
}

export function openGenerations(path: string, log: (message: string) => void): Generations {
  const known = new Map<string, ArgumentStyle>()
  try {
    for (const [sha256, style] of Object.entries(JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>)) {
      if (/^[0-9a-f]{64}$/.test(sha256) && (style === '2' || style === '1' || style === '1db')) known.set(sha256, style)
    }
  } catch {
    // absent at first start; unreadable is as good as absent, since it is found out again
  }
  return {
    recall: (sha256) => known.get(sha256) ?? null,
    remember(sha256, style) {
      if (known.get(sha256) === style) return
      known.set(sha256, style)
      for (const oldest of known.keys()) if (known.size > MAX_ENTRIES) known.delete(oldest)
      try {
        writeFileSync(`${path}.new`, JSON.stringify(Object.fromEntries(known)), { mode: 0o600 })
        renameSync(`${path}.new`, path)
      } catch (error) {
        log(`the generation of a plugin could not be remembered: ${String(error)}`)
      }
    },
  }
}
