import type { Duplex } from 'node:stream'
import type { PluginName, RunId } from '../base/ids.ts'
import { printable } from '../base/printable.ts'
import { CordonError, toSafeError } from '../errors.ts'
import { encodeData, encodeMessage, FrameReader, MAX_CHUNK_BYTES, type Frame } from '../wire/frame.ts'
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
const PERMITTED: Readonly<Record<FromGateway['type'], 'once' | 'perRun' | 'any'>> = {
  serving: 'once',
  releaseLaunchConfig: 'perRun',
  takeSocket: 'perRun',
  running: 'perRun',
  failed: 'perRun',
  taken: 'any',
  act: 'any',
  record: 'any',
  answer: 'any',
}

/** Requests at work at a time; a gateway that asks faster than we answer is broken or hostile. */
const MAX_PENDING = 64
/** Unsent bytes that we keep for a gateway that does not read. */
const MAX_UNSENT_BYTES = 4 << 20
const ASK_TIMEOUT_MS = 10_000

/**
 * The launcher's end of the conversation with the gateway, which may be hostile: frames and schemas are checked, requests are a
 * closed table, and whatever does not fit ends it (openssh monitor.c: an unpermitted request is fatal, never ignored).
 */
export class GatewayMonitor {
  readonly #socket: Duplex
  readonly #handlers: GatewayHandlers
  readonly #seen = new Set<string>()
  /** Runs that the gateway was told of and that are not over. */
  readonly #runs = new Set<RunId>()
  readonly #asked = new Map<number, { resolve(ok: unknown): void; reject(error: Error): void }>()
  #pending = 0
  #nextId = 1
  #closed = false

  constructor(socket: Duplex, handlers: GatewayHandlers) {
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

  say(message: ToGateway): void {
    if (message.type === 'runStarted') this.#runs.add(message.run)
    this.#write(encodeMessage(message))
  }

  /** Opaque bytes of a plugin's stdout, at most MAX_CHUNK_BYTES a frame. */
  data(stream: number, bytes: Buffer): void {
    for (let at = 0; at < bytes.length; at += MAX_CHUNK_BYTES) this.#write(encodeData(stream, bytes.subarray(at, at + MAX_CHUNK_BYTES)))
  }

  /** @throws CordonError WIRE_TIMEOUT, WIRE_CLOSED, WIRE_REFUSED */
  mintLink(plugin: PluginName): Promise<unknown> {
    const id = this.#nextId++
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        clearTimeout(timer)
        this.#asked.delete(id)
      }
      const timer = setTimeout(() => {
        settle()
        reject(new CordonError('WIRE_TIMEOUT', `the gateway did not answer within ${ASK_TIMEOUT_MS / 1000} s`))
      }, ASK_TIMEOUT_MS)
      this.#asked.set(id, { resolve: (ok) => { settle(); resolve(ok) }, reject: (error) => { settle(); reject(error) } })
      this.say({ type: 'mintLink', id, plugin })
    })
  }

  close(reason: string): void {
    if (this.#closed) return
    this.#closed = true
    this.#socket.destroy()
    for (const { reject } of [...this.#asked.values()]) reject(new CordonError('WIRE_CLOSED', 'the gateway is gone'))
    this.#handlers.closed(reason)
  }

  #write(bytes: Buffer): void {
    if (this.#closed) return
    this.#socket.write(bytes)
    if (this.#socket.writableLength > MAX_UNSENT_BYTES) this.close(`it left more than ${MAX_UNSENT_BYTES} bytes unread`)
  }

  #receive(frame: Frame): void {
    if (this.#closed) return
    if (frame.kind === 'data') return this.close('a data frame, which only the launcher sends')
    const parsed = FROM_GATEWAY.safeParse(frame.value)
    if (!parsed.success) return this.close(`a message outside the table: ${printable(parsed.error.issues[0]?.message ?? '')}`)
    const message = parsed.data
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
      case 'answer': return this.#settle(message)
      default: return message satisfies never
    }
  }

  #permit(message: FromGateway): boolean {
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

  #settle(answer: Request<'answer'>): void {
    if (answer.id < 1 || answer.id >= this.#nextId) return this.close(`an answer to ${answer.id}, which was never asked`)
    const asked = this.#asked.get(answer.id)
    if (asked === undefined) return // it came after its timeout
    if (answer.error !== undefined) asked.reject(new CordonError('WIRE_REFUSED', printable(answer.error.message, 500)))
    else asked.resolve(answer.ok)
  }
}
