import type { Socket as DatagramSocket } from 'node:dgram'
import type { Socket } from 'node:net'
import { MAX_QUERY_BYTES, type RunDns } from './dns.ts'
import { DnsFrames, frameMessage } from './dns-stream.ts'

const MAX_STREAMS = 32
const STREAM_IDLE_MS = 5000
/** Replies that the kernel has not taken; a plugin that asks and does not read loses the rest. */
const MAX_UNSENT_DATAGRAMS = 64
const MAX_UNSENT_BYTES = 64 * 1024
/** Questions of one stream that are answered before others have their turn: a chunk can hold two thousand, and each costs about 30 µs. */
const PER_TURN = 16

/** The sockets of port 53 of one run, UDP and TCP. */
export class DnsServer {
  readonly #dns: RunDns
  readonly #datagrams: DatagramSocket[] = []
  readonly #streams = new Set<Socket>()
  #closed = false
  readonly #later: (work: () => void) => boolean

  /** @param later does `work` when it is this run's turn; false: too much of it waits already */
  constructor(dns: RunDns, later: (work: () => void) => boolean) {
    this.#dns = dns
    this.#later = later
  }

  addDatagrams(socket: DatagramSocket): void {
    this.#datagrams.push(socket)
    socket.on('error', () => {}) // an answer that could not be sent (the asker is gone) is no concern of others
    socket.on('message', (message, from) => {
      const took = this.#later(() => {
        if (this.#closed) return
        const reply = this.#dns.answer(message)
        if (reply !== null && socket.getSendQueueCount() < MAX_UNSENT_DATAGRAMS) socket.send(reply, from.port, from.address)
      })
      if (!took) this.#dns.drop()
    })
  }

  addStream(socket: Socket): void {
    socket.on('error', () => {})
    if (this.#streams.size >= MAX_STREAMS) {
      this.#dns.cut('too-many-streams')
      return void socket.resetAndDestroy()
    }
    this.#streams.add(socket)
    const frames = new DnsFrames(MAX_QUERY_BYTES)
    socket.on('close', () => this.#streams.delete(socket))
    socket.setTimeout(STREAM_IDLE_MS, () => socket.resetAndDestroy())
    socket.on('end', () => socket.end())
    socket.on('data', (bytes: Buffer) => {
      const messages = frames.feed(bytes)
      if (messages === null) {
        this.#dns.cut('query-refused') // longer than any question
        return void socket.resetAndDestroy()
      }
      this.#answer(socket, messages)
    })
    socket.resume()
  }

  #answer(socket: Socket, messages: readonly Buffer[]): void {
    if (socket.destroyed) return
    for (const message of messages.slice(0, PER_TURN)) {
      const reply = this.#dns.answer(message)
      if (reply === null || socket.writableLength > MAX_UNSENT_BYTES) return void socket.resetAndDestroy()
      socket.write(frameMessage(reply))
    }
    if (messages.length <= PER_TURN) return void socket.resume()
    socket.pause()
    setImmediate(() => this.#answer(socket, messages.slice(PER_TURN)))
  }

  close(): void {
    this.#closed = true
    for (const socket of this.#datagrams) socket.close()
    for (const socket of this.#streams) socket.resetAndDestroy()
  }
}
