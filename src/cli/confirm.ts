import { createInterface } from 'node:readline/promises'

/** Asks a person; rejects when the signal ends it. Anything but a yes is a no. */
export type Confirm = (question: string, signal: AbortSignal) => Promise<boolean>

/** null: nobody sits at the terminal, so nobody can be asked. The question goes to stderr, where a redirected answer does not swallow it. */
export function terminalConfirm(): Confirm | null {
  if (process.stdin.isTTY !== true || process.stderr.isTTY !== true) return null
  return async (question, signal) => {
    const lines = createInterface({ input: process.stdin, output: process.stderr })
    const closed = new AbortController() // Ctrl-D and Ctrl-C answer nothing
    lines.once('close', () => closed.abort())
    lines.once('SIGINT', () => lines.close())
    try {
      return /^(?:y|yes)$/i.test((await lines.question(`${question} [y/N] `, { signal: AbortSignal.any([signal, closed.signal]) })).trim())
    } catch (error) {
      if (closed.signal.aborted && !signal.aborted) return false
      throw error
    } finally {
      lines.close()
    }
  }
}
