import { closeSync, constants, fstatSync, openSync, readdirSync, readSync, type Stats } from 'node:fs'
import { basename, dirname } from 'node:path'
import { printable } from '../base/printable.ts'
import { wrongForm } from './paths.ts'
import { PolicyError } from './problem.ts'
import { MAX_FILE_BYTES } from './strict-yaml.ts'

/** Who may have written what we are about to believe: root alone, or anyone (the caller then shows `distrust`). */
export type Ownership = 'required' | 'reported'

export interface TrustedText {
  readonly text: string
  /** Why the daemon would not believe this file; empty under `required`. */
  readonly distrust: readonly string[]
}

/** Files in one directory; more is no directory of policies. */
const MAX_ENTRIES = 4096

/**
 * Read a small text file that decides about walls. Each directory is opened below the one before it and no link is
 * followed, so what was checked is what is read.
 * @param file absolute, normalised
 * @throws PolicyError POLICY_ABSENT, POLICY_UNREADABLE, POLICY_UNTRUSTED, POLICY_INVALID (not UTF-8, too large)
 */
export function readTrustedFile(file: string, ownership: Ownership): TrustedText {
  return withDirectory(dirname(file), ownership, (directory, distrust) => {
    // O_NONBLOCK: a FIFO in its place must not hold us; a regular file does not care.
    const fd = open(`/proc/self/fd/${directory}/${basename(file)}`, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK, file)
    try {
      const stat = fstatSync(fd)
      if (!stat.isFile()) throw new PolicyError('POLICY_UNREADABLE', `${show(file)} is not a regular file`)
      const all = [...distrust, ...doubts(file, stat, 'file')]
      if (ownership === 'required' && all[0] !== undefined) throw new PolicyError('POLICY_UNTRUSTED', all[0])
      return { text: decode(file, readAll(fd, file)), distrust: all }
    } finally {
      closeSync(fd)
    }
  })
}

/**
 * Names in a directory, sorted; checked like readTrustedFile.
 * @throws PolicyError POLICY_ABSENT, POLICY_UNREADABLE, POLICY_UNTRUSTED
 */
export function listTrustedDirectory(path: string, ownership: Ownership): readonly string[] {
  return withDirectory(path, ownership, (directory) => {
    const names = readdirSync(`/proc/self/fd/${directory}/.`)
    if (names.length > MAX_ENTRIES) throw new PolicyError('POLICY_UNREADABLE', `${show(path)} holds ${names.length} entries; at most ${MAX_ENTRIES} are read`)
    return names.sort()
  })
}

function withDirectory<T>(path: string, ownership: Ownership, use: (fd: number, distrust: readonly string[]) => T): T {
  const wrong = wrongForm(path)
  if (wrong !== null) throw new PolicyError('POLICY_UNREADABLE', `${show(path)} cannot be opened: ${wrong}`)
  const flags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW
  const distrust: string[] = []
  let fd = open('/', flags, '/')
  let at = '/'
  try {
    distrust.push(...doubts(at, fstatSync(fd), 'directory'))
    for (const part of path.split('/').filter((name) => name !== '')) {
      const next = at === '/' ? `/${part}` : `${at}/${part}`
      const below = open(`/proc/self/fd/${fd}/${part}`, flags, next)
      closeSync(fd)
      fd = below
      at = next
      distrust.push(...doubts(at, fstatSync(fd), 'directory'))
    }
    if (ownership === 'required' && distrust[0] !== undefined) throw new PolicyError('POLICY_UNTRUSTED', distrust[0])
    return use(fd, distrust)
  } finally {
    closeSync(fd)
  }
}

const GROUP_OR_OTHERS_WRITE = 0o022
const STICKY = 0o1000

/** A sticky directory of root's (/tmp) is no doubt: nobody can replace an entry there that root owns, and each entry on the way must be root's. */
function doubts(path: string, stat: Stats, what: 'file' | 'directory'): string[] {
  const found: string[] = []
  const mode = (stat.mode & 0o7777).toString(8).padStart(4, '0')
  if (stat.uid !== 0) found.push(`the ${what} ${show(path)} belongs to uid ${stat.uid}; expected root`)
  if ((stat.mode & GROUP_OR_OTHERS_WRITE) !== 0 && !(what === 'directory' && (stat.mode & STICKY) !== 0)) {
    found.push(`the ${what} ${show(path)} has mode ${mode}; expected that only root can write to it`)
  }
  return found
}

function open(path: string, flags: number, name: string): number {
  try {
    return openSync(path, flags)
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown'
    if (code === 'ENOENT') throw new PolicyError('POLICY_ABSENT', `${show(name)} does not exist`, { cause: error })
    if (code === 'ELOOP') throw new PolicyError('POLICY_UNREADABLE', `${show(name)} is a symbolic link; expected the thing itself`, { cause: error })
    if (code === 'ENOTDIR') throw new PolicyError('POLICY_UNREADABLE', `${show(name)} is a link or a file; expected a directory`, { cause: error })
    throw new PolicyError('POLICY_UNREADABLE', `${show(name)} cannot be opened: ${code}`, { cause: error })
  }
}

/** Reads one byte more than allowed, so that a file that grows meanwhile cannot pass. */
function readAll(fd: number, file: string): Buffer {
  const buffer = Buffer.alloc(MAX_FILE_BYTES + 1)
  let length = 0
  try {
    for (;;) {
      const count = readSync(fd, buffer, length, buffer.length - length, null)
      length += count
      if (count === 0 || length === buffer.length) break
    }
  } catch (error) {
    throw new PolicyError('POLICY_UNREADABLE', `${show(file)} cannot be read: ${error instanceof Error && 'code' in error ? String(error.code) : 'unknown'}`, { cause: error })
  }
  if (length > MAX_FILE_BYTES) throw new PolicyError('POLICY_TOO_LARGE', `${show(file)} is larger than ${MAX_FILE_BYTES} bytes`)
  return buffer.subarray(0, length)
}

function decode(file: string, bytes: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (error) {
    throw new PolicyError('POLICY_INVALID', `${show(file)} is not UTF-8 text`, { cause: error })
  }
}

function show(path: string): string {
  return printable(path, 300)
}
