import { closeSync, constants, fstatSync, lstatSync, openSync, readSync, type BigIntStats } from 'node:fs'
import { listSegments } from '../audit/segments.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'

/** Bytes of one segment, opened when they are asked for first. */
export class SegmentFile {
  /** `seq` of its first record. */
  readonly first: number
  readonly size: number
  /** Changes whenever the file does. */
  readonly stat: string
  /** Another segment follows, so nothing more is written into it. */
  readonly closed: boolean
  readonly #path: string
  #fd: number | null = null

  constructor(path: string, first: number, stat: BigIntStats, closed: boolean) {
    this.#path = path
    this.first = first
    this.size = Number(stat.size)
    this.stat = `${stat.dev}:${stat.ino}:${stat.size}:${stat.mtimeNs}:${stat.ctimeNs}`
    this.closed = closed
  }

  /** @returns fewer bytes where it ends @throws CordonError AUDIT_UNAVAILABLE */
  read(offset: number, length: number): Buffer {
    try {
      this.#fd ??= this.#open()
      const bytes = Buffer.allocUnsafe(length)
      return bytes.subarray(0, readSync(this.#fd, bytes, 0, length, offset))
    } catch (error) {
      throw notReadable(this.#path, error)
    }
  }

  close(): void {
    if (this.#fd !== null) closeSync(this.#fd)
    this.#fd = null
  }

  #open(): number {
    // O_NONBLOCK: a named pipe in place of a segment must not make the command wait for a writer.
    const fd = openSync(this.#path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    if (fstatSync(fd).isFile()) return fd
    closeSync(fd)
    throw new CordonError('AUDIT_UNAVAILABLE', `${printable(this.#path)} is not a regular file`)
  }
}

/**
 * The log as it is now, oldest segment first.
 * @throws CordonError AUDIT_NOT_FOUND, AUDIT_UNAVAILABLE
 */
export async function segmentFiles(dir: string): Promise<SegmentFile[]> {
  const segments = await listSegments(dir)
  return segments.map(({ path, first }, index) => {
    try {
      return new SegmentFile(path, first, lstatSync(path, { bigint: true }), index < segments.length - 1)
    } catch (error) {
      throw notReadable(path, error)
    }
  })
}

function notReadable(path: string, error: unknown): CordonError {
  if (error instanceof CordonError) return error
  const code = (error as NodeJS.ErrnoException).code
  return new CordonError('AUDIT_UNAVAILABLE', `cannot read ${printable(path)}: ${code ?? 'error'}${code === 'EACCES' ? '; only root may read it' : ''}`, { cause: error })
}
