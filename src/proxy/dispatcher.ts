import { closeSync, constants, fstatSync, openSync } from 'node:fs'
import type { Dispatcher } from 'undici'
import { CordonError } from '../errors.ts'
import { Pool } from './undici.ts'

/** Opens a name without opening the thing: no right is used, no socket connected. Not among Node's constants (open(2), Linux). */
const O_PATH = 0o10000000

/** Connections to one plugin; a further request waits its turn. */
const CONNECTIONS_MAX = 64
const CONNECT_TIMEOUT_MS = 5_000
/** Response headers of a plugin; more ends the connection (502). */
const RESPONSE_HEADER_BYTES = 64 * 1024

/** What the launcher saw when it took the socket over; decimal, as 64-bit numbers. */
export interface SocketIdentity {
  readonly dev: string
  readonly ino: string
  readonly uid: number
}

export interface SocketDispatcher {
  readonly dispatcher: Dispatcher
  /** `/proc/self/fd/N` of the checked socket, for whoever else connects to it; valid until `close`. */
  readonly fdPath: string
  close(): Promise<void>
}

/**
 * A pool of connections to a plugin's socket. The path lies in a directory that the plugin can write, so it is opened once, without
 * following a link, compared with what the launcher took over, and never used again: connections go through the descriptor.
 * @param socketPath controlled by the plugin as far as its last part
 * @throws CordonError PROXY_SOCKET_REFUSED: gone, not a socket, or not the one that was taken over
 */
export function openSocketDispatcher(socketPath: string, expect: SocketIdentity): SocketDispatcher {
  const fd = openChecked(socketPath, expect)
  const fdPath = `/proc/self/fd/${fd}`
  const pool = new Pool('http://localhost', {
    socketPath: fdPath,
    connections: CONNECTIONS_MAX,
    pipelining: 1,
    maxHeaderSize: RESPONSE_HEADER_BYTES,
    connect: { timeout: CONNECT_TIMEOUT_MS, socketPath: fdPath },
    bodyTimeout: 0,
  })
  let closing: Promise<void> | null = null
  return {
    dispatcher: pool,
    fdPath,
    close() {
      // First nobody may connect any more, then the number is free for another file.
      closing ??= pool.destroy().finally(() => closeSync(fd))
      return closing
    },
  }
}

function openChecked(socketPath: string, expect: SocketIdentity): number {
  let fd: number
  try {
    fd = openSync(socketPath, O_PATH | constants.O_NOFOLLOW)
  } catch (cause) {
    throw new CordonError('PROXY_SOCKET_REFUSED', 'the socket of the plugin cannot be opened', { cause })
  }
  const stat = fstatSync(fd, { bigint: true })
  const why = !stat.isSocket() ? 'is not a socket'
    : stat.dev.toString() !== expect.dev || stat.ino.toString() !== expect.ino ? 'is not the one that was taken over'
      : stat.uid !== BigInt(expect.uid) ? `belongs to user ${stat.uid}, expected ${expect.uid}`
        : null
  if (why === null) return fd
  closeSync(fd)
  throw new CordonError('PROXY_SOCKET_REFUSED', `what lies at the socket path of the plugin ${why}`)
}
