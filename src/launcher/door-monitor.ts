import type { Duplex } from 'node:stream'
import { printable } from '../base/printable.ts'
import { CordonError, toSafeError } from '../errors.ts'
import { FROM_DOOR, type DoorEvent, type FromDoor, type ToDoor } from '../wire/door.ts'
import { encodeMessage, FrameReader, type Frame } from '../wire/frame.ts'
import type { RunId } from '../base/ids.ts'

const ASK_TIMEOUT_MS = 30_000
/** Unsent bytes that we keep for a door that does not read. */
const MAX_UNSENT_BYTES = 4 << 20
/** Records that wait for the disk at a time; a door that records faster is slowed by its own waiting, or hostile. */
const MAX_PENDING = 4096

type Order = Exclude<ToDoor, { type: 'answer' }>
type Question = Extract<Order, { id: number }>
type Asked = { [T in Question['type']]: Omit<Extract<Question, { type: T }>, 'id'> }[Question['type']]

export interface DoorHandlers {
  serving(run: RunId): void
  /** Resolves once the record is durable. */
  record(event: DoorEvent): Promise<unknown>
  note(event: DoorEvent): void
  closed(reason: string): void
}

/** The launcher's end of the conversation with the door, which may be hostile: whatever is not in the table (wire/door.ts) ends it. */
export class DoorMonitor {
  readonly #socket: Duplex
  readonly #handlers: DoorHandlers
  readonly #asked = new Map<number, { resolve(ok: unknown): void; reject(error: Error): void; timer: NodeJS.Timeout }>()
  #pending = 0
  #nextId = 1
  #closed = false

  constructor(socket: Duplex, handlers: DoorHandlers) {
    this.#socket = socket
    this.#handlers = handlers
    const frames = new FrameReader()
    frames.on('data', (frame: Frame) => this.#receive(frame))
    frames.on('error', (error) => this.close(`bytes that are no frames: ${printable(error.message)}`))
    socket.on('error', (error) => this.close(`the connection failed: ${printable(error.message)}`))
    socket.on('close', () => this.close('it closed the connection'))
    socket.on('end', () => this.close('it closed the connection'))
    socket.pipe(frames)
  }

  /** @throws CordonError WIRE_TIMEOUT, WIRE_CLOSED, WIRE_REFUSED with the door's words */
  ask(question: Asked): Promise<unknown> {
    const id = this.#nextId++
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(new CordonError('WIRE_CLOSED', 'the door is gone'))
      const timer = setTimeout(() => {
        this.#asked.delete(id)
        reject(new CordonError('WIRE_TIMEOUT', `the door did not answer "${question.type}" within ${ASK_TIMEOUT_MS / 1000} s`))
      }, ASK_TIMEOUT_MS)
      this.#asked.set(id, { resolve, reject, timer })
      this.#write({ ...question, id } as Question)
    })
  }

  shutdown(): void {
    this.#write({ type: 'shutdown' })
  }

  close(reason: string): void {
    if (this.#closed) return
    this.#closed = true
    this.#socket.destroy()
    for (const { reject, timer } of this.#asked.values()) {
      clearTimeout(timer)
      reject(new CordonError('WIRE_CLOSED', 'the door is gone'))
    }
    this.#asked.clear()
    this.#handlers.closed(reason)
  }

  #write(message: ToDoor): void {
    if (this.#closed) return
    this.#socket.write(encodeMessage(message))
    if (this.#socket.writableLength > MAX_UNSENT_BYTES) this.close(`it left more than ${MAX_UNSENT_BYTES} bytes unread`)
  }

  #receive(frame: Frame): void {
    if (this.#closed) return
    if (frame.kind === 'data') return this.close('a data frame, which it has no use for')
    const parsed = FROM_DOOR.safeParse(frame.value)
    if (!parsed.success) return this.close(`a message outside the table: ${printable(parsed.error.issues[0]?.message ?? '')}`)
    const message: FromDoor = parsed.data
    switch (message.type) {
      case 'serving': return this.#handlers.serving(message.run)
      case 'record': return this.#record(message)
      case 'answer': return this.#settle(message)
      default: return message satisfies never
    }
  }

  #record({ id, event }: Extract<FromDoor, { type: 'record' }>): void {
    if (id === null) return this.#handlers.note(event)
    if (++this.#pending > MAX_PENDING) return this.close(`more than ${MAX_PENDING} records wait at a time`)
    this.#handlers.record(event).then(
      () => this.#write({ type: 'answer', id, ok: null }),
      (error: unknown) => this.#write({ type: 'answer', id, error: toSafeError(error) }),
    ).finally(() => this.#pending--)
  }

  #settle(answer: Extract<FromDoor, { type: 'answer' }>): void {
    const asked = this.#asked.get(answer.id)
    if (asked === undefined) return // it came after its timeout
    this.#asked.delete(answer.id)
    clearTimeout(asked.timer)
    if (answer.error !== undefined) asked.reject(new CordonError('WIRE_REFUSED', printable(answer.error.message, 500)))
    else asked.resolve(answer.ok)
  }
}
