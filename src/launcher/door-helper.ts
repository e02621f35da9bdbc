/**
 * A short process inside a plugin's sealed network namespace that opens the sockets which the door serves there, and hands them over:
 * `doorhelper.cjs RUN IPV6(0|1) DNS(0|1) [PORT...]`. For each port one TCP listener per family on the wildcard address, where
 * every address is local; with DNS also UDP and TCP 53. Its NODE_CHANNEL_FD is the other end of the door's, only lent by the launcher.
 * Ends 0 once the door has said `{ taken: RUN }`. A port that cannot be had is left out and named in one JSON line on stderr,
 * `{"port","protocol","family","errno"}` (a plugin that runs already may hold a high port); if any was, it ends 75 (EX_TEMPFAIL).
 * What makes everything impossible: `{"errno"}`, exit 71 (EX_OSERR).
 */
import { createSocket, type Socket } from 'node:dgram'
import { createServer, type Server } from 'node:net'

interface Wanted { readonly port: number; readonly protocol: 'tcp' | 'udp'; readonly family: 4 | 6 }

/** The door is already running and waiting; loaded emulated machines need seconds. */
const HANDOVER_TIMEOUT_MS = 30_000
const BACKLOG = 511
const ANY = { 4: '0.0.0.0', 6: '::' } as const

async function main(run: string, ipv6: string, dns: string, ports: readonly number[]): Promise<void> {
  const send = process.send?.bind(process)
  if (send === undefined || !/^[0-9a-f]{16}$/.test(run) || ports.some((port) => !Number.isInteger(port) || port < 1 || port > 65_535)) fail('EINVAL')
  setTimeout(() => fail('ETIMEDOUT'), HANDOVER_TIMEOUT_MS).unref()
  process.on('disconnect', () => fail('EPIPE')) // the door is gone
  let missing = false
  const taken = new Promise<void>((resolve) => {
    process.on('message', (message) => {
      if (typeof message === 'object' && message !== null && 'taken' in message && message.taken === run) resolve()
    })
  })
  const families = ipv6 === '1' ? ([4, 6] as const) : ([4] as const)
  const wanted = families.flatMap((family): Wanted[] => [
    ...(dns === '1' ? [{ port: 53, protocol: 'udp', family } as const] : []),
    ...[...(dns === '1' ? [53] : []), ...ports].map((port) => ({ port, protocol: 'tcp', family }) as const),
  ])
  for (const one of wanted) {
    try {
      const socket = one.protocol === 'tcp' ? await listen(one) : await bind(one)
      await new Promise<void>((resolve, reject) => {
        send({ run, ...one }, socket, { keepOpen: false }, (error) => (error === null ? resolve() : reject(error)))
      })
    } catch (error) {
      missing = true
      process.stderr.write(`${JSON.stringify({ ...one, errno: (error as NodeJS.ErrnoException).code ?? String(error) })}\n`)
    }
  }
  send({ run, done: true })
  await taken
  process.exit(missing ? 75 : 0)
}

/** Never `reusePort`: with it a plugin could bind the same port beside us and take connections. */
function listen({ port, family }: Wanted): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen({ host: ANY[family], port, ipv6Only: family === 6, backlog: BACKLOG }, () => resolve(server))
  })
}

function bind({ port, family }: Wanted): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createSocket({ type: family === 6 ? 'udp6' : 'udp4', ipv6Only: family === 6 })
    socket.once('error', reject)
    socket.bind({ address: ANY[family], port }, () => resolve(socket))
  })
}

function fail(errno: string): never {
  process.stderr.write(`${JSON.stringify({ errno })}\n`)
  process.exit(71)
}

const [run = '', ipv6 = '', dns = '', ...ports] = process.argv.slice(2)
main(run, ipv6, dns, ports.map(Number)).catch((error: unknown) => fail((error as NodeJS.ErrnoException).code ?? String(error)))
