import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { accountOf, Charges } from './charges.ts'
import { Company, LINGER_RECORDS } from './company.ts'
import { prepareEntry, type PreparedEntry, type Stamp } from './entry.ts'
import { Journal } from './journal.ts'
import { errnoOf, NODE_FS } from './log-file.ts'
import { readBootId, SYSTEM_CLOCK, type AuditLogOptions, type LogClock } from './log-options.ts'
import { Losses, type LossReason } from './losses.ts'
import { prune } from './retention.ts'
import { RecordQueue, type Queued, type Waiter } from './queue.ts'
import type { AuditEvent, AuditOrigin, AuditSink, LauncherEvent } from './record.ts'
import type { SealReason } from './seal.ts'

/** One durable write covers what has gathered meanwhile, up to this; verifiers rely on it for torn bytes. */
const MAX_BATCH_BYTES = 1024 * 1024
/** While the log is lost, records that nobody awaits try the disk this often; each awaited one tries it anyway. */
const RETRY_MS = 1000
/** And this often it is tried although nothing happens: plugins may stand still until it is back. */
const LOST_RETRY_MS = 2000
/** A plugin over its budget gets at most one `gap` record in this time. */
const COALESCE_MS = 5000
const SEAL_INTERVAL_S = 60
/** Room for the last words on a full disk: a record, and what a file system needs to take it. */
const RESERVE_BYTES = 32 * 1024
/** A segment ends when it is this large or this old. */
const SEGMENT_BYTES = 64 * 1024 * 1024
const SEGMENT_AGE_MS = 7 * 86_400_000
/** A burst is sealed sooner: so many records are at most without a seal. */
const SEAL_RECORDS = 65_536

export interface AuditLogState {
  readonly state: 'open' | 'lost' | 'closed'
  /** Durable records, and the leaf hash of the newest. */
  readonly records: number
  readonly lastHash: string
  /** Of the open segment. */
  readonly bytes: number
  readonly queued: number
  /** Records that no seal covers yet. */
  readonly unsealed: number
  /** Of the first key: what an operator keeps on another machine. */
  readonly fingerprint: string
  readonly origin: string
  /** Records that could not be written and that no `gap` record tells of yet. */
  readonly unrecorded: number
  readonly overBudget: readonly string[]
  readonly error: string | null
}

/**
 * Open or create the log in `options.dir` and continue its chain. Only one writer may be open; a second one would be noticed at the next
 * commit by the file's size.
 * @throws CordonError AUDIT_UNAVAILABLE, AUDIT_KEYS: nothing that must be recorded can start
 */
export async function openAuditLog(options: AuditLogOptions): Promise<AuditLog> {
  const boot = options.bootId ?? readBootId()
  const clock = options.clock ?? SYSTEM_CLOCK
  const { dir, keysDir = `${dir}-keys`, owner = 0, fs = NODE_FS, sealIntervalS: intervalS = SEAL_INTERVAL_S } = options
  try {
    const reserveBytes = options.mode === 'run' ? 0 : RESERVE_BYTES
    const journal = await Journal.open({ dir, keysDir, owner, fs, intervalS, reserveBytes }, () => ({ wallMs: clock.wallMs(), monoMs: clock.monoMs(), boot }))
    const log = new AuditLog(options, journal, clock, boot)
    await log.begin()
    return log
  } catch (error) {
    throw unavailable(error, dir)
  }
}

/** The one writer. See README.md, "Life of a record". */
export class AuditLog implements AuditSink {
  readonly #dir: string
  readonly #daemon: boolean
  /** The newest seal is of this session and is no `close`. */
  #sealedOpen = false
  readonly #clock: LogClock
  readonly #boot: string
  readonly #charges: Charges
  readonly #coalesceMs: number
  readonly #sealIntervalMs: number
  readonly #sealRecords: number
  readonly #segmentBytes: number
  readonly #segmentAgeMs: number
  readonly #prune: () => Promise<void>
  readonly #onLoss: (error: CordonError | null) => void
  readonly #stopped = new AbortController()
  #pruning: Promise<void> | null = null
  readonly #losses = new Losses()
  readonly #queue = new RecordQueue()
  readonly #company = new Company()
  readonly #journal: Journal
  #monoFloor: number

  #loop: Promise<void> | null = null
  #wake: (() => void) | null = null
  #coalesceTimer: NodeJS.Timeout | null = null
  #sealTimer: NodeJS.Timeout | null = null
  #sealWanted: SealReason | null = null
  #sealWaiters: { resolve(): void; reject(error: CordonError): void }[] = []
  #closing: Promise<void> | null = null
  #error: CordonError | null = null
  #triedAt = 0
  /** The last words of this loss are said. */
  #fullTold = false

  constructor(options: AuditLogOptions, journal: Journal, clock: LogClock, boot: string) {
    this.#dir = options.dir
    this.#daemon = options.mode !== 'run'
    this.#clock = clock
    this.#boot = boot
    this.#charges = new Charges(options.budget)
    this.#coalesceMs = options.coalesceMs ?? COALESCE_MS
    this.#sealIntervalMs = (options.sealIntervalS ?? SEAL_INTERVAL_S) * 1000
    this.#sealRecords = options.sealRecords ?? SEAL_RECORDS
    this.#segmentBytes = options.segmentBytes ?? SEGMENT_BYTES
    this.#segmentAgeMs = options.segmentAgeMs ?? SEGMENT_AGE_MS
    this.#onLoss = options.onLoss ?? (() => {})
    this.#prune = async () => {
      const { dir, fs = NODE_FS, owner = 0, retention = null, onPruned = () => {} } = options
      if (retention === null) return
      const pruned = await prune(this, { fs, dir, owner, retention, nowMs: clock.wallMs(), signal: this.#stopped.signal }).catch((error: unknown) => unavailable(error, dir))
      if (!Array.isArray(pruned) || pruned.length > 0) onPruned(pruned)
    }
    this.#journal = journal
    const last = journal.lastClock
    this.#monoFloor = last.boot === boot ? last.monoMs : 0
  }

  /** @throws CordonError AUDIT_UNAVAILABLE: it is closed then */
  async begin(): Promise<void> {
    if (!this.#daemon) {
      if (this.#journal.torn !== null) this.#kick()
      return
    }
    const opened = this.append({ type: 'log.opened', pid: process.pid }, 'launcher')
    const sealed = this.seal('open')
    const failed = (await Promise.allSettled([opened, sealed])).find((one) => one.status === 'rejected')
    if (failed === undefined) {
      this.#pruneSoon()
      return
    }
    this.#closing = Promise.resolve()
    await this.#journal.close()
    throw failed.reason as CordonError
  }

  /** @throws (rejects) CordonError AUDIT_UNAVAILABLE, AUDIT_BUDGET or AUDIT_BAD_EVENT: the act must not happen */
  append(event: AuditEvent, origin: AuditOrigin): Promise<{ readonly seq: number }> {
    return new Promise((resolve, reject) => {
      const refusal = this.#admit(event, origin, { resolve, reject })
      if (refusal !== null) reject(refusal)
    })
  }

  note(event: AuditEvent, origin: AuditOrigin): void {
    this.#admit(event, origin, null) // a refusal has been counted; a `gap` record tells of it
  }

  /** Seal what is durable by now; resolves once the checkpoint lies there. @throws (rejects) CordonError AUDIT_UNAVAILABLE */
  seal(why: SealReason = 'ask'): Promise<void> {
    if (this.#closing !== null) return Promise.reject(closed())
    return new Promise((resolve, reject) => {
      this.#sealWaiters.push({ resolve, reject })
      this.#sealWanted ??= why
      this.#wake?.()
      this.#kick()
    })
  }

  state(): AuditLogState {
    const journal = this.#journal
    return {
      state: this.#closing !== null ? 'closed' : this.#error !== null ? 'lost' : 'open',
      records: journal.seq, lastHash: journal.lastHash, bytes: journal.bytes, queued: this.#queue.length, unsealed: journal.unsealed,
      fingerprint: journal.fingerprint, origin: journal.origin,
      unrecorded: this.#losses.total(), overBudget: this.#charges.overdrawn(), error: this.#error?.message ?? null,
    }
  }

  /** Writes what is queued, seals, then closes. Records that come later are refused. */
  close(): Promise<void> {
    this.#closing ??= this.#shut()
    return this.#closing
  }

  async #shut(): Promise<void> {
    this.#stopped.abort()
    if (this.#error === null) this.#tellCoalesced()
    for (const timer of [this.#coalesceTimer, this.#sealTimer]) if (timer !== null) clearTimeout(timer)
    this.#wake?.()
    while (this.#loop !== null) await this.#loop
    if (this.#losses.size > 0) await this.#commit([])
    if (this.#error === null && (this.#daemon || this.#journal.unsealed > 0 || this.#sealedOpen)) await this.#sealNow('close')
    await this.#pruning
    await this.#journal.close()
  }

  #admit(event: AuditEvent, origin: AuditOrigin, waiter: Waiter | null): CordonError | null {
    const kind = waiter === null ? 'lost' : 'refused'
    const type = String(event.type)
    const stamp = this.#stamp()
    const lose = (reason: LossReason, error: CordonError): CordonError => {
      this.#losses.add(reason, type, kind, stamp.wallMs, error.message)
      if (this.#error === null) this.#kick()
      return error
    }
    if (this.#closing !== null) return closed()
    let entry: PreparedEntry
    try {
      entry = prepareEntry(event, origin, stamp, this.#journal.salt)
    } catch (error) {
      return lose('bad-event', error instanceof CordonError ? error : new CordonError('AUDIT_BAD_EVENT', printable(String(error)), { cause: error }))
    }
    const account = accountOf(event, origin)
    if (account !== null && !this.#charges.charge(account, event, origin, entry.bytes, stamp)) {
      this.#armCoalesce()
      return new CordonError('AUDIT_BUDGET', `plugin "${printable(account, 64)}" is over its budget of audit records; ${type} was counted, not recorded`)
    }
    if (!this.#queue.hasRoom(entry.bytes, account !== null)) {
      return lose('queue-full', new CordonError('AUDIT_UNAVAILABLE', `the audit log has ${this.#queue.length} records waiting for the disk; ${type} was not recorded`))
    }
    if (waiter === null && this.#error !== null && stamp.monoMs - this.#triedAt < RETRY_MS) return lose('unavailable', this.#error)
    this.#push({ entry, type, stamp, waiter })
    return null
  }

  #push(item: Queued): void {
    this.#queue.push(item)
    if (item.waiter !== null) this.#company.awaited(performance.now())
    if (item.waiter !== null || this.#queue.length >= LINGER_RECORDS) this.#wake?.()
    this.#kick()
  }

  #stamp(): Stamp {
    this.#monoFloor = Math.max(this.#monoFloor, this.#clock.monoMs())
    return { wallMs: this.#clock.wallMs(), monoMs: this.#monoFloor, boot: this.#boot }
  }

  #kick(): void {
    this.#loop ??= this.#run().finally(() => {
      this.#loop = null
      // A caller may have come between the loop's last look and this line.
      if (this.#somebodyWaits() || (this.#error === null && (this.#losses.size > 0 || this.#sealWanted !== null))) this.#kick()
    })
  }

  #somebodyWaits(): boolean {
    return this.#queue.length > 0 || this.#sealWaiters.length > 0
  }

  async #run(): Promise<void> {
    // The first turn lets callers of the same turn share a commit; while one is on its way to the disk the next gathers.
    await nextTurn()
    while (this.#queue.length > 0 || this.#journal.torn !== null || this.#losses.size > 0 || this.#sealWanted !== null) {
      if (this.#sealWanted === null) await this.#linger()
      if (this.#queue.length > 0 || this.#journal.torn !== null || this.#losses.size > 0 || this.#error !== null) await this.#commit(this.#queue.take(MAX_BATCH_BYTES))
      if (this.#error === null && this.#sealWanted !== null) await this.#sealNow(this.#sealWanted)
      if (this.#error !== null && !this.#somebodyWaits()) return
    }
  }

  /** Until there is company enough, or something else is to be done. */
  async #linger(): Promise<void> {
    const began = performance.now()
    while (this.#sealWanted === null && this.#closing === null) {
      const ms = this.#company.waitMs(this.#queue, began, performance.now())
      if (ms <= 0) break
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, Math.ceil(ms))
        this.#wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
    this.#wake = null
  }

  /** One durable write; only then are the callers told. Never rejects. */
  async #commit(batch: readonly Queued[]): Promise<void> {
    const losses = this.#losses.take()
    const stamp = batch[0]?.stamp ?? this.#stamp()
    try {
      this.#triedAt = stamp.monoMs
      if (!this.#journal.isOpen) await this.#journal.reopen()
      const entries: PreparedEntry[] = [...this.#tornGap(), ...losses.gaps()].map((gap) => prepareEntry(gap, 'launcher', stamp, this.#journal.salt))
      const gaps = entries.length
      for (const { entry } of batch) entries.push(entry)
      if (entries.length > 0) {
        const first = (await this.#journal.commit(entries, batch.at(-1)?.stamp ?? stamp)) + gaps
        this.#company.committed(performance.now())
        for (const [i, { waiter }] of batch.entries()) waiter?.resolve({ seq: first + i })
      }
      const wasLost = this.#error !== null
      this.#error = null
      this.#fullTold = false
      if (wasLost) this.#onLoss(null)
      if (this.#journal.unsealed >= this.#sealRecords) this.#sealWanted ??= 'count'
      if (this.#segmentIsFull()) this.#sealWanted ??= 'rotate'
    } catch (error) {
      this.#losses.putBack(losses)
      await this.#lose(unavailable(error, this.#dir), batch)
    }
  }

  /** Never rejects. */
  async #sealNow(wanted: SealReason): Promise<void> {
    const rotate = wanted !== 'close' && this.#segmentIsFull()
    const why = rotate ? 'rotate' : wanted
    const waiters = this.#sealWaiters
    this.#sealWaiters = []
    this.#sealWanted = null
    try {
      // Within a boot `mono_ms` never falls, and what waits was stamped before now.
      await this.#journal.sealNow(why, this.#queue.oldest?.stamp ?? this.#stamp())
      this.#sealedOpen = why !== 'close'
      if (rotate) await this.#journal.startSegment()
      // Who asked wants the checkpoint as well; the next commit need not wait for it.
      for (const { resolve, reject } of waiters) void this.#journal.settled().then(resolve, (error: unknown) => reject(unavailable(error, this.#dir)))
      this.#armSeal()
      if (rotate) this.#pruneSoon()
    } catch (error) {
      const lost = unavailable(error, this.#dir)
      for (const { reject } of waiters) reject(lost)
      await this.#lose(lost, [])
    }
  }

  #segmentIsFull(): boolean {
    const { bytes, segmentTimeMs } = this.#journal
    return bytes >= this.#segmentBytes || (segmentTimeMs !== null && this.#clock.wallMs() - segmentTimeMs >= this.#segmentAgeMs)
  }

  /** Beside all else: it takes its place in the queue like everybody. */
  #pruneSoon(): void {
    if (this.#daemon) this.#pruning ??= this.#prune().finally(() => (this.#pruning = null))
  }

  /** Also when nothing happens, and also while the log is lost: then it is tried again. */
  #armSeal(): void {
    if (!this.#daemon || this.#closing !== null) return
    if (this.#sealTimer !== null) clearTimeout(this.#sealTimer)
    this.#sealTimer = setTimeout(() => {
      this.#sealTimer = null
      this.#sealWanted ??= 'interval'
      this.#kick()
    }, this.#error === null ? this.#sealIntervalMs : Math.min(this.#sealIntervalMs, LOST_RETRY_MS)).unref()
  }

  #tornGap(): LauncherEvent[] {
    if (this.#journal.torn === null) return []
    const { offset, bytes, sha256 } = this.#journal.torn
    return [{ type: 'gap', reason: 'torn-line', torn: { offset, bytes, sha256 } }]
  }

  async #lose(error: CordonError, batch: readonly Queued[]): Promise<void> {
    const wasLost = this.#error !== null
    this.#error = error
    if (!wasLost) this.#onLoss(error) // first of all: who must not go on unrecorded stands still before anything else is tried
    await this.#journal.abandon()
    for (const { type, stamp, waiter } of [...batch, ...this.#queue.take(Infinity)]) {
      this.#losses.add('unavailable', type, waiter === null ? 'lost' : 'refused', stamp.wallMs, error.message)
      waiter?.reject(error)
    }
    for (const { reject } of this.#sealWaiters.splice(0)) reject(error)
    this.#sealWanted = null
    this.#armSeal()
    await this.#lastWords(errnoOf(error.cause))
  }

  /** On a disk that takes no more: that it does not, in the room that was kept for it. Never rejects. */
  async #lastWords(errno: string | null): Promise<void> {
    if (!this.#daemon || this.#fullTold || (errno !== 'ENOSPC' && errno !== 'EDQUOT')) return
    this.#fullTold = true
    const stamp = this.#stamp()
    try {
      await this.#journal.reopen('spend')
      await this.#journal.commit([prepareEntry({ type: 'log.full', errno }, 'launcher', stamp, this.#journal.salt)], stamp)
    } catch {
      // The gap record tells it all when the disk is back.
    } finally {
      await this.#journal.abandon()
    }
  }

  #armCoalesce(): void {
    this.#coalesceTimer ??= setTimeout(() => this.#tellCoalesced(), this.#coalesceMs).unref()
  }

  #tellCoalesced(): void {
    if (this.#coalesceTimer !== null) clearTimeout(this.#coalesceTimer)
    this.#coalesceTimer = null
    // While the log is lost the counts stay where they are, rather than being lost with their record.
    if (this.#error !== null) return this.#armCoalesce()
    const stamp = this.#stamp()
    for (const { plugin, counts, sinceMs } of this.#charges.drain()) {
      const event: LauncherEvent = { type: 'gap', plugin, reason: 'budget', since: new Date(sinceMs).toISOString(), coalesced: counts }
      this.#push({ entry: prepareEntry(event, 'launcher', stamp, this.#journal.salt), type: 'gap', stamp, waiter: null })
    }
  }
}

function closed(): CordonError {
  return new CordonError('AUDIT_UNAVAILABLE', 'the audit log is closed; Cordon is stopping')
}

function unavailable(error: unknown, dir: string): CordonError {
  if (error instanceof CordonError) return error
  const errno = errnoOf(error)
  return new CordonError('AUDIT_UNAVAILABLE', `${printable(join(dir, 'records'))}: ${errno ?? 'error'}: ${printable(error instanceof Error ? error.message : String(error))}`, { cause: error })
}
