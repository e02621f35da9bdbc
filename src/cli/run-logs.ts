import { existsSync, lstatSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'

/** Logs of single runs that are kept; one has some ten kilobytes, with a door more. */
const KEEP = 200
/** A run that was killed left its keys behind and looks as if it went on. */
const GIVEN_UP_MS = 30 * 86_400_000

/** The log of a run that is over is never written again: without its keys nobody can go on with it, and that is how an ended one is told. */
export function endRunLog(logDir: string): void {
  rmSync(join(logDir, 'keys'), { recursive: true, force: true })
}

/** Take away the oldest logs of runs that have ended. @param runs `<stateDir>/runs`, root-only */
export function sweepRunLogs(runs: string, now = Date.now(), keep = KEEP): void {
  const logs = (existsSync(runs) ? readdirSync(runs) : []).filter((name) => /^[0-9a-f]{16}$/.test(name)).map((name) => ({ dir: join(runs, name), at: lstatSync(join(runs, name)).mtimeMs }))
  const over = logs.filter(({ dir, at }) => !existsSync(join(dir, 'keys')) || now - at > GIVEN_UP_MS).sort((a, b) => b.at - a.at).slice(keep)
  for (const { dir } of over) rmSync(dir, { recursive: true, force: true })
}
