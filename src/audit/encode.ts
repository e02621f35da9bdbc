import { hash } from 'node:crypto'
import { CordonError } from '../errors.ts'
import { MAX_ENTRY_BYTES, type PreparedEntry } from './entry.ts'
import { HASH_BYTES } from './tree.ts'

const NEWLINE = 0x0a
const FIRST_BYTES = 64 * 1024

/** Records with their places in the chain, ready to be written. */
export interface Batch {
  /** Valid until the encoder's next call. */
  readonly bytes: Buffer
  /** Leaf hashes of the records, one after the other. */
  readonly leaves: Buffer
  /** Leaf hash of the last one. */
  readonly hash: string
}

/** Chains records into one reused buffer: no object per record, one SHA-256 each. */
export class BatchEncoder {
  #buffer = Buffer.allocUnsafeSlow(FIRST_BYTES)

  /**
   * @param seq of the first record @param prev leaf hash of the record before it
   * @param endLine what stands in the file lacks its newline
   */
  encode(entries: readonly PreparedEntry[], seq: number, prev: string, endLine: boolean): Batch {
    const buffer = this.#room(entries.reduce((sum, { bytes }) => sum + bytes, 2))
    const leaves = Buffer.allocUnsafe(entries.length * HASH_BYTES)
    // The byte before a record stands for the 0x00 of RFC 6962 while it is hashed, and is a newline (or nothing) otherwise.
    let at = 1
    if (endLine) buffer[at++] = NEWLINE
    let leaf = prev
    for (const [i, entry] of entries.entries()) {
      const [head, middle, tail] = entry.parts
      const length = buffer.write(`${head}${leaf}${middle}${seq + i}${tail}`, at)
      if (length > MAX_ENTRY_BYTES) throw new CordonError('INTERNAL_BUG', `a record of ${length} bytes left the encoder`)
      const before = buffer[at - 1] ?? 0
      buffer[at - 1] = 0
      leaf = hash('sha256', buffer.subarray(at - 1, at + length), 'hex')
      buffer[at - 1] = before
      leaves.write(leaf, i * HASH_BYTES, 'hex')
      at += length
      buffer[at++] = NEWLINE
    }
    return { bytes: buffer.subarray(1, at), leaves, hash: leaf }
  }

  #room(bytes: number): Buffer {
    if (this.#buffer.length < bytes) this.#buffer = Buffer.allocUnsafeSlow(2 ** Math.ceil(Math.log2(bytes)))
    return this.#buffer
  }
}
