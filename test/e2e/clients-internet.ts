/**
 * The pretend internet of egress-clients.test.ts; runs inside a network namespace of its own and says on stdout, one JSON line each, what arrived.
 * `clients-internet.ts DIR SITE SITE6 OTHER DNS`: names of `other.example` have the address OTHER, names that begin with `six.` have SITE6 and no IPv4,
 * all others SITE. DIR has cert.pem, key.pem and what is served. A line on stdin is a URL to which whoever asks for an archive is sent; an empty one ends that.
 */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createServer as createHttp } from 'node:http'
import { createSecureServer } from 'node:http2'
import type { Socket } from 'node:net'
import type { Readable, Writable } from 'node:stream'
import { createInterface } from 'node:readline'
import { serveNames } from './pretend-resolver.ts'

/** What requests and answers of HTTP/1.1 and HTTP/2 have in common. */
interface Asked extends Readable { readonly method?: string | undefined; readonly url?: string | undefined; readonly headers: Readonly<Record<string, string | string[] | undefined>> }
interface Reply extends Writable { writeHead(status: number, headers: Record<string, string>): unknown }

const [dir = '', site = '', site6 = '', other = '', dns = ''] = process.argv.slice(2)
const say = (what: string, detail: string): void => void process.stdout.write(`${JSON.stringify({ what, detail })}\n`)
let archiveAt = ''

createInterface({ input: process.stdin }).on('line', (line) => {
  archiveAt = line
  say('archives', line)
})

function answer(scheme: string, request: Asked, reply: Reply): void {
  const host = String(request.headers[':authority'] ?? request.headers.host ?? '')
  const path = (request.url ?? '').split('?')[0] ?? ''
  say(scheme, `${host}${path}`)
  const send = (type: string, body: string | Buffer): void => {
    reply.writeHead(200, { 'content-type': type })
    reply.end(body)
  }
  if (path.startsWith('/repo.git/')) return git(request, reply, path)
  if (path.endsWith('.zip') && archiveAt !== '' && !archiveAt.includes(`//${host}/`)) {
    reply.writeHead(302, { location: archiveAt })
    return void reply.end()
  }
  if (path.endsWith('.zip')) return send('application/zip', readFileSync(`${dir}/pages.zip`))
  if (path === '/page') return send('text/html', '<!doctype html><p id="p">as it came</p><script src="/page.js"></script>')
  if (path === '/page.js') return send('text/javascript', 'document.getElementById("p").textContent = "the script of " + location.host + " ran"')
  if (path === '/data.json') return send('application/json', JSON.stringify({ from: host }))
  send('text/plain', `this is ${host}\n`)
}

/** The real git behind its own CGI program (git-http-backend(1)). */
function git(request: Asked, reply: Reply, path: string): void {
  const backend = spawn('/usr/bin/git', ['http-backend'], {
    env: {
      PATH: '/usr/bin:/bin', HOME: dir, GIT_PROJECT_ROOT: dir, GIT_HTTP_EXPORT_ALL: '1', REQUEST_METHOD: request.method ?? '', PATH_INFO: path,
      QUERY_STRING: (request.url ?? '').split('?')[1] ?? '', CONTENT_TYPE: String(request.headers['content-type'] ?? ''),
      HTTP_CONTENT_ENCODING: String(request.headers['content-encoding'] ?? ''), GIT_PROTOCOL: String(request.headers['git-protocol'] ?? ''),
    },
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  backend.stdin.on('error', () => {}) // it need not read a body
  request.pipe(backend.stdin)
  const parts: Buffer[] = []
  backend.stdout.on('data', (part: Buffer) => parts.push(part)).on('end', () => {
    const whole = Buffer.concat(parts)
    const cut = whole.indexOf('\r\n\r\n')
    const headers = Object.fromEntries(whole.subarray(0, cut).toString().split('\r\n').map((line) => line.split(': ') as [string, string]))
    const { Status: status = '200', ...others } = headers
    reply.writeHead(Number.parseInt(status), others)
    reply.end(whole.subarray(cut + 4))
  })
}

/** Also what never becomes a request. */
const connection = (socket: Socket): void => say('tcp', `${socket.localAddress?.replace('::ffff:', '') ?? ''} ${socket.localPort ?? 0}`)
createSecureServer({ cert: readFileSync(`${dir}/cert.pem`), key: readFileSync(`${dir}/key.pem`), allowHTTP1: true }, (request, reply) => answer('https', request, reply))
  .on('connection', connection).on('sessionError', () => {}).listen(443, '::')
createHttp((request, reply) => answer('http', request, reply)).on('connection', connection).listen(80, '::')

serveNames(dns, say, (type, name) => {
  const six = /^six\./i.test(name)
  if (type === 'A' && !six) return [{ type: 'A', name, ttl: 5, data: /(^|\.)other\.example$/i.test(name) ? other : site }]
  return type === 'AAAA' && six ? [{ type: 'AAAA', name, ttl: 5, data: site6 }] : []
})
