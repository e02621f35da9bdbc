import type { Duplex } from 'node:stream'
import type { z } from 'zod'
import { printable } from '../base/printable.ts'
import { CordonError, ERRORS, type ErrorCode, type SafeError } from '../errors.ts'
import { encodeData, encodeMessage, FrameReader, MAX_CHUNK_BYTES, type Frame } from './frame.ts'

/** The other side's answer to something that was asked with an id. */
export interface Answer {
  readonly type: 'answer'
  readonly id: number
  readonly ok?: unknown
  readonly error?: SafeError | undefined
}

export interface ConversationOptions<In extends { readonly type: string }> {
  /** In messages: `the launcher`, `it`. */
  readonly peer: string
  /** Everything that the peer may say, answers included. */
  readonly table: z.ZodType<In>
  /** How long an answer may take. */
  readonly askMs: number
  /** Unsent bytes that are kept for a peer that does not read; beyond it the conversation is over. */
  readonly maxUnsentBytes: number
  /** Code for the caller when the peer's error names none of ours, or (`always`) whatever it names: a hostile peer does not choose codes. */
  readonly refusals: 'named' | 'always'
  /** What is said within one turn of the loop goes out in one call, which with many small messages costs more than what it carries. */
  readonly gather?: boolean
  message(message: Exclude<In, { readonly type: 'answer' }>): void
  /** Absent: a data frame ends it. */
  readonly data?: (stream: number, bytes: Buffer) => void
  /** WIRE_CLOSED: the peer has gone or does not read; WIRE_MALFORMED: it said something that does not fit. Called once. */
  closed(error: CordonError<'WIRE_CLOSED' | 'WIRE_MALFORMED'>): void
}

interface Pending {
  readonly resolve: (ok: unknown) => void
  readonly reject: (error: Error) => void
  readonly timer: NodeJS.Timeout
}

/**
 * One end of a framed socketpair between two processes of ours, either of which may have been taken over: a closed table of messages,
 * questions with ids and a limit in time, and whatever does not fit ends it (openssh monitor.c: an unpermitted request is fatal, never
 * ignored).
 */
export class Conversation<In extends { readonly type: string }> {
  readonly #socket: Duplex
  readonly #options: ConversationOptions<In>
  readonly #pending = new Map<number, Pending>()
  #lastId = 0
  #gathering = false
  #closed: CordonError<'WIRE_CLOSED' | 'WIRE_MALFORMED'> | null = null

  constructor(socket: Duplex, options: ConversationOptions<In>) {
    this.#socket = socket
    this.#options = options
    const { peer } = options
    const frames = new FrameReader()
    frames.on('data', (frame: Frame) => this.#receive(frame))
    frames.on('error', (error) => this.close(`${peer} sent bytes that are no frames: ${printable(error.message)}`, 'WIRE_MALFORMED'))
    socket.on('error', (error) => this.close(`the connection failed: ${printable(error.message)}`))
    socket.on('close', () => this.close(`${peer} closed the connection`))
    frames.on('end', () => this.close(`${peer} closed the connection`))
    socket.pipe(frames)
  }

  get isClosed(): boolean {
    return this.#closed !== null
  }

  /** After the end it is a no-op: the process is about to leave, or the peer has left. */
  say(message: object): void {
    this.#write(encodeMessage(message))
  }

  /** Opaque bytes, at most MAX_CHUNK_BYTES a frame. */
  data(stream: number, bytes: Buffer): void {
    for (let at = 0; at < bytes.length; at += MAX_CHUNK_BYTES) this.#write(encodeData(stream, bytes.subarray(at, at + MAX_CHUNK_BYTES)))
  }

  /**
   * @returns the peer's `ok`
   * @throws CordonError WIRE_TIMEOUT, WIRE_CLOSED, or what the peer answered
   */
  ask(question: { readonly type: string }): Promise<unknown> {
    const id = ++this.#lastId
    return new Promise((resolve, reject) => {
      if (this.#closed !== null) return reject(this.#closed)
      const timer = setTimeout(() => {
        this.#pending.delete(id)
        reject(new CordonError('WIRE_TIMEOUT', `${this.#options.peer} did not answer "${question.type}" within ${this.#options.askMs / 1000} s`))
      }, this.#options.askMs)
      this.#pending.set(id, { resolve, reject, timer })
      this.say({ ...question, id })
    })
  }

  close(reason: string, code: 'WIRE_CLOSED' | 'WIRE_MALFORMED' = 'WIRE_CLOSED'): void {
    if (this.#closed !== null) return
    this.#closed = new CordonError(code, reason)
    this.#socket.destroy()
    for (const { reject, timer } of this.#pending.values()) {
      clearTimeout(timer)
      reject(this.#closed)
    }
    this.#pending.clear()
    this.#options.closed(this.#closed)
  }

  #write(bytes: Buffer): void {
    if (this.#closed !== null) return
    this.#gather()
    this.#socket.write(bytes)
    if (this.#socket.writableLength > this.#options.maxUnsentBytes) this.close(`${this.#options.peer} left more than ${this.#options.maxUnsentBytes} bytes unread`)
  }

  #gather(): void {
    if (this.#gathering || this.#options.gather !== true) return
    this.#gathering = true
    this.#socket.cork()
    setImmediate(() => this.flush())
  }

  /** Gives the kernel what was gathered: at the end of the turn, or now because this process is about to leave. */
  flush(): void {
    if (!this.#gathering) return
    this.#gathering = false
    this.#socket.uncork()
  }

  #receive(frame: Frame): void {
    if (this.#closed !== null) return
    const { peer, table, data } = this.#options
    if (frame.kind === 'data') {
      if (data === undefined) return this.close(`${peer} sent a data frame, which is not for this direction`, 'WIRE_MALFORMED')
      return data(frame.stream, frame.bytes)
    }
    const parsed = table.safeParse(frame.value)
    if (!parsed.success) {
      const issue = parsed.error.issues[0]
      return this.close(`${peer} sent a message outside the table: ${printable(issue?.path.join('.') ?? '')} ${printable(issue?.message ?? '')}`, 'WIRE_MALFORMED')
    }
    if (isAnswer(parsed.data)) this.#settle(parsed.data)
    else this.#options.message(parsed.data as Exclude<In, { readonly type: 'answer' }>)
  }

  #settle(answer: Answer): void {
    if (answer.id < 1 || answer.id > this.#lastId) return this.close(`${this.#options.peer} answered ${answer.id}, which was never asked`, 'WIRE_MALFORMED')
    const waiting = this.#pending.get(answer.id)
    if (waiting === undefined) return // it came after its timeout
    this.#pending.delete(answer.id)
    clearTimeout(waiting.timer)
    if (answer.error === undefined) return waiting.resolve(answer.ok)
    const { code, message } = answer.error
    waiting.reject(new CordonError(this.#options.refusals === 'named' && isErrorCode(code) ? code : 'WIRE_REFUSED', printable(message, 500)))
  }
}

function isAnswer(message: { readonly type: string }): message is Answer {
  return message.type === 'answer'
}

function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(ERRORS, code)
}

/** Our own messages fit the table, or the stack here names who made one that does not: the peer would only end the conversation. */
export function requireFits(table: z.ZodType, message: { readonly type: string }): void {
  const fits = table.safeParse(message)
  if (!fits.success) throw new CordonError('WIRE_MALFORMED', `a message of ours does not fit the table: ${message.type} ${fits.error.issues[0]?.path.join('.') ?? ''}`)
}
