import type { CommandIo } from './io.ts'

const SLOW_MS = 2000

/** Says on a terminal what takes longer than two seconds; a script sees nothing. */
export async function withProgress<T>(io: CommandIo, what: string, work: Promise<T>): Promise<T> {
  if (io.json || process.stderr.isTTY !== true) return work
  const start = performance.now()
  const seconds = (): string => ((performance.now() - start) / 1000).toFixed(0)
  let said = false
  const timer = setTimeout(() => {
    said = true
    io.err(`${what} …`)
  }, SLOW_MS)
  try {
    return await work
  } finally {
    clearTimeout(timer)
    if (said) io.err(`${what}: ${seconds()} s`)
  }
}
