import { describe, expect, test } from 'vitest'
import { afterFailure, startsAllowed } from '../../src/launcher/restart.ts'
import type { Restart } from '../../src/policy/policy.ts'

const RESTART: Restart = { on: 'failure', backoffMinMs: 1000, backoffMaxMs: 60_000, startLimit: { count: 3, windowMs: 10_000 } }
const CRASH = { clean: false, ranMs: 10 }

describe('what follows the end of a run', () => {
  test('the wait doubles up to its limit', () => {
    const waits: number[] = []
    let failures = 0
    for (let n = 0; n < 8; n++) {
      const next = afterFailure(RESTART, CRASH, failures)
      if (next.kind !== 'again') throw new Error(next.kind)
      waits.push(next.delayMs)
      failures = next.failures
    }
    expect(waits).toEqual([1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000])
    expect(afterFailure(RESTART, CRASH, 5000)).toMatchObject({ delayMs: 60_000 })
  })

  test('a run of a minute was well: the next failure begins with the shortest wait', () => {
    expect(afterFailure(RESTART, { clean: false, ranMs: 60_000 }, 7)).toEqual({ kind: 'again', delayMs: 1000, failures: 1 })
    expect(afterFailure(RESTART, { clean: false, ranMs: 59_999 }, 7)).toMatchObject({ delayMs: 60_000 })
  })

  test.each([
    ['failure', true, 'stop'], ['failure', false, 'again'],
    ['always', true, 'again'], ['always', false, 'again'],
    ['never', true, 'stop'], ['never', false, 'fail'],
  ] as const)('restart on %s, clean %s: %s', (on, clean, kind) => {
    expect(afterFailure({ ...RESTART, on }, { clean, ranMs: 10 }, 0).kind).toBe(kind)
  })
})

describe('the start limit', () => {
  test('allows as many starts as its window may hold, and forgets those that left it', () => {
    const starts: number[] = []
    const at = (now: number): boolean => {
      const allowed = startsAllowed(starts, now, RESTART)
      if (allowed) starts.push(now)
      return allowed
    }
    expect([at(0), at(1000), at(2000), at(3000)]).toEqual([true, true, true, false])
    expect(at(9999)).toBe(false)
    expect(at(10_000)).toBe(true) // the one of 0 has left
    expect(starts).toEqual([1000, 2000, 10_000])
    expect(at(10_500)).toBe(false)
  })
})
