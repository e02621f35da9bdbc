import { createHash, type Hash as Digest } from 'node:crypto'
import { join } from 'node:path'
import { printable } from '../../base/printable.ts'
import { thisMoment, type Claim, type Evidence, type Now, type VerifyOptions } from './evidence.ts'
import { genesisOf, prunedOf, sealOf, type PrunedData } from './genesis.ts'
import type { LineReader } from './lines.ts'
import { signedBy } from './note.ts'
import { sealSigned } from './proof.ts'
import { explainLine, RecordScanner } from './scan.ts'
import { TileCheck } from './tiles.ts'
import { leafHash, toHex, Tree, type Hash } from './tree.ts'
import { MAX_LISTED, type Finding, type Gap, type SealInfo, type Verdict, type VerifyResult } from './verdict.ts'

/** Without its newline; tlog-tiles keeps lengths in 16 bits. */
const MAX_LINE_BYTES = 65_535
/** Torn bytes that one `gap` record may vouch for (FORMAT.md, "Record"). */
const MAX_TORN_BYTES = 8 * 1024 * 1024
const MAX_PRUNED = 1_000_000
const ZEROS = '0'.repeat(64)
const CLOCK_STEP_MS = 1000

interface Moment {
  readonly boot: string
  readonly monoMs: number
  readonly timeMs: number
}

interface Seal extends Moment {
  readonly seq: number
  readonly epoch: number
  readonly why: string
  readonly limitMs: number
  /** Hex: its own leaf hash, and the key of the next epoch. */
  readonly leaf: string
  readonly nextKey: string
}

/** Bytes that are no record, until a `gap` record with their length and hash turns up. */
interface Torn {
  readonly finding: Finding
  readonly digest: Digest
  bytes: number
  /** Among them stands a line that is a record by itself. */
  holdsRecord: boolean
}

/** Two neighbours that disagree: which of them was changed shows in the record after them. */
interface Suspicion {
  readonly earlier: Finding
  readonly later: Finding
  readonly laterLeaf: string
}

/** A record as JSON, for the few types that the log itself is made of. */
interface Opened {
  readonly time: string
  readonly data: Readonly<Record<string, unknown>>
}

/** The state of one verification: fed with removed leaves, then with lines, in order. Every question of FORMAT.md is decided here. */
export class Walk {
  readonly #evidence: Evidence
  readonly #options: VerifyOptions
  readonly #now: Now
  readonly #tiles: TileCheck
  readonly #tree: Tree
  readonly #scanner = new RecordScanner()
  readonly #keptScanner = new RecordScanner()
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

  #key: string | null = null
  #seal: Seal | null = null
  #epochs = 0
  #firstUnsealed: Moment | null = null
  #genesisLimitMs = 0
  readonly #prunes: (PrunedData & { readonly seq: number })[] = []
  #removed = 0
  #removedLeaf: Hash | null = null

  #keptSeq = Number.POSITIVE_INFINITY
  #keptLeaf: Hash = ''
  #nextClaim = 0
  /** Its size; Infinity: there is none. */
  #nextClaimSize: number
  #savedConfirmed = 0
  #savedSize: number | null = null
  #headConfirmed = false

  #torn: Torn | null = null
  #suspicion: Suspicion | null = null
  #firstBad: Finding | null = null
  #believed = 0
  #tail: Finding | null = null
  #expected = 0
  readonly #missing: { from: number; to: number }[] = []
  readonly #gaps: Gap[] = []
  #gapCount = 0
  readonly #pauses: { seq: number; seconds: number }[] = []
  #clockSteps = 0
  readonly #notes: string[]

  constructor(dir: string, evidence: Evidence, options: VerifyOptions) {
    this.#evidence = evidence
    this.#options = options
    this.#now = options.now ?? thisMoment()
    this.#notes = [...evidence.notes]
    this.#tiles = new TileCheck(join(dir, 'tile'), evidence.disk?.size ?? 0)
    this.#tree = new Tree((level, index, hashes) => this.#tiles.compare(level, index, hashes))
    const { genesis } = evidence
    const log = { seq: 0, file: 'records', line: 0, offset: 0 }
    if (options.pin !== undefined && genesis !== null && genesis.fingerprint !== options.pin) {
      this.#bad({ ...log, problem: `the log begins with the key ${genesis.fingerprint}, expected ${options.pin}: this is not the log that the key was noted of` }, 0)
    }
    if (evidence.savedFault !== null) this.#bad({ ...log, problem: evidence.savedFault }, 0)
    this.#nextClaimSize = evidence.claims[0]?.size ?? Number.POSITIVE_INFINITY
    this.#compareClaims()
  }

  get size(): number {
    return this.#tree.size
  }

  get #done(): boolean {
    return this.#firstBad !== null
  }

  // Records that were removed

  beginKept(kept: LineReader | null, first: number): void {
    this.#advanceKept(kept)
    if (this.#keptSeq === 0 || this.#done) return
    this.#miss(0, first - 1)
    this.#bad({ seq: 0, file: 'seals.jsonl', line: 1, offset: 0, problem: 'records were removed from the beginning, and the first record of the log was not kept here' })
  }

  removed(leaf: Hash, kept: LineReader | null): void {
    if (this.#done) return
    const seq = this.#tree.size
    if (this.#keptSeq === seq && kept !== null) {
      if (this.#keptLeaf !== leaf) return this.#badKept(kept, seq, 'this line is not the record that stood there: the tile has another hash')
      const scanner = this.#keptScanner
      const type = kept.buffer.toString('latin1', scanner.typeStart, scanner.typeEnd)
      if (type !== 'log.created' && type !== 'seal' && type !== 'log.pruned') return this.#badKept(kept, seq, `a record of type ${printable(type, 40)} is not kept here`)
      const line = kept.buffer.subarray(kept.start, kept.end)
      const moment = { boot: kept.buffer.toString('utf8', scanner.bootStart, scanner.bootEnd), monoMs: scanner.monoMs, timeMs: scanner.timeMs }
      const problem = this.#special(type, line, seq, moment, leaf)
      if (problem !== null) return this.#badKept(kept, seq, problem)
      this.#advanceKept(kept)
    }
    this.#push(leaf)
  }

  endRemoved(first: number): void {
    this.#removed = first
    this.#expected = Math.max(this.#expected, first)
    this.#removedLeaf = this.#lastLeaf
    this.#firstUnsealed = null // removed records are sealed, or the coverage of `log.pruned` says otherwise
  }

  noTile(problem: string, first: number): void {
    this.#bad({ seq: this.#tree.size, file: problem.split(' ')[0] ?? 'tile', line: 0, offset: 0, problem })
    this.#removed = first
    this.#expected = first
  }

  endKept(kept: LineReader | null): void {
    if (this.#done || kept === null) return
    if (this.#removed === 0 && this.#keptSeq === Number.POSITIVE_INFINITY) this.#advanceKept(kept)
    if (this.#keptSeq >= this.#tree.size && this.#keptSeq !== Number.POSITIVE_INFINITY) this.#badKept(kept, this.#tree.size, `this line is record ${this.#keptSeq}, which the log does not reach: newer records were cut off`)
  }

  #advanceKept(kept: LineReader | null): void {
    const before = this.#keptSeq === Number.POSITIVE_INFINITY ? -1 : this.#keptSeq
    this.#keptSeq = Number.POSITIVE_INFINITY
    if (kept === null || this.#done) return
    const kind = kept.next()
    if (kind === 'none' || kind === 'rest') return // a line under way; without it the next seal would not follow
    if (kind === 'long' || kept.end - kept.start > MAX_LINE_BYTES || !this.#keptScanner.scan(kept.buffer, kept.start, kept.end)) {
      return this.#badKept(kept, this.#tree.size, kind === 'long' ? 'the line is too long' : explainLine(kept.buffer.subarray(kept.start, kept.end)))
    }
    if (this.#keptScanner.seq <= before) return this.#badKept(kept, this.#keptScanner.seq, `record ${this.#keptScanner.seq} stands behind record ${before}`)
    this.#keptSeq = this.#keptScanner.seq
    kept.buffer[kept.start - 1] = 0
    this.#keptLeaf = leafHash(kept.buffer.subarray(kept.start - 1, kept.end))
  }

  #badKept(kept: LineReader, seq: number, problem: string): void {
    this.#bad({ seq, file: 'seals.jsonl', line: kept.number, offset: kept.offset, problem })
  }

  // Records in segments

  beginSegment(first: number, file: string): void {
    this.#file = file
    if (first > this.#expected) this.#miss(this.#expected, first - 1)
    if (this.#done || this.#suspicion !== null) return void (this.#expected = Math.max(this.#expected, first))
    const expected = this.#tree.size
    if (first !== expected) {
      const what = first > expected ? `records ${expected} to ${first - 1} are missing: no segment holds them` : `record ${expected} was expected next`
      this.#bad({ seq: expected, file, line: 0, offset: 0, problem: `the segment begins with record ${first}; ${what}` })
      this.#expected = Math.max(this.#expected, first)
    }
  }

  notAFile(): void {
    this.#bad({ seq: this.#tree.size, file: this.#file, line: 0, offset: 0, problem: 'it is no regular file' })
  }

  line(reader: LineReader, kind: 'line' | 'rest' | 'long', kept: LineReader | null): void {
    const length = reader.end - reader.start
    const isRecord = kind === 'line' && length <= MAX_LINE_BYTES && this.#scanner.scan(reader.buffer, reader.start, reader.end)
    if (this.#suspicion !== null) this.#resolve(this.#suspicion, isRecord ? reader : null)
    else if (this.#done) this.#count(isRecord)
    else if (kind === 'rest') this.#rest(reader)
    else if (this.#torn !== null) this.#insideTorn(this.#torn, reader, kind, isRecord, kept)
    else if (isRecord) this.#take(reader, kept)
    else this.#startTorn(reader, kind)
  }

  endSegment(last: boolean): void {
    const damage = this.#torn?.finding ?? this.#tail
    if (damage !== null && !last) this.#bad(damage)
    this.#end = 0
  }

  #take(reader: LineReader, kept: LineReader | null): void {
    const { buffer, start, end } = reader
    const scanner = this.#scanner
    const seq = this.#tree.size
    if (scanner.seq !== seq) {
      this.#bad(this.#at(reader, seqProblem(scanner.seq, seq)))
      return this.#count(true)
    }
    this.#expected = seq + 1
    buffer[start - 1] = 0
    const leaf = leafHash(new Uint8Array(buffer.buffer, buffer.byteOffset + start - 1, end - start + 1)) // faster than subarray: a Buffer is made in two steps
    if (!samePrev(buffer, scanner.prevStart, this.#lastLeaf)) {
      const later = this.#at(reader, 'its prev is not the hash of the record before it')
      const before = this.#lastAt()
      if (before === null) {
        const why = seq === 0 ? 'the first record must have a prev of zeros' : 'its prev is not the hash of the removed record before it'
        return this.#bad({ ...later, problem: why })
      }
      const earlier = { seq: seq - 1, ...before, problem: 'it was changed: the next record was chained to other bytes' }
      this.#suspicion = { earlier, later, laterLeaf: toHex(leaf) }
      return
    }
    if (!this.#sameBoot(buffer, scanner)) {
      this.#boot = buffer.toString('utf8', scanner.bootStart, scanner.bootEnd)
      this.#bootBytes = Buffer.from(buffer.subarray(scanner.bootStart, scanner.bootEnd))
    } else if (scanner.monoMs < this.#monoMs) {
      return this.#bad(this.#at(reader, `mono_ms ${scanner.monoMs} is before the ${this.#monoMs} of the record before it, in the same boot`))
    }
    const { head } = this.#options
    if (head !== undefined && head.seq === seq) {
      if (toHex(leaf) !== head.hash) return this.#bad(this.#at(reader, 'it is not the record whose hash was remembered'))
      this.#headConfirmed = true
    }
    if (this.#keptSeq === seq || (seq === 0 && this.#removed === 0)) {
      if (seq === 0) this.#advanceKept(kept)
      if (this.#keptSeq === seq) {
        if (this.#keptLeaf !== leaf && kept !== null) return this.#badKept(kept, seq, 'this line differs from the record in its segment')
        this.#advanceKept(kept)
      }
      if (this.#done) return
    }
    const type = this.#ownType(buffer, scanner)
    if (type !== null || seq === 0) {
      const moment = { boot: this.#boot, monoMs: scanner.monoMs, timeMs: scanner.timeMs }
      const problem = this.#special(type ?? 'other', buffer.subarray(start, end), seq, moment, leaf)
      if (problem !== null) return this.#bad(this.#at(reader, problem), type === 'seal' ? (this.#seal === null ? 0 : this.#seal.seq + 1) : seq)
    }
    if (type !== 'seal') this.#firstUnsealed ??= { boot: this.#boot, monoMs: scanner.monoMs, timeMs: scanner.timeMs }
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
    this.#expected = this.#tree.size
    if (this.#expected === this.#nextClaimSize) this.#compareClaims()
  }

  /** Checkpoints for exactly the records so far. */
  #compareClaims(): void {
    const { claims, disk, genesis } = this.#evidence
    for (let claim = claims[this.#nextClaim]; claim !== undefined && claim.size === this.#tree.size; claim = claims[this.#nextClaim]) {
      this.#nextClaim += 1
      this.#nextClaimSize = claims[this.#nextClaim]?.size ?? Number.POSITIVE_INFINITY
      if (toHex(this.#tree.root()) !== claim.root) return this.#badClaim(claim, `it was made for the first ${claim.size} records, and they are not the same any more: its root is not theirs`)
      if (claim.saved) {
        this.#savedConfirmed += 1
        this.#savedSize = claim.size
      } else if (claim.source === 'checkpoint' && disk !== null && genesis !== null) {
        if (this.#seal === null || this.#seal.seq + 1 !== claim.size) return this.#badClaim(claim, `it is for ${claim.size} records, and the last of them is no seal`)
        if (!signedBy(disk, `${genesis.origin}/epoch`, Buffer.from(this.#seal.nextKey, 'hex'))) return this.#badClaim(claim, 'it is not signed by the key of the epoch that its seal announces')
      }
    }
  }

  #badClaim(claim: Claim, problem: string): void {
    const file = claim.saved ? 'records' : claim.source
    this.#bad({ seq: Math.max(0, claim.size - 1), file, line: 0, offset: 0, problem: claim.saved ? `a checkpoint in ${claim.source}: ${problem}` : problem }, 0)
  }

  // Records of the log itself

  #ownType(buffer: Buffer, scanner: RecordScanner): 'seal' | 'log.created' | 'log.pruned' | 'gap' | null {
    const length = scanner.typeEnd - scanner.typeStart
    const first = buffer[scanner.typeStart]
    if (!((first === 0x73 && length === 4) || (first === 0x67 && length === 3) || (first === 0x6c && (length === 11 || length === 10)))) return null
    const type = buffer.toString('latin1', scanner.typeStart, scanner.typeEnd)
    return type === 'seal' || type === 'gap' || type === 'log.created' || type === 'log.pruned' ? type : null
  }

  /** @returns what is wrong with it */
  #special(type: string, line: Buffer, seq: number, moment: Moment, leaf: Hash): string | null {
    if ((seq === 0) !== (type === 'log.created')) return seq === 0 ? 'the first record of a log must be log.created' : 'log.created stands only at the beginning of a log'
    const { time, data } = JSON.parse(line.toString('utf8')) as Opened
    switch (type) {
      case 'log.created': {
        const genesis = genesisOf(data)
        if (genesis === null) return 'its data is not that of log.created: keys, origin or interval are not as they should be'
        this.#key = genesis.firstKey.toString('hex')
        this.#genesisLimitMs = limitMs(genesis.intervalS)
        return null
      }
      case 'gap':
        this.#gapCount += 1
        if (this.#gaps.length < MAX_LISTED) this.#gaps.push({ seq, time, reason: typeof data['reason'] === 'string' ? printable(data['reason'], 64) : '(none)', data })
        return null
      case 'log.pruned': {
        const pruned = prunedOf(data)
        if (pruned === null || pruned.next > seq) return 'its data is not that of log.pruned'
        if (this.#prunes.length >= MAX_PRUNED) return `more than ${MAX_PRUNED} log.pruned records`
        this.#prunes.push({ ...pruned, seq })
        return null
      }
      case 'seal': return this.#takeSeal(line, data, seq, moment, leaf)
      default: return null
    }
  }

  #takeSeal(line: Buffer, data: Readonly<Record<string, unknown>>, seq: number, moment: Moment, leaf: Hash): string | null {
    const seal = sealOf(data)
    const before = this.#seal
    if (seal === null) return 'its data is not that of a seal'
    const since = `records ${before === null ? 0 : before.seq + 1} to ${seq} cannot be believed`
    if (seal.epoch !== this.#epochs) return `it is the seal of epoch ${seal.epoch}, expected ${this.#epochs}: seals are missing, or it was made up; ${since}`
    if (seal.size !== seq) return `it seals ${seal.size} records and stands behind ${seq}; ${since}`
    if (seal.prevSeal !== (before?.leaf ?? ZEROS)) return `it does not follow the seal before it; ${since}`
    if (!sealSigned(line, seal.sig, Buffer.from(this.#key ?? '', 'hex'))) return `the seal of epoch ${seal.epoch} is not signed by the key that was announced for it; ${since}`
    if (seal.root !== toHex(this.#tree.root())) return `its root is not that of the records before it; ${since}`
    if (before !== null && before.boot === moment.boot && before.why !== 'close' && moment.monoMs - before.monoMs > before.limitMs && this.#pauses.length < MAX_LISTED) {
      this.#pauses.push({ seq: before.seq, seconds: Math.round((moment.monoMs - before.monoMs) / 1000) })
    }
    if (before !== null && before.boot !== moment.boot && before.why !== 'close' && this.#notes.length < MAX_LISTED) {
      this.#notes.push(`the boot before record ${seq} ended without a closing seal (power loss, or a crash); its last seal is record ${before.seq}`)
    }
    this.#seal = { seq, epoch: seal.epoch, why: seal.why, limitMs: limitMs(seal.intervalS), leaf: toHex(leaf), nextKey: seal.nextKey, ...moment }
    this.#key = seal.nextKey
    this.#epochs += 1
    this.#firstUnsealed = null
    return null
  }

  // Damage

  #startTorn(reader: LineReader, kind: 'line' | 'long'): void {
    const bytes = reader.buffer.subarray(reader.start, reader.end)
    const length = bytes.length
    const problem = kind === 'long' ? `a line of more than ${length} bytes` : length > MAX_LINE_BYTES ? `the line has ${length} bytes, at most ${MAX_LINE_BYTES} are allowed` : explainLine(bytes)
    if (kind === 'long') return this.#bad(this.#at(reader, problem))
    this.#torn = { finding: this.#at(reader, problem), digest: createHash('sha256').update(bytes), bytes: length, holdsRecord: false }
  }

  /** Torn bytes end where a `gap` record vouches for exactly them; the writer ended them with a newline if they had none. */
  #insideTorn(torn: Torn, reader: LineReader, kind: 'line' | 'long', isRecord: boolean, kept: LineReader | null): void {
    const bytes = reader.buffer.subarray(reader.start, reader.end)
    if (isRecord && this.#ownType(reader.buffer, this.#scanner) === 'gap') {
      const { data } = JSON.parse(bytes.toString('utf8')) as Opened
      const bare = { bytes: torn.bytes, sha256: torn.digest.copy().digest('hex') }
      const ended = { bytes: torn.bytes + 1, sha256: torn.digest.copy().update('\n').digest('hex') }
      if (data['reason'] === 'torn-line' && [bare, ended].some((found) => vouches(data['torn'], torn.finding.offset, found))) {
        this.#torn = null
        return this.#take(reader, kept)
      }
    }
    torn.digest.update('\n').update(bytes)
    torn.bytes += 1 + bytes.length
    torn.holdsRecord ||= isRecord
    if (kind === 'long' || torn.bytes > MAX_TORN_BYTES) this.#bad(torn.finding)
  }

  #rest(reader: LineReader): void {
    if (this.#torn?.holdsRecord === true) return // an altered record, whatever follows it
    this.#torn = null
    this.#tail = this.#at(reader, `the last line is not finished: ${reader.end - reader.start} bytes without a newline`)
  }

  #resolve(suspicion: Suspicion, next: LineReader | null): void {
    const { earlier, later, laterLeaf } = suspicion
    this.#suspicion = null
    const { head } = this.#options
    const prev = next === null ? null : next.buffer.toString('latin1', this.#scanner.prevStart, this.#scanner.prevStart + 64)
    const laterIsRight = prev === laterLeaf || (head?.seq === later.seq && head.hash === laterLeaf)
    if (laterIsRight) this.#bad(earlier)
    else if (next === null) this.#bad({ ...earlier, problem: 'it, or the prev of the record after it, was changed: they do not fit' })
    else this.#bad(later)
    this.#expected = Math.max(this.#expected, later.seq + 1)
    if (next !== null) this.#count(true)
  }

  /** Behind the first finding only missing ranges are looked for. */
  #count(isRecord: boolean): void {
    if (!isRecord) return
    const { seq } = this.#scanner
    if (seq > this.#expected) this.#miss(this.#expected, seq - 1)
    this.#expected = Math.max(this.#expected, seq + 1)
  }

  #miss(from: number, to: number): void {
    if (this.#missing.length < MAX_LISTED) this.#missing.push({ from, to })
  }

  #bad(finding: Finding, believed = finding.seq): void {
    if (this.#firstBad !== null) return
    this.#firstBad = finding
    this.#believed = believed
  }

  #lastAt(): { readonly file: string; readonly line: number; readonly offset: number } | null {
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
    if (this.#suspicion !== null) this.#resolve(this.#suspicion, null)
    if (this.#torn !== null) this.#bad(this.#torn.finding)
    if (!this.#done) this.#judgeWhole(empty, grown)
    if (!this.#done) this.#judgeTail()
    const { genesis, witnessed } = this.#evidence
    const gap = this.#gapCount > 0 || this.#pauses.length > 0
    const verdict: Verdict = this.#firstBad !== null ? 'tampered' : this.#tail !== null ? 'unverifiable-tail' : gap ? 'gap' : 'whole'
    const { size } = this.#tree
    const unsealed = size - (this.#seal === null ? this.#removed : this.#seal.seq + 1)
    return {
      verdict, records: this.#firstBad === null ? size : this.#believed, firstBad: this.#firstBad ?? this.#tail, missing: this.#missing,
      pruned: this.#removed > 0 ? { from: 0, to: this.#removed - 1 } : null,
      gaps: this.#gaps, gapCount: this.#gapCount, pauses: this.#pauses, clockSteps: this.#clockSteps,
      origin: genesis?.origin ?? null, fingerprint: genesis?.fingerprint ?? null, keyConfirmed: this.#options.pin !== undefined && genesis?.fingerprint === this.#options.pin,
      lastSealed: this.#sealInfo(), lastWitnessed: witnessed,
      unsealed: { records: unsealed, seconds: this.#firstUnsealed === null ? 0 : Math.max(0, Math.round(this.#age(this.#firstUnsealed) / 1000)) },
      lastTime: Number.isNaN(this.#timeMs) ? null : new Date(this.#timeMs).toISOString(), lastHash: this.#lastLeaf === null ? null : toHex(this.#lastLeaf),
      headConfirmed: this.#headConfirmed, savedConfirmed: this.#savedConfirmed, savedSize: this.#savedSize, notes: this.#notes,
    }
  }

  #judgeWhole(empty: boolean, grown: () => boolean): void {
    const { size } = this.#tree
    const { head } = this.#options
    const end = { seq: size, file: this.#lastFile ?? 'records', line: this.#lastLine + 1, offset: this.#end }
    const claim = this.#evidence.claims[this.#nextClaim]
    if (claim !== undefined) {
      this.#miss(size, claim.size - 1)
      return this.#bad({ ...end, problem: `the log ends here, but ${claim.saved ? `a checkpoint in ${claim.source}` : claim.source} was made for ${claim.size} records: newer records were cut off` })
    }
    if (head !== undefined && !this.#headConfirmed) {
      const removed = head.seq < this.#removed
      this.#bad({ ...end, problem: removed ? `record ${head.seq}, which was remembered, was removed by retention` : `the log ends here, but record ${head.seq} was remembered: newer records were cut off` })
    }
    const { diskFault } = this.#evidence
    if (diskFault !== null) this.#bad({ seq: size, file: 'checkpoint', line: 0, offset: 0, problem: diskFault })
    if (this.#removed > 0) this.#judgeRemoved()
    if (this.#tiles.fault === null) {
      const before = grown()
      this.#judgeTiles(before)
      // A seal made in this very moment: its tiles are no trace of records that are gone.
      if (this.#tiles.fault !== null && !before && grown()) {
        this.#tiles.fault = null
        this.#judgeTiles(true)
      }
    }
    const { fault } = this.#tiles
    if (fault !== null) this.#bad({ line: 0, offset: 0, ...fault }, size)
    if (empty && this.#evidence.genesis !== null) this.#bad({ ...end, problem: 'every segment is gone' })
  }

  #judgeTiles(grown: boolean): void {
    const partial = this.#tree.partialTiles()
    for (const { level, index, hashes } of partial) {
      this.#tiles.compare(level, index, hashes, grown)
      if (!grown && hashes.length > 0) this.#tiles.beyond(level, index + 1)
    }
    if (!grown) this.#tiles.beyond(partial.length, 0)
  }

  /** Every removed record must be covered by `log.pruned` records, each followed by a seal. */
  #judgeRemoved(): void {
    let covered = 0
    const sealed = this.#seal === null ? -1 : this.#seal.seq
    for (const { first, next, lastLeaf, seq } of [...this.#prunes].sort((a, b) => a.first - b.first)) {
      if (first > covered || next <= covered || seq > sealed || covered >= this.#removed) continue
      covered = next
      if (next === this.#removed && this.#removedLeaf !== null && lastLeaf !== toHex(this.#removedLeaf)) return this.#bad({ seq, file: 'records', line: 0, offset: 0, problem: 'its last_leaf is not the hash of the last removed record' })
    }
    if (covered === this.#removed) return
    this.#miss(covered, this.#removed - 1)
    this.#bad({ seq: covered, file: 'records', line: 0, offset: 0, problem: `records ${covered} to ${this.#removed - 1} are gone, and no sealed log.pruned record says so` })
  }

  #judgeTail(): void {
    const { size } = this.#tree
    const at = this.#lastAt() ?? { file: 'records', line: 0, offset: 0 }
    const seal = this.#seal
    const limit = seal?.limitMs ?? this.#genesisLimitMs
    const old = (moment: Moment | null): boolean => moment !== null && this.#age(moment) > limit
    if (old(this.#firstUnsealed)) {
      this.#tail ??= { seq: seal === null ? 0 : seal.seq + 1, ...at, problem: `no seal covers the records from here on, although one should have been made ${seconds(this.#age(this.#firstUnsealed) - limit)} s ago` }
    } else if (seal !== null && seal.why !== 'close' && old(seal)) {
      this.#tail ??= { seq: size, ...at, problem: `the writer ended without closing: the newest seal is ${seconds(this.#age(seal))} s old` }
    } else if (seal !== null && old(seal) && this.#evidence.disk?.size !== seal.seq + 1) {
      this.#tail ??= { seq: size, ...at, file: 'checkpoint', problem: 'the checkpoint of the newest seal is missing' }
    }
    const wanted = this.#options.witnesses ?? []
    if (wanted.length > 0 && !this.#evidence.witnessed.some(({ verified }) => verified)) {
      this.#tail ??= { seq: size, file: 'witnessed', line: 0, offset: 0, problem: `no checkpoint carries a cosignature of ${wanted.map(({ name }) => printable(name, 80)).join(' or ')}` }
    }
  }

  #sealInfo(): SealInfo | null {
    const seal = this.#seal
    return seal === null ? null : { seq: seal.seq, epoch: seal.epoch, time: new Date(seal.timeMs).toISOString(), why: seal.why }
  }

  #age(moment: Moment | null): number {
    if (moment === null) return 0
    return moment.boot === this.#now.boot ? this.#now.monoMs - moment.monoMs : this.#now.wallMs - moment.timeMs
  }
}

function limitMs(intervalS: number): number {
  return 2 * intervalS * 1000 + 10_000
}

function seconds(ms: number): number {
  return Math.round(ms / 1000)
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

function vouches(torn: unknown, offset: number, found: { readonly bytes: number; readonly sha256: string }): boolean {
  if (typeof torn !== 'object' || torn === null) return false
  const claim = torn as Record<string, unknown>
  return claim['offset'] === offset && claim['bytes'] === found.bytes && claim['sha256'] === found.sha256
}
