import type { Duplex } from 'node:stream'
import type { CordonError, SafeError } from '../errors.ts'
import { Conversation, requireFits } from './conversation.ts'
import { FROM_DOOR, TO_DOOR, type DoorEvent, type FromDoor, type ToDoor } from './door.ts'

export type DoorOrder = Exclude<ToDoor, { type: 'answer' }>

export interface DoorHandlers {
  order(order: DoorOrder): void
  /** The conversation is over. Called once. */
  closed(error: CordonError): void
}

/** Records that a launcher which does not read may leave with us; beyond it the conversation is over. */
const MAX_UNSENT_BYTES = 16 * 1024 * 1024
const RECORD_TIMEOUT_MS = 10_000

/** The door's end of the conversation with the launcher (door.ts). */
export class DoorClient {
  readonly #launcher: Conversation<ToDoor>

  constructor(socket: Duplex, handlers: DoorHandlers) {
    this.#launcher = new Conversation(socket, {
      peer: 'the launcher', table: TO_DOOR, askMs: RECORD_TIMEOUT_MS, maxUnsentBytes: MAX_UNSENT_BYTES, refusals: 'named', gather: true,
      message: (order) => handlers.order(order),
      closed: (error) => handlers.closed(error),
    })
  }

  say(message: FromDoor): void {
    if (this.#launcher.isClosed) return
    requireFits(FROM_DOOR, message)
    this.#launcher.say(message)
  }

  /** Before leaving: records of this turn are still here. */
  flush(): void {
    this.#launcher.flush()
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
  async record(event: DoorEvent): Promise<void> {
    const record = { type: 'record', event } as const
    requireFits(FROM_DOOR, { ...record, id: 1 } as FromDoor)
    await this.#launcher.ask(record)
  }
}
