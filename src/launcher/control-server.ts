import { chmodSync, rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { printable } from '../base/printable.ts'
import { CordonError, toSafeError } from '../errors.ts'
import { encodeMessage, FrameReader, type Frame } from '../wire/frame.ts'
import { FROM_OPERATOR, type FromOperator } from '../wire/requests.ts'
import { peerOf, type Who } from './peer.ts'

export type Answer = (request: FromOperator, peer: () => Promise<Who | null>) => Promise<unknown>

const MAX_CONNECTIONS = 16
const IDLE_MS = 120_000

/**
 * The root-only socket of the CLI: one request, one answer, then it closes. It lies in a directory that only root enters, and is
 * 0600 besides.
 * @param answer what to do; its result is the `ok`, what it throws the `error`. `peer` finds out who asks, where that matters: it costs a
 *        look at all processes of the host
 */
export async function serveControl(path: string, answer: Answer): Promise<Server> {
  const server = createServer((socket) => converse(socket, answer))
  server.maxConnections = MAX_CONNECTIONS
  await listenForRoot(server, path)
  return server
}

/** @param path in a directory that only root enters; the socket is 0600 besides */
export async function listenForRoot(server: Server, path: string): Promise<void> {
  rmSync(path, { force: true }) // of a daemon that was killed; the lock says that none lives
  const before = process.umask(0o177)
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(path, resolve)
    })
  } finally {
    process.umask(before)
  }
  chmodSync(path, 0o600)
}

function converse(socket: Socket, answer: Answer): void {
  const frames = new FrameReader()
  const reply = (message: unknown): void => {
    try {
      socket.end(encodeMessage(message))
    } catch { // the one error of encodeMessage
      socket.end(encodeMessage({ error: toSafeError(new CordonError('CONTROL_BROKEN', 'the answer is too long for one frame')) }))
    }
  }
  socket.setTimeout(IDLE_MS, () => socket.destroy())
  socket.on('error', () => socket.destroy()) // the CLI was interrupted
  frames.on('error', (error) => reply({ error: toSafeError(new CordonError('CONTROL_BROKEN', printable(error.message))) }))
  frames.once('data', (frame: Frame) => {
    const parsed = frame.kind === 'message' ? FROM_OPERATOR.safeParse(frame.value) : null
    if (parsed === null || !parsed.success) return reply({ error: toSafeError(new CordonError('CONTROL_BROKEN', 'a request that is not in the table')) })
    answer(parsed.data, () => peerOf(socket)).then(
      (ok) => reply({ ok: ok ?? null }),
      (error: unknown) => reply({ error: toSafeError(error) }),
    )
  })
  socket.pipe(frames)
}
