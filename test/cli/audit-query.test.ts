import { appendFileSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, expect, onTestFinished, test } from 'vitest'
import { auditQuery } from '../../src/cli/audit-query.ts'
import { formatRecord } from '../../src/cli/audit-row.ts'
import type { CommandIo } from '../../src/cli/io.ts'
import { DEFAULT_HOST_CONFIG } from '../../src/policy/load-host-config.ts'
import { lineOf, writeSegments, type Made } from '../history/kit.ts'

const NOW = Date.parse('2026-11-20T12:00:00Z')
let stateDir: string
beforeEach(() => {
  stateDir = mkdtempSync(join(tmpdir(), 'cordon-query-'))
  onTestFinished(() => rmSync(stateDir, { recursive: true, force: true }))
})

function capture(json = false): CommandIo & { lines: string[]; errors: string[] } {
  const lines: string[] = []
  const errors: string[] = []
  return { lines, errors, out: (line) => lines.push(line), err: (line) => errors.push(line), json, color: false }
}

const query = (args: readonly string[], io: CommandIo, signal = AbortSignal.timeout(100_000)): Promise<number> => auditQuery(args, io, { config: { ...DEFAULT_HOST_CONFIG, stateDir }, signal }, NOW)
const refusal = (n: number): Made => ({ type: 'egress.refused', plugin: 'demo', ms: NOW - 3_600_000 * (30 - n), data: { name: `host${n}.example.org`, code: 'name-not-allowed', n } })
const seqs = (io: { lines: string[] }): number[] => io.lines.map((line) => (JSON.parse(line) as { seq: number }).seq)

test('shows the newest that match in the order of the log, in 80 columns, and how to go on', async () => {
  writeSegments(stateDir, Array.from({ length: 30 }, (_, n) => refusal(n)))
  const io = capture()
  expect(await query(['--plugin', 'demo', '--outcome', 'refused', '-n', '4'], io)).toBe(0)
  expect(io.lines[0]).toMatch(/^TIME/)
  expect(io.lines.slice(1).map((line) => /\s(\d+) /.exec(line.slice(14))?.[1])).toEqual(['26', '27', '28', '29'])
  for (const line of io.lines) expect(line.length).toBeLessThanOrEqual(80)
  expect(io.errors).toEqual(['older records match too: --after older:26'])
  const more = capture(true)
  await query(['--plugin', 'demo', '-n', '4', '--after', 'older:26'], more)
  expect(seqs(more)).toEqual([22, 23, 24, 25])
  expect(more.errors).toEqual(['{"next":"older:22"}'])
})

test('--oldest begins at the other end; the last page names no cursor', async () => {
  writeSegments(stateDir, Array.from({ length: 30 }, (_, n) => refusal(n)))
  const io = capture(true)
  await query(['--oldest', '-n', '25'], io)
  expect(seqs(io)).toEqual(Array.from({ length: 25 }, (_, n) => n))
  expect(io.errors).toEqual(['{"next":"newer:24"}'])
  const rest = capture(true)
  await query(['-n', '25', '--after', 'newer:24'], rest)
  expect(seqs(rest)).toEqual([25, 26, 27, 28, 29])
  expect(rest.errors).toEqual([])
})

test('times are relative, days or instants', async () => {
  writeSegments(stateDir, Array.from({ length: 30 }, (_, n) => refusal(n)))
  for (const [args, found] of [
    [['--since', '3h'], [27, 28, 29]], [['--since', '2h', '--until', '90m'], [28]], [['--until', '2026-11-19'], Array.from({ length: 18 }, (_, n) => n)],
    [['--since', '2026-11-20T10:00:00Z'], [28, 29]], [['--since', '2026-11-20T10:00:00.001Z', '--until', '2026-11-21'], [29]],
  ] as const) {
    const io = capture(true)
    await query(args, io)
    expect(seqs(io), args.join(' ')).toEqual(found)
  }
})

test('--follow shows what comes and fits, each record once, and ends with the signal', async () => {
  const { seq, prev } = writeSegments(stateDir, Array.from({ length: 10 }, (_, n) => refusal(n)))
  const stop = new AbortController()
  const io = capture(true)
  const following = query(['-f', '--host', 'host*.example.org', '-n', '2'], io, stop.signal)
  await expect.poll(() => io.lines.length, { timeout: 15_000 }).toBe(2)
  const file = `${stateDir}/audit/records/0000000000000000.jsonl`
  appendFileSync(file, `${lineOf({ type: 'admin.act', ms: NOW, data: {} }, seq, prev)}\n`)
  const line = lineOf(refusal(9), seq + 1, prev)
  appendFileSync(file, line.slice(0, 60))
  appendFileSync(file, `${line.slice(60)}\n`)
  await expect.poll(() => io.lines.length, { timeout: 15_000 }).toBe(3)
  expect(io.lines[2]).toBe(line)
  writeSegments(stateDir, [refusal(1)], undefined, { seq: seq + 2, prev })
  await expect.poll(() => io.lines.length, { timeout: 15_000 }).toBe(4)
  stop.abort()
  expect(await following).toBe(0)
  expect(seqs(io)).toEqual([8, 9, 11, 12])
})

test('a line of a changed log, whatever its fields are, is one line of the table', () => {
  const odd = '{"toString":1,"valueOf":1}'
  expect(formatRecord(`{"seq":${odd},"type":${odd},"origin":${odd},"plugin":${odd},"time":${odd},"data":{"reason":${odd}}}`, true)).toMatch(/^[^\n]*\{"toStrin[^\n]*$/)
})

test('says when nothing matches, and shows what a changed record holds without obeying it', async () => {
  writeSegments(stateDir, [refusal(1)])
  const none = capture()
  expect(await query(['--plugin', 'nobody'], none)).toBe(0)
  expect(none.errors).toEqual(['no records match'])
  appendFileSync(`${stateDir}/audit/records/0000000000000000.jsonl`, `${lineOf({ type: 'a\u001b[2J', ms: NOW, data: { name: '\u001b[31mx\u202e' } }, 1, '0'.repeat(64))}\n`.replaceAll('\\u001b', '\u001b').replaceAll('\u001b', '\\u001b'))
  for (const json of [false, true]) {
    const io = capture(json)
    await query([], io)
    expect(io.lines.join('')).not.toMatch(/[\u0000-\u001f\u009b\u202e]/)
  }
})

test.each([
  [['--since', 'x']], [['--since', '2027-01-01']], [['--limit', '0']], [['--limit', '9999999']], [['--after', 'x']], [['--after', 'older:1', '--oldest']], [['stray']], [['--no-such']],
  [['--digest', 'xyz']], [['--outcome', 'a b']], [['--text', 'ab']], [['-f', '--until', '1h']], [['-f', '--oldest']],
])('%j is refused', async (args) => {
  writeSegments(stateDir, [refusal(1)])
  await expect(query(args, capture())).rejects.toMatchObject({ code: 'USAGE_BAD_OPTION' })
})

test('a log that is not there has an error of its own', async () => {
  await expect(query([], capture())).rejects.toMatchObject({ code: 'AUDIT_NOT_FOUND' })
})

test('seals are in the table only when they are asked for', async () => {
  writeSegments(stateDir, [refusal(1), { type: 'seal', ms: NOW, data: { epoch: 1 } }, refusal(2)])
  const shown = async (args: readonly string[], json = false): Promise<number> => {
    const io = capture(json)
    await query(args, io)
    return io.lines.filter((line) => line.includes('seal')).length
  }
  expect(await shown([])).toBe(0)
  expect(await shown(['--type', 'se*'])).toBe(1)
  expect(await shown([], true)).toBe(1)
})
