import { readFile } from 'node:fs/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { join } from 'node:path'
import { CallError, type Channel } from './channel.ts'
import { caller } from './identity.ts'
import type { Store } from './store.ts'

const NOTE_MAX_CHARS = 2000
const BODY_MAX_BYTES = 64 * 1024
/** The page is these three files; anything else below /ui/ does not exist, so no path of a caller reaches the disk. */
const PAGE: Readonly<Record<string, { file: string; type: string }>> = {
  '/ui/': { file: 'index.html', type: 'text/html; charset=utf-8' },
  '/ui/notes.css': { file: 'notes.css', type: 'text/css; charset=utf-8' },
  '/ui/notes.js': { file: 'notes.js', type: 'text/javascript; charset=utf-8' },
}

export async function answer(request: IncomingMessage, response: ServerResponse, path: string, own: { store: Store; channel: Channel }): Promise<void> {
  const who = caller(request.headers)
  if (who === 'invalid') return problem(response, 401, 'Unauthorized', 'id, email and role of the caller come together or not at all')
  const method = request.method ?? 'GET'

  if (path === '/' || path === '/ui') return redirect(response, '/ui/')
  const page = PAGE[path]
  if (page !== undefined && method === 'GET') {
    const bytes = await readFile(join(import.meta.dirname, 'ui', page.file))
    response.writeHead(200, { 'content-type': page.type, 'cache-control': 'no-cache' }).end(bytes)
    return
  }

  if (path === '/notes' && method === 'GET') return json(response, 200, own.store.list())
  if (path === '/notes' && method === 'POST') {
    const text = noteText(await readBody(request))
    if (text === null) return problem(response, 400, 'Bad Request', `expected {"text": "…"} of 1 to ${NOTE_MAX_CHARS} characters`)
    return json(response, 201, own.store.add(text, who?.email ?? null))
  }
  const id = /^\/notes\/(\d{1,15})$/.exec(path)?.[1]
  if (id !== undefined) return answerNote(request, response, Number(id), own.store)

  if (path === '/host' && method === 'GET') {
    const [capabilities, projects] = await Promise.all([ask(own.channel, 'get_host_capabilities'), ask(own.channel, 'list_projects')])
    return json(response, 200, { you: who, capabilities, projects })
  }
  problem(response, 404, 'Not Found', 'no such route')
}

async function answerNote(request: IncomingMessage, response: ServerResponse, id: number, store: Store): Promise<void> {
  if (request.method === 'DELETE') {
    if (store.remove(id)) return void response.writeHead(204).end()
  } else if (request.method === 'PUT') {
    const text = noteText(await readBody(request))
    if (text === null) return problem(response, 400, 'Bad Request', `expected {"text": "…"} of 1 to ${NOTE_MAX_CHARS} characters`)
    const note = store.edit(id, text)
    if (note !== null) return json(response, 200, note)
  } else {
    const note = store.get(id)
    if (note !== null) return json(response, 200, note)
  }
  problem(response, 404, 'Not Found', `no note ${id}`)
}

/** A refusal of the host is an answer worth showing, not a failure of this plugin. */
async function ask(channel: Channel, method: string): Promise<{ result: unknown } | { refused: string }> {
  try {
    return { result: await channel.call(method, {}) }
  } catch (error) {
    if (error instanceof CallError) return { refused: error.code }
    throw error
  }
}

function noteText(body: string | null): string | null {
  if (body === null) return null
  try {
    const text: unknown = (JSON.parse(body) as { text?: unknown } | null)?.text
    return typeof text === 'string' && text.trim() !== '' && text.length <= NOTE_MAX_CHARS ? text.trim() : null
  } catch {
    return null // not JSON: the caller gets the 400 that says what is expected
  }
}

async function readBody(request: IncomingMessage): Promise<string | null> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > BODY_MAX_BYTES) return null
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

function json(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' }).end(JSON.stringify(value))
}

function redirect(response: ServerResponse, location: string): void {
  response.writeHead(302, { location }).end()
}

export function problem(response: ServerResponse, status: number, title: string, detail: string): void {
  response.writeHead(status, { 'content-type': 'application/problem+json' }).end(JSON.stringify({ title, detail }))
}
