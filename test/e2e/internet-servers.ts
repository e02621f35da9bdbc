/**
 * What answers in the pretend internet of internet-kit.ts, on every address: `internet-servers.ts ZONE CERT KEY PORT…`.
 * ZONE is JSON of names and their answers. Port 443 is HTTPS, each PORT answers any bytes like a web server, and port 53 names.
 */
import { createSocket } from 'node:dgram'
import { readFileSync } from 'node:fs'
import { createServer as createHttps } from 'node:https'
import { createServer } from 'node:net'
import { decode, encode, type Answer } from 'dns-packet'
import { RESOLVER, type Zone } from './internet-kit.ts'

const [zoneText = '{}', cert = '', key = '', ...ports] = process.argv.slice(2)
const zone = JSON.parse(zoneText) as Zone
const TRUNCATED = 1 << 9
const OK = 'HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n'

createHttps({ cert: readFileSync(cert), key: readFileSync(key) }, (request, response) => {
  if (request.url === '/slow') return void response.write('begun\n') // held open
  response.end('ok\n')
}).on('tlsClientError', () => {}).on('error', fail).listen(443)
for (const port of ports) createServer((socket) => socket.on('data', () => socket.write(OK)).on('error', () => {})).on('error', fail).listen(Number(port))

const asked = new Map<string, number>()
/** @returns null for hostile bytes of a probe outside the walls: that they arrived is what the sniffer says */
function answer(message: Buffer, whole: boolean): Buffer | null {
  try {
    const query = decode(message)
    const [question] = query.questions ?? []
    const name = question?.name.toLowerCase() ?? ''
    const times = asked.get(`${question?.type ?? ''} ${name}`) ?? 0
    asked.set(`${question?.type ?? ''} ${name}`, times + 1)
    const entry = zone[name]
    const cut = entry?.truncated === true && !whole
    const now = times > 0 && entry?.then !== undefined ? entry.then : entry
    const owner = now?.CNAME ?? name
    const answers: Answer[] = now === undefined || cut ? [] : [
      ...(now.CNAME === undefined ? [] : [{ type: 'CNAME', name, ttl: 0, data: now.CNAME } as const]),
      ...(question?.type === 'A' ? (now.A ?? []).map((data) => ({ type: 'A', name: owner, ttl: 0, data } as const)) : []),
      ...(question?.type === 'AAAA' ? (now.AAAA ?? []).map((data) => ({ type: 'AAAA', name: owner, ttl: 0, data } as const)) : []),
    ]
    return encode({ type: 'response', id: query.id ?? 0, flags: (now === undefined ? 3 : 0) | (cut ? TRUNCATED : 0), questions: query.questions ?? [], answers })
  } catch {
    return null
  }
}

const resolver = createSocket('udp4')
resolver.on('message', (message, from) => {
  const reply = answer(message, false)
  if (reply !== null) resolver.send(reply, from.port, from.address)
})
createServer((socket) => {
  let held = Buffer.alloc(0)
  socket.on('error', () => {}).on('data', (more: Buffer) => {
    held = Buffer.concat([held, more])
    while (held.length >= 2 && held.length >= 2 + held.readUInt16BE(0)) {
      const reply = answer(held.subarray(2, 2 + held.readUInt16BE(0)), true)
      held = held.subarray(2 + held.readUInt16BE(0))
      if (reply === null) return void socket.destroy()
      const length = Buffer.alloc(2)
      length.writeUInt16BE(reply.length)
      socket.write(Buffer.concat([length, reply]))
    }
  })
}).on('error', fail).listen(53, RESOLVER, () => resolver.bind(53, RESOLVER, () => process.stdout.write('"ready"\n')))

function fail(error: Error): void {
  process.stderr.write(`${error.message}\n`)
  process.exit(1)
}
