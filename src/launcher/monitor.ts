import type { Duplex } from 'node:stream'
import type { PluginName, RunId } from '../base/ids.ts'
import { toSafeError } from '../errors.ts'
import { Conversation } from '../wire/conversation.ts'
import { FROM_GATEWAY, type FromGateway, type ToGateway } from '../wire/requests.ts'

type Request<T extends FromGateway['type']> = Extract<FromGateway, { type: T }>

/** One handler per request of the table; what they return is the `ok` of the answer, what they throw its error. */
export interface GatewayHandlers {
  serving(message: Request<'serving'>): void
  taken(message: Request<'taken'>): void
  releaseLaunchConfig(message: Request<'releaseLaunchConfig'>): Promise<unknown>
  takeSocket(message: Request<'takeSocket'>): Promise<unknown>
  running(message: Request<'running'>): void
  failed(message: Request<'failed'>): void
  act(message: Request<'act'>): Promise<unknown>
  record(message: Request<'record'>): void
  /** The conversation is over, for the reason given; called once. */
  closed(reason: string): void
}

/** How often a request may come: `once` in the gateway's life, `perRun` once for each run, `any`. A second time ends the conversation. */
const PERMITTED: Readonly<Record<Exclude<FromGateway['type'], 'answer'>, 'once' | 'perRun' | 'any'>> = {
  serving: 'once',
  releaseLaunchConfig: 'perRun',
  takeSocket: 'perRun',
  running: 'perRun',
  failed: 'perRun',
  taken: 'any',
  act: 'any',
  record: 'any',
}

/** Requests at work at a time; a gateway that asks faster than we answer is broken or hostile. */
const MAX_PENDING = 64
/** Unsent bytes that we keep for a gateway that does not read. */
const MAX_UNSENT_BYTES = 4 << 20
const ASK_TIMEOUT_MS = 10_000

/**
 * The launcher's end of the conversation with the gateway, which may be hostile: frames and schemas are checked, requests are a
 * closed table, and whatever does not fit ends it.
 */
export class GatewayMonitor {
  readonly #gateway: Conversation<FromGateway>
  readonly #handlers: GatewayHandlers
  readonly #seen = new Set<string>()
  /** Runs that the gateway was told of and that are not over. */
  readonly #runs = new Set<RunId>()
  #pending = 0

  constructor(socket: Duplex, handlers: GatewayHandlers) {
    this.#handlers = handlers
    this.#gateway = new Conversation(socket, {
      peer: 'it', table: FROM_GATEWAY, askMs: ASK_TIMEOUT_MS, maxUnsentBytes: MAX_UNSENT_BYTES, refusals: 'always',
      message: (message) => this.#receive(message),
      closed: (error) => handlers.closed(error.message),
    })
  }

  say(message: ToGateway): void {
    if (message.type === 'runStarted') this.#runs.add(message.run)
    this.#gateway.say(message)
  }

  /** Opaque bytes of a plugin's stdout. */
  data(stream: number, bytes: Buffer): void {
    this.#gateway.data(stream, bytes)
  }

  /** @throws CordonError WIRE_TIMEOUT, WIRE_CLOSED, WIRE_REFUSED */
  mintLink(plugin: PluginName): Promise<unknown> {
    const question: Omit<Extract<ToGateway, { type: 'mintLink' }>, 'id'> = { type: 'mintLink', plugin }
    return this.#gateway.ask(question)
  }

  close(reason: string): void {
    this.#gateway.close(reason)
  }

  #receive(message: Exclude<FromGateway, { type: 'answer' }>): void {
    if (!this.#permit(message)) return this.close(`"${message.type}" a second time`)
    switch (message.type) {
      case 'serving': return this.#handlers.serving(message)
      case 'taken': return this.#handlers.taken(message)
      case 'running': return this.#handlers.running(message)
      case 'failed': return this.#handlers.failed(message)
      case 'record': return this.#handlers.record(message)
      case 'releaseLaunchConfig': return this.#answer(message.id, this.#handlers.releaseLaunchConfig(message))
      case 'takeSocket': return this.#answer(message.id, this.#handlers.takeSocket(message))
      case 'act': return this.#answer(message.id, this.#handlers.act(message))
      default: return message satisfies never
    }
  }

  #permit(message: Exclude<FromGateway, { type: 'answer' }>): boolean {
    const rule = PERMITTED[message.type]
    if (rule === 'any') return true
    // A run that is over (or never was) is the handler's to refuse; remembering it would let the gateway fill our memory.
    if (rule === 'perRun' && 'run' in message && !this.#runs.has(message.run)) return true
    const key = rule === 'perRun' && 'run' in message ? `${message.type} ${message.run}` : message.type
    if (this.#seen.has(key)) return false
    this.#seen.add(key)
    return true
  }

  /** A run is over: what it was permitted once can be forgotten, its id never comes again. */
  forget(run: RunId): void {
    this.#runs.delete(run)
    for (const key of this.#seen) if (key.endsWith(` ${run}`)) this.#seen.delete(key)
  }

  #answer(id: number, work: Promise<unknown>): void {
    if (++this.#pending > MAX_PENDING) return this.close(`more than ${MAX_PENDING} requests at a time`)
    work.then(
      (ok) => this.say({ type: 'answer', id, ok: ok ?? null }),
      (error: unknown) => this.say({ type: 'answer', id, error: toSafeError(error) }),
    ).finally(() => this.#pending--)
  }
}
