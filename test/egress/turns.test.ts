import { setImmediate as nextTurn } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { Turns } from '../../src/egress/turns.ts'

describe('turns', () => {
  test('who has little to do does not wait for who has much', async () => {
    let now = 0
    const turns = new Turns(() => now)
    const done: string[] = []
    const [flood, other] = [{}, {}]
    for (let n = 0; n < 100; n++) turns.later(flood, () => done.push('flood'))
    turns.later(other, () => done.push('other'))
    await nextTurn()
    await nextTurn()
    expect(done.slice(0, 2)).toEqual(['flood', 'other'])
    expect(done).toHaveLength(101) // the clock stood still
    now += 1
  })

  test('a turn ends when its time is over, and what comes meanwhile has its place in the next', async () => {
    let now = 0
    const turns = new Turns(() => now)
    const done: string[] = []
    const [flood, other] = [{}, {}]
    const slow = (): void => {
      done.push('flood')
      now += 1
    }
    for (let n = 0; n < 10; n++) turns.later(flood, slow)
    await nextTurn()
    expect(done).toEqual(['flood'])
    turns.later(other, () => done.push('other'))
    for (let n = 0; n < 12; n++) await nextTurn()
    expect(done.slice(0, 3)).toEqual(['flood', 'flood', 'other'])
    expect(done.filter((who) => who === 'flood')).toHaveLength(10)
  })

  test('what waits is bounded for each', async () => {
    const turns = new Turns(() => 0)
    const [flood, other] = [{}, {}]
    let done = 0
    const taken = Array.from({ length: 1100 }, () => turns.later(flood, () => done++)).filter(Boolean)
    expect(taken).toHaveLength(1024)
    expect(turns.later(other, () => done++)).toBe(true)
    await nextTurn()
    await nextTurn()
    expect(done).toBe(1025)
  })

  test('of what ends all is done at once, and nothing of others', async () => {
    const turns = new Turns(() => 0)
    const done: string[] = []
    const [ending, other] = [{}, {}]
    for (const whose of [ending, other, ending]) turns.later(whose, () => done.push(whose === ending ? 'ending' : 'other'))
    turns.finish(ending)
    expect(done).toEqual(['ending', 'ending'])
    await nextTurn()
    await nextTurn()
    expect(done).toEqual(['ending', 'ending', 'other'])
  })
})
