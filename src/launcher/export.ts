import { statSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { endOfLog, listSegments, LogReader, type Cursor } from '../audit/segments.ts'
import type { AuditSink } from '../audit/record.ts'
import { sinkName, type ExportSink } from '../policy/export-sink.ts'
import { startExportChild, type ExportChild, type ExportProgram } from './export-child.ts'
import { openExportPlaces, type ExportPlaces } from './export-places.ts'

/** How often the log is looked at for more. */
const POLL_MS = 1000
/** At the end what is written last has so long to get out; the rest goes out after the next start. */
const LAST_MS = 3000
/** A sink that takes nothing for so long is on record as stalled, and how far it is behind is looked at as often. */
const STALL_MS = 60_000
/** So far behind, older records are left out: a sink that comes back after weeks would be busy with the past. They stay in the log. */
const MAX_BEHIND_BYTES = 1024 * 1024 * 1024
const BACKOFF_MS = [1000, 5000, 30_000]

export interface ExportOptions {
  readonly sink: ExportSink
  /** `<stateDir>/audit` */
  readonly dir: string
  readonly places: ExportPlaces
  readonly audit: AuditSink
  start(trouble: (text: string) => void): ExportChild
  readonly log: (message: string) => void
  readonly pollMs?: number
  readonly stallMs?: number
  readonly maxBehindBytes?: number
  readonly backoffMs?: readonly number[]
  readonly lastMs?: number
}

export interface Export {
  /** Gives what was written until now a moment to get out, and ends. */
  stop(): Promise<void>
}

/**
 * Copy the log to one sink. The log on the disk is the queue: what is not out yet is read again, also after a restart, so that a slow or dead
 * sink costs neither memory nor anybody's time, and what was never committed never leaves. Every record goes out at least once; what was left
 * out is counted in `export.dropped`.
 */
export function startExport(options: ExportOptions): Export {
  const ending = new AbortController()
  const exporter = new Exporter(options, ending.signal)
  const done = exporter.run().catch((error: unknown) => {
    if (!ending.signal.aborted) options.log(`export to ${sinkName(options.sink)} ended: ${error instanceof Error ? error.message : String(error)}`)
  })
  return {
    stop: async () => {
      exporter.finish()
      const timer = setTimeout(() => ending.abort(), options.lastMs ?? LAST_MS)
      await done
      clearTimeout(timer)
    },
  }
}

/** One for each sink of the configuration. */
export function startExports(sinks: readonly ExportSink[], common: Omit<ExportOptions, 'sink' | 'places' | 'start'> & { readonly file: string; readonly program: ExportProgram }): Export {
  const places = openExportPlaces(common.file, common.log)
  const all = sinks.map((sink) => startExport({ ...common, sink, places, start: (trouble) => startExportChild(sink, common.program, trouble) }))
  return { stop: async () => void (await Promise.all(all.map((one) => one.stop()))) }
}

class Exporter {
  readonly #options: ExportOptions
  readonly #name: string
  readonly #signal: AbortSignal
  #child: ExportChild | null = null
  /** What the child was given and has not answered yet. */
  #sent: Promise<void> | null = null
  #failures = 0
  #told = ''
  readonly #finish = new AbortController()

  constructor(options: ExportOptions, signal: AbortSignal) {
    this.#options = options
    this.#name = sinkName(options.sink)
    this.#signal = signal
  }

  get #finishing(): AbortSignal {
    return this.#finish.signal
  }

  async run(): Promise<void> {
    const { dir, places } = this.#options
    const known = places.get(this.#name)
    let reader = new LogReader(dir, known ?? (await endOfLog(dir)))
    let next = known?.next ?? null
    try {
      while (!this.#signal.aborted) {
        const block = await this.#read(reader)
        if (block === null) {
          if (this.#finishing.aborted) return this.#child?.finish()
          await this.#pause()
          continue
        }
        const [first, last] = seqsOf(block)
        if (next !== null && first !== null && first > next) this.#options.audit.note({ type: 'export.dropped', sink: this.#name, records: first - next, first: next, reason: 'they were too far behind, or pruned before the sink took them' }, 'launcher')
        if (!(await this.#deliver(block, { segment: reader.cursor.segment, offset: reader.cursor.offset - block.length }))) {
          next ??= first
          await reader.close()
          reader = new LogReader(dir, await endOfLog(dir))
          continue
        }
        next = last === null ? next : last + 1
        places.set(this.#name, { ...reader.cursor, next })
      }
    } finally {
      await reader.close()
      if (this.#signal.aborted) this.#child?.kill()
      places.save()
    }
  }

  /** What is in the log by now goes out, and then it is over. */
  finish(): void {
    this.#finish.abort()
  }

  async #pause(): Promise<void> {
    await sleep(this.#options.pollMs ?? POLL_MS, undefined, { signal: AbortSignal.any([this.#signal, this.#finishing]) }).catch(() => undefined) // the loop looks why
  }

  async #read(reader: LogReader): Promise<Buffer | null> {
    try {
      if (await reader.restartIfReplaced()) this.#trouble('the log was replaced or cut; its records go out from its start')
      const bytes = (await reader.next())?.bytes ?? null
      return bytes === null || bytes.length === 0 ? null : bytes
    } catch (error) {
      this.#trouble(error instanceof Error ? error.message : String(error))
      return null // the log is gone for now; it is looked at again
    }
  }

  /** @returns false: the sink is too far behind, and the block was given up */
  async #deliver(block: Buffer, at: Cursor): Promise<boolean> {
    const { stallMs = STALL_MS, maxBehindBytes = MAX_BEHIND_BYTES, audit } = this.#options
    const since = Date.now()
    let stalled = false
    for (;;) {
      this.#signal.throwIfAborted()
      const outcome = await this.#attempt(block, stallMs)
      if (outcome === 'taken') {
        this.#failures = 0
        if (stalled) audit.note({ type: 'export.resumed', sink: this.#name, seconds: Math.round((Date.now() - since) / 1000) }, 'launcher')
        return true
      }
      if (!stalled && Date.now() - since >= stallMs) {
        stalled = true
        audit.note({ type: 'export.stalled', sink: this.#name, reason: this.#told === '' ? 'it takes nothing' : this.#told }, 'launcher')
      }
      if (Date.now() - since >= stallMs && (await bytesAfter(this.#options.dir, at)) > maxBehindBytes) {
        this.#child?.kill()
        this.#child = null
        this.#sent = null
        return false
      }
    }
  }

  async #attempt(block: Buffer, stallMs: number): Promise<'taken' | 'waiting'> {
    const limit = new AbortController()
    const waiting = sleep(stallMs, 'waiting' as const, { signal: AbortSignal.any([limit.signal, this.#signal]) })
    try {
      this.#child ??= this.#options.start((text) => this.#trouble(text))
      this.#sent ??= this.#child.send(block)
      const outcome = await Promise.race([this.#sent.then(() => 'taken' as const), waiting])
      if (outcome === 'taken') this.#sent = null
      return outcome
    } catch (error) {
      this.#signal.throwIfAborted()
      this.#trouble(error instanceof Error ? error.message : String(error))
      this.#child = null
      this.#sent = null
      const steps = this.#options.backoffMs ?? BACKOFF_MS
      await sleep(steps[Math.min(this.#failures++, steps.length - 1)] ?? 0, undefined, { signal: this.#signal })
      return 'waiting'
    } finally {
      limit.abort()
      waiting.catch(() => undefined) // nobody waits for it any more
    }
  }

  #trouble(text: string): void {
    if (text !== this.#told) this.#options.log(`export to ${this.#name}: ${text}`)
    this.#told = text
  }
}

/** `seq` of the first and last line, where they are records: the envelope's stands behind `data`, so the last one in a line is it. */
function seqsOf(block: Buffer): [number | null, number | null] {
  const seqIn = (line: string): number | null => {
    const digits = /^"seq":(\d{1,16}),/.exec(line.slice(line.lastIndexOf('"seq":')))?.[1]
    return digits === undefined ? null : Number(digits)
  }
  const first = block.toString('utf8', 0, block.indexOf(0x0a))
  const last = block.toString('utf8', block.lastIndexOf(0x0a, block.length - 2) + 1, block.length - 1)
  return [seqIn(first), seqIn(last)]
}

async function bytesAfter(dir: string, { segment, offset }: Cursor): Promise<number> {
  const segments = await listSegments(dir).catch(() => []) // not to be read now: then nothing is dropped, and whoever reads the records meets the error
  return segments.filter(({ first }) => first >= segment).reduce((sum, { path }) => sum + (statSync(path, { throwIfNoEntry: false })?.size ?? 0), -offset)
}
