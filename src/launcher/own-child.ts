import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'

// What gateway and door need alike, as children of the launcher that may be hostile.

/** Lines of one's stderr that reach the daemon's log, per start. */
const MAX_LOG_LINES = 500

/**
 * The lent end must never be read here: Node has begun to, and what it takes would be missing to the helper. There is no public way
 * to stop a socket from reading before its buffer is full; the Node that runs this is pinned, and a test hands sockets over.
 */
export function neverRead(socket: Duplex): void {
  const handle = (socket as unknown as { readonly _handle?: { readStop?(): number } })._handle
  if (handle?.readStop === undefined) throw new CordonError('LAUNCH_GATEWAY', 'this Node does not let a socket stop reading')
  socket.pause()
  handle.readStop()
}

/** Its own words into the daemon's log: whole lines, printable, and not without end. */
export function logLines(name: string, stream: Socket, log: (message: string) => void): void {
  let held = ''
  let lines = 0
  stream.setEncoding('utf8')
  stream.on('data', (text: string) => {
    const parts = (held + text).split('\n')
    held = (parts.pop() ?? '').slice(-4000)
    for (const line of parts) {
      if (++lines < MAX_LOG_LINES) log(`${name}: ${printable(line, 1000)}`)
      else if (lines === MAX_LOG_LINES) log(`${name}: it says too much; the rest of this start is dropped`)
    }
  })
}
