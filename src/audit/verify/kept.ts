import { printable } from '../../base/printable.ts'
import type { Findings } from './findings.ts'
import type { LineReader } from './lines.ts'
import type { Moment, OwnRecords } from './own-records.ts'
import { explainLine, MAX_LINE_BYTES, RecordScanner } from './scan.ts'
import { leafHash, type Hash, type Tree } from './tree.ts'

/** `seals.jsonl`: some of the log's own records once more, so that they outlive their segments. Read along with the log. */
export class Kept {
  /** Of the line that is next; Infinity: there is none. */
  seq = Number.POSITIVE_INFINITY
  readonly #reader: LineReader | null
  readonly #findings: Findings
  readonly #scanner = new RecordScanner()
  #leaf: Hash = ''

  constructor(reader: LineReader | null, findings: Findings) {
    this.#reader = reader
    this.#findings = findings
  }

  /** @param size of the log so far, for a finding */
  advance(size: number): void {
    const reader = this.#reader
    const before = this.seq === Number.POSITIVE_INFINITY ? -1 : this.seq
    this.seq = Number.POSITIVE_INFINITY
    if (reader === null || this.#findings.any) return
    const kind = reader.next()
    if (kind === 'none' || kind === 'rest') return // a line under way; without it the next seal would not follow
    if (kind === 'long' || reader.end - reader.start > MAX_LINE_BYTES || !this.#scanner.scan(reader.buffer, reader.start, reader.end)) {
      return void this.#bad(reader, size, kind === 'long' ? 'the line is too long' : explainLine(reader.buffer.subarray(reader.start, reader.end)))
    }
    const { seq } = this.#scanner
    if (seq <= before) return void this.#bad(reader, seq, `record ${seq} stands behind record ${before}`)
    this.seq = seq
    reader.buffer[reader.start - 1] = 0
    this.#leaf = leafHash(reader.buffer.subarray(reader.start - 1, reader.end))
  }

  /** The next line is a record whose segment was removed: only here its words are left. @param leaf as the tile has it @returns false: it is not that record */
  takeRemoved(own: OwnRecords, leaf: Hash, tree: Tree): boolean {
    const reader = this.#reader
    const { seq } = this
    if (reader === null) return true
    if (this.#leaf !== leaf) return this.#bad(reader, seq, 'this line is not the record that stood there: the tile has another hash')
    const { bootStart, bootEnd, monoMs, timeMs, typeStart, typeEnd } = this.#scanner
    const type = reader.buffer.toString('latin1', typeStart, typeEnd)
    if (type !== 'log.created' && type !== 'seal' && type !== 'log.pruned') return this.#bad(reader, seq, `a record of type ${printable(type, 40)} is not kept here`)
    const moment: Moment = { boot: reader.buffer.toString('utf8', bootStart, bootEnd), monoMs, timeMs }
    const problem = own.take(type, reader.buffer.subarray(reader.start, reader.end), seq, moment, leaf, tree)
    if (problem !== null) return this.#bad(reader, seq, problem)
    this.advance(seq)
    return true
  }

  /** @param leaf of record `seq` in its segment */
  compare(seq: number, leaf: Hash): void {
    if (seq === 0) this.advance(seq)
    if (this.#reader === null || this.seq !== seq) return
    if (this.#leaf !== leaf) return void this.#bad(this.#reader, seq, 'this line differs from the record in its segment')
    this.advance(seq)
  }

  /** Nothing may stand here that the log does not reach. */
  end(size: number): void {
    if (size === 0) this.advance(size)
    if (this.#reader === null || this.seq === Number.POSITIVE_INFINITY || this.seq < size) return
    this.#bad(this.#reader, size, `this line is record ${this.seq}, which the log does not reach: newer records were cut off`)
  }

  #bad(reader: LineReader, seq: number, problem: string): false {
    this.#findings.bad({ seq, file: 'seals.jsonl', line: reader.number, offset: reader.offset, problem })
    return false
  }
}
