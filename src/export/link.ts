import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect as connectTls } from 'node:tls'

export type Target =
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'tls'; readonly host: string; readonly port: number; /** PEM; null: the authorities that Node trusts. */ readonly ca: string | null }

export interface LinkOptions {
  readonly target: Target
  /** Sent first on each connection. */
  readonly preamble: Buffer
  /** Trouble, in words, at most once per attempt. */
  readonly trouble: (text: string) => void
  readonly connectMs?: number
  /** A peer that takes nothing for so long is given up, and the connection made anew. */
  readonly writeMs?: number
  readonly backoffMs?: readonly number[]
}

/**
 * TCP tells nobody which of the bytes that the kernel took have arrived. After a lost connection the newest of them are sent again: a record
 * may come twice, and its `seq` says so. More than this is rarely on its way (tcp_wmem, tcp_rmem).
 */
const RECENT_BYTES = 4 * 1024 * 1024
const RECENT_MS = 120_000
const CONNECT_MS = 15_000
const WRITE_MS = 60_000
const NOTHING = Buffer.alloc(0)
const BACKOFF_MS = [500, 1000, 2000, 5000, 10_000, 30_000]

/** A connection that is made when something is to be sent, and made again for as long as it takes. What the other side says is thrown away unread. */
export class Link {
  readonly #options: LinkOptions
  #socket: Socket | null = null
  #failures = 0
  #queue: Promise<void> = Promise.resolve()
  #recent: { readonly bytes: Buffer; readonly atMs: number }[] = []
  #recentBytes = 0

  constructor(options: LinkOptions) {
    this.#options = options
  }

  /** Resolves once the kernel took all of it; after a failure all of it is sent again. Rejects only when `signal` fires. */
  send(bytes: Buffer, signal: AbortSignal): Promise<void> {
    const done = this.#queue.then(() => this.#deliver(bytes, signal))
    this.#queue = done.catch(() => undefined) // its caller hears it
    return done
  }

  async #deliver(bytes: Buffer, signal: AbortSignal): Promise<void> {
    for (;;) {
      signal.throwIfAborted()
      try {
        const socket = this.#socket ?? (await this.#begin(signal))
        await this.#write(socket, bytes, signal)
        this.#failures = 0
        if (bytes.length > 0) this.#remember(bytes)
        return
      } catch (error) {
        this.close()
        signal.throwIfAborted()
        const steps = this.#options.backoffMs ?? BACKOFF_MS
        const wait = steps[Math.min(this.#failures, steps.length - 1)] ?? 0
        this.#failures += 1
        this.#options.trouble(error instanceof Error ? error.message : String(error))
        await sleep(wait, undefined, { signal })
      }
    }
  }

  close(): void {
    this.#socket?.destroy()
    this.#socket = null
  }

  /** Everything is on its way: say so to the other side. */
  async end(): Promise<void> {
    const socket = this.#socket
    this.#socket = null
    if (socket === null) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, 1000)
      socket.once('close', () => {
        clearTimeout(timer)
        resolve()
      })
      socket.end()
    })
    socket.destroy()
  }

  async #begin(signal: AbortSignal): Promise<Socket> {
    const socket = (this.#socket = await this.#connect(signal))
    for (const { bytes, atMs } of this.#recent) if (Date.now() - atMs < RECENT_MS) await this.#write(socket, bytes, signal)
    return socket
  }

  #remember(bytes: Buffer): void {
    this.#recent.push({ bytes, atMs: Date.now() })
    this.#recentBytes += bytes.length
    while (this.#recentBytes > RECENT_BYTES) this.#recentBytes -= this.#recent.shift()?.bytes.length ?? this.#recentBytes
  }

  #connect(signal: AbortSignal): Promise<Socket> {
    const { target, preamble } = this.#options
    return within(this.#options.connectMs ?? CONNECT_MS, 'no connection', signal, (resolve, reject) => {
      const socket = target.kind === 'unix' ? connect(target.path)
        : target.kind === 'tcp' ? connect({ host: target.host, port: target.port, keepAlive: true, keepAliveInitialDelay: 30_000 })
        : connectTls({ host: target.host, port: target.port, servername: isName(target.host) ? target.host : '', minVersion: 'TLSv1.2', ...(target.ca === null ? {} : { ca: target.ca }) })
      socket.once('error', reject)
      socket.once(target.kind === 'tls' ? 'secureConnect' : 'connect', () => {
        socket.removeListener('error', reject)
        let broken = false
        socket.on('error', () => (broken = true)) // `close` follows, and the next write says it
        socket.on('close', () => {
          if (this.#socket !== socket) return
          this.#socket = null
          if (broken) this.send(NOTHING, signal).catch(() => undefined) // what it had not read goes out again now: the next record may be an hour away
        })
        socket.resume()
        socket.write(preamble)
        resolve(socket)
      })
      return () => socket.destroy()
    })
  }

  #write(socket: Socket, bytes: Buffer, signal: AbortSignal): Promise<void> {
    return within(this.#options.writeMs ?? WRITE_MS, 'the other side takes nothing', signal, (resolve, reject) => {
      const onClose = (): void => reject(new Error('the other side closed the connection'))
      socket.once('close', onClose)
      socket.write(bytes, (error) => {
        socket.removeListener('close', onClose)
        if (error === null || error === undefined) resolve(undefined)
        else reject(error)
      })
      return () => socket.destroy()
    })
  }
}

/** One attempt with a limit. @param begin returns how to give up */
function within<T>(ms: number, what: string, signal: AbortSignal, begin: (resolve: (value: T) => void, reject: (error: Error) => void) => () => void): Promise<T> {
  return new Promise((resolve, reject) => {
    const done = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
    }
    const giveUp = begin((value) => {
      done()
      resolve(value)
    }, (error) => {
      done()
      reject(error)
    })
    const timer = setTimeout(() => {
      giveUp()
      done()
      reject(new Error(`${what} within ${ms / 1000} s`))
    }, ms)
    const onAbort = (): void => {
      giveUp()
      done()
      reject(signal.reason as Error)
    }
    signal.addEventListener('abort', onAbort, { once: true })
  })
}

/** RFC 6066 section 3: an address is no server name. */
function isName(host: string): boolean {
  return /[a-z]/i.test(host) && !host.includes(':')
}
