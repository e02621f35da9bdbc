import { constants } from 'node:fs'
import { join } from 'node:path'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { errnoOf, type FileFacts, type LogFile, type LogFs } from './log-file.ts'

const { O_RDONLY, O_RDWR, O_WRONLY, O_APPEND, O_DSYNC, O_CREAT, O_TRUNC, O_NOFOLLOW, O_DIRECTORY } = constants

/**
 * A directory that is its owner's alone, held open: what was checked is what is used, and no symbolic link below it is followed.
 * Errno codes of the calls pass through; what is not private is AUDIT_UNAVAILABLE.
 */
export class PrivateDir {
  readonly #fs: LogFs
  readonly #folder: LogFile
  readonly #owner: number
  /** As an operator would write it. */
  readonly path: string

  private constructor(fs: LogFs, folder: LogFile, path: string, owner: number) {
    this.#fs = fs
    this.#folder = folder
    this.path = path
    this.#owner = owner
  }

  /** @param owner uid that must own it and what is in it @param create make it (0700) where it is absent; its parent must exist */
  static open(fs: LogFs, path: string, owner: number, create: boolean): Promise<PrivateDir> {
    return openDir(fs, path, path, owner, create)
  }

  /** @internal */
  static of(fs: LogFs, folder: LogFile, path: string, owner: number): PrivateDir {
    return new PrivateDir(fs, folder, path, owner)
  }

  subdir(name: string, create: boolean): Promise<PrivateDir> {
    return openDir(this.#fs, this.#at(name), join(this.path, name), this.#owner, create)
  }

  /**
   * What is appended is durable when that resolves: O_DSYNC is a write and its fdatasync in one call (open(2)). A commit waits for a thread
   * once instead of twice, which on a busy machine takes milliseconds each time.
   */
  openAppend(name: string, create: boolean): Promise<LogFile> {
    return this.#open(name, O_RDWR | O_APPEND | O_DSYNC | (create ? O_CREAT : 0))
  }

  /** @returns null where there is none @throws CordonError AUDIT_UNAVAILABLE when it is longer than `max` bytes */
  async read(name: string, max: number): Promise<Buffer | null> {
    const file = await this.#open(name, O_RDONLY).catch(absent)
    if (file === null) return null
    try {
      const bytes = await file.read(0, max + 1)
      if (bytes.length > max) throw new CordonError('AUDIT_UNAVAILABLE', `${printable(join(this.path, name))} is longer than ${max} bytes`)
      return bytes
    } finally {
      await file.close()
    }
  }

  /** @param durable its bytes are on the disk when it resolves (its name is after `sync`) */
  async write(name: string, bytes: Uint8Array, durable: boolean): Promise<void> {
    const file = await this.#open(name, O_WRONLY | O_CREAT | O_TRUNC)
    try {
      await writeAll(bytes, (rest, done) => file.writeAt(rest, done))
      if (durable) await file.datasync()
    } finally {
      await file.close()
    }
  }

  /** The bytes of a file that was written before; nothing where there is none. */
  async syncFile(name: string): Promise<void> {
    const file = await this.#open(name, O_WRONLY).catch(absent)
    if (file === null) return
    await file.datasync().finally(() => file.close())
  }

  /** Durable when it resolves, and whole or not there at all after a crash. */
  async replace(name: string, bytes: Uint8Array): Promise<void> {
    const fresh = `${name}.new`
    await this.write(fresh, bytes, true)
    await this.#fs.rename(this.#at(fresh), this.#at(name))
    await this.sync()
  }

  /** Overwritten before it is removed: what a disk keeps of it beyond that is its own (README.md). */
  async shred(name: string, length: number): Promise<void> {
    const file = await this.#open(name, O_WRONLY).catch(absent)
    if (file === null) return
    try {
      await writeAll(Buffer.alloc(length), (rest, done) => file.writeAt(rest, done))
      await file.datasync()
    } finally {
      await file.close()
    }
    await this.remove(name)
  }

  async remove(name: string): Promise<void> {
    await this.#fs.unlink(this.#at(name)).catch(async (error: unknown) => {
      if (errnoOf(error) !== 'EPERM') return absent(error)
      await this.appendOnly(name, false) // a crash right behind a rotation left it set
      await this.#fs.unlink(this.#at(name)).catch(absent)
    })
  }

  /** Only where it is empty: a directory that still holds something stays. */
  async removeDir(name: string): Promise<void> {
    await this.#fs.rmdir(this.#at(name)).catch((error: unknown) => {
      if (errnoOf(error) !== 'ENOTEMPTY') absent(error)
    })
  }

  list(): Promise<string[]> {
    return this.#fs.list(this.#at('.'))
  }

  /** Of what lies there under the path that an operator knows: elsewhere it would be a file that nobody reads. */
  facts(name: string): Promise<FileFacts | null> {
    return this.#fs.lstat(join(this.path, name)).catch(absent)
  }

  /** Under the path that an operator knows: the file system of the daemon asks another program, which has no descriptor of ours. */
  appendOnly(name: string, on: boolean): Promise<void> {
    return this.#fs.appendOnly(join(this.path, name), on)
  }

  /** Names in it must outlive a crash, too. */
  sync(): Promise<void> {
    return this.#folder.sync()
  }

  close(): Promise<void> {
    return this.#folder.close()
  }

  async #open(name: string, flags: number): Promise<LogFile> {
    return requirePrivate(await this.#fs.open(this.#at(name), flags | O_NOFOLLOW, 0o600), join(this.path, name), 'file', this.#owner)
  }

  #at(name: string): string {
    return `/proc/self/fd/${this.#folder.fd}/${name}`
  }
}

async function openDir(fs: LogFs, at: string, path: string, owner: number, create: boolean): Promise<PrivateDir> {
  if (create) await fs.mkdir(at, 0o700).catch(ignoreExisting)
  const folder = await fs.open(at, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0)
  return PrivateDir.of(fs, await requirePrivate(folder, path, 'directory', owner), path, owner)
}

/** @returns `file`; closes it where it throws */
async function requirePrivate(file: LogFile, path: string, kind: FileFacts['kind'], owner: number): Promise<LogFile> {
  try {
    const facts = await file.stat()
    const problem = facts.kind !== kind ? `is not a ${kind}`
      : facts.uid !== owner ? `belongs to uid ${facts.uid}, expected ${owner}`
      : (facts.mode & 0o077) !== 0 ? `has mode ${facts.mode.toString(8).padStart(4, '0')}, expected no access for group and others`
      : null
    if (problem !== null) throw new CordonError('AUDIT_UNAVAILABLE', `${printable(path)} ${problem}`)
    return file
  } catch (error) {
    await file.close().catch(() => undefined) // what matters is why
    throw error
  }
}

/** @param write takes the bytes that are left and how many are done, returns how many the kernel took */
export async function writeAll(bytes: Uint8Array, write: (rest: Uint8Array, done: number) => Promise<number>): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const written = await write(bytes.subarray(done), done)
    if (written <= 0) throw new CordonError('AUDIT_UNAVAILABLE', 'the kernel took no bytes of a write')
    done += written
  }
}

/** @returns null for ENOENT @throws anything else */
export function absent(error: unknown): null {
  if (errnoOf(error) === 'ENOENT') return null
  throw error
}

function ignoreExisting(error: unknown): void {
  if (errnoOf(error) !== 'EEXIST') throw error
}
