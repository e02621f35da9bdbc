import type { Duplex } from 'node:stream'
import { toSafeError } from '../errors.ts'
import { Conversation } from '../wire/conversation.ts'
import { FROM_DOOR, type DoorEvent, type FromDoor, type ToDoor } from '../wire/door.ts'
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
  readonly #door: Conversation<FromDoor>
  readonly #handlers: DoorHandlers
  #pending = 0

  constructor(socket: Duplex, handlers: DoorHandlers) {
    this.#handlers = handlers
    this.#door = new Conversation(socket, {
      peer: 'it', table: FROM_DOOR, askMs: ASK_TIMEOUT_MS, maxUnsentBytes: MAX_UNSENT_BYTES, refusals: 'always', gather: true,
      message: (message) => this.#receive(message),
      closed: (error) => handlers.closed(error.message),
    })
  }

  /** @throws CordonError WIRE_TIMEOUT, WIRE_CLOSED, WIRE_REFUSED with the door's words */
  ask(question: Asked): Promise<unknown> {
    return this.#door.ask(question)
  }

  shutdown(): void {
    this.#door.say({ type: 'shutdown' } satisfies ToDoor)
  }

  close(reason: string): void {
    this.#door.close(reason)
  }

  #receive(message: Exclude<FromDoor, { type: 'answer' }>): void {
    switch (message.type) {
      case 'serving': return this.#handlers.serving(message.run)
      case 'record': return this.#record(message)
      default: return message satisfies never
    }
  }

  #record({ id, event }: Extract<FromDoor, { type: 'record' }>): void {
    if (id === null) return this.#handlers.note(event)
    if (++this.#pending > MAX_PENDING) return this.close(`more than ${MAX_PENDING} records wait at a time`)
    this.#handlers.record(event).then(
      () => this.#door.say({ type: 'answer', id, ok: null } satisfies ToDoor),
      (error: unknown) => this.#door.say({ type: 'answer', id, error: toSafeError(error) } satisfies ToDoor),
    ).finally(() => this.#pending--)
  }
}
