import { constants } from 'node:fs'
import { lstat, mkdir, open } from 'node:fs/promises'
import { join } from 'node:path'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'

export const LOG_NAME = 'audit.jsonl'

export interface FileFacts {
  readonly kind: 'file' | 'directory' | 'other'
  readonly dev: bigint
  readonly ino: bigint
  readonly nlink: number
  readonly size: number
  readonly uid: number
  /** Permission bits only. */
  readonly mode: number
}

/** The few calls that the writer makes; an argument, so that tests can let each of them fail. Errors carry `code`. */
export interface LogFile {
  readonly fd: number
  stat(): Promise<FileFacts>
  read(position: number, length: number): Promise<Buffer>
  /** Appends (O_APPEND) and returns how many bytes the kernel took, which can be fewer. */
  append(bytes: Uint8Array): Promise<number>
  /** fdatasync: data and the size that is needed to read it back. */
  datasync(): Promise<void>
  sync(): Promise<void>
  truncate(size: number): Promise<void>
  close(): Promise<void>
}

export interface LogFs {
  open(path: string, flags: number, mode: number): Promise<LogFile>
  lstat(path: string): Promise<FileFacts>
  mkdir(path: string, mode: number): Promise<void>
}

/**
 * Open `<dir>/audit.jsonl` for appending, without following a symbolic link in the last two components.
 * @param owner uid that must own directory and file (0 in a daemon); both must be closed to everyone else
 * @param create make directory (0700) and file (0600) where they are absent; their parent must exist
 * @throws CordonError AUDIT_UNAVAILABLE; errno codes pass through as the caller's to judge
 */
export async function openLogFile(fs: LogFs, dir: string, owner: number, create: boolean): Promise<LogFile> {
  const { O_RDONLY, O_RDWR, O_APPEND, O_NOFOLLOW, O_CREAT, O_DIRECTORY } = constants
  if (create) await fs.mkdir(dir, 0o700).catch(ignoreExisting)
  const folder = await fs.open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0)
  try {
    requirePrivate(await folder.stat(), dir, 'directory', owner)
    // Through the descriptor: the directory that was checked is the one that is used.
    const file = await fs.open(`/proc/self/fd/${folder.fd}/${LOG_NAME}`, O_RDWR | O_APPEND | O_NOFOLLOW | (create ? O_CREAT : 0), 0o600)
    try {
      requirePrivate(await file.stat(), join(dir, LOG_NAME), 'file', owner)
      if (create) await folder.sync() // the file's name must outlive a crash, too
      return file
    } catch (error) {
      await file.close()
      throw error
    }
  } finally {
    await folder.close()
  }
}

function ignoreExisting(error: unknown): void {
  if (errnoOf(error) !== 'EEXIST') throw error
}

function requirePrivate(facts: FileFacts, path: string, kind: FileFacts['kind'], owner: number): void {
  const problem = facts.kind !== kind ? `is not a ${kind}`
    : facts.uid !== owner ? `belongs to uid ${facts.uid}, expected ${owner}`
    : (facts.mode & 0o077) !== 0 ? `has mode ${facts.mode.toString(8).padStart(4, '0')}, expected no access for group and others`
    : null
  if (problem !== null) throw new CordonError('AUDIT_UNAVAILABLE', `${printable(path)} ${problem}`)
}

/** ENOSPC, EIO, … or null for an error that does not come from a system call. */
export function errnoOf(error: unknown): string | null {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined
  return typeof code === 'string' && /^E[A-Z0-9]+$/.test(code) ? code : null
}

type Handle = Awaited<ReturnType<typeof open>>

export const NODE_FS: LogFs = {
  open: async (path, flags, mode) => nodeFile(await open(path, flags, mode)),
  lstat: async (path) => facts(await lstat(path, { bigint: true })),
  mkdir: (path, mode) => mkdir(path, mode),
}

function nodeFile(handle: Handle): LogFile {
  return {
    fd: handle.fd,
    stat: async () => facts(await handle.stat({ bigint: true })),
    read: async (position, length) => {
      const buffer = Buffer.alloc(length)
      let got = 0
      while (got < length) {
        const { bytesRead } = await handle.read(buffer, got, length - got, position + got)
        if (bytesRead === 0) break
        got += bytesRead
      }
      return buffer.subarray(0, got)
    },
    append: async (bytes) => (await handle.write(bytes)).bytesWritten,
    datasync: () => handle.datasync(),
    sync: () => handle.sync(),
    truncate: (size) => handle.truncate(size),
    close: () => handle.close(),
  }
}

function facts(stats: Awaited<ReturnType<Handle['stat']>> & { readonly ino: bigint | number }): FileFacts {
  return {
    kind: stats.isFile() ? 'file' : stats.isDirectory() ? 'directory' : 'other',
    dev: BigInt(stats.dev), ino: BigInt(stats.ino), nlink: Number(stats.nlink), size: Number(stats.size), uid: Number(stats.uid), mode: Number(stats.mode) & 0o7777,
  }
}
