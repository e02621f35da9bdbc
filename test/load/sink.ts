/**
 * The other side of the door under load: runs inside a network namespace of its own. `sink.ts ADDRESS DNS PORT...`; says `ready` once it
 * listens. It answers every name with ADDRESS, and what a connection gets is said by its first byte: `e` its own bytes back, `f` bytes
 * without end, `h` nothing, not even an end, `x` a reset, `c` how many other connections are open.
 */
import { createSocket } from 'node:dgram'
import { createServer, type Socket } from 'node:net'
import { decode, encode, type Answer } from 'dns-packet'

const [address = '', dns = '', ...ports] = process.argv.slice(2)
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

for (const port of ports) createServer({ allowHalfOpen: true, noDelay: true }, serve).listen({ port: Number(port), host: address, backlog: 511 })
const resolver = createSocket('udp4')
resolver.on('message', (message, from) => {
  const { id = 0, questions = [] } = decode(message)
  const [question] = questions
  const answers: Answer[] = question?.type === 'A' ? [{ type: 'A', name: question.name, ttl: 5, data: address }] : []
  resolver.send(encode({ type: 'response', id, questions, answers }), from.port, from.address)
})
resolver.bind(53, dns, () => console.log('ready'))
