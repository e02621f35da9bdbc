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

const EVERY_MS = 5000

/** For work of known size: silent for two seconds, then how far it is, now and then. @returns to be told how much of how much is done */
export function progressLines(io: CommandIo, what: string): (done: number, total: number) => void {
  if (io.json || process.stderr.isTTY !== true) return () => undefined
  const start = performance.now()
  let next = start + SLOW_MS
  return (done, total) => {
    const now = performance.now()
    if (now < next || done === 0) return
    next = now + EVERY_MS
    const left = Math.ceil(((now - start) / done) * (total - done) / 1000)
    io.err(`${what}: ${Math.floor((100 * done) / Math.max(1, total))} %, about ${left} s left`)
  }
}
