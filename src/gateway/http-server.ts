import { Server } from 'node:net'
import { CordonError } from '../errors.ts'

/**
 * The listening socket that a short helper opened and sent over the second socketpair; the gateway itself may not bind.
 * @param channel `process`, whose IPC descriptor is that socketpair
 * @returns the first and only handle; anything else that comes is passed to `unexpected`
 */
export function receiveListener(channel: NodeJS.Process, unexpected: (error: CordonError) => void): Promise<Server> {
  return new Promise((resolve) => {
    let received = false
    channel.on('message', (message: unknown, handle: unknown) => {
      if (!received && handle instanceof Server && isHttpListener(message)) {
        received = true
        channel.send?.({ taken: true }) // the helper may leave now
        resolve(handle)
      } else {
        unexpected(new CordonError('WIRE_MALFORMED', 'the second socketpair brought something else than one HTTP listener'))
      }
    })
  })
}

function isHttpListener(message: unknown): boolean {
  return typeof message === 'object' && message !== null && 'listener' in message && message.listener === 'http'
}

/** Let `server` accept on the socket of `listener`, as if it had bound it itself, so that its own timeouts are in force. */
export function listenOn(server: Server, listener: Server): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(listener, () => {
      server.off('error', reject)
      const address = server.address()
      if (typeof address === 'object' && address !== null) resolve(address.port)
      else reject(new CordonError('WIRE_MALFORMED', 'the listener that was handed over is no TCP socket'))
    })
  })
}
