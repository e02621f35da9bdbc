/**
 * The other side of the door under load: runs inside a network namespace of its own. `sink.ts ADDRESS PORT,... [DNS
 * NAME=ADDRESS...]`; says `ready` once it listens. At DNS it answers those names with their addresses. What a connection gets is said by its first byte: `e` its own bytes back, `f` bytes
 * without end, `h` nothing, not even an end, `x` a reset, `c` how many other connections are open.
 */
import { createSocket } from 'node:dgram'
import { createServer, type Socket } from 'node:net'
import { decode, encode, type Answer } from 'dns-packet'

const [address = '', ports = '', dns, ...names] = process.argv.slice(2)
const known = new Map(names.map((one) => one.split('=') as [string, string]))
const CHUNK = Buffer.alloc(64 * 1024)
let open = 0

function flood(socket: Socket): void {
  while (!socket.destroyed && socket.write(CHUNK)) { /* until it pushes back */ }
  socket.once('drain', () => flood(socket))
}

function serve(socket: Socket): void {
  open += 1
  socket.on('close', () => { open -= 1 })
  socket.on('error', () => {})
  socket.once('data', (first) => {
    switch (String.fromCharCode(first[0] ?? 0)) {
      case 'e':
        socket.write(first)
        socket.on('data', (more) => socket.write(more))
        return void socket.on('end', () => socket.end())
      case 'f': return flood(socket)
      case 'x': return void socket.resetAndDestroy()
      case 'c': return void socket.end(`${open - 1}\n`)
      default: // a peer that neither answers nor ends
    }
  })
}

for (const port of ports.split(',')) createServer({ allowHalfOpen: true, noDelay: true }, serve).listen({ port: Number(port), host: address, backlog: 511 })
if (dns === undefined) {
  console.log('ready')
} else {
  const resolver = createSocket('udp4')
  resolver.on('message', (message, from) => {
    const { id = 0, questions = [] } = decode(message)
    const [question] = questions
    const data = known.get(question?.name ?? '')
    const answers: Answer[] = question?.type === 'A' && data !== undefined ? [{ type: 'A', name: question.name, ttl: 5, data }] : []
    resolver.send(encode({ type: 'response', id, questions, answers }), from.port, from.address)
  })
  resolver.bind(53, dns, () => console.log('ready'))
}
