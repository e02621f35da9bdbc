import { createHash, type Hash as Digest } from 'node:crypto'
import type { Finding } from './verdict.ts'

/** Bytes that one `gap` record may vouch for (FORMAT.md, "Record"). */
const MAX_TORN_BYTES = 8 * 1024 * 1024

/** Bytes that are no record, until a `gap` record with their length and hash turns up. */
export class Torn {
  readonly finding: Finding
  /** Among them stands a line that is a record by itself. */
  holdsRecord = false
  readonly #digest: Digest
  #bytes: number

  constructor(finding: Finding, line: Buffer) {
    this.finding = finding
    this.#digest = createHash('sha256').update(line)
    this.#bytes = line.length
  }

  /** @returns false: more than a `gap` record may vouch for */
  add(line: Buffer, isRecord: boolean): boolean {
    this.#digest.update('\n').update(line)
    this.#bytes += 1 + line.length
    this.holdsRecord ||= isRecord
    return this.#bytes <= MAX_TORN_BYTES
  }

  /** The writer ended them with a newline if they had none. @param line a `gap` record */
  vouchedBy(line: Buffer): boolean {
    const { data } = JSON.parse(line.toString('utf8')) as { readonly data: Readonly<Record<string, unknown>> }
    const { reason, torn } = data
    if (reason !== 'torn-line' || typeof torn !== 'object' || torn === null) return false
    const { offset, bytes, sha256 } = torn as Record<string, unknown>
    const bare = bytes === this.#bytes && sha256 === this.#digest.copy().digest('hex')
    const ended = bytes === this.#bytes + 1 && sha256 === this.#digest.copy().update('\n').digest('hex')
    return offset === this.finding.offset && (bare || ended)
  }
}
