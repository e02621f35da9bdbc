import { performance } from 'node:perf_hooks'
import { WebSocket, type RawData } from 'ws'
import { printable, printableWithin } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { answerCall, isKnownMethod, type CallContext } from './calls.ts'
import { decodeMessage, encodeAnswer, encodeUnknown, type Inbound, type Outcome } from './dialects.ts'
import { Pacer } from './pacer.ts'

/** Protocol 10: what one plugin may cost the gateway. */
export interface ChannelLimits {
  readonly handshakeMs: number
  /** Largest message either way; aiohttp's default on the other side is 4 MiB. */
  readonly maxMessageBytes: number
  /** Answers that the plugin has not read: above the first no more is read from it, above the second it is cut off. */
  readonly pauseAboveBytes: number
  readonly maxQueuedBytes: number
  readonly maxInFlight: number
  /** SDKs give a call up after 10 s. */
  readonly callMs: number
  readonly messagesPerSecond: number
  readonly messagesBurst: number
}

export const CHANNEL_LIMITS: ChannelLimits = {
  handshakeMs: 10_000,
  maxMessageBytes: 4 * 1024 * 1024,
  pauseAboveBytes: 256 * 1024,
  maxQueuedBytes: 1024 * 1024,
  maxInFlight: 32,
  callMs: 8000,
  messagesPerSecond: 200,
  messagesBurst: 500,
}

/** While a plugin does not read, look again this often. */
const UNREAD_POLL_MS = 50

/** A message costs a token for each so many bytes begun: to read 4 MiB of JSON takes as long as a thousand small calls. */
const BYTES_PER_TOKEN = 4096

/** A plugin that sent its close frame has this long to close the connection; nothing can be called any more. */
const CLOSE_MS = 1000

export interface ChannelOptions {
  /** Path of the checked descriptor (`/proc/self/fd/N`); a colon would end it for the `ws` package. */
  readonly fdPath: string
  readonly secret: string
  readonly context: CallContext
  readonly limits: ChannelLimits
  record(call: { readonly method: string; readonly outcome: string; readonly ms: number }): void
  /** Printable, rate-limited by the caller's log. */
  warn(message: string): void
}

export interface Channel {
  /** Resolves with the reason, printable, once the connection has ended. */
  readonly closed: Promise<string>
  close(): void
}

/**
 * Connect to the plugin as the WebSocket client that the protocol makes of the host, and answer its calls from the first moment.
 * @throws CordonError CHANNEL_REFUSED: not accepted within `handshakeMs`
 */
export function openChannel(options: ChannelOptions): Promise<Channel> {
  const { limits } = options
  const client = {
    headers: { host: 'localhost', 'x-temps-auth-signature': options.secret },
    perMessageDeflate: false,
    followRedirects: false,
    handshakeTimeout: limits.handshakeMs,
    maxPayload: limits.maxMessageBytes,
    closeTimeout: CLOSE_MS,
    // One message at a time: a burst in one chunk must neither count as calls at once nor hold up other plugins.
    allowSynchronousEvents: false,
  }
  const socket = new WebSocket(`ws+unix:${options.fdPath}:/_temps/channel`, client)
  let trouble: string | null = null
  const closed = new Promise<string>((resolve) => {
    socket.on('close', (code) => resolve(trouble ?? `closed by the plugin (code ${code})`))
  })
  const cutOff = (reason: string): void => {
    trouble ??= reason
    socket.terminate()
  }
  answerCalls(socket, options, cutOff)
  return new Promise((resolve, reject) => {
    // The package's own timeout starts anew with every byte; this one does not.
    const timer = setTimeout(() => cutOff(`no answer to the upgrade within ${limits.handshakeMs / 1000} s`), limits.handshakeMs)
    socket.once('open', () => {
      clearTimeout(timer)
      resolve({ closed, close: () => cutOff('closed by the host') })
    })
    // Kept for the whole life: an oversized or malformed frame ends up here, and `close` follows.
    socket.on('error', (error) => {
      clearTimeout(timer)
      cutOff(printable(error.message)) // at once: the closing handshake is for peers that keep the rules
      reject(new CordonError('CHANNEL_REFUSED', `the plugin did not accept the channel: ${trouble}`, { cause: error }))
    })
  })
}

function answerCalls(socket: WebSocket, options: ChannelOptions, cutOff: (reason: string) => void): void {
  const { limits } = options
  const pacer = new Pacer(limits.messagesPerSecond, limits.messagesBurst, () => performance.now())
  let inFlight = 0
  let waiting = false

  const readOnAfter = (ms: number): void => {
    if (waiting) return
    waiting = true
    socket.pause()
    setTimeout(() => {
      waiting = false
      if (socket.bufferedAmount > limits.pauseAboveBytes) readOnAfter(UNREAD_POLL_MS)
      else socket.resume()
    }, ms).unref()
  }
  const pace = (bytes: number): void => {
    const waitMs = pacer.take(Math.max(1, Math.ceil(bytes / BYTES_PER_TOKEN)))
    if (waitMs > 0) readOnAfter(waitMs)
    if (socket.bufferedAmount > limits.pauseAboveBytes) readOnAfter(UNREAD_POLL_MS)
    if (socket.bufferedAmount > limits.maxQueuedBytes) cutOff(`it left more than ${limits.maxQueuedBytes} bytes of answers unread`)
  }
  const send = (text: string): void => {
    if (socket.readyState !== WebSocket.OPEN) return
    if (socket.bufferedAmount + Buffer.byteLength(text) > limits.maxQueuedBytes) return cutOff(`it left more than ${limits.maxQueuedBytes} bytes of answers unread`)
    socket.send(text)
  }
  const answer = async (message: Extract<Inbound, { kind: 'call' }>): Promise<void> => {
    const started = performance.now()
    let outcome: Outcome
    if (inFlight >= limits.maxInFlight) {
      outcome = { code: 'internal', message: `more than ${limits.maxInFlight} calls at once` }
    } else {
      inFlight += 1
      outcome = await answerInTime(message, options)
      inFlight -= 1
    }
    send(encodeWithin(message, outcome, limits.maxMessageBytes))
    const method = isKnownMethod(message.method) ? message.method : printableWithin(message.method, 64)
    options.record({ method, outcome: 'ok' in outcome ? 'ok' : outcome.code, ms: Math.round(performance.now() - started) })
  }

  socket.on('ping', (data: Buffer) => pace(data.length)) // answered by ws itself; a flood of them costs like any other message
  socket.on('message', (data: RawData, isBinary: boolean) => {
    pace(lengthOf(data))
    if (isBinary || socket.readyState !== WebSocket.OPEN) return
    const message = decodeMessage(toText(data))
    switch (message.kind) {
      case 'call':
        return void answer(message)
      case 'unknown':
        options.warn(`a channel message was not understood (${message.reason})`)
        return send(encodeUnknown(message.id))
      case 'ignore':
        return options.warn(`a channel message was ignored (${message.reason})`)
      default:
        return message satisfies never
    }
  })
}

async function answerInTime(message: Extract<Inbound, { kind: 'call' }>, options: ChannelOptions): Promise<Outcome> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<Outcome>((resolve) => {
    timer = setTimeout(() => resolve({ code: 'internal', message: 'the host did not answer in time' }), options.limits.callMs)
  })
  try {
    return await Promise.race([answerCall(message.dialect, message.method, message.params, options.context), late])
  } catch (error) {
    options.warn(`the call ${printable(message.method, 64)} failed inside the host: ${printable(error instanceof Error ? error.message : String(error))}`)
    return { code: 'internal', message: 'the host failed to answer' }
  } finally {
    clearTimeout(timer)
  }
}

function encodeWithin(message: Extract<Inbound, { kind: 'call' }>, outcome: Outcome, maxBytes: number): string {
  const text = encodeAnswer(message.dialect, message.id, message.method, outcome)
  if (Buffer.byteLength(text) < maxBytes) return text
  return encodeAnswer(message.dialect, message.id, message.method, { code: 'internal', message: 'the answer is too large for the channel' })
}

function lengthOf(data: RawData): number {
  return Array.isArray(data) ? data.reduce((sum, part) => sum + part.length, 0) : data.byteLength
}

function toText(data: RawData): string {
  if (Array.isArray(data)) return Buffer.concat(data).toString('utf8')
  return Buffer.isBuffer(data) ? data.toString('utf8') : Buffer.from(data).toString('utf8')
}
