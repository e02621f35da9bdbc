import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { NODE_FS, type LogFile, type LogFs } from '../../src/audit/log-file.ts'
import { openAuditLog, type AuditLog } from '../../src/audit/log.ts'
import type { AuditLogOptions } from '../../src/audit/log-options.ts'

/** The first segment of a log; its directory is made where it is missing, so that a test can put one there. */
export function logPath(dir: string): string {
  mkdirSync(join(dir, 'records'), { recursive: true, mode: 0o700 })
  return join(dir, 'records/0000000000000000.jsonl')
}

/** A private directory that goes with the test. */
export function tempDir(): string {
  const dir = mkdtempSync(join(tmpdir(), 'cordon-audit-'))
  onTestFinished(() => {
    for (const place of [dir, `${dir}-keys`]) rmSync(place, { recursive: true, force: true })
  })
  return dir
}

export async function openLog(options: Partial<AuditLogOptions> & { readonly dir: string }): Promise<AuditLog> {
  const log = await openAuditLog({ owner: process.getuid?.() ?? 0, mode: 'run', ...options })
  onTestFinished(() => log.close())
  return log
}

export function errnoError(code: string): Error {
  return Object.assign(new Error(`${code}: injected`), { code })
}

/** The real file system, each call of which a test can replace. */
export interface Faults {
  append?: (real: LogFile, bytes: Uint8Array) => Promise<number>
  datasync?: (real: LogFile) => Promise<void>
  truncate?: (real: LogFile, size: number) => Promise<void>
  open?: () => Promise<void>
  rename?: () => Promise<void>
  unlink?: () => Promise<void>
}

export function faultyFs(faults: Faults): LogFs {
  return {
    ...NODE_FS,
    rename: async (from, to) => {
      await faults.rename?.()
      await NODE_FS.rename(from, to)
    },
    unlink: async (path) => {
      await faults.unlink?.()
      await NODE_FS.unlink(path)
    },
    open: async (path, flags, mode) => {
      await faults.open?.()
      const real = await NODE_FS.open(path, flags, mode)
      return {
        ...real,
        append: (bytes) => faults.append?.(real, bytes) ?? real.append(bytes),
        datasync: () => faults.datasync?.(real) ?? real.datasync(),
        truncate: (size) => faults.truncate?.(real, size) ?? real.truncate(size),
      }
    },
  }
}

export function gate(): { readonly opened: Promise<void>; open: () => void } {
  const { promise, resolve } = Promise.withResolvers<undefined>()
  return { opened: promise, open: () => resolve(undefined) }
}
