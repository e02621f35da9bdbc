import type { Duplex } from 'node:stream'
import { printable } from '../base/printable.ts'
import { CordonError, ERRORS, type ErrorCode, type SafeError } from '../errors.ts'
import { FROM_DOOR, TO_DOOR, type DoorEvent, type FromDoor, type ToDoor } from './door.ts'
import { encodeMessage, FrameReader, type Frame } from './frame.ts'

export type DoorOrder = Exclude<ToDoor, { type: 'answer' }>

export interface DoorHandlers {
  order(order: DoorOrder): void
  /** The conversation is over. Called once. */
  closed(error: CordonError): void
}

/** Records that a launcher which does not read may leave with us; beyond it the conversation is over. */
const MAX_UNSENT_BYTES = 16 * 1024 * 1024
const RECORD_TIMEOUT_MS = 10_000

/** The door's end of the conversation with the launcher (door.ts). Whatever does not fit the schemas ends it, in both directions. */
export class DoorClient {
  readonly #socket: Duplex
  readonly #handlers: DoorHandlers
  readonly #pending = new Map<number, { resolve(): void; reject(error: CordonError): void; timer: NodeJS.Timeout }>()
  #lastId = 0
  #closed: CordonError | null = null

  constructor(socket: Duplex, handlers: DoorHandlers) {
    this.#socket = socket
    this.#handlers = handlers
    const reader = new FrameReader()
    reader.on('data', (frame: Frame) => this.#receive(frame))
    reader.on('error', (error) => this.#close('WIRE_MALFORMED', `the launcher's bytes are not frames: ${printable(error.message)}`))
    reader.on('end', () => this.#close('WIRE_CLOSED', 'the launcher closed the connection'))
    socket.on('error', (error) => this.#close('WIRE_CLOSED', `the connection to the launcher failed: ${printable(error.message)}`))
    socket.on('close', () => this.#close('WIRE_CLOSED', 'the launcher closed the connection'))
    socket.pipe(reader)
  }

  say(message: FromDoor): void {
    if (this.#closed !== null) return
    const fits = FROM_DOOR.safeParse(message)
    if (!fits.success) throw new CordonError('WIRE_MALFORMED', `a message of ours does not fit the table: ${message.type} ${fits.error.issues[0]?.path.join('.') ?? ''}`)
    this.#socket.write(encodeMessage(message))
    if (this.#socket.writableLength > MAX_UNSENT_BYTES) this.#close('WIRE_CLOSED', `the launcher left more than ${MAX_UNSENT_BYTES} bytes unread`)
  }

  answer(id: number, answer: { readonly ok: unknown } | { readonly error: SafeError }): void {
    this.say({ type: 'answer', id, ...answer })
  }

  /** A record that follows what happened. */
  note(event: DoorEvent): void {
    this.say({ type: 'record', id: null, event })
  }

  /**
   * A record that must be durable before the act.
   * @throws CordonError WIRE_TIMEOUT, WIRE_CLOSED, or what the launcher answered (AUDIT_UNAVAILABLE, AUDIT_BUDGET)
   */
  record(event: DoorEvent): Promise<void> {
    this.#lastId += 1
    const id = this.#lastId
    return new Promise((resolve, reject) => {
      if (this.#closed !== null) return reject(this.#closed)
      const timer = setTimeout(() => {
        this.#pending.delete(id)
        reject(new CordonError('WIRE_TIMEOUT', `no answer to a record within ${RECORD_TIMEOUT_MS / 1000} s`))
      }, RECORD_TIMEOUT_MS)
      this.#pending.set(id, { resolve, reject, timer })
      try {
        this.say({ type: 'record', id, event })
      } catch (error) {
        clearTimeout(timer)
        this.#pending.delete(id)
        throw error // the promise rejects with it, and the act is not done
      }
    })
  }

  #receive(frame: Frame): void {
    if (this.#closed !== null) return
    if (frame.kind === 'data') return this.#close('WIRE_MALFORMED', 'the launcher sent a data frame, which the door does not have')
    const message = TO_DOOR.safeParse(frame.value)
    if (!message.success) {
      return this.#close('WIRE_MALFORMED', `a message of the launcher does not fit the table: ${printable(message.error.issues[0]?.path.join('.') ?? '')} ${printable(message.error.issues[0]?.message ?? '')}`)
    }
    if (message.data.type === 'answer') this.#settle(message.data)
    else this.#handlers.order(message.data)
  }

  #settle(answer: Extract<ToDoor, { type: 'answer' }>): void {
    if (answer.id > this.#lastId) return this.#close('WIRE_MALFORMED', `an answer to ${answer.id}, which was never asked`)
    const waiting = this.#pending.get(answer.id)
    if (waiting === undefined) return // it came after its timeout
    this.#pending.delete(answer.id)
    clearTimeout(waiting.timer)
    if (answer.error === undefined) waiting.resolve()
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
