import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { openAuditLog } from '../../src/audit/log.ts'
import type { AuditLogOptions } from '../../src/audit/log-options.ts'
import { verifyLog } from '../../src/audit/verify/log.ts'
import { appendOnlyFs, isAppendOnly } from '../../src/launcher/append-only.ts'
import { errnoError } from '../audit/kit.ts'
import { loose } from '../audit/loose.ts'
import { canRun } from './require.ts'

const ACT = loose({ type: 'admin.act', what: 'test' })
const EPERM = expect.objectContaining({ code: 'EPERM' })

function place(): string {
  const dir = mkdtempSync(join(tmpdir(), 'cordon-append-'))
  onTestFinished(() => {
    execFileSync('/usr/bin/chattr', ['-R', '-f', '-a', dir])
    rmSync(dir, { recursive: true })
  })
  return dir
}

function open(dir: string, more: Partial<AuditLogOptions> = {}) {
  return openAuditLog({ dir: join(dir, 'audit'), fs: appendOnlyFs((message) => { throw new Error(message) }), ...more })
}

const segments = (dir: string): string[] => readdirSync(join(dir, 'audit/records')).sort().map((name) => join(dir, 'audit/records', name))

test.skipIf(!canRun('/usr/bin/chattr'))('the open segment can be neither cut, replaced nor removed; a rotation and an orderly end lift that, a kill does not', async () => {
  const dir = place()
  const log = await open(dir, { segmentBytes: 3000, sealRecords: 4 })
  const [first = ''] = segments(dir)
  for (const act of [() => truncateSync(first), () => writeFileSync(first, ''), () => rmSync(first), () => renameSync(first, `${first}.old`)]) expect(act).toThrow(EPERM)
  for (let n = 0; n < 20; n++) await log.append(ACT, 'operator')
  await expect.poll(() => segments(dir).map(isAppendOnly).filter((yes) => yes)).toHaveLength(1)
  expect(segments(dir).length).toBeGreaterThan(1)
  expect(isAppendOnly(segments(dir).at(-1) ?? '')).toBe(true)
  await log.close()
  expect(segments(dir).map(isAppendOnly)).not.toContain(true)

  const killed = place()
  execFileSync(process.execPath, ['--input-type=module', '-e', `
    const { openAuditLog } = await import(${JSON.stringify(join(import.meta.dirname, '../../src/audit/log.ts'))})
    const { appendOnlyFs } = await import(${JSON.stringify(join(import.meta.dirname, '../../src/launcher/append-only.ts'))})
    await openAuditLog({ dir: ${JSON.stringify(join(killed, 'audit'))}, fs: appendOnlyFs(console.error) })
    process.exit(0)`])
  expect(segments(killed).map(isAppendOnly)).toEqual([true])
  const next = await open(killed)
  await next.append(ACT, 'operator')
  await next.close()
  expect(await verifyLog(join(killed, 'audit'))).toMatchObject({ verdict: 'whole' })
})

test.skipIf(!canRun('/usr/bin/chattr'))('what a failed commit left is cut off all the same, and what was lifted for it is set again', async () => {
  const dir = place()
  const real = appendOnlyFs((message) => { throw new Error(message) })
  let broken = false
  const log = await open(dir, {
    fs: {
      ...real,
      open: async (path, flags, mode) => {
        const file = await real.open(path, flags, mode)
        return { ...file, append: (bytes) => (broken ? file.append(bytes.subarray(0, bytes.length >> 1)).then(() => Promise.reject(errnoError('EIO'))) : file.append(bytes)) }
      },
    },
  })
  await log.append(ACT, 'operator')
  const [first = ''] = segments(dir)
  const { size } = statSync(first)
  broken = true
  await expect(log.append(ACT, 'operator')).rejects.toMatchObject({ code: 'AUDIT_UNAVAILABLE' })
  expect(statSync(first).size).toBe(size)
  broken = false
  await log.append(ACT, 'operator')
  expect(isAppendOnly(first)).toBe(true)
  await log.close()
  expect(await verifyLog(join(dir, 'audit'))).toMatchObject({ verdict: 'gap', firstBad: null })
})

test.skipIf(!canRun('/usr/bin/mount', '/usr/bin/chattr'))('pruning removes segments that a crash left append-only; a file system that knows no such attribute is told once, and the log works', async () => {
  const dir = place()
  const small = { segmentBytes: 3000, sealRecords: 4 }
  const first = await open(dir, small)
  for (let n = 0; n < 40; n++) await first.append(ACT, 'operator')
  await first.close()
  const before = segments(dir)
  expect(before.length).toBeGreaterThan(4)
  execFileSync('/usr/bin/chattr', ['+a', ...before])
  const pruned = Promise.withResolvers<unknown>()
  const second = await open(dir, { ...small, retention: { keepMs: 1e12, maxBytes: 6000 }, onPruned: pruned.resolve })
  await pruned.promise
  expect(existsSync(before[0] ?? '')).toBe(false)
  await second.close()

  const other = join(dir, 'ramfs')
  mkdirSync(other)
  execFileSync('/usr/bin/mount', ['-t', 'ramfs', '-o', 'mode=700', 'cordon-append', other])
  try {
    const told: string[] = []
    const log = await open(other, { ...small, fs: appendOnlyFs((message) => told.push(message)) })
    for (let n = 0; n < 20; n++) await log.append(ACT, 'operator')
    await log.close()
    expect(told).toEqual([expect.stringMatching(/^the open segment of the audit log is not made append-only: .*chattr/)])
    expect(segments(other).length).toBeGreaterThan(1)
  } finally {
    execFileSync('/usr/bin/umount', [other])
  }
})
