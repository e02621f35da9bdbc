import { execFileSync } from 'node:child_process'
import { appendFileSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { verifyLog } from '../../src/audit/verify/log.ts'
import { auditTail } from '../../src/cli/audit-tail.ts'
import { auditVerify } from '../../src/cli/audit-verify.ts'
import type { CommandIo } from '../../src/cli/io.ts'
import { logPath, openLog, tempDir } from '../audit/kit.ts'
import { loose } from '../audit/loose.ts'

function capture(flags: { json?: boolean; color?: boolean } = {}): CommandIo & { lines: string[]; errors: string[] } {
  const lines: string[] = []
  const errors: string[] = []
  return { lines, errors, out: (line) => lines.push(line), err: (line) => errors.push(line), json: flags.json ?? false, color: flags.color ?? false }
}

const signal = AbortSignal.timeout(120_000)

async function filled(): Promise<string> {
  const dir = tempDir()
  const log = await openLog({ dir })
  for (let i = 0; i < 30; i++) await log.append(i % 3 === 0 ? loose({ type: 'plugin.failed', plugin: 'image', reason: 'x'.repeat(200), i }) : loose({ type: 'admin.act', i }), 'operator')
  await log.close()
  return dir
}

describe('audit tail', () => {
  test('shows the newest records in order, in 80 columns, without colour unless asked', async () => {
    const dir = await filled()
    const io = capture()
    expect(await auditTail(['-n', '5'], io, { dir, signal })).toBe(0)
    expect(io.lines).toHaveLength(6)
    expect(io.lines[0]).toMatch(/^TIME/)
    expect(io.lines.slice(1).map((line) => /\s(\d+) /.exec(line.slice(14))?.[1])).toEqual(['26', '27', '28', '29', '30'])
    for (const line of io.lines) expect(line.length).toBeLessThanOrEqual(80)
    expect(io.lines.join()).not.toContain('\u001b')
    const colored = capture({ color: true })
    await auditTail(['-n', '5'], colored, { dir, signal })
    expect(colored.lines.join()).toContain('\u001b[33m')
  })

  test('finds the last matching records, however far back', async () => {
    const dir = await filled()
    const io = capture({ json: true })
    await auditTail(['-n', '3', '--plugin', 'image', '--type', 'plugin.failed'], io, { dir, signal })
    expect(io.lines).toEqual(readFileSync(logPath(dir), 'utf8').split('\n').filter((line) => line.includes('plugin.failed')).slice(-3))
  })

  test('-n larger than the log shows all of it once', async () => {
    const dir = await filled()
    const io = capture({ json: true })
    await auditTail(['-n', '1000'], io, { dir, signal })
    expect(`${io.lines.join('\n')}\n`).toBe(readFileSync(logPath(dir), 'utf8'))
  })

  test('reads across its block size', async () => {
    const dir = tempDir()
    const log = await openLog({ dir })
    for (let i = 0; i < 60; i++) log.note(loose({ type: 'admin.act', i, list: Array.from({ length: 12 }, () => 'x'.repeat(i * 60)) }), 'operator')
    await log.close()
    const io = capture({ json: true })
    await auditTail(['-n', '1000'], io, { dir, signal })
    expect(`${io.lines.join('\n')}\n`).toBe(readFileSync(logPath(dir), 'utf8'))
  })

  test('-f shows what is appended, a half-written line only once it is whole, and ends with the signal', async () => {
    const dir = await filled()
    const stop = new AbortController()
    const io = capture({ json: true })
    const following = auditTail(['-f', '-n', '1', '--type', 'admin.act'], io, { dir, signal: stop.signal })
    await expect.poll(() => io.lines.length).toBe(1)
    const log = await openLog({ dir })
    await log.append(loose({ type: 'admin.act', late: 1 }), 'operator')
    await log.append(loose({ type: 'policy.loaded' }), 'operator')
    await log.close()
    await expect.poll(() => io.lines.length).toBe(2)
    expect(io.lines[1]).toContain('"late":1')
    const line = io.lines[1] ?? ''
    appendFileSync(logPath(dir), line.slice(0, 50))
    appendFileSync(logPath(dir), `${line.slice(50)}\n`)
    await expect.poll(() => io.lines.length).toBe(3)
    expect(io.lines[2]).toBe(line)
    stop.abort()
    expect(await following).toBe(0)
  })

  test('a changed line cannot reach the terminal with control characters', async () => {
    const dir = tempDir()
    writeFileSync(logPath(dir), '\u001b[2J not json\n{"type":"a\\u001b[2J","data":{"k\\u009b":"\\u202e"},"seq":"\\u001b"}\n')
    for (const json of [false, true]) {
      const io = capture({ json })
      await auditTail([], io, { dir, signal })
      expect(io.lines.join('')).not.toMatch(/[\u0000-\u001f\u009b\u202e]/)
      expect(io.lines.at(-1)).toContain(json ? '"type"' : '\\x1b[2J')
    }
  })

  test('its table has seals only when they are asked for, and takes patterns of types', async () => {
    const dir = await filled()
    const types = async (...args: string[]): Promise<string[]> => {
      const io = capture()
      await auditTail(['-n', '1000', ...args], io, { dir, signal })
      return [...new Set(io.lines.slice(1).map((line) => line.slice(35).split(' ')[0] ?? ''))].sort()
    }
    expect(await types()).not.toContain('seal')
    expect(await types('--type', 'sea*')).toEqual(['seal'])
    expect(await types('--type', '*.f*')).toEqual(['plugin.failed'])
  })

  test.each([[['-n', 'x']], [['-n', '9999999']], [['--no-such']], [['stray']]])('%j is refused', async (args) => {
    await expect(auditTail(args, capture(), { dir: tempDir(), signal })).rejects.toMatchObject({ code: 'USAGE_BAD_OPTION' })
  })

  test('a log that is not there has an error of its own', async () => {
    await expect(auditTail([], capture(), { dir: tempDir(), signal })).rejects.toMatchObject({ code: 'AUDIT_NOT_FOUND' })
    await expect(auditVerify([], capture(), { dir: tempDir(), signal })).rejects.toMatchObject({ code: 'AUDIT_NOT_FOUND' })
  })
})

test.each(['a directory', 'a named pipe', 'a symbolic link'])('%s in place of the log is refused at once', async (kind) => {
  const dir = tempDir()
  const path = logPath(dir)
  if (kind === 'a directory') mkdirSync(path)
  else if (kind === 'a named pipe') execFileSync('/usr/bin/mkfifo', [path])
  else symlinkSync('/etc/hostname', path)
  await expect(auditTail([], capture(), { dir, signal })).rejects.toMatchObject({ code: 'AUDIT_UNAVAILABLE' })
  expect(await auditVerify([], capture(), { dir, signal })).toBe(2)
})

describe('audit verify', () => {
  const path = (dir: string): string => logPath(dir)

  test('says in one sentence that a log is whole, what that does not show, and the head to remember', async () => {
    const dir = await filled()
    const io = capture()
    expect(await auditVerify([], io, { dir, signal })).toBe(0)
    expect(io.lines[0]).toMatch(/^The log is whole: 32 records/)
    expect(io.lines.join('\n')).toMatch(/last sealed: record 31 .*not yet sealed: 0 records.*without leaving a trace in it/s)
    const head = /^head: (\d+:[0-9a-f]{64})$/m.exec(io.lines.join('\n'))?.[1] ?? ''
    const again = capture()
    expect(await auditVerify(['--head', head], again, { dir, signal })).toBe(0)
    expect(again.lines.join()).toMatch(/record 31\b/)
    writeFileSync(path(dir), readFileSync(path(dir), 'utf8').split('\n').slice(0, 20).join('\n') + '\n')
    expect(await auditVerify([], capture(), { dir, signal })).toBe(2) // the checkpoint knows of more
    expect(await auditVerify(['--head', head], capture(), { dir, signal })).toBe(2)
  })

  test('tampering is 2, an unfinished line 3, a gap 4', async () => {
    const dir = await filled()
    const text = readFileSync(path(dir), 'utf8')
    const tampered = capture()
    writeFileSync(path(dir), text.replace('"i":7', '"i":8'))
    expect(await auditVerify([], tampered, { dir, signal })).toBe(2)
    expect(tampered.lines.slice(0, 2).join()).toMatch(/TAMPERED.*record 8, .*line 9/)
    writeFileSync(path(dir), `${text}${text.slice(0, 50)}`)
    expect(await auditVerify([], capture(), { dir, signal })).toBe(3)
    const log = await openLog({ dir })
    await log.close()
    const gap = capture({ json: true })
    expect(await auditVerify([], gap, { dir, signal })).toBe(4)
    expect(JSON.parse(gap.lines[0] ?? '')).toMatchObject({ verdict: 'gap', exit: 4, gapCount: 1, firstBad: null })
    expect(await verifyLog(dir)).toMatchObject({ verdict: 'gap' })
  })

  test.each([[['--head', 'x']], [['--head', '1:abc']], [['a', 'b']], [['--no-such']]])('%j is refused', async (args) => {
    await expect(auditVerify(args, capture(), { dir: tempDir(), signal })).rejects.toMatchObject({ code: 'USAGE_BAD_OPTION' })
  })
})
