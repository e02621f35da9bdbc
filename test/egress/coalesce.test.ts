import { describe, expect, test } from 'vitest'
import { Coalescer } from '../../src/egress/coalesce.ts'
import { DayBudget } from '../../src/egress/day-budget.ts'
import { WaitingRoom } from '../../src/egress/waiting-room.ts'

describe('refusals are coalesced', () => {
  test('the first is told at once, repeats once with their count, and no call is lost', () => {
    const told: [string, number, number][] = []
    const coalescer = new Coalescer<string>((event, coalesced, others) => told.push([event, coalesced, others]), 2)
    for (const key of ['a', 'a', 'b', 'a', 'c', 'd', 'e']) coalescer.note('reason', key, () => key)
    expect(told).toEqual([['a', 0, 0], ['b', 0, 0]])
    coalescer.flush()
    expect(told).toEqual([['a', 0, 0], ['b', 0, 0], ['a', 1, 0], ['c', 2, 2]]) // c, and two of which only the number is known
    expect(told.reduce((sum, [, coalesced]) => sum + 1 + coalesced, 0)).toBe(7)
    coalescer.flush()
    expect(told).toHaveLength(4)
  })

  test('a flood for one reason hides no other reason, and each has a sum of its own', () => {
    const told: [string, number, number][] = []
    const coalescer = new Coalescer<string>((event, coalesced, others) => told.push([event, coalesced, others]), 2)
    for (let n = 0; n < 1000; n++) coalescer.note('flood', `f${n}`, () => `f${n}`)
    for (const what of ['x', 'x', 'y', 'z']) coalescer.note('grave', what, () => what)
    expect(told).toEqual([['f0', 0, 0], ['f1', 0, 0], ['x', 0, 0]])
    coalescer.flush()
    expect(told.slice(3)).toEqual([['x', 0, 0], ['f2', 997, 997], ['y', 1, 1]])
  })
})

describe('EgressMax', () => {
  const noon = Date.parse('2026-03-01T12:00:00Z')
  test('counts on from what earlier runs of the day sent, and opens again at midnight UTC', () => {
    const budget = new DayBudget(100, { day: '2026-03-01', bytes: 40 }, noon)
    expect([budget.take(60, noon), budget.take(1, noon), budget.isSpent(noon)]).toEqual([true, false, true])
    expect(budget.isSpent(noon + 12 * 3_600_000)).toBe(false)
    expect(budget.take(100, noon + 12 * 3_600_000)).toBe(true)
    expect(budget.spent(noon + 12 * 3_600_000)).toEqual({ day: '2026-03-02', bytes: 100 })
  })
  test('forgets yesterday, and a clock that steps back gives nothing twice', () => {
    const budget = new DayBudget(100, { day: '2026-02-28', bytes: 100 }, noon)
    expect(budget.take(100, noon)).toBe(true)
    expect(budget.take(1, noon - 24 * 3_600_000)).toBe(false)
  })
  test('a day that a wrong clock gave ends with today, and its bytes count', () => {
    const budget = new DayBudget(100, { day: '2099-01-01', bytes: 60 }, noon)
    expect([budget.take(41, noon), budget.take(40, noon)]).toEqual([false, true])
    expect(budget.take(100, noon + 12 * 3_600_000)).toBe(true)
  })
  test('has no end where the policy names none', () => expect(new DayBudget(null, { day: '2026-03-01', bytes: 0 }, noon).take(2 ** 50, noon)).toBe(true))
})

describe('the waiting room', () => {
  test('admits up to the limit, lets as many wait, and turns the rest away', () => {
    const inside: number[] = []
    const room = new WaitingRoom<number>(2, (one) => inside.push(one))
    expect([1, 2, 3, 4, 5].map((one) => room.enter(one, one))).toEqual([true, true, true, true, false])
    expect(inside).toEqual([1, 2])
    room.leave()
    expect([inside, room.open, room.waiting]).toEqual([[1, 2, 3], 2, 1])
    expect(room.drop(4)).toEqual([])
    expect(room.drop(5)).toEqual([4])
    room.leave()
    room.leave()
    expect([room.open, room.waiting]).toEqual([0, 0])
  })
})
