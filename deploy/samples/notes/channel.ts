import type { WebSocketConnection } from './websocket.ts'

const CALL_TIMEOUT_MS = 10_000

/** The host answered, and the answer is no. */
export class CallError extends Error {
  readonly code: string
  constructor(code: string, message: string) {
    super(message)
    this.code = code
  }
}

interface Reply {
  readonly type?: unknown
  readonly id?: unknown
  readonly outcome?: { ok?: { method?: unknown; result?: unknown }; err?: { code?: unknown; message?: unknown } }
}
interface Waiting {
  readonly method: string
  settle(reply: Reply | Error): void
}

/** Calls to the host in the typed dialect: `call` out, `outcome` back, matched by an integer id. */
export class Channel {
  readonly #connection: WebSocketConnection
  readonly #waiting = new Map<number, Waiting>()
  #lastId = 0

  constructor(connection: WebSocketConnection) {
    this.#connection = connection
    connection.onText = (text) => this.#receive(text)
    connection.onClose = () => {
      console.error('the channel closed; calls to the host fail from now on')
      for (const waiting of this.#waiting.values()) waiting.settle(new CallError('closed', 'the channel is closed'))
    }
  }

  call(method: string, params: object): Promise<unknown> {
    const id = ++this.#lastId
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => settle(new CallError('timeout', `no answer to ${method} in ${CALL_TIMEOUT_MS / 1000} s`)), CALL_TIMEOUT_MS)
      const settle = (reply: Reply | Error) => {
        clearTimeout(timer)
        this.#waiting.delete(id)
        if (reply instanceof Error) return reject(reply)
        const { ok, err } = reply.outcome ?? {}
        if (ok !== undefined && ok.method === method) return resolve(ok.result)
        if (err !== undefined) return reject(new CallError(String(err.code), String(err.message)))
        reject(new CallError('protocol', `the answer to ${method} does not fit`))
      }
      this.#waiting.set(id, { method, settle })
      if (this.#connection.closed) return settle(new CallError('closed', 'the channel is closed'))
      this.#connection.sendText(JSON.stringify({ type: 'request', id, call: { method, params } }))
    })
  }

  #receive(text: string): void {
    let reply: Reply
    try {
      reply = JSON.parse(text) as Reply
    } catch {
      return console.error('the host sent a frame that is not JSON; ignored')
    }
    if (reply?.type === 'response' && typeof reply.id === 'number') this.#waiting.get(reply.id)?.settle(reply)
  }
}
