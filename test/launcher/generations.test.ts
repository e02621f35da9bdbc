import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { openGenerations } from '../../src/launcher/generations.ts'

const sha = (n: number): string => n.toString(16).padStart(64, '0')

function file(): string {
  const dir = mkdtempSync(join(tmpdir(), 'cordon-generations-'))
  onTestFinished(() => rmSync(dir, { recursive: true }))
  return join(dir, 'generations.json')
}

describe('the memory of argument styles', () => {
  test('outlives the process, for root alone', () => {
    const path = file()
    const first = openGenerations(path, () => {})
    expect(first.recall(sha(1))).toBeNull()
    first.remember(sha(1), '1db')
    first.remember(sha(2), '2')
    expect(statSync(path).mode & 0o777).toBe(0o600)
    const second = openGenerations(path, () => {})
    expect([second.recall(sha(1)), second.recall(sha(2)), second.recall(sha(3))]).toEqual(['1db', '2', null])
  })

  test.each([
    ['no JSON', '{'], ['another shape', '[1]'], ['null', 'null'],
    ['wrong keys and values', JSON.stringify({ short: '2', [sha(1)]: '3', [sha(2)]: 7, [sha(3)]: null })],
  ])('%s is as good as nothing', (_what, text) => {
    const path = file()
    writeFileSync(path, text)
    const memory = openGenerations(path, () => {})
    for (const n of [1, 2, 3]) expect(memory.recall(sha(n))).toBeNull()
    memory.remember(sha(1), '1')
    expect(openGenerations(path, () => {}).recall(sha(1))).toBe('1')
  })

  test('keeps a thousand, the oldest goes', () => {
    const path = file()
    const memory = openGenerations(path, () => {})
    for (let n = 0; n < 1005; n++) memory.remember(sha(n), '2')
    expect([memory.recall(sha(4)), memory.recall(sha(5))]).toEqual([null, '2'])
    expect(Object.keys(JSON.parse(readFileSync(path, 'utf8')) as object).length).toBe(1000)
  })

  test('a place that cannot be written is told, and the memory serves on', () => {
    const said: string[] = []
    const memory = openGenerations('/proc/nowhere/generations.json', (message) => said.push(message))
    memory.remember(sha(1), '1')
    expect(memory.recall(sha(1))).toBe('1')
    expect(said[0]).toMatch(/could not be remembered/)
    expect(existsSync('/proc/nowhere')).toBe(false)
  })
})
