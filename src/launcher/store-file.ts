import { createHash } from 'node:crypto'
import type { BigIntStats } from 'node:fs'
import { constants } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'

/** Not among Node's constants (asm-generic/fcntl.h): names a file without opening it, so a FIFO or device has no effect. */
const O_PATH = 0o10000000
const BUFFER_BYTES = 1024 * 1024

/** Name a file without following a link in the last component and without side effects. The caller closes the handle. */
export async function openNamed(path: string, shown: string): Promise<FileHandle> {
  try {
    return await open(path, O_PATH | constants.O_NOFOLLOW)
  } catch (error) {
    const errno = errnoOf(error)
    if (errno === 'ENOENT' || errno === 'ENOTDIR') throw new CordonError('STORE_ABSENT', `${printable(shown)} does not exist`, { cause: error })
    throw new CordonError('STORE_REFUSED', `${printable(shown)} cannot be opened (${errno})`, { cause: error })
  }
}

export interface FileDigest {
  readonly sha256: string
  readonly bytes: number
  readonly identity: Identity
}

/** What changes when a file is written to or replaced. */
export interface Identity {
  readonly dev: bigint
  readonly ino: bigint
  readonly size: bigint
  readonly mtimeNs: bigint
  readonly ctimeNs: bigint
}

export function identityOf(stat: BigIntStats): Identity {
  return { dev: stat.dev, ino: stat.ino, size: stat.size, mtimeNs: stat.mtimeNs, ctimeNs: stat.ctimeNs }
}

export function sameIdentity(a: Identity, b: Identity): boolean {
  return a.dev === b.dev && a.ino === b.ino && a.size === b.size && a.mtimeNs === b.mtimeNs && a.ctimeNs === b.ctimeNs
}

/**
 * Hash a regular file, copying it on the way if `into` is given: what was hashed is what was copied, byte for byte.
 * @param named from openNamed(); opened for reading through its descriptor, so the name cannot be swapped in between
 * @throws CordonError STORE_CHANGING when the file changed while it was read, STORE_TOO_LARGE above maxBytes.
 *   A writer that pauses for longer than the copy takes cannot be noticed; its later bytes are then simply not in the store.
 */
export async function digestFile(named: FileHandle, shown: string, into: FileHandle | null, maxBytes: number): Promise<FileDigest> {
  const before = identityOf(await named.stat({ bigint: true }))
  if (before.size > BigInt(maxBytes)) throw tooLarge(shown, maxBytes)
  const source = await open(`/proc/self/fd/${named.fd}`, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    const hash = createHash('sha256')
    const buffer = Buffer.allocUnsafe(Math.min(BUFFER_BYTES, Number(before.size) + 1))
    let bytes = 0
    for (;;) {
      const { bytesRead } = await source.read(buffer, 0, buffer.length, bytes)
      if (bytesRead === 0) break
      bytes += bytesRead
      if (bytes > maxBytes) throw tooLarge(shown, maxBytes)
      const chunk = buffer.subarray(0, bytesRead)
      hash.update(chunk)
      if (into !== null) await into.writeFile(chunk)
    }
    const after = identityOf(await source.stat({ bigint: true }))
    if (!sameIdentity(before, after) || after.size !== BigInt(bytes)) throw changing(shown)
    return { sha256: hash.digest('hex'), bytes, identity: after }
  } finally {
    await source.close()
  }
}

export function changing(shown: string): CordonError {
  return new CordonError('STORE_CHANGING', `${printable(shown)} changed while it was being read`)
}

function tooLarge(shown: string, maxBytes: number): CordonError {
  return new CordonError('STORE_TOO_LARGE', `${printable(shown)} is over the limit of ${maxBytes} bytes`)
}

export function errnoOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'unknown error'
}
