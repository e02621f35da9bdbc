import { expect, it } from 'vitest'
import { budgetedLog } from '../../src/gateway/log.ts'

it('a plugin fills at most 30 lines of log a minute, and what was left out is counted', () => {
  const lines: string[] = []
  let now = 0
  const log = budgetedLog('plugin x', () => now, (line) => void lines.push(line))
  for (let i = 0; i < 1000; i += 1) log(`line ${i}`)
  expect(lines).toHaveLength(30)
  now = 60_000
  log('again')
  expect(lines.slice(30)).toEqual(['plugin x: 970 more lines were left out', 'plugin x: again'])
})
