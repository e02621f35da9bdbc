import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { canRun } from './require.ts'

const UNSHARE = '/usr/bin/unshare'

interface Report {
  readonly control: string
  readonly filled: number
  readonly full: readonly string[]
  readonly cutBack: boolean
  readonly fullVerdict: string
  readonly afterSpace: string
  readonly back: { readonly verdict: string; readonly gaps: readonly { readonly data: { readonly lost: object; readonly refused: object } }[] }
  readonly readOnly: readonly string[]
  readonly writable: string
  readonly end: { readonly verdict: string; readonly firstBad: unknown; readonly gaps: readonly { readonly reason: string }[] }
}

test.skipIf(!canRun(UNSHARE, '/usr/bin/mount'))('on a disk that is full or read-only the log refuses, loses nothing that it acknowledged, and tells the gap when it is back', () => {
  const dir = mkdtempSync(join(tmpdir(), 'cordon-audit-disk-'))
  try {
    const child = join(import.meta.dirname, 'full-disk-child.ts')
    // The mount lives in a namespace of the child's own and ends with it.
    const out = execFileSync(UNSHARE, ['-m', '--propagation', 'private', process.execPath, child, dir], { encoding: 'utf8', timeout: 200_000, env: {} })
    const report = JSON.parse(out) as Report
    expect(report.control).toBe('seq 3') // behind its creation, its opening and the seal of both
    expect(report.filled).toBeGreaterThan(10)
    expect(report.full).toEqual(['AUDIT_UNAVAILABLE ENOSPC', 'AUDIT_UNAVAILABLE ENOSPC', 'lost'])
    expect(report.cutBack).toBe(true)
    expect(report.fullVerdict).toBe('whole')
    expect(report.afterSpace).toBe('seq')
    expect(report.back.verdict).toBe('gap')
    expect(report.back.gaps.map(({ data }) => [data.lost, data.refused])).toEqual([[{ 'plugin.exited': 1 }, { 'admin.act': 2 }]])
    expect(report.readOnly).toEqual(['AUDIT_UNAVAILABLE EROFS', 'AUDIT_UNAVAILABLE EROFS'])
    expect(report.writable).toBe('seq')
    expect(report.end).toMatchObject({ verdict: 'gap', firstBad: null, gaps: [{ reason: 'unavailable' }, { reason: 'unavailable' }] })
  } finally {
    rmSync(dir, { recursive: true })
  }
})
