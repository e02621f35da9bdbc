import { createHash, type Hash } from 'node:crypto'
import { open, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { printable } from '../base/printable.ts'
import { LineSplitter, type Line } from './verify-lines.ts'
import { readRecord, type VerifiedRecord } from './verify-record.ts'

/*
 * Walks a log and names the first thing that is wrong. Shares no code with the writer: a mistake there must not hide here.
 * What a hash chain alone cannot show is in README.md, "What it does not promise", and in NOT_SHOWN below.
 */
export type Verdict = 'whole' | 'tampered' | 'unverifiable-tail' | 'gap'

export const VERIFY_EXIT: Readonly<Record<Verdict, number>> = { 'whole': 0, 'tampered': 2, 'unverifiable-tail': 3, 'gap': 4 }

export const NOT_SHOWN = 'A hash chain alone cannot show that the newest records were cut off, or that root rewrote the whole log; '
  + 'compare with a head remembered on another machine (--head SEQ:HASH).'

export interface Finding {
  /** The record that should have stood there; the first has seq 0. */
  readonly seq: number
  /** From 1. */
  readonly line: number
  /** Of the line's first byte. */
  readonly offset: number
  readonly problem: string
}

export interface Gap {
  readonly seq: number
  readonly time: string
  readonly reason: string
  /** The record's own `data`: counts of what is missing. */
  readonly data: unknown
}

/** A record that someone noted elsewhere: the log must still hold exactly it. */
export interface Head {
  readonly seq: number
  readonly hash: string
}

export interface VerifyResult {
  readonly verdict: Verdict
  /** Records up to the first finding. */
  readonly records: number
  readonly firstBad: Finding | null
  /** The first MAX_GAPS of them. */
  readonly gaps: readonly Gap[]
  readonly gapCount: number
  /** Times that the wall clock went back by more than a second; the order of records does not depend on it. */
  readonly clockSteps: number
  readonly lastTime: string | null
  readonly lastHash: string | null
  /** Whether a remembered head was given and found. */
  readonly headConfirmed: boolean
}

const MAX_GAPS = 1000
/** Without its newline; tlog-tiles keeps lengths in 16 bits. */
const MAX_LINE_BYTES = 65_535
const GENESIS = '0'.repeat(64)
const LEAF = Buffer.of(0)
/** Torn bytes that one `gap` record may vouch for; a commit is at most 1 MiB and few crash twice in a row. */
const MAX_TORN_BYTES = 8 * 1024 * 1024
const CHUNK_BYTES = 64 * 1024

/** @param path the directory of the log, or one segment; the bytes may be attacker-controlled. Memory is bounded whatever they are. */
export async function verifyLog(path: string, options: { readonly head?: Head; readonly signal?: AbortSignal } = {}): Promise<VerifyResult> {
  const walk = new Walk(options.head ?? null)
  let rest: Line | null = null
  for (const segment of (await stat(path)).isDirectory() ? await segmentsIn(join(path, 'records')) : [path]) {
    if (rest === null && !walk.done) rest = await walkSegment(walk, segment, options.signal)
  }
  return walk.end(walk.done ? null : rest)
}

async function segmentsIn(dir: string): Promise<string[]> {
  return (await readdir(dir)).filter((name) => /^\d{16}\.jsonl$/.test(name)).sort().map((name) => join(dir, name))
}

/** @returns what stands behind the last newline */
async function walkSegment(walk: Walk, path: string, signal: AbortSignal | undefined): Promise<Line | null> {
  const handle = await open(path, 'r')
  try {
    // What is appended after this moment is not looked at.
    const { size } = await handle.stat()
    const lines = new LineSplitter()
    const chunk = Buffer.alloc(CHUNK_BYTES)
    for (let at = 0; at < size && !walk.done; ) {
      signal?.throwIfAborted()
      const { bytesRead } = await handle.read(chunk, 0, Math.min(CHUNK_BYTES, size - at), at)
      if (bytesRead === 0) break
      at += bytesRead
      for (const line of lines.push(chunk.subarray(0, bytesRead))) if (!walk.done) walk.line(line)
    }
    return lines.rest()
  } finally {
    await handle.close()
  }
}

/** Bytes that are no record, until a `gap` record with their length and hash turns up. */
interface TornRegion {
  readonly finding: Finding
  readonly hash: Hash
  bytes: number
  /** Among them stands a line that is a record by itself. */
  holdsRecord: boolean
}

/** Two neighbours that disagree: which of them was changed shows in the record after them. */
interface Suspicion {
  readonly earlier: Finding
  readonly later: Finding
  readonly laterHash: string
  readonly laterSeq: number
}

class Walk {
  readonly #head: Head | null
  #records = 0
  #lastHash = GENESIS
  #last: VerifiedRecord | null = null
  #lastAt: { line: number; offset: number } | null = null
  /** Offset behind the last record. */
  #end = 0
  #torn: TornRegion | null = null
  #suspicion: Suspicion | null = null
  #firstBad: Finding | null = null
  #tail: Finding | null = null
  #headConfirmed = false
  #gaps: Gap[] = []
  #gapCount = 0
  #clockSteps = 0

  constructor(head: Head | null) {
    this.#head = head
  }

  get done(): boolean {
    return this.#firstBad !== null
  }

  line(line: Line): void {
    const at = { seq: this.#records, line: line.number, offset: line.offset }
    const record = line.length > MAX_LINE_BYTES ? `the line has ${line.length} bytes, at most ${MAX_LINE_BYTES} are allowed` : readRecord(line.bytes)
    if (this.#suspicion !== null) this.#resolve(this.#suspicion, record)
    else if (this.#torn !== null) this.#insideTorn(this.#torn, line, record)
    else if (typeof record === 'string') this.#startTorn({ ...at, problem: record }, line)
    else this.#take(record, line)
  }

  end(rest: Line | null): VerifyResult {
    if (rest !== null) this.#endsTorn(rest)
    if (this.#suspicion !== null) this.#resolve(this.#suspicion, null)
    if (this.#torn !== null && this.#tail === null) this.#firstBad ??= this.#torn.finding
    if (this.#firstBad === null) this.#checkHeadReached()
    const firstBad = this.#firstBad ?? this.#tail
    const verdict: Verdict = this.#firstBad !== null ? 'tampered' : this.#tail !== null ? 'unverifiable-tail' : this.#gapCount > 0 ? 'gap' : 'whole'
    return {
      verdict, records: this.#records, firstBad, gaps: this.#gaps, gapCount: this.#gapCount, clockSteps: this.#clockSteps,
      lastTime: this.#last?.time ?? null, lastHash: this.#last === null ? null : this.#lastHash, headConfirmed: this.#headConfirmed,
    }
  }

  #take(record: VerifiedRecord, line: Line): void {
    const at = { seq: this.#records, line: line.number, offset: line.offset }
    const hash = createHash('sha256').update(LEAF).update(line.bytes).digest('hex')
    const wrongSeq = seqProblem(record.seq, this.#records)
    if (wrongSeq !== null) return this.#bad({ ...at, problem: wrongSeq })
    if (record.prev !== this.#lastHash) {
      const later = { ...at, problem: 'its prev is not the hash of the record before it' }
      if (this.#lastAt === null) return this.#bad({ ...at, problem: 'the first record must have a prev of zeros' })
      const earlier = { seq: at.seq - 1, ...this.#lastAt, problem: 'it was changed: the next record was chained to other bytes' }
      this.#suspicion = { earlier, later, laterHash: hash, laterSeq: at.seq }
      return
    }
    if (this.#last !== null && record.boot === this.#last.boot && record.monoMs < this.#last.monoMs) {
      return this.#bad({ ...at, problem: `mono_ms ${record.monoMs} is before the ${this.#last.monoMs} of the record before it, in the same boot` })
    }
    if (this.#head?.seq === record.seq) {
      if (this.#head.hash !== hash) return this.#bad({ ...at, problem: 'it is not the record whose hash was remembered' })
      this.#headConfirmed = true
    }
    if (this.#last !== null && Date.parse(record.time) < Date.parse(this.#last.time) - 1000) this.#clockSteps += 1
    if (record.type === 'gap') this.#noteGap(record)
    this.#records += 1
    this.#last = record
    this.#lastHash = hash
    this.#lastAt = { line: line.number, offset: line.offset }
    this.#end = line.offset + line.length + 1
  }

  #noteGap(record: VerifiedRecord): void {
    this.#gapCount += 1
    const reason = typeof record.data['reason'] === 'string' ? printable(record.data['reason'], 64) : '(none)'
    if (this.#gaps.length < MAX_GAPS) this.#gaps.push({ seq: record.seq, time: record.time, reason, data: record.data })
  }

  #startTorn(finding: Finding, line: Line): void {
    if (line.partial) return this.#bad(finding)
    this.#torn = { finding, hash: createHash('sha256').update(line.bytes), bytes: line.length, holdsRecord: false }
  }

  /** Torn bytes end where a `gap` record vouches for exactly them; the writer ended them with a newline if they had none. */
  #insideTorn(torn: TornRegion, line: Line, record: VerifiedRecord | string): void {
    if (typeof record !== 'string' && record.type === 'gap' && record.data['reason'] === 'torn-line') {
      const bare = { bytes: torn.bytes, sha256: torn.hash.copy().digest('hex') }
      const ended = { bytes: torn.bytes + 1, sha256: torn.hash.copy().update('\n').digest('hex') }
      if ([bare, ended].some((found) => vouches(record.data['torn'], torn.finding.offset, found))) {
        this.#torn = null
        this.#take(record, line)
        return
      }
    }
    torn.hash.update('\n').update(line.bytes)
    torn.bytes += 1 + line.length
    torn.holdsRecord ||= typeof record !== 'string'
    if (line.partial || torn.bytes > MAX_TORN_BYTES) this.#bad(torn.finding)
  }

  #endsTorn(rest: Line): void {
    if (this.#suspicion !== null || this.#torn?.holdsRecord === true) return // an altered record, whatever follows it
    this.#tail = { seq: this.#records, line: rest.number, offset: rest.offset, problem: `the last line is not finished: ${rest.length} bytes without a newline` }
  }

  #resolve(suspicion: Suspicion, next: VerifiedRecord | string | null): void {
    const { earlier, later, laterHash, laterSeq } = suspicion
    this.#suspicion = null
    const laterIsRight = (next !== null && typeof next !== 'string' && next.prev === laterHash) || (this.#head?.seq === laterSeq && this.#head.hash === laterHash)
    if (laterIsRight) return this.#bad(earlier)
    if (next === null) return this.#bad({ ...earlier, problem: `it, or the prev of the record after it, was changed: they do not fit` })
    this.#bad(later)
  }

  #checkHeadReached(): void {
    if (this.#head === null || this.#headConfirmed) return
    const at = { line: (this.#lastAt?.line ?? 0) + 1, offset: this.#end }
    this.#bad({ seq: this.#records, ...at, problem: `the log ends here, but record ${this.#head.seq} was remembered: newer records were cut off` })
  }

  #bad(finding: Finding): void {
    this.#firstBad ??= finding
  }
}

function seqProblem(found: number, expected: number): string | null {
  if (found === expected) return null
  if (found > expected) return `seq ${found} stands where ${expected} was expected: ${found - expected} missing, or its seq was changed`
  return `seq ${found} stands where ${expected} was expected: a repeated, moved or inserted record`
}

function vouches(torn: unknown, offset: number, found: { readonly bytes: number; readonly sha256: string }): boolean {
  if (typeof torn !== 'object' || torn === null) return false
  const claim = torn as Record<string, unknown>
  return claim['offset'] === offset && claim['bytes'] === found.bytes && claim['sha256'] === found.sha256
}
