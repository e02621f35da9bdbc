import { constants } from 'node:fs'
import { basename } from 'node:path'
import { NODE_FS, type LogFile, type LogFs } from '../../src/audit/log-file.ts'

/** How the writer ends: before a call, or with half of what a write would have written; `power` also takes what was not synced. */
export type Death = 'before' | 'half' | 'power'

const FORBIDDEN = Object.assign(new Error('append-only'), { code: 'EPERM' })
const GONE = Object.assign(new Error('killed'), { code: 'EIO' })

/**
 * The real file system until call number `at` of those that change something; from there on nothing happens any more, as in a process
 * that was killed. `calls` tells how many there were.
 * @param marked names of files that are append-only, which outlive it: they are neither cut nor removed
 */
export function dyingFs(at: number, death: Death, marked = new Set<string>()): LogFs & { calls: number; readonly dead: boolean; readonly marked: Set<string> } {
  const unsynced = new Map<LogFile, number>()
  const fs = {
    calls: 0,
    dead: false,
    marked,
    open: async (path: string, flags: number, mode: number) => {
      await change()
      return file(await NODE_FS.open(path, flags & ~constants.O_DSYNC, mode), basename(path), (flags & constants.O_DSYNC) === constants.O_DSYNC)
    },
    lstat: async (path: string) => (alive(), NODE_FS.lstat(path)),
    list: async (path: string) => (alive(), NODE_FS.list(path)),
    mkdir: async (path: string, mode: number) => (await change(), NODE_FS.mkdir(path, mode)),
    rename: async (from: string, to: string) => (await change(), NODE_FS.rename(from, to)),
    unlink: async (path: string) => (await change(), free(basename(path)), NODE_FS.unlink(path)),
    rmdir: async (path: string) => (await change(), NODE_FS.rmdir(path)),
    appendOnly: async (path: string, on: boolean) => {
      await change()
      if (on) marked.add(basename(path))
      else marked.delete(basename(path))
    },
  }
  const alive = (): void => {
    if (fs.dead) throw GONE
  }
  const change = async (half?: () => Promise<unknown>): Promise<void> => {
    alive()
    fs.calls += 1
    if (fs.calls !== at) return
    fs.dead = true
    if (death === 'half') await half?.()
    if (death === 'power') for (const [real, size] of unsynced) await real.truncate(size)
    throw GONE
  }
  const free = (name: string): void => {
    if (marked.has(name)) throw FORBIDDEN
  }
  /** @param durable no disk has to be waited for, but what was not opened so is lost in a power cut until it is synced */
  const file = (real: LogFile, name: string, durable: boolean): LogFile => ({
    fd: real.fd,
    stat: async () => (alive(), real.stat()),
    read: async (position, length) => (alive(), real.read(position, length)),
    append: async (bytes) => {
      await change(() => real.append(bytes.subarray(0, bytes.length >> 1)))
      if (!durable && !unsynced.has(real)) unsynced.set(real, (await real.stat()).size)
      return real.append(bytes)
    },
    writeAt: async (bytes, position) => (await change(() => real.writeAt(bytes.subarray(0, bytes.length >> 1), position)), real.writeAt(bytes, position)),
    datasync: async () => {
      await change()
      await real.datasync()
      alive() // killed meanwhile: nobody was told
      unsynced.delete(real)
    },
    sync: async () => (await change(), real.sync()),
    truncate: async (size) => (await change(), free(name), real.truncate(size)),
    close: async () => {
      unsynced.delete(real)
      await real.close()
    },
  })
  return fs
}
