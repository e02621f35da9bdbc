import { expect, test } from 'vitest'
import { Company } from '../../src/audit/company.ts'

test('a record that nobody awaits waits 5 ms for company, and 64 of them not at all', () => {
  const company = new Company()
  expect(company.waitMs({ length: 1, waiting: 0 }, 1000, 1000)).toBe(5)
  expect(company.waitMs({ length: 63, waiting: 0 }, 1000, 1004)).toBe(1)
  expect(company.waitMs({ length: 63, waiting: 0 }, 1000, 1006)).toBeLessThanOrEqual(0)
  expect(company.waitMs({ length: 64, waiting: 0 }, 1000, 1000)).toBe(0)
})

test('one that somebody awaits goes at once, as long as 128 have not come within 128 ms', () => {
  const company = new Company()
  for (let n = 0; n < 127; n++) company.awaited(1000)
  company.committed(1000)
  expect(company.waitMs({ length: 1, waiting: 1 }, 1000, 1000)).toBe(0)
  company.awaited(1000)
  expect(company.waitMs({ length: 1, waiting: 1 }, 1000, 1001)).toBe(2) // 3 ms after the commit before
  expect(company.waitMs({ length: 1, waiting: 1 }, 1000, 1003)).toBe(0)
  expect(company.waitMs({ length: 16, waiting: 16 }, 1000, 1001)).toBe(0) // company enough
  company.committed(1127)
  expect(company.waitMs({ length: 1, waiting: 1 }, 1127, 1127)).toBe(3)
  expect(company.waitMs({ length: 1, waiting: 1 }, 1128, 1128)).toBe(0) // the burst is over
})
