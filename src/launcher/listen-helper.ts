/**
 * A short process that opens the HTTP listening socket for the gateway and hands it over: `listen.cjs HOST PORT`.
 * Its NODE_CHANNEL_FD is the other end of the gateway's; the launcher only lends it and never reads from it, because a
 * hostile peer can crash a Node process through such a channel. Ends 0 once the gateway has said `{ taken: true }`.
 * When the socket cannot be opened: one JSON line `{"errno","host","port"}` on stderr, exit 71 (EX_OSERR).
 */
import { createServer, isIP } from 'node:net'

/** The gateway is already running and waiting; loaded emulated machines need seconds. */
const HANDOVER_TIMEOUT_MS = 30_000

function main(host: string, port: number): void {
  const send = process.send?.bind(process)
  if (send === undefined || isIP(host) === 0 || !Number.isInteger(port) || port < 0 || port > 65535) fail('EINVAL', host, port)
  setTimeout(() => fail('ETIMEDOUT', host, port), HANDOVER_TIMEOUT_MS).unref()
  const server = createServer()
  server.on('error', (error: NodeJS.ErrnoException) => fail(error.code ?? error.message, host, port))
  server.listen({ host, port }, () => {
    send({ listener: 'http' }, server, { keepOpen: false }, (error) => {
      if (error !== null) fail((error as NodeJS.ErrnoException).code ?? error.message, host, port)
    })
  })
  process.on('message', (message) => {
    if (typeof message === 'object' && message !== null && 'taken' in message && message.taken === true) process.exit(0)
  })
  process.on('disconnect', () => fail('EPIPE', host, port)) // the gateway is gone
}

function fail(errno: string, host: string, port: number): never {
  process.stderr.write(`${JSON.stringify({ errno, host, port })}\n`)
  process.exit(71)
}

main(process.argv[2] ?? '', Number(process.argv[3] ?? Number.NaN))
