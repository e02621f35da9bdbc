import { fstatSync, lstatSync, type BigIntStats } from 'node:fs'
import { mkdir, open, readdir, rename, rmdir, unlink } from 'node:fs/promises'

export interface FileFacts {
  readonly kind: 'file' | 'directory' | 'other'
  readonly dev: bigint
  readonly ino: bigint
  readonly nlink: number
  readonly size: number
  /** Tells a file from one that came after it and has its inode number. */
  readonly ctimeNs: bigint
  readonly uid: number
  /** Permission bits only. */
  readonly mode: number
}

/** The few calls that the writer makes; an argument, so that tests can let each of them fail. Errors carry `code`. */
export interface LogFile {
  readonly fd: number
  stat(): Promise<FileFacts>
  read(position: number, length: number): Promise<Buffer>
  /** Appends (O_APPEND) and returns how many bytes the kernel took, which can be fewer; durable where the file was opened with O_DSYNC. */
  append(bytes: Uint8Array): Promise<number>
  /** Only where the file was not opened with O_APPEND. */
  writeAt(bytes: Uint8Array, position: number): Promise<number>
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
  rename(from: string, to: string): Promise<void>
  unlink(path: string): Promise<void>
  rmdir(path: string): Promise<void>
  /** Names, in no order. */
  list(path: string): Promise<string[]>
  /**
   * Set or lift the append-only attribute (ioctl_iflags(2), FS_APPEND_FL). Resolves also where file system or rights do not allow it: it
   * guards against mistakes, and nothing else rests on it. NODE_FS leaves it be, since Node has no ioctl; a daemon's does it.
   */
  appendOnly(path: string, on: boolean): Promise<void>
}

/** ENOSPC, EIO, … or null for an error that does not come from a system call. */
export function errnoOf(error: unknown): string | null {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined
  return typeof code === 'string' && /^E[A-Z0-9]+$/.test(code) ? code : null
}

type Handle = Awaited<ReturnType<typeof open>>

/**
 * Each commit looks at its files (journal.ts), whose names and inodes the kernel holds in memory as long as they are open: asked at once that
 * takes a few microseconds, and by way of a thread a quarter of what a commit costs. What can wait for the disk goes to a thread.
 */
export const NODE_FS: LogFs = {
  open: async (path, flags, mode) => nodeFile(await open(path, flags, mode)),
  lstat: async (path) => facts(lstatSync(path, { bigint: true })),
  mkdir: (path, mode) => mkdir(path, mode),
  rename,
  unlink,
  rmdir,
  list: (path) => readdir(path),
  appendOnly: async () => {},
}

function nodeFile(handle: Handle): LogFile {
  return {
    fd: handle.fd,
    stat: async () => facts(fstatSync(handle.fd, { bigint: true })),
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
    writeAt: async (bytes, position) => (await handle.write(bytes, 0, bytes.length, position)).bytesWritten,
    datasync: () => handle.datasync(),
    sync: () => handle.sync(),
    truncate: (size) => handle.truncate(size),
    close: () => handle.close(),
  }
}

function facts(stats: BigIntStats): FileFacts {
  return {
    kind: stats.isFile() ? 'file' : stats.isDirectory() ? 'directory' : 'other',
    dev: stats.dev, ino: stats.ino, nlink: Number(stats.nlink), ctimeNs: stats.ctimeNs, size: Number(stats.size), uid: Number(stats.uid), mode: Number(stats.mode) & 0o7777,
  }
}
