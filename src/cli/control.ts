import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import type { z } from 'zod'
import { printable } from '../base/printable.ts'
import { CordonError, ERRORS, type ErrorCode } from '../errors.ts'
import { encodeMessage, FrameReader, type Frame } from '../wire/frame.ts'
import { OPERATOR_ANSWER, type FromOperator } from '../wire/requests.ts'

/** A restart waits for the plugin to end (its grace) and to start again; a loaded machine needs its time. */
const ANSWER_TIMEOUT_MS = 180_000

/** An error that the daemon answered; its hint may be closer to the cause than the catalogue's. */
class AnsweredError extends CordonError {
  readonly #hint: string
  constructor(code: ErrorCode, message: string, hint: string) {
    super(code, message)
    this.#hint = hint
  }
  override get hint(): string {
    return this.#hint
  }
}

/**
 * One question to the running daemon over its root-only control socket, one answer.
 * @param schema what `ok` must be (wire/operator-answers.ts)
 * @throws CordonError CONTROL_NOT_RUNNING, CONTROL_NOT_ROOT, CONTROL_BROKEN; AnsweredError with the daemon's own code
 */
export async function askDaemon<T>(runDir: string, request: FromOperator, schema: z.ZodType<T>, signal: AbortSignal, timeoutMs = ANSWER_TIMEOUT_MS): Promise<T> {
  const path = join(runDir, 'control.sock')
  const socket = await open(path, signal)
  try {
    const frame = await exchange(socket, request, AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]))
    const answer = frame.kind === 'message' ? OPERATOR_ANSWER.safeParse(frame.value) : null
    if (answer === null || !answer.success) throw broken('sent something that is no answer')
    const { ok, error } = answer.data
    if (error !== undefined) throw answered(error)
    const parsed = schema.safeParse(ok)
    if (!parsed.success) throw broken(`answered "${request.type}" in another form than expected`, parsed.error)
    return parsed.data
  } finally {
    socket.destroy()
  }
}

function open(path: string, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason as Error)
    const socket = connect(path)
    socket.once('connect', () => {
      socket.removeAllListeners('error')
      resolve(socket)
    })
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EACCES' || error.code === 'EPERM') reject(new CordonError('CONTROL_NOT_ROOT', `${path} is open to root alone`, { cause: error }))
      else if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED' || error.code === 'ENOTDIR') reject(new CordonError('CONTROL_NOT_RUNNING', `nothing listens on ${path}`, { cause: error }))
      else reject(broken(`cannot be reached on ${path} (${error.code ?? error.message})`, error))
    })
  })
}

function exchange(socket: Socket, request: FromOperator, signal: AbortSignal): Promise<Frame> {
  return new Promise((resolve, reject) => {
    const reader = new FrameReader()
    const onAbort = (): void => reject(signal.reason instanceof DOMException && signal.reason.name === 'TimeoutError' ? broken('did not answer in time') : (signal.reason as Error))
    if (signal.aborted) return onAbort()
    signal.addEventListener('abort', onAbort, { once: true })
    reader.once('data', (frame: Frame) => {
      signal.removeEventListener('abort', onAbort)
      resolve(frame)
    })
    reader.once('error', (error) => reject(broken('sent a malformed frame', error)))
    reader.once('end', () => reject(broken('closed the connection without an answer')))
    socket.once('error', (error) => reject(broken(`ended the connection (${error.message})`, error)))
    socket.pipe(reader)
    socket.write(encodeMessage(request))
  })
}

/** What the daemon answered, as an error with its own hint. */
export function answered(error: { readonly code: string; readonly message: string; readonly hint: string }): CordonError {
  const message = printable(error.message, 2000)
  if (!isErrorCode(error.code)) return broken(`answered with the unknown error ${printable(error.code)}: ${message}`)
  return new AnsweredError(error.code, message, printable(error.hint, 1000))
}

function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(ERRORS, code)
}

function broken(what: string, cause?: unknown): CordonError {
  return new CordonError('CONTROL_BROKEN', `the daemon ${what}`, { cause })
}
