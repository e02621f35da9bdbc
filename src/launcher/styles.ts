import type { ArgumentStyle } from '../plan/compile.ts'
import type { Outcome } from './outcome.ts'

const IN_WORDS: Readonly<Record<ArgumentStyle, string>> = { '2': 'generation 2', '1': 'generation 1', '1db': 'generation 1 with a database' }

/**
 * Generation 2 first, so that no secret of one shows in a process list; older ones exit without a byte (protocol section 6).
 * @param known the style that this program understood before; null: none is known
 * @param run one run; `silent`: it ended without a byte, so it may understand another style
 * @param goesOn asked between runs: is it still to be tried?
 */
export async function tryStyles(known: ArgumentStyle | null, run: (style: ArgumentStyle) => Promise<{ readonly outcome: Outcome; readonly silent: boolean }>, goesOn: () => boolean): Promise<Outcome> {
  const attempts: string[] = []
  for (const style of known === null ? (['2', '1', '1db'] as const) : [known]) {
    const { outcome, silent } = await run(style)
    if (!silent || !goesOn() || known !== null) return outcome
    attempts.push(`with the arguments of ${IN_WORDS[style]}: ${outcome.reason}`)
  }
  return { clean: false, reason: `it never said a word; ${attempts.join('; ')}`, permanent: false, ranMs: 0, interrupted: false }
}
