import { appendFileSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { endOfLog, linesBackward, linesOf, LogReader, segmentName, type Cursor } from '../../src/audit/segments.ts'
import { tempDir } from './kit.ts'

/** Three segments of ten lines each; the seq of a line is its text. */
function threeSegments(): string {
  const dir = tempDir()
  mkdirSync(join(dir, 'records'))
  for (const first of [0, 10, 20]) writeFileSync(at(dir, first), Array.from({ length: 10 }, (_, i) => `${first + i}\n`).join(''))
  return dir
}

const at = (dir: string, first: number): string => join(dir, 'records', segmentName(first))

async function readAll(reader: LogReader): Promise<number[]> {
  const seen = []
  for (let block = await reader.next(); block !== null; block = await reader.next()) for (const { text } of linesOf(block)) seen.push(Number(text))
  return seen
}

const upTo = (n: number, from = 0): number[] => Array.from({ length: n - from }, (_, i) => from + i)

describe('reading forward', () => {
  test('goes through all segments in the order of the log', async () => {
    const reader = new LogReader(threeSegments())
    expect(await readAll(reader)).toEqual(upTo(30))
    expect(reader.cursor).toEqual({ segment: 20, offset: 30 })
    await reader.close()
  })

  test('goes on from the place of any line, exactly once each', async () => {
    const dir = threeSegments()
    const reader = new LogReader(dir)
    const places: Cursor[] = []
    for (let block = await reader.next(); block !== null; block = await reader.next()) for (const line of linesOf(block)) places.push(line.at)
    await reader.close()
    for (const [n, place] of places.entries()) {
      const again = new LogReader(dir, place)
      expect(await readAll(again)).toEqual(upTo(30, n))
      await again.close()
    }
  })

  test('at the end it can be asked again: what was appended comes, then what a new segment holds, half a line only once it is whole', async () => {
    const dir = threeSegments()
    const reader = new LogReader(dir, await endOfLog(dir))
    expect(await readAll(reader)).toEqual([])
    appendFileSync(at(dir, 20), '30\n3')
    expect(await readAll(reader)).toEqual([30])
    appendFileSync(at(dir, 20), '1\n')
    writeFileSync(at(dir, 32), '32\n')
    expect(await readAll(reader)).toEqual([31, 32])
    expect(await reader.restartIfReplaced()).toBe(false)
    await reader.close()
  })

  test('where the segment of its place was pruned, the oldest that is left follows', async () => {
    const dir = threeSegments()
    rmSync(at(dir, 0))
    const reader = new LogReader(dir, { segment: 0, offset: 4 })
    expect(await readAll(reader)).toEqual(upTo(30, 10))
    await reader.close()
  })

  test('a file that was replaced is read from the start of the log', async () => {
    const dir = threeSegments()
    const reader = new LogReader(dir)
    await readAll(reader)
    renameSync(at(dir, 20), join(dir, 'old'))
    expect(await reader.restartIfReplaced()).toBe(false)
    writeFileSync(at(dir, 20), '20\n')
    expect(await reader.restartIfReplaced()).toBe(true)
    expect(await readAll(reader)).toEqual(upTo(21))
    await reader.close()
  })

  test('three megabytes without a newline are passed over, and the lines after them are found', async () => {
    const dir = threeSegments()
    writeFileSync(at(dir, 10), `10\n${'x'.repeat(3 * 1024 * 1024 + 7)}\n12\n`)
    const reader = new LogReader(dir)
    const seen = await readAll(reader)
    expect(seen.filter((n) => !Number.isNaN(n))).toEqual([...upTo(11), 12, ...upTo(30, 20)])
    await reader.close()
  })
})

test('reading backward goes through all segments, newest line first', async () => {
  const dir = threeSegments()
  const seen = []
  for await (const line of linesBackward(dir, await endOfLog(dir))) seen.push(Number(line))
  expect(seen).toEqual(upTo(30).reverse())
})

test('a log without a segment has an error of its own', async () => {
  const dir = tempDir()
  await expect(new LogReader(dir).next()).rejects.toMatchObject({ code: 'AUDIT_NOT_FOUND' })
  mkdirSync(join(dir, 'records'))
  await expect(endOfLog(dir)).rejects.toMatchObject({ code: 'AUDIT_NOT_FOUND' })
})
