import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { endRunLog, sweepRunLogs } from '../../src/cli/run-logs.ts'

let runs = ''
beforeEach(() => { runs = mkdtempSync('/tmp/cordon-run-logs-') })
afterEach(() => rmSync(runs, { recursive: true }))

const DAY = 86_400
function log(n: number, daysOld: number, ended = true): string {
  const name = n.toString(16).padStart(16, '0')
  mkdirSync(join(runs, name, 'keys'), { recursive: true })
  if (ended) endRunLog(join(runs, name))
  utimesSync(join(runs, name), Date.now() / 1000 - daysOld * DAY, Date.now() / 1000 - daysOld * DAY)
  return name
}

test('the newest ended ones stay, and what still runs', () => {
  const kept = [log(1, 0), log(2, 1)]
  const gone = [log(3, 2), log(4, 3)]
  const running = log(5, 9, false)
  sweepRunLogs(runs, Date.now(), 2)
  expect(readdirSync(runs)).toEqual([...kept, running])
  expect(gone.some((name) => existsSync(join(runs, name)))).toBe(false)
})

test('one that was killed a month ago counts as ended; what is no log of a run stays', () => {
  const dead = log(6, 31, false)
  mkdirSync(join(runs, 'notes'))
  sweepRunLogs(runs, Date.now(), 0)
  expect(readdirSync(runs)).toEqual(['notes'])
  expect(existsSync(join(runs, dead))).toBe(false)
  sweepRunLogs(join(runs, 'absent'))
})
