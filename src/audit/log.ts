import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { type BudgetLimits, DEFAULT_BUDGET, DOOR_BUDGET, RecordBudget } from './budget.ts'
import { MAX_ENTRY_BYTES, prepareEntry, sealEntry, type Origin, type PreparedEntry, type Stamp } from './entry.ts'
import { errnoOf, LOG_NAME, NODE_FS, openLogFile, type LogFile, type LogFs } from './log-file.ts'
import { Losses, type LossReason } from './losses.ts'
import type { AuditEvent, AuditSink, LauncherEvent } from './record.ts'
import { readTail, type LogTail, type Torn } from './tail.ts'

/** One fdatasync covers at most this many records; the longest wait of a record that nobody awaits. */
const MAX_BATCH_RECORDS = 64
const MAX_BATCH_BYTES = 1024 * 1024
const LINGER_MS = 5
/** Records held in memory while the disk is busy. Records that a plugin causes may use three quarters: the launcher's own always find room. */
const MAX_QUEUE_RECORDS = 4096
const MAX_QUEUE_BYTES = 16 * 1024 * 1024
const PLUGIN_SHARE = 0.75
/** While the log is lost, records that nobody awaits try the disk this often; each awaited one tries it anyway. */
const RETRY_MS = 1000
/** A plugin over its budget gets at most one `gap` record in this time. */
const COALESCE_MS = 5000
/** Records of the gateway that name no plugin (a stranger's requests) share one budget. */
const GATEWAY_ACCOUNT = '(gateway)'

export interface LogClock {
  wallMs(): number
  /** Integer milliseconds of CLOCK_MONOTONIC. */
  monoMs(): number
}

export interface AuditLogOptions {
  readonly dir: string
  /** Uid that must own directory and file. */
  readonly owner?: number
  readonly clock?: LogClock
  readonly bootId?: string
  readonly fs?: LogFs
  readonly budget?: BudgetLimits
  readonly coalesceMs?: number
  /** Key of what stands for values that may be secret; without one nobody can ever compare them. */
  readonly salt?: Uint8Array
}

export interface AuditLogState {
  readonly state: 'open' | 'lost' | 'closed'
  /** Durable records, and the hash of the newest: worth remembering on another machine (`audit verify --head`). */
  readonly records: number
  readonly lastHash: string
  readonly bytes: number
  readonly queued: number
  /** Records that could not be written and that no `gap` record tells of yet. */
  readonly unrecorded: number
  readonly overBudget: readonly string[]
  readonly error: string | null
}

export const SYSTEM_CLOCK: LogClock = { wallMs: () => Date.now(), monoMs: () => Number(process.hrtime.bigint() / 1_000_000n) }

export function readBootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
}

interface Waiter {
  readonly resolve: (done: { readonly seq: number }) => void
  readonly reject: (error: CordonError) => void
}
interface Queued { readonly entry: PreparedEntry; readonly type: string; readonly stamp: Stamp; readonly waiter: Waiter | null }

/**
 * Open or create the log in `options.dir` and continue its chain. Only one writer may be open (`cordon serve` holds a
 * lock); a second one would be noticed at the next commit by the file's size.
 * @throws CordonError AUDIT_UNAVAILABLE: nothing that must be recorded can start
 */
export async function openAuditLog(options: AuditLogOptions): Promise<AuditLog> {
  try {
    const file = await openLogFile(options.fs ?? NODE_FS, options.dir, options.owner ?? 0, true)
    try {
      const { size } = await file.stat()
      return new AuditLog(options, file, await readTail(file, size), size)
    } catch (error) {
      await file.close()
      throw error
    }
  } catch (error) {
    throw unavailable(error, options.dir)
  }
}

/** The one writer. See README.md, "Life of a record". */
export class AuditLog implements AuditSink {
  readonly #fs: LogFs
  readonly #dir: string
  readonly #owner: number
  readonly #clock: LogClock
  readonly #boot: string
  readonly #budget: RecordBudget
  readonly #doorBudget = new RecordBudget(DOOR_BUDGET)
  readonly #coalesceMs: number
  readonly #losses = new Losses()
  readonly #salt: Uint8Array

  #file: LogFile | null
  #seq: number
  #hash: string
  /** Bytes of the file as of the last commit. */
  #size: number
  #torn: Torn | null
  /** What stands at the end of the file lacks its newline. */
  #unended: boolean
  /** Bytes that a failed commit may have left behind `#size`. */
  #uncertain = 0
  #monoFloor: number

  #queue: Queued[] = []
  #queueBytes = 0
  #waiting = 0
  #loop: Promise<void> | null = null
  #wake: (() => void) | null = null
  #coalesceTimer: NodeJS.Timeout | null = null
  #closing: Promise<void> | null = null
  #error: CordonError | null = null
  #triedAt = 0

  constructor(options: AuditLogOptions, file: LogFile, tail: LogTail, size: number) {
    this.#fs = options.fs ?? NODE_FS
    this.#salt = options.salt ?? randomBytes(32)
    this.#dir = options.dir
    this.#owner = options.owner ?? 0
    this.#clock = options.clock ?? SYSTEM_CLOCK
    this.#boot = options.bootId ?? readBootId()
    this.#budget = new RecordBudget(options.budget ?? DEFAULT_BUDGET)
    this.#coalesceMs = options.coalesceMs ?? COALESCE_MS
    this.#file = file
    this.#seq = tail.nextSeq
    this.#hash = tail.lastHash
    this.#size = size
    this.#torn = tail.torn
    this.#unended = tail.unended || tail.torn?.endsLine === false
    this.#monoFloor = tail.boot === this.#boot ? tail.monoMs : 0
    if (this.#torn !== null) this.#kick()
  }

  /** @throws (rejects) CordonError AUDIT_UNAVAILABLE, AUDIT_BUDGET or AUDIT_BAD_EVENT: the act must not happen */
  append(event: AuditEvent, origin: Origin): Promise<{ readonly seq: number }> {
    return new Promise((resolve, reject) => {
      const refusal = this.#admit(event, origin, { resolve, reject })
      if (refusal !== null) reject(refusal)
    })
  }

  note(event: AuditEvent, origin: Origin): void {
    this.#admit(event, origin, null) // a refusal has been counted; a `gap` record tells of it
  }

  state(): AuditLogState {
    return {
      state: this.#closing !== null ? 'closed' : this.#error !== null ? 'lost' : 'open',
      records: this.#seq, lastHash: this.#hash, bytes: this.#size, queued: this.#queue.length,
      unrecorded: this.#losses.total(), overBudget: [...new Set([...this.#budget.overdrawn(), ...this.#doorBudget.overdrawn()])], error: this.#error?.message ?? null,
    }
  }

  /** Writes what is queued, then closes. Records that come later are refused. */
  close(): Promise<void> {
    this.#closing ??= this.#shut()
    return this.#closing
  }

  async #shut(): Promise<void> {
    if (this.#error === null) this.#tellCoalesced()
    if (this.#coalesceTimer !== null) clearTimeout(this.#coalesceTimer)
    this.#wake?.()
    while (this.#loop !== null) await this.#loop
    if (this.#losses.size > 0) await this.#commit([])
    await this.#file?.close()
    this.#file = null
  }

  #admit(event: AuditEvent, origin: Origin, waiter: Waiter | null): CordonError | null {
    const kind = waiter === null ? 'lost' : 'refused'
    const type = String(event.type)
    const stamp = this.#stamp()
    const lose = (reason: LossReason, error: CordonError): CordonError => {
      this.#losses.add(reason, type, kind, stamp.wallMs, error.message)
      if (this.#error === null) this.#kick()
      return error
    }
    if (this.#closing !== null) return new CordonError('AUDIT_UNAVAILABLE', 'the audit log is closed; Cordon is stopping')
    let entry: PreparedEntry
    try {
      entry = prepareEntry(event, origin, stamp, this.#salt)
    } catch (error) {
      return lose('bad-event', error instanceof CordonError ? error : new CordonError('AUDIT_BAD_EVENT', printable(String(error)), { cause: error }))
    }
    const account = accountOf(event, origin)
    const budget = origin === 'door' ? this.#doorBudget : this.#budget
    if (account !== null && !budget.take(account, type, entry.bytes, stamp.monoMs)) {
      budget.coalesce(account, type, stamp.monoMs, stamp.wallMs)
      this.#armCoalesce()
      return new CordonError('AUDIT_BUDGET', `plugin "${printable(account, 64)}" is over its budget of audit records; ${type} was counted, not recorded`)
    }
    const share = account === null ? 1 : PLUGIN_SHARE
    if (this.#queue.length >= MAX_QUEUE_RECORDS * share || this.#queueBytes + entry.bytes > MAX_QUEUE_BYTES * share) {
      return lose('queue-full', new CordonError('AUDIT_UNAVAILABLE', `the audit log has ${this.#queue.length} records waiting for the disk; ${type} was not recorded`))
    }
    if (waiter === null && this.#error !== null && stamp.monoMs - this.#triedAt < RETRY_MS) return lose('unavailable', this.#error)
    this.#push({ entry, type, stamp, waiter })
    return null
  }

  #push(item: Queued): void {
    this.#queue.push(item)
    this.#queueBytes += item.entry.bytes
    if (item.waiter !== null) this.#waiting += 1
    if (item.waiter !== null || this.#queue.length >= MAX_BATCH_RECORDS) this.#wake?.()
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
      if (this.#queue.length > 0 || (this.#error === null && this.#losses.size > 0)) this.#kick()
    })
  }

  async #run(): Promise<void> {
    // The first turn lets callers of the same turn share a commit; while one is on its way to the disk the next gathers.
    await nextTurn()
    while (this.#queue.length > 0 || this.#torn !== null || this.#losses.size > 0) {
      await this.#linger()
      await this.#commit(this.#takeBatch())
      if (this.#error !== null && this.#queue.length === 0) return
    }
  }

  /** A record that someone awaits goes at once; the others wait a moment for company. */
  async #linger(): Promise<void> {
    if (this.#waiting > 0 || this.#queue.length >= MAX_BATCH_RECORDS || this.#closing !== null) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, LINGER_MS)
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
    this.#wake = null
  }

  #takeBatch(): Queued[] {
    let bytes = 0
    let n = 0
    for (const item of this.#queue) {
      if (n === MAX_BATCH_RECORDS || (n > 0 && bytes + item.entry.bytes > MAX_BATCH_BYTES)) break
      bytes += item.entry.bytes
      n += 1
    }
    return this.#release(n)
  }

  #release(n: number): Queued[] {
    const items = this.#queue.splice(0, n)
    for (const { entry, waiter } of items) {
      this.#queueBytes -= entry.bytes
      if (waiter !== null) this.#waiting -= 1
    }
    return items
  }

  /** One write, one fdatasync; only then are the callers told. Never rejects. */
  async #commit(batch: readonly Queued[]): Promise<void> {
    const losses = this.#losses.take()
    const stamp = batch[0]?.stamp ?? this.#stamp()
    try {
      this.#triedAt = stamp.monoMs
      const file = this.#file ?? (await this.#reopen())
      await this.#requireUntouched(file)
      const { bytes, first, hash, next } = this.#chain([...this.#tornGap(), ...losses.gaps()], batch, stamp)
      this.#uncertain = bytes.length
      await writeAll(file, bytes)
      await file.datasync()
      this.#size += bytes.length
      this.#uncertain = 0
      this.#torn = null
      this.#unended = false
      this.#seq = next
      this.#hash = hash
      this.#error = null
      batch.forEach(({ waiter }, i) => waiter?.resolve({ seq: first + i }))
    } catch (error) {
      this.#losses.putBack(losses)
      await this.#lose(unavailable(error, this.#dir), batch)
    }
  }

  #chain(gaps: readonly LauncherEvent[], batch: readonly Queued[], stamp: Stamp): { bytes: Buffer; first: number; hash: string; next: number } {
    const parts: Buffer[] = this.#unended ? [NEWLINE] : []
    let seq = this.#seq
    let hash = this.#hash
    for (const entry of [...gaps.map((gap) => prepareEntry(gap, 'launcher', stamp, this.#salt)), ...batch.map((item) => item.entry)]) {
      const sealed = sealEntry(entry, seq, hash)
      if (sealed.bytes.length > MAX_ENTRY_BYTES) throw new CordonError('INTERNAL_BUG', `a record of ${sealed.bytes.length} bytes left the encoder`)
      parts.push(sealed.bytes, NEWLINE)
      hash = sealed.hash
      seq += 1
    }
    return { bytes: Buffer.concat(parts), first: this.#seq + gaps.length, hash, next: seq }
  }

  #tornGap(): LauncherEvent[] {
    if (this.#torn === null) return []
    const { offset, bytes, sha256 } = this.#torn
    return [{ type: 'gap', reason: 'torn-line', torn: { offset, bytes, sha256 } }]
  }

  /** A file that was deleted, moved or cut goes on taking writes through an open descriptor; nobody would ever read them. */
  async #requireUntouched(file: LogFile): Promise<void> {
    const path = join(this.#dir, LOG_NAME)
    const mine = await file.stat()
    if (mine.nlink === 0) throw new CordonError('AUDIT_UNAVAILABLE', `${printable(path)} was deleted while in use`)
    const there = await this.#fs.lstat(path)
    const problem = mine.dev !== there.dev || mine.ino !== there.ino ? 'was replaced by another file while in use'
      : mine.size !== this.#size ? `has ${mine.size} bytes, expected ${this.#size}: someone else wrote or cut it`
      : null
    if (problem !== null) throw new CordonError('AUDIT_UNAVAILABLE', `${printable(path)} ${problem}`)
  }

  /**
   * After a failure nothing in memory about the file is believed: it is opened anew, what the failed commit left is cut
   * off (its callers were told that it failed), and the end is read again and must be the record that was committed last.
   */
  async #reopen(): Promise<LogFile> {
    const file = await openLogFile(this.#fs, this.#dir, this.#owner, false)
    try {
      await this.#cutUncertain(file)
      const { size } = await file.stat()
      if (size !== this.#size) {
        throw new CordonError('AUDIT_UNAVAILABLE', `${printable(join(this.#dir, LOG_NAME))} has ${size} bytes, expected ${this.#size}: someone else wrote or cut it`)
      }
      this.#uncertain = 0
      const tail = await readTail(file, this.#size)
      if (tail.lastHash !== this.#hash || tail.nextSeq !== this.#seq || tail.torn?.sha256 !== this.#torn?.sha256) {
        throw new CordonError('AUDIT_UNAVAILABLE', `${printable(join(this.#dir, LOG_NAME))} does not end with the record that was committed last (seq ${this.#seq - 1})`)
      }
      this.#file = file
      return file
    } catch (error) {
      await file.close()
      throw error
    }
  }

  /** Only bytes that a commit of ours can have written; anything else behind the end is someone else's, and stays. */
  async #cutUncertain(file: LogFile): Promise<void> {
    const { size } = await file.stat()
    if (size <= this.#size || size > this.#size + this.#uncertain) return
    await file.truncate(this.#size)
    await file.datasync()
  }

  async #lose(error: CordonError, batch: readonly Queued[]): Promise<void> {
    this.#error = error
    const file = this.#file
    this.#file = null
    // Both may fail as well: the next attempt opens the file anew and does not go on before the end is what it should be.
    if (file !== null) {
      await this.#cutUncertain(file).catch(() => undefined)
      await file.close().catch(() => undefined)
    }
    for (const { type, stamp, waiter } of [...batch, ...this.#release(this.#queue.length)]) {
      this.#losses.add('unavailable', type, waiter === null ? 'lost' : 'refused', stamp.wallMs, error.message)
      waiter?.reject(error)
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
    for (const { plugin, counts, sinceMs } of [...this.#budget.drain(), ...this.#doorBudget.drain()]) {
      const event: LauncherEvent = { type: 'gap', plugin, reason: 'budget', since: new Date(sinceMs).toISOString(), coalesced: counts }
      this.#push({ entry: prepareEntry(event, 'launcher', stamp, this.#salt), type: 'gap', stamp, waiter: null })
    }
  }
}

const NEWLINE = Buffer.from('\n')

/** Whose budget a record is charged to; null: the launcher's own and what an operator did are never limited. */
function accountOf(event: AuditEvent, origin: Origin): string | null {
  if (origin === 'operator') return null
  if ('plugin' in event && typeof event.plugin === 'string') return event.plugin
  return origin === 'gateway' ? GATEWAY_ACCOUNT : null
}

async function writeAll(file: LogFile, bytes: Buffer): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const written = await file.append(bytes.subarray(done))
    if (written <= 0) throw new CordonError('AUDIT_UNAVAILABLE', 'the kernel took no bytes of a write to the audit log')
    done += written
  }
}

function unavailable(error: unknown, dir: string): CordonError {
  if (error instanceof CordonError) return error
  const errno = errnoOf(error)
  return new CordonError('AUDIT_UNAVAILABLE', `${printable(join(dir, LOG_NAME))}: ${errno ?? 'error'}: ${printable(error instanceof Error ? error.message : String(error))}`, { cause: error })
}
