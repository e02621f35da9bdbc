import type { Duplex } from 'node:stream'
import { printable } from '../base/printable.ts'
import { CordonError, ERRORS, type ErrorCode, type SafeError } from '../errors.ts'
import { encodeMessage, FrameReader, type Frame } from './frame.ts'
import { FROM_GATEWAY, TO_GATEWAY, type FromGateway, type ToGateway } from './requests.ts'

/** What the launcher may say on its own account; answers are matched by the client itself. */
export type LauncherMessage = Exclude<ToGateway, { type: 'answer' }>
type Request = Extract<FromGateway, { id: number }>
type Question = { [T in Exclude<Request['type'], 'answer'>]: Omit<Extract<Request, { type: T }>, 'id'> }[Exclude<Request['type'], 'answer'>]
type Statement = Exclude<FromGateway, Request>

export interface LauncherHandlers {
  message(message: LauncherMessage): void
  data(stream: number, bytes: Buffer): void
  /** The conversation is over: the launcher has gone, or said something that is not in the table. Called once. */
  closed(error: CordonError): void
}

/** Unsent bytes that we hold for a launcher that does not read; beyond it the conversation is over. */
const MAX_UNSENT_BYTES = 16 * 1024 * 1024

/**
 * The gateway's end of the conversation with the launcher (requests.ts): asks with ids and a timeout, states without.
 * Whatever does not fit the schemas ends it, in both directions.
 */
export class LauncherClient {
  readonly #socket: Duplex
  readonly #handlers: LauncherHandlers
  readonly #askMs: number
  readonly #pending = new Map<number, { resolve(ok: unknown): void; reject(error: CordonError): void; timer: NodeJS.Timeout }>()
  #lastId = 0
  #closed: CordonError | null = null

  /** @param askMs how long an answer may take */
  constructor(socket: Duplex, handlers: LauncherHandlers, askMs = 30_000) {
    this.#socket = socket
    this.#handlers = handlers
    this.#askMs = askMs
    const reader = new FrameReader()
    reader.on('data', (frame: Frame) => this.#receive(frame))
    reader.on('error', (error) => this.#close('WIRE_MALFORMED', `the launcher's bytes are not frames: ${printable(error.message)}`))
    reader.on('end', () => this.#close('WIRE_CLOSED', 'the launcher closed the connection'))
    socket.on('error', (error) => this.#close('WIRE_CLOSED', `the connection to the launcher failed: ${printable(error.message)}`))
    socket.on('close', () => this.#close('WIRE_CLOSED', 'the launcher closed the connection'))
    socket.pipe(reader)
  }

  /** Say something that expects no answer. After the end it is a no-op: the process is about to leave. */
  say(statement: Statement): void {
    this.#write(statement)
  }

  /**
   * @returns the launcher's `ok`
   * @throws CordonError WIRE_TIMEOUT, WIRE_CLOSED, or what the launcher answered
   */
  ask(question: Question): Promise<unknown> {
    this.#lastId += 1
    const id = this.#lastId
    return new Promise((resolve, reject) => {
      if (this.#closed !== null) return reject(this.#closed)
      const timer = setTimeout(() => {
        this.#pending.delete(id)
        reject(new CordonError('WIRE_TIMEOUT', `no answer to \`${question.type}\` within ${this.#askMs / 1000} s`))
      }, this.#askMs)
      this.#pending.set(id, { resolve, reject, timer })
      this.#write({ ...question, id } as Request)
    })
  }

  answer(id: number, answer: { readonly ok: unknown } | { readonly error: SafeError }): void {
    this.#write({ type: 'answer', id, ...answer })
  }

  #write(message: FromGateway): void {
    if (this.#closed !== null) return
    const fits = FROM_GATEWAY.safeParse(message)
    // The launcher would end the conversation for it; the stack here names who made it.
    if (!fits.success) throw new CordonError('WIRE_MALFORMED', `a message of ours does not fit the table: ${message.type} ${fits.error.issues[0]?.path.join('.') ?? ''}`)
    this.#socket.write(encodeMessage(message))
    if (this.#socket.writableLength > MAX_UNSENT_BYTES) this.#close('WIRE_CLOSED', `the launcher left more than ${MAX_UNSENT_BYTES} bytes unread`)
  }

  #receive(frame: Frame): void {
    if (this.#closed !== null) return
    if (frame.kind === 'data') return this.#handlers.data(frame.stream, frame.bytes)
    const message = TO_GATEWAY.safeParse(frame.value)
    if (!message.success) {
      return this.#close('WIRE_MALFORMED', `a message of the launcher does not fit the table: ${printable(message.error.issues[0]?.path.join('.') ?? '')} ${printable(message.error.issues[0]?.message ?? '')}`)
    }
    if (message.data.type === 'answer') return this.#settle(message.data)
    this.#handlers.message(message.data)
  }

  #settle(answer: Extract<ToGateway, { type: 'answer' }>): void {
    if (answer.id < 1 || answer.id > this.#lastId) return this.#close('WIRE_MALFORMED', `an answer to ${answer.id}, which was never asked`)
    const waiting = this.#pending.get(answer.id)
    if (waiting === undefined) return // it came after its timeout
    this.#pending.delete(answer.id)
    clearTimeout(waiting.timer)
    if (answer.error === undefined) waiting.resolve(answer.ok)
    else waiting.reject(new CordonError(isErrorCode(answer.error.code) ? answer.error.code : 'WIRE_REFUSED', answer.error.message))
  }

  #close(code: 'WIRE_CLOSED' | 'WIRE_MALFORMED', message: string): void {
    if (this.#closed !== null) return
    const error = new CordonError(code, message)
    this.#closed = error
    for (const { reject, timer } of this.#pending.values()) {
      clearTimeout(timer)
      reject(error)
    }
    this.#pending.clear()
    this.#socket.destroy()
    this.#handlers.closed(error)
  }
}

function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(ERRORS, code)
}
