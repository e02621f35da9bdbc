import type { Duplex } from 'node:stream'
import type { CordonError, SafeError } from '../errors.ts'
import { Conversation, requireFits } from './conversation.ts'
import { FROM_GATEWAY, TO_GATEWAY, type FromGateway, type ToGateway } from './requests.ts'

/** What the launcher may say on its own account; answers are matched by the conversation itself. */
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

/** The gateway's end of the conversation with the launcher (requests.ts). */
export class LauncherClient {
  readonly #launcher: Conversation<ToGateway>

  /** @param askMs how long an answer may take */
  constructor(socket: Duplex, handlers: LauncherHandlers, askMs = 30_000) {
    this.#launcher = new Conversation(socket, {
      peer: 'the launcher', table: TO_GATEWAY, askMs, maxUnsentBytes: MAX_UNSENT_BYTES, refusals: 'named',
      message: (message) => handlers.message(message),
      data: (stream, bytes) => handlers.data(stream, bytes),
      closed: (error) => handlers.closed(error),
    })
  }

  /** Say something that expects no answer. After the end it is a no-op: the process is about to leave. */
  say(statement: Statement): void {
    this.#send(statement)
  }

  /**
   * @returns the launcher's `ok`
   * @throws CordonError WIRE_TIMEOUT, WIRE_CLOSED, or what the launcher answered
   */
  async ask(question: Question): Promise<unknown> {
    requireFits(FROM_GATEWAY, { ...question, id: 1 } as FromGateway)
    return this.#launcher.ask(question)
  }

  answer(id: number, answer: { readonly ok: unknown } | { readonly error: SafeError }): void {
    this.#send({ type: 'answer', id, ...answer })
  }

  #send(message: FromGateway): void {
    if (this.#launcher.isClosed) return
    requireFits(FROM_GATEWAY, message)
    this.#launcher.say(message)
  }
}
