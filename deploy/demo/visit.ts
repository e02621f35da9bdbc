import { request, type IncomingHttpHeaders } from 'node:http'
import { patient } from './patience.ts'

/** The hostile sample answers when it has tried everything. */
const TIMEOUT_MS = patient(180_000)
const BODY_MAX_BYTES = 4 * 1024 * 1024
const REDIRECTS_MAX = 5

export interface Page {
  readonly status: number
  readonly type: string
  readonly text: string
}

export interface Session {
  get(path: string): Promise<Page>
}

/** What a browser does with a one-time link: follow it, keep the cookie, be logged in to that one plugin. */
export async function openSession(link: string): Promise<Session> {
  const cookies = new Map<string, string>()
  let at = new URL(link)
  const { origin } = at
  for (let hops = 0; hops <= REDIRECTS_MAX; hops++) {
    const { status, headers } = await fetchOnce(at, cookies)
    for (const cookie of headers['set-cookie'] ?? []) {
      const [name = '', value = ''] = cookie.split(';')[0]?.split(/=(.*)/s) ?? []
      cookies.set(name.trim(), value.trim())
    }
    if (status >= 400) throw new Error(`the one-time link was answered with HTTP ${status}`)
    if (status < 300) return { get: async (path) => (await fetchOnce(new URL(path, origin), cookies)) }
    at = new URL(headers.location ?? '/', at)
    if (at.origin !== origin) throw new Error(`the one-time link led to another origin, ${at.origin}`)
  }
  throw new Error('the one-time link was redirected without end')
}

/** Names below localhost are this machine (RFC 6761), whatever its resolver thinks of them. */
function fetchOnce(url: URL, cookies: ReadonlyMap<string, string>): Promise<Page & { headers: IncomingHttpHeaders }> {
  const headers = {
    host: url.host,
    accept: 'text/html,application/json',
    'sec-fetch-site': 'none',
    'sec-fetch-mode': 'navigate',
    'sec-fetch-dest': 'document',
    ...(cookies.size > 0 && { cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join('; ') }),
  }
  const path = url.pathname + url.search
  const options = { host: '127.0.0.1', port: url.port || 80, path, headers, agent: false, signal: AbortSignal.timeout(TIMEOUT_MS) }
  return new Promise((done, fail) => {
    const call = request(options, (response) => {
      const chunks: Buffer[] = []
      let bytes = 0
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length
        if (bytes > BODY_MAX_BYTES) response.destroy(new Error(`${url.pathname} is larger than ${BODY_MAX_BYTES} bytes`))
        else chunks.push(chunk)
      })
      response.on('error', fail)
      response.on('end', () => done({
        status: response.statusCode ?? 0,
        type: response.headers['content-type'] ?? '',
        text: Buffer.concat(chunks).toString('utf8'),
        headers: response.headers,
      }))
    })
    call.on('error', fail)
    call.end()
  })
}
