/**
 * A pretend internet for one test: runs inside a network namespace of its own and says on stdout, one JSON line each, what arrived.
 * `internet.ts WEB DNS CERT KEY`; answers names with WEB, but `rebound.example` with the metadata service.
 */
import { createSocket } from 'node:dgram'
import { readFileSync } from 'node:fs'
import { createServer as createHttp } from 'node:http'
import { createServer as createHttps } from 'node:https'
import { createServer } from 'node:net'
import { serveNames } from './pretend-resolver.ts'

const [web = '', dns = '', cert = '', key = ''] = process.argv.slice(2)
const say = (what: string, detail: string): void => void process.stdout.write(`${JSON.stringify({ what, detail })}\n`)

createHttps({ cert: readFileSync(cert), key: readFileSync(key) }, (request, response) => {
  say('https', `${request.headers.host ?? ''}${request.url ?? ''}`)
  if (request.url === '/slow') return void response.write('begun\n') // held open
  response.end('over tls\n')
}).listen(443, web)
createHttp((request, response) => {
  say('http', `${request.headers.host ?? ''}${request.url ?? ''}`)
  response.end('in plain\n')
}).listen(80, web)
// Whatever else is dialled, on any address of this namespace: nothing may arrive.
for (const port of [22, 25, 5432, 8443, 9999]) createServer((socket) => { say('tcp', String(port)); socket.end('raw\n') }).listen(port, '0.0.0.0')
createServer((socket) => { say('tcp', `${socket.localAddress ?? ''}:443`); socket.end() }).listen(443, '192.0.2.10')
const other = createSocket('udp4')
other.on('message', (_, from) => say('udp', `4444 from ${from.address}`))
other.bind(4444, '0.0.0.0')

serveNames(dns, say, (type, name) => (type === 'A' ? [{ type: 'A', name, ttl: 5, data: name === 'rebound.example' ? '169.254.169.254' : web }] : []))
