import { join } from 'node:path'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { checkpointNote, fingerprintOf, originOf } from './checkpoint.ts'
import { BatchEncoder } from './encode.ts'
import { GENESIS_HASH, prepareEntry, type PreparedEntry, type Stamp } from './entry.ts'
import { epochFile, KeyStore } from './keys.ts'
import { errnoOf, type LogFile, type LogFs } from './log-file.ts'
import { epochAfter, takeKeys, type LogKeys } from './log-keys.ts'
import { PrivateDir, writeAll } from './private-dir.ts'
import type { LastSeal } from './record-head.ts'
import { findEnd, type Committed, type LogEnd, type Torn } from './recovery.ts'
import { Reserve } from './reserve.ts'
import { sealRecord, type SealReason } from './seal.ts'
import { RECORDS_DIR, segmentName } from './segments.ts'
import { TileStore } from './tiles.ts'
import { Tree, type Tile } from './tree.ts'
import { requireUntouched } from './untouched.ts'

export interface JournalOptions {
  readonly dir: string
  /** `<dir>-keys`, unless a test says otherwise. */
  readonly keysDir: string
  readonly owner: number
  readonly fs: LogFs
  /** Told in each seal, so that a reader can judge pauses. */
  readonly intervalS: number
  /** Bytes kept on the disk for the last words; 0: none. */
  readonly reserveBytes: number
}

/** A first record that is torn is nobody's: nothing was acknowledged, and the log begins anew. */
const TORN_GENESIS_BYTES = 4096

/** What is open while the log is not lost. */
interface Places {
  readonly top: PrivateDir
  readonly records: PrivateDir
  readonly keys: PrivateDir
  readonly tiles: TileStore
  readonly tileDir: PrivateDir
  segment: LogFile
}

/**
 * The log on the disk (FORMAT.md): chain, segments, tree, seals and keys. One caller at a time; what throws leaves it to be abandoned and
 * opened again. It decides nothing about who may write and when (log.ts).
 */
export class Journal {
  readonly #options: JournalOptions
  readonly #encoder = new BatchEncoder()
  #places: Places | null = null
  readonly #reserve: Reserve
  #keys: LogKeys | null = null
  #tree = new Tree()
  #seal: LastSeal | null = null
  #seq = 0
  #hash = GENESIS_HASH
  #segment = 0
  #segmentTimeMs: number | null = null
  /** Bytes of the segment as of the last commit, and up to its last record. */
  #bytes = 0
  #recordsEnd = 0
  #torn: Torn | null = null
  #unended = false
  #uncertain = 0
  #boot: string | null = null
  #monoMs = 0
  /** What follows a seal without anybody waiting: the old key goes, tiles and checkpoint come. */
  #settling: Promise<void> = Promise.resolve()
  #settleError: unknown = null

  private constructor(options: JournalOptions) {
    this.#options = options
    this.#reserve = new Reserve(options.reserveBytes)
  }

  /**
   * Open the log, or create it.
   * @param stamp of the first record of a new log
   * @throws CordonError AUDIT_UNAVAILABLE, AUDIT_KEYS; errno codes pass through
   */
  static async open(options: JournalOptions, stamp: () => Stamp): Promise<Journal> {
    const journal = new Journal(options)
    await journal.#open(null, true)
    if (journal.#seq === 0) await journal.#begin(stamp())
    return journal
  }

  get seq(): number { return this.#seq }
  get lastHash(): string { return this.#hash }
  get bytes(): number { return this.#bytes }
  get torn(): Torn | null { return this.#torn }
  get seal(): LastSeal | null { return this.#seal }
  get firstKey(): string { return this.#keys?.firstKey ?? '' }
  get fingerprint(): string { return fingerprintOf(this.firstKey) }
  get origin(): string { return originOf(this.firstKey) }
  /** Key of what stands for values that may be secret. */
  get salt(): Uint8Array { return this.#keys?.salt ?? new Uint8Array() }
  get isOpen(): boolean { return this.#places !== null }
  /** Records that no seal covers; a seal itself is covered by its signature. */
  get unsealed(): number { return this.#seq - (this.#seal === null ? 0 : this.#seal.seq + 1) }
  get segmentTimeMs(): number | null { return this.#segmentTimeMs }

  /** Where the last record was made: within that boot no later one may be earlier. */
  get lastClock(): { readonly boot: string | null; readonly monoMs: number } {
    return { boot: this.#boot, monoMs: this.#monoMs }
  }

  /** One write, durable when it is done. @returns the `seq` of the first; the records are durable */
  async commit(entries: readonly PreparedEntry[], stamp: Stamp): Promise<number> {
    const places = this.#requireOpen()
    if (this.#settleError !== null) throw this.#settleError
    await requireUntouched(this.#options.fs, {
      path: join(this.#options.dir, RECORDS_DIR, segmentName(this.#segment)), file: places.segment, bytes: this.#bytes,
    }, { path: join(this.#options.keysDir, epochFile(epochAfter(this.#seal))), facts: this.#keys?.keyFacts ?? null })
    const first = this.#seq
    const { bytes, leaves, hash } = this.#encoder.encode(entries, first, this.#hash, this.#unended || this.#torn?.endsLine === false)
    this.#uncertain = bytes.length
    await writeAll(bytes, (rest) => places.segment.append(rest))
    this.#uncertain = 0
    this.#bytes += bytes.length
    this.#recordsEnd = this.#bytes
    this.#torn = null
    this.#unended = false
    this.#seq += entries.length
    this.#hash = hash
    this.#boot = stamp.boot
    this.#monoMs = stamp.monoMs
    this.#segmentTimeMs ??= stamp.wallMs
    this.#tree.append(leaves)
    return first
  }

  /** End an epoch: the next key is durable, then the seal; the old key goes after it. */
  async sealNow(why: SealReason, stamp: Stamp): Promise<void> {
    const places = this.#requireOpen()
    await this.settled()
    const keys = this.#keys
    if (keys === null) throw new CordonError('INTERNAL_BUG', 'a log without its key is open')
    const epoch = epochAfter(this.#seal)
    const store = new KeyStore(places.keys)
    const next = await store.makeEpochKey(epoch + 1)
    const nextFacts = await places.keys.facts(epochFile(epoch + 1))
    const seq = this.#seq
    const record = sealRecord({
      epoch, interval_s: this.#options.intervalS, next_key: next.public, prev_seal: this.#seal?.hash ?? GENESIS_HASH,
      root: this.#tree.root(), size: seq, why,
    }, stamp, this.#hash, keys.key)
    await this.commit([record], stamp)
    this.#seal = { epoch, seq, hash: this.#hash, nextKey: next.public, why }
    this.#keys = { ...keys, key: next, keyFacts: nextFacts }
    keys.key.forget()
    const note = checkpointNote({ origin: this.origin, size: this.#seq, root: this.#tree.root() }, keys.logKey, next)
    this.#settling = this.#settle(places, store, epoch, note, this.#tree.takeFull(), this.#tree.partial()).catch((error: unknown) => {
      this.#settleError = error // the next commit fails with it, and all is read anew
    })
  }

  /** @throws what went wrong behind the last seal */
  async settled(): Promise<void> {
    await this.#settling
    if (this.#settleError !== null) throw this.#settleError
  }

  /** Begin a new segment, right after a seal. */
  async startSegment(): Promise<void> {
    const places = this.#requireOpen()
    if (this.#seq !== (this.#seal?.seq ?? -1) + 1 || this.#torn !== null) throw new CordonError('INTERNAL_BUG', 'a segment begins behind a seal')
    const name = segmentName(this.#seq)
    const fresh = await places.records.openAppend(name, true)
    if ((await fresh.stat()).size > 0) {
      await fresh.close()
      throw new CordonError('AUDIT_UNAVAILABLE', `${RECORDS_DIR}/${name} already holds something`)
    }
    await places.records.sync()
    await places.records.appendOnly(name, true)
    await places.segment.close()
    await places.records.appendOnly(segmentName(this.#segment), false)
    places.segment = fresh
    this.#segment = this.#seq
    this.#segmentTimeMs = null
    this.#bytes = 0
    this.#recordsEnd = 0
    this.#unended = false
  }

  /**
   * After a failure nothing in memory about the files is believed: they are closed, and what a failed commit left is cut off (its callers
   * were told that it failed). Never throws: `reopen` does not go on before the end is what it should be.
   */
  async abandon(): Promise<void> {
    const places = this.#places
    if (places === null) return
    await this.#settling
    if (this.#uncertain > 0) await this.#cutUncertain(places.records).catch(() => undefined) // the disk that failed just now; `reopen` tries again
    this.#places = null
    await closeAll(places).catch(() => undefined) // nothing that was acknowledged depends on it
  }

  /**
   * @param reserve `keep`: what is kept for the last words must be there again, or the disk is as full as before. `spend`: these are the last words.
   */
  async reopen(reserve: 'keep' | 'spend' = 'keep'): Promise<void> {
    await this.#open({
      segment: this.#segment, bytes: this.#recordsEnd, nextSeq: this.#seq, lastHash: this.#hash,
      uncertain: this.#bytes - this.#recordsEnd + this.#uncertain + 1,
    }, false, reserve)
  }

  async close(): Promise<void> {
    await this.#settling
    const places = this.#places
    this.#places = null
    this.#keys?.key.forget()
    this.#keys?.logKey.forget()
    if (places === null) return
    await places.records.appendOnly(segmentName(this.#segment), false).catch(() => undefined) // the next writer sets it anyway
    await closeAll(places)
  }

  // ---- opening

  async #open(committed: Committed | null, create: boolean, reserve: 'keep' | 'spend' = 'keep'): Promise<void> {
    const { fs, dir, keysDir, owner } = this.#options
    const opened: PrivateDir[] = []
    const keep = async (dir: Promise<PrivateDir>): Promise<PrivateDir> => {
      const one = await dir
      opened.push(one)
      return one
    }
    let segment: LogFile | null = null
    try {
      const top = await keep(PrivateDir.open(fs, dir, owner, create))
      const records = await keep(top.subdir(RECORDS_DIR, create))
      const tileDir = await keep(top.subdir('tile', create))
      const keys = await keep(PrivateDir.open(fs, keysDir, owner, create))
      const tiles = new TileStore(tileDir)
      if (committed !== null && this.#uncertain > 0) await this.#cutUncertain(records)
      let end = await findEnd(top, records, tiles, committed)
      if (end !== null && end.nextSeq === 0) end = await this.#dropTornGenesis(records, end)
      segment = await records.openAppend(segmentName(end?.segment ?? 0), end === null && create)
      if (create) for (const folder of [records, top]) await folder.sync() // the names must outlive a crash, too
      await records.appendOnly(segmentName(end?.segment ?? 0), true)
      if (end !== null) this.#take(end)
      this.#keys = await takeKeys(top, records, keys, this.#seq, this.#seal, this.#keys?.key ?? null)
      if (reserve === 'spend') await this.#reserve.spend(top)
      else await this.#reserve.keep(top)
      this.#uncertain = 0
      this.#settleError = null
      this.#places = { top, records, tiles, tileDir, keys, segment }
    } catch (error) {
      // What went wrong first is what is told.
      await segment?.close().catch(() => undefined)
      for (const one of opened) await one.close().catch(() => undefined)
      throw error
    }
  }

  #take(end: LogEnd): void {
    this.#tree = end.tree
    this.#seal = end.seal
    this.#seq = end.nextSeq
    this.#hash = end.lastHash
    this.#segment = end.segment
    this.#segmentTimeMs = end.segmentTimeMs
    this.#bytes = end.bytes
    this.#recordsEnd = end.torn?.offset ?? end.bytes
    this.#torn = end.torn
    this.#unended = end.unended
    this.#boot = end.boot
    this.#monoMs = end.monoMs
  }

  async #dropTornGenesis(records: PrivateDir, end: LogEnd): Promise<LogEnd> {
    if (end.bytes > TORN_GENESIS_BYTES) throw new CordonError('AUDIT_UNAVAILABLE', `the ${end.bytes} bytes of ${RECORDS_DIR}/${segmentName(0)} hold no record; this is no log of Cordon`)
    const file = await records.openAppend(segmentName(0), false)
    try {
      await records.appendOnly(segmentName(0), false)
      await file.truncate(0)
      await file.datasync()
    } finally {
      await file.close()
    }
    return { ...end, bytes: 0, torn: null, unended: false }
  }

  async #begin(stamp: Stamp): Promise<void> {
    if (this.#keys === null) return
    const { firstKey, logKey, salt } = this.#keys
    const event = { type: 'log.created', first_key: firstKey, interval_s: this.#options.intervalS, log_key: logKey.public, origin: this.origin } as const
    try {
      await this.commit([prepareEntry(event, 'launcher', stamp, salt)], stamp)
    } catch (error) {
      await this.abandon()
      throw error
    }
  }

  // ---- while it is open

  async #settle(places: Places, store: KeyStore, epoch: number, note: string, full: readonly Tile[], partial: readonly Tile[]): Promise<void> {
    await store.destroyEpochKey(epoch)
    await places.tiles.write([...full, ...partial])
    await places.top.replace('checkpoint', Buffer.from(note))
    await places.tiles.dropOlder(partial)
  }

  #requireOpen(): Places {
    if (this.#places === null) throw new CordonError('AUDIT_UNAVAILABLE', `${printable(this.#options.dir)} is not open`)
    return this.#places
  }

  /**
   * Only bytes that a commit of ours can have written; anything else behind the end is someone else's, and stays. Durable when it
   * resolves: a seal that was cut off must not come back after its next key was destroyed.
   */
  async #cutUncertain(records: PrivateDir): Promise<void> {
    const segment = await records.openAppend(segmentName(this.#segment), false)
    try {
      const { size } = await segment.stat()
      if (size < this.#bytes || size > this.#bytes + this.#uncertain) return
      if (size > this.#bytes) await records.appendOnly(segmentName(this.#segment), false) // set again by whoever opens it
      // Where somebody else made it append-only it keeps them: what is whole among them counts as recorded, the rest is torn (recovery.ts).
      const cut = await segment.truncate(this.#bytes).then(() => true, (error: unknown) => {
        if (errnoOf(error) === 'EPERM') return false
        throw error
      })
      await segment.datasync()
      if (cut) this.#uncertain = 0
    } finally {
      await segment.close()
    }
  }
}

async function closeAll({ top, records, keys, tileDir, segment }: Places): Promise<void> {
  for (const one of [segment, tileDir, keys, records, top]) await one.close()
}
