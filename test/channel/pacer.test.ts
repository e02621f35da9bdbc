import { describe, expect, it } from 'vitest'
import { Pacer } from '../../src/channel/pacer.ts'

describe('Pacer', () => {
  it('lets a burst through at once, then asks for the time that the excess costs', () => {
    let now = 0
    const pacer = new Pacer(10, 5, () => now)
    expect(Array.from({ length: 7 }, () => pacer.take())).toEqual([0, 0, 0, 0, 0, 100, 200])
    now = 300
    expect(pacer.take()).toBe(0)
    expect(pacer.take()).toBe(100)
  })

  it('makes what costs more wait longer, also where it costs more than the burst', () => {
    const pacer = new Pacer(10, 5, () => 0)
    expect([pacer.take(4), pacer.take(21), pacer.take()]).toEqual([0, 2000, 2100])
  })

  it('never saves up more than the burst', () => {
    let now = 0
    const pacer = new Pacer(10, 2, () => now)
    now = 3_600_000
    expect([pacer.take(), pacer.take(), pacer.take()]).toEqual([0, 0, 100])
  })
})
