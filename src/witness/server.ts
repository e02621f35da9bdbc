import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { printable } from '../base/printable.ts'
import type { VerifierKey } from '../audit/verify/note.ts'
import { decide } from './add-checkpoint.ts'
import type { WitnessState } from './state.ts'

/** A checkpoint of 16 KiB and a proof of 63 lines fit twice. */
const MAX_BODY_BYTES = 64 * 1024
const MAX_CONNECTIONS = 64
const REQUEST_MS = 10_000
const KEEP_ALIVE_MS = 70_000

/**
 * c2sp.org/tlog-witness over HTTP: `POST /add-checkpoint`, and `GET /` for people: the witness's key and the newest
 * cosigned checkpoints, a text that `cordon audit verify --witness FILE` takes.
 */
export function createWitness(state: WitnessState, logs: ReadonlyMap<string, readonly VerifierKey[]>, log: (line: string) => void, now: () => number = Date.now): Server {
  const server = createServer({ maxHeaderSize: 8 * 1024, headersTimeout: REQUEST_MS, requestTimeout: REQUEST_MS, keepAliveTimeout: KEEP_ALIVE_MS, connectionsCheckingInterval: 1000 }, (request, response) => {
    request.on('error', () => {}) // a client that goes away; the response ends with it
    if (request.method === 'GET' && request.url === '/') return answer(response, 200, `${state.verifierKey}\n\n${state.notes().join('\n')}`)
    if (request.url !== '/add-checkpoint') return refuse(request, response, 404, 'there is only POST /add-checkpoint')
    if (request.method !== 'POST') return refuse(request, response, 405, 'it must be a POST')
    readBody(request, (body) => {
      if (body === null) return refuse(request, response, 413, `at most ${MAX_BODY_BYTES} bytes`)
      addCheckpoint(body, response)
    })
  })
  server.maxConnections = MAX_CONNECTIONS
  server.on('clientError', (_error, socket) => void socket.destroy())
  return server

  // From the comparison to the durable state nothing else runs: both are synchronous, so no two requests can interleave.
  function addCheckpoint(body: string, response: ServerResponse): void {
    try {
      const decision = decide(body, logs, (origin) => state.seen(origin))
      if (decision.kind === 'cosign') return answer(response, 200, state.cosign(decision.checkpoint, now()))
      if (decision.alarm !== null) {
        const { origin, size } = decision.alarm
        log(`ALARM ${printable(origin, 100)}: the log signed a checkpoint for ${size} records that does not follow the one for ${state.seen(origin)?.size ?? 0} seen before: ${decision.say}`)
        state.keepRefused(decision.alarm)
      }
      if (decision.size !== null) answer(response, decision.status, `${decision.size}\n`, 'text/x.tlog.size')
      else answer(response, decision.status, `${decision.say}\n`)
    } catch (error) {
      log(`error: ${printable(error instanceof Error ? error.message : String(error), 300)}`)
      answer(response, 500, 'the witness could not write its state\n')
    }
  }
}

function readBody(request: IncomingMessage, done: (body: string | null) => void): void {
  const chunks: Buffer[] = []
  let size = 0
  request.on('data', (chunk: Buffer) => {
    size += chunk.length
    if (size <= MAX_BODY_BYTES) chunks.push(chunk)
    else {
      request.removeAllListeners('data')
      request.removeAllListeners('end')
      done(null)
    }
  })
  request.on('end', () => done(Buffer.concat(chunks).toString('utf8')))
}

function refuse(request: IncomingMessage, response: ServerResponse, status: number, say: string): void {
  response.setHeader('connection', 'close') // its body is not read
  answer(response, status, `${say}\n`)
  request.resume()
  response.on('finish', () => request.destroy())
}

function answer(response: ServerResponse, status: number, body: string, type = 'text/plain; charset=utf-8'): void {
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body), 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' }).end(body)
}
