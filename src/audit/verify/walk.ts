import { join } from 'node:path'
import { Claims } from './claims.ts'
import { thisMoment, type Evidence, type Now, type VerifyOptions } from './evidence.ts'
import { Findings } from './findings.ts'
import { judge } from './judgement.ts'
import { Kept } from './kept.ts'
import type { LineReader } from './lines.ts'
import { OwnRecords, ownType, type Moment } from './own-records.ts'
import { explainLine, MAX_LINE_BYTES, RecordScanner } from './scan.ts'
import { TileCheck, type TileFault } from './tiles.ts'
import { Torn } from './torn.ts'
import { leafHash, toHex, Tree, type Hash } from './tree.ts'
import type { Finding, VerifyResult } from './verdict.ts'

const CLOCK_STEP_MS = 1000

/** Two neighbours that disagree: which of them was changed shows in the record after them. */
interface Suspicion {
  readonly earlier: Finding
  readonly later: Finding
  readonly laterLeaf: string
}

/** The state of one verification: fed with removed leaves, then with lines, in order. */
export class Walk {
  readonly #evidence: Evidence
  readonly #options: VerifyOptions
  readonly #now: Now
  readonly #tiles: TileCheck
  readonly #tree: Tree
  readonly #findings = new Findings()
  readonly #notes: string[]
  readonly #own: OwnRecords
  readonly #claims: Claims
  readonly #kept: Kept
  readonly #scanner = new RecordScanner()
  #file = 'records'
  #lastLeaf: Hash | null = null
  /** Of the record taken last. */
  #boot = ''
  #bootBytes: Buffer = Buffer.alloc(0)
  #monoMs = 0
  /** NaN: there is none yet. A number in any case, so that no record costs an allocation. */
  #timeMs = Number.NaN
  #lastLine = 0
  #lastOffset = 0
  #lastFile: string | null = null
  #end = 0
  /** In a segment: removed records are sealed, or the coverage of `log.pruned` says otherwise. */
  #firstUnsealed: Moment | null = null
  #clockSteps = 0
  #removed = 0
  #removedLeaf: Hash | null = null
  #headConfirmed = false
  #torn: Torn | null = null
  #suspicion: Suspicion | null = null
  #tail: Finding | null = null

  /** @param kept seals.jsonl; null: there is none; `other`: it is no regular file */
  constructor(dir: string, evidence: Evidence, options: VerifyOptions, kept: LineReader | 'other' | null) {
    this.#evidence = evidence
    this.#options = options
    this.#now = options.now ?? thisMoment()
    this.#tiles = new TileCheck(join(dir, 'tile'), evidence.disk?.size ?? 0)
    this.#tree = new Tree((level, index, hashes) => this.#tiles.compare(level, index, hashes))
    this.#notes = [...evidence.notes]
    this.#own = new OwnRecords(evidence.genesis, this.#notes)
    this.#claims = new Claims(evidence, this.#findings)
    this.#kept = new Kept(kept === 'other' ? null : kept, this.#findings)
    const { genesis } = evidence
    const log = { seq: 0, file: 'records', line: 0, offset: 0 }
    if (options.pin !== undefined && genesis?.fingerprint !== options.pin) {
      const found = genesis === null ? 'no first record names the key of the log' : `the log begins with the key ${genesis.fingerprint}`
      this.#findings.bad({ ...log, problem: `${found}, expected ${options.pin}: this is not the log that the key was noted of` }, 0)
    }
    if (evidence.savedFault !== null) this.#findings.bad({ ...log, problem: evidence.savedFault }, 0)
    if (kept === 'other') this.#findings.bad({ ...log, file: 'seals.jsonl', problem: 'it is no regular file' }, 0)
    this.#claims.compare(this.#tree, this.#own.seal)
  }

  get size(): number {
    return this.#tree.size
  }

  // Records that were removed

  beginRemoved(first: number): void {
    this.#kept.advance(0)
    if (this.#kept.seq === 0 || this.#findings.any) return
    this.#findings.reach(first)
    this.#findings.bad({ seq: 0, file: 'seals.jsonl', line: 1, offset: 0, problem: 'records were removed from the beginning, and the first record of the log was not kept here' })
  }

  removed(leaf: Hash): void {
    if (this.#findings.any) return
    if (this.#kept.seq === this.#tree.size && !this.#kept.takeRemoved(this.#own, leaf, this.#tree)) return
    this.#push(leaf)
  }

  endRemoved(first: number): void {
    this.#removed = first
    this.#findings.expected = first
    this.#removedLeaf = this.#lastLeaf
  }

  noTile(fault: TileFault, first: number): void {
    this.#findings.bad({ seq: this.#tree.size, line: 0, offset: 0, ...fault })
    this.#removed = first
    this.#findings.expected = first
  }

  // Records in segments

  beginSegment(first: number, file: string): void {
    this.#file = file
    this.#findings.reach(first)
    const expected = this.#tree.size
    if (this.#findings.any || this.#suspicion !== null || first === expected) return
    const what = first > expected ? `records ${expected} to ${first - 1} are missing: no segment holds them` : `record ${expected} was expected next`
    this.#findings.bad({ seq: expected, file, line: 0, offset: 0, problem: `the segment begins with record ${first}; ${what}` })
  }

  notAFile(): void {
    this.#findings.bad({ seq: this.#tree.size, file: this.#file, line: 0, offset: 0, problem: 'it is no regular file' })
  }

  line(reader: LineReader, kind: 'line' | 'rest' | 'long'): void {
    const length = reader.end - reader.start
    const isRecord = kind === 'line' && length <= MAX_LINE_BYTES && this.#scanner.scan(reader.buffer, reader.start, reader.end)
    if (this.#suspicion !== null) this.#resolve(this.#suspicion, isRecord ? reader : null)
    else if (this.#findings.any) this.#count(isRecord)
    else if (kind === 'rest') this.#rest(reader)
    else if (this.#torn !== null) this.#insideTorn(this.#torn, reader, kind, isRecord)
    else if (isRecord) this.#take(reader)
    else this.#startTorn(reader, kind)
  }

  endSegment(last: boolean): void {
    const damage = this.#torn?.finding ?? this.#tail
    if (damage !== null && !last) this.#findings.bad(damage)
    this.#end = 0
  }

  #take(reader: LineReader): void {
    const { buffer, start, end } = reader
    const scanner = this.#scanner
    const seq = this.#tree.size
    if (scanner.seq !== seq) {
      this.#findings.bad(this.#at(reader, seqProblem(scanner.seq, seq)))
      return this.#count(true)
    }
    this.#findings.expected = seq + 1
    buffer[start - 1] = 0
    const leaf = leafHash(new Uint8Array(buffer.buffer, buffer.byteOffset + start - 1, end - start + 1)) // faster than subarray: a Buffer is made in two steps
    if (!samePrev(buffer, scanner.prevStart, this.#lastLeaf)) return this.#otherPrev(reader, seq, leaf)
    if (!this.#sameBoot(buffer, scanner)) {
      this.#boot = buffer.toString('utf8', scanner.bootStart, scanner.bootEnd)
      this.#bootBytes = Buffer.from(buffer.subarray(scanner.bootStart, scanner.bootEnd))
    } else if (scanner.monoMs < this.#monoMs) {
      return this.#findings.bad(this.#at(reader, `mono_ms ${scanner.monoMs} is before the ${this.#monoMs} of the record before it, in the same boot`))
    }
    const { head } = this.#options
    if (head !== undefined && head.seq === seq) {
      if (toHex(leaf) !== head.hash) return this.#findings.bad(this.#at(reader, 'it is not the record whose hash was remembered'))
      this.#headConfirmed = true
    }
    if (this.#kept.seq === seq || seq === 0) {
      this.#kept.compare(seq, leaf)
      if (this.#findings.any) return
    }
    const type = ownType(buffer, scanner)
    if (type !== null || seq === 0) {
      const moment = { boot: this.#boot, monoMs: scanner.monoMs, timeMs: scanner.timeMs }
      const problem = this.#own.take(type ?? 'other', buffer.subarray(start, end), seq, moment, leaf, this.#tree)
      const { seal } = this.#own
      if (problem !== null) return this.#findings.bad(this.#at(reader, problem), type !== 'seal' ? seq : seal === null ? 0 : seal.seq + 1)
    }
    if (type === 'seal') this.#firstUnsealed = null
    else this.#firstUnsealed ??= { boot: this.#boot, monoMs: scanner.monoMs, timeMs: scanner.timeMs }
    if (scanner.timeMs < this.#timeMs - CLOCK_STEP_MS) this.#clockSteps += 1
    this.#monoMs = scanner.monoMs
    this.#timeMs = scanner.timeMs
    this.#lastFile = this.#file
    this.#lastLine = reader.number
    this.#lastOffset = reader.offset
    this.#end = reader.offset + (end - start) + 1
    this.#push(leaf)
  }

  #push(leaf: Hash): void {
    this.#tree.push(leaf)
    this.#lastLeaf = leaf
    const { size } = this.#tree
    this.#findings.expected = size
    if (size === this.#claims.nextSize) this.#claims.compare(this.#tree, this.#own.seal)
  }

  // Damage

  #otherPrev(reader: LineReader, seq: number, leaf: Hash): void {
    const later = this.#at(reader, 'its prev is not the hash of the record before it')
    const before = this.#lastAt()
    if (before === null) {
      return this.#findings.bad({ ...later, problem: seq === 0 ? 'the first record must have a prev of zeros' : 'its prev is not the hash of the removed record before it' })
    }
    const earlier = { seq: seq - 1, ...before, problem: 'it was changed: the next record was chained to other bytes' }
    this.#suspicion = { earlier, later, laterLeaf: toHex(leaf) }
  }

  #resolve(suspicion: Suspicion, next: LineReader | null): void {
    const { earlier, later, laterLeaf } = suspicion
    this.#suspicion = null
    const { head } = this.#options
    const prev = next === null ? null : next.buffer.toString('latin1', this.#scanner.prevStart, this.#scanner.prevStart + 64)
    const laterIsRight = prev === laterLeaf || (head?.seq === later.seq && head.hash === laterLeaf)
    if (laterIsRight) this.#findings.bad(earlier)
    else if (next === null) this.#findings.bad({ ...earlier, problem: 'it, or the prev of the record after it, was changed: they do not fit' })
    else this.#findings.bad(later)
    this.#count(next !== null)
  }

  #startTorn(reader: LineReader, kind: 'line' | 'long'): void {
    const bytes = reader.buffer.subarray(reader.start, reader.end)
    const length = bytes.length
    if (kind === 'long') return this.#findings.bad(this.#at(reader, `a line of more than ${length} bytes`))
    this.#torn = new Torn(this.#at(reader, length > MAX_LINE_BYTES ? `the line has ${length} bytes, at most ${MAX_LINE_BYTES} are allowed` : explainLine(bytes)), bytes)
  }

  #insideTorn(torn: Torn, reader: LineReader, kind: 'line' | 'long', isRecord: boolean): void {
    const bytes = reader.buffer.subarray(reader.start, reader.end)
    if (isRecord && ownType(reader.buffer, this.#scanner) === 'gap' && torn.vouchedBy(bytes)) {
      this.#torn = null
      return this.#take(reader)
    }
    if (!torn.add(bytes, isRecord) || kind === 'long') this.#findings.bad(torn.finding)
  }

  #rest(reader: LineReader): void {
    if (this.#torn?.holdsRecord === true) return // an altered record, whatever follows it
    this.#torn = null
    this.#tail = this.#at(reader, `the last line is not finished: ${reader.end - reader.start} bytes without a newline`)
  }

  /** Behind the first finding. */
  #count(isRecord: boolean): void {
    if (!isRecord) return
    const { seq } = this.#scanner
    this.#findings.reach(seq)
    this.#findings.expected = Math.max(this.#findings.expected, seq + 1)
  }

  #lastAt(): Omit<Finding, 'seq' | 'problem'> | null {
    return this.#lastFile === null ? null : { file: this.#lastFile, line: this.#lastLine, offset: this.#lastOffset }
  }

  #at(reader: LineReader, problem: string): Finding {
    return { seq: this.#tree.size, file: this.#file, line: reader.number, offset: reader.offset, problem }
  }

  #sameBoot(buffer: Buffer, scanner: RecordScanner): boolean {
    const known = this.#bootBytes
    if (scanner.bootEnd - scanner.bootStart !== known.length) return false
    for (let i = 0; i < known.length; i++) if (buffer[scanner.bootStart + i] !== known[i]) return false
    return true
  }

  // The end

  /** @param empty no segment is there @param grown the log went on while it was read */
  end(empty: boolean, grown: () => boolean): VerifyResult {
    if (!this.#findings.any) this.#kept.end(this.#tree.size)
    if (this.#suspicion !== null) this.#resolve(this.#suspicion, null)
    if (this.#torn !== null) this.#findings.bad(this.#torn.finding)
    return judge({
      evidence: this.#evidence, options: this.#options, now: this.#now, tree: this.#tree, tiles: this.#tiles,
      own: this.#own, claims: this.#claims, findings: this.#findings, notes: this.#notes,
      removed: this.#removed, removedLeaf: this.#removedLeaf, lastLeaf: this.#lastLeaf, lastAt: this.#lastAt(), lastTimeMs: Number.isNaN(this.#timeMs) ? null : this.#timeMs,
      end: { seq: this.#tree.size, file: this.#lastFile ?? 'records', line: this.#lastLine + 1, offset: this.#end },
      firstUnsealed: this.#firstUnsealed, clockSteps: this.#clockSteps, headConfirmed: this.#headConfirmed, tail: this.#tail, empty,
    }, grown)
  }
}

const HEX = Buffer.from('0123456789abcdef')

/** Compares 64 hex digits with a hash (zeros for none), without making a string. */
function samePrev(buffer: Buffer, at: number, leaf: Hash | null): boolean {
  for (let i = 0; i < 32; i++) {
    const byte = leaf === null ? 0 : leaf.charCodeAt(i)
    if (buffer[at + 2 * i] !== HEX[byte >> 4] || buffer[at + 2 * i + 1] !== HEX[byte & 15]) return false
  }
  return true
}

function seqProblem(found: number, expected: number): string {
  if (found > expected) return `seq ${found} stands where ${expected} was expected: ${found - expected} missing, or its seq was changed`
  return `seq ${found} stands where ${expected} was expected: a repeated, moved or inserted record`
}
