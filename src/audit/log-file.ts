import { constants } from 'node:fs'
import { lstat, mkdir, open } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { RECORDS_DIR, segmentName } from './segments.ts'

/** Of the only segment, within the log's directory. */
export const LOG_NAME = join(RECORDS_DIR, segmentName(0))

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
 * Open the first segment of the log in `dir` for appending, without following a symbolic link below `dir`'s parent.
 * @param owner uid that must own directories and file (0 in a daemon); all must be closed to everyone else
 * @param create make directories (0700) and file (0600) where they are absent; the parent of `dir` must exist
 * @throws CordonError AUDIT_UNAVAILABLE; errno codes pass through as the caller's to judge
 */
export async function openLogFile(fs: LogFs, dir: string, owner: number, create: boolean): Promise<LogFile> {
  const top = await openFolder(fs, dir, dir, owner, create)
  try {
    const records = await openFolder(fs, `/proc/self/fd/${top.fd}/${RECORDS_DIR}`, join(dir, RECORDS_DIR), owner, create)
    try {
      const file = await openPrivateFile(fs, records, join(dir, LOG_NAME), owner, create)
      if (create) for (const folder of [records, top]) await folder.sync() // the names must outlive a crash, too
      return file
    } finally {
      await records.close()
    }
  } finally {
    await top.close()
  }
}

async function openFolder(fs: LogFs, at: string, path: string, owner: number, create: boolean): Promise<LogFile> {
  if (create) await fs.mkdir(at, 0o700).catch(ignoreExisting)
  const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = constants
  return requirePrivate(await fs.open(at, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0), path, 'directory', owner)
}

/** Through the descriptor of its directory: the one that was checked is the one that is used. */
async function openPrivateFile(fs: LogFs, folder: LogFile, path: string, owner: number, create: boolean): Promise<LogFile> {
  const { O_RDWR, O_APPEND, O_NOFOLLOW, O_CREAT } = constants
  const file = await fs.open(`/proc/self/fd/${folder.fd}/${basename(path)}`, O_RDWR | O_APPEND | O_NOFOLLOW | (create ? O_CREAT : 0), 0o600)
  return requirePrivate(file, path, 'file', owner)
}

function ignoreExisting(error: unknown): void {
  if (errnoOf(error) !== 'EEXIST') throw error
}

/** @returns `file`; closes it where it throws */
async function requirePrivate(file: LogFile, path: string, kind: FileFacts['kind'], owner: number): Promise<LogFile> {
  const facts = await file.stat()
  const problem = facts.kind !== kind ? `is not a ${kind}`
    : facts.uid !== owner ? `belongs to uid ${facts.uid}, expected ${owner}`
    : (facts.mode & 0o077) !== 0 ? `has mode ${facts.mode.toString(8).padStart(4, '0')}, expected no access for group and others`
    : null
  if (problem === null) return file
  await file.close()
  throw new CordonError('AUDIT_UNAVAILABLE', `${printable(path)} ${problem}`)
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
