import { hash } from 'node:crypto'
import { CordonError } from '../errors.ts'
import { GENESIS_HASH } from './entry.ts'
import type { LogFile } from './log-file.ts'
import type { PrivateDir } from './private-dir.ts'
import { firstHead, parseHead, sealOf, type LastSeal, type RecordHead } from './record-head.ts'
import { findStart, type Start } from './recovery-start.ts'
import { scanLines } from './scan-lines.ts'
import { RECORDS_DIR, segmentFirst, segmentName } from './segments.ts'
import { MAX_PENDING_TILES, type TileStore } from './tiles.ts'
import { leafHash, type Tree } from './tree.ts'

/** Where an existing log ends, and what stands behind its last whole record. */
export interface LogEnd {
  /** The open segment: `seq` of its first record, and its size. */
  readonly segment: number
  readonly bytes: number
  /** When its first record was made; null while it is empty. */
  readonly segmentTimeMs: number | null
  readonly nextSeq: number
  readonly lastHash: string
  readonly boot: string | null
  readonly monoMs: number
  readonly torn: Torn | null
  /** The last record is whole but for its newline, which the next commit writes first. */
  readonly unended: boolean
  readonly tree: Tree
  readonly seal: LastSeal | null
}

/** Bytes that are no record: a crash in the middle of a write. They stay where they are; a `gap` record vouches for them. */
export interface Torn {
  readonly offset: number
  readonly bytes: number
  /** Hex SHA-256 of those bytes. */
  readonly sha256: string
  readonly endsLine: boolean
}

/** Few crash twice in a row, and a commit writes little more than a mebibyte (log.ts). */
const MAX_TORN_BYTES = 4 * 1024 * 1024

/** What must be found again after a failure: the record that was committed last, which ends at byte `bytes`. */
export interface Committed {
  readonly segment: number
  readonly bytes: number
  readonly nextSeq: number
  readonly lastHash: string
  /** Bytes behind it that were torn before, or that a commit which failed may have left. */
  readonly uncertain: number
}

/**
 * Find the end of the log: from the newest checkpoint and its tiles on, or, where these do not give one another, from the records.
 * @param top the log's directory
 * @param committed after a failure; null at the start
 * @returns null when there is no segment
 * @throws CordonError AUDIT_UNAVAILABLE when it does not end where Cordon stopped writing
 */
export async function findEnd(top: PrivateDir, records: PrivateDir, tiles: TileStore, committed: Committed | null): Promise<LogEnd | null> {
  const firsts = (await records.list()).flatMap((name) => segmentFirst(name) ?? []).sort((a, b) => a - b)
  if (firsts.length === 0) return null
  return new Scan(records, tiles, firsts, committed).run(await findStart(top, records, tiles, firsts))
}

/** Forward over the records behind a start, until the end. */
class Scan {
  readonly #records: PrivateDir
  readonly #tiles: TileStore
  readonly #firsts: readonly number[]
  readonly #committed: Committed | null
  #seq = 0
  #hash = GENESIS_HASH
  #boot: string | null = null
  #monoMs = 0
  #seal: LastSeal | null = null
  /** Bytes that are no record stand before here. */
  #torn = false

  constructor(records: PrivateDir, tiles: TileStore, firsts: readonly number[], committed: Committed | null) {
    this.#records = records
    this.#tiles = tiles
    this.#firsts = firsts
    this.#committed = committed
  }

  async run(start: Start): Promise<LogEnd> {
    this.#seq = start.tree.size
    this.#hash = start.hash
    this.#seal = start.seal
    this.#boot = start.boot
    this.#monoMs = start.monoMs
    let offset = start.offset
    for (let at = start.at; ; at++) {
      const segment = this.#firsts[at] ?? 0
      const name = segmentName(segment)
      if (offset === 0 && segment !== this.#seq) throw damaged(`${name} stands where the segment of record ${this.#seq} was expected`)
      const file = await this.#records.openAppend(name, false)
      try {
        const end = await this.#segment(file, name, segment, offset, start.tree)
        if (at === this.#firsts.length - 1) return await this.#finish(file, name, segment, end, start.tree)
        if (end.offset !== end.size) throw damaged(`${name} does not end with a record`)
      } finally {
        await file.close()
      }
      offset = 0
    }
  }

  async #segment(file: LogFile, name: string, segment: number, from: number, tree: Tree): Promise<{ offset: number; size: number }> {
    const { size } = await file.stat()
    const known = this.#committed
    let end = from
    this.#torn = false
    if (known?.segment === segment && known.nextSeq === this.#seq) requireCommitted(known, name, from, this.#hash)
    for await (const { bytes, start, end: lineEnd } of scanLines(file, size, 'forward', from)) {
      const head = parseHead(bytes)
      if (head === null || head.seq !== this.#seq || head.prev !== this.#hash) {
        // Behind torn bytes anything may stand that was never acknowledged; a record that follows a record must fit it.
        if (head !== null && !this.#torn) throw damaged(`${name}: the record at byte ${start} does not follow the one before it`)
        this.#torn = true
        continue
      }
      this.#take(head, leafHash(bytes), tree)
      end = lineEnd
      this.#torn = false
      if (known?.segment === segment && known.nextSeq === this.#seq) requireCommitted(known, name, end, this.#hash)
      if (tree.fullCount > MAX_PENDING_TILES) await this.#tiles.write(tree.takeFull())
    }
    return { offset: end, size }
  }

  #take(head: RecordHead, leaf: string, tree: Tree): void {
    tree.append(Buffer.from(leaf, 'hex'))
    this.#seq += 1
    this.#hash = leaf
    this.#boot = head.boot
    this.#monoMs = head.mono_ms
    if (head.type === 'seal') this.#seal = sealOf(head, leaf) ?? this.#seal
  }

  async #finish(file: LogFile, name: string, segment: number, { offset, size }: { offset: number; size: number }, tree: Tree): Promise<LogEnd> {
    const known = this.#committed
    if (known !== null && (known.segment !== segment || size < known.bytes || size > known.bytes + known.uncertain)) {
      throw damaged(`${name} has ${size} bytes, expected ${known.bytes} of ${segmentName(known.segment)}: someone else wrote or cut it`)
    }
    let unended = false
    let torn: Torn | null = null
    if (size > offset) {
      if (size - offset > MAX_TORN_BYTES) throw damaged(`the last ${size - offset} bytes of ${name} hold no whole record; it does not end where Cordon stopped writing`)
      const rest = await file.read(offset, size - offset)
      const head = parseHead(rest)
      if (head !== null && rest.at(-1) !== 0x0a && head.seq === this.#seq && head.prev === this.#hash) {
        this.#take(head, leafHash(rest), tree)
        unended = true
      } else {
        torn = { offset, bytes: rest.length, sha256: hash('sha256', rest, 'hex'), endsLine: rest.at(-1) === 0x0a }
      }
    }
    if (known !== null && (this.#seq < known.nextSeq || (this.#seq === known.nextSeq && this.#hash !== known.lastHash))) {
      throw damaged(`${name} does not end with the record that was committed last (seq ${known.nextSeq - 1})`)
    }
    const first = segment === this.#seq ? null : await firstHead(file)
    return {
      segment, bytes: size, segmentTimeMs: first === null ? null : Date.parse(first.time), nextSeq: this.#seq, lastHash: this.#hash,
      boot: this.#boot, monoMs: this.#monoMs, torn, unended, tree, seal: this.#seal,
    }
  }
}

function requireCommitted(known: Committed, name: string, offset: number, lastHash: string): void {
  // A newline that was missing is written by the commit after it.
  if (lastHash === known.lastHash && (offset === known.bytes || offset === known.bytes + 1)) return
  throw damaged(`${name} does not end with the record that was committed last (seq ${known.nextSeq - 1})`)
}

function damaged(what: string): CordonError {
  return new CordonError('AUDIT_UNAVAILABLE', `${RECORDS_DIR}/${what}`)
}
