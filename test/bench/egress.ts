/**
 * What the door costs, against a bare Node pipe and a direct connection in the same run: `node test/bench/egress.ts`. No root.
 * Promises: added connect time at most 3 ms in the median (name resolved already), bulk at least half of the bare pipe.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { resolve } from 'node:path'
import { hello } from '../egress/hello.ts'

const HELLO = hello()
const ROUNDS = 400
const BULK_BYTES = 512 * 2 ** 20
const SECONDS = 3
const children: ChildProcess[] = []
process.on('exit', () => { for (const child of children) child.kill('SIGKILL') })

const upstream = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
  socket.on('error', () => {})
  socket.once('data', (bytes) => {
    socket.write(bytes)
    let left = BULK_BYTES
    socket.on('data', (more) => { // bulk: counted, and acknowledged at the end
      left -= more.length
      if (left === 0) socket.write('done')
    })
    socket.on('end', () => socket.end())
  })
})
upstream.listen(0, '127.0.0.1')
await once(upstream, 'listening')
const direct = (upstream.address() as AddressInfo).port

async function relay(mode: 'bare' | 'door'): Promise<number> {
  const child = spawn(process.execPath, [resolve(import.meta.dirname, 'egress-relay.ts'), mode, String(direct)], { stdio: ['ignore', 'pipe', 'inherit'] })
  children.push(child)
  return Number(String((await once(child.stdout, 'data'))[0]))
}

/** Connected, hello sent, and the first answer is back. */
async function open(port: number): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true })
  socket.on('error', () => {})
  socket.write(HELLO)
  await once(socket, 'data')
  return socket
}

async function medianOpenMs(port: number): Promise<number> {
  const times: number[] = []
  for (let i = 0; i < ROUNDS; i++) {
    const started = performance.now()
    const socket = await open(port)
    times.push(performance.now() - started)
    socket.destroy()
  }
  return times.sort((a, b) => a - b)[ROUNDS / 2] ?? Number.NaN
}

async function bulkMiBs(port: number): Promise<number> {
  const socket = await open(port)
  const chunk = Buffer.alloc(256 * 1024)
  const started = performance.now()
  let left = BULK_BYTES
  const feed = (): void => {
    while (left > 0) {
      left -= chunk.length
      if (!socket.write(chunk)) return void socket.once('drain', feed)
    }
  }
  feed()
  await once(socket, 'data')
  const seconds = (performance.now() - started) / 1000
  socket.destroy()
  return BULK_BYTES / 2 ** 20 / seconds
}

async function connectionsPerSecond(port: number): Promise<number> {
  let made = 0
  const until = performance.now() + SECONDS * 1000
  await Promise.all(Array.from({ length: 32 }, async () => {
    while (performance.now() < until) {
      ;(await open(port)).destroy()
      made += 1
    }
  }))
  return made / SECONDS
}

const ports = { direct, bare: await relay('bare'), door: await relay('door') }
for (const port of Object.values(ports)) await medianOpenMs(port) // warm up
const ms = { direct: await medianOpenMs(ports.direct), bare: await medianOpenMs(ports.bare), door: await medianOpenMs(ports.door) }
console.log(`connect and first answer, median of ${ROUNDS}: direct ${ms.direct.toFixed(2)} ms, bare pipe ${ms.bare.toFixed(2)} ms, door ${ms.door.toFixed(2)} ms; added by the door ${(ms.door - ms.direct).toFixed(2)} ms (at most 3)`)
const bulk = { bare: Math.max(await bulkMiBs(ports.bare), await bulkMiBs(ports.bare)), door: Math.max(await bulkMiBs(ports.door), await bulkMiBs(ports.door)) }
console.log(`bulk, better of two: bare pipe ${bulk.bare.toFixed(0)} MiB/s, door ${bulk.door.toFixed(0)} MiB/s, ratio ${(bulk.door / bulk.bare).toFixed(2)} (at least 0.5)`)
const rate = { bare: await connectionsPerSecond(ports.bare), door: await connectionsPerSecond(ports.door) }
console.log(`connections, 32 at once for ${SECONDS} s: bare pipe ${rate.bare.toFixed(0)}/s, door ${rate.door.toFixed(0)}/s (with records on the disk: egress-load.ts)`)
upstream.close()
process.exit(ms.door - ms.direct <= 3 && bulk.door / bulk.bare >= 0.5 ? 0 : 1)
