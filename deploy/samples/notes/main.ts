// Sample plugin, generation 2, over Node's built-ins alone. Its life: hello, launch config, socket, ready, channel, requests, signal.
import { chmodSync, mkdirSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { Channel } from './channel.ts'
import { parseArguments, readLaunchConfig, say } from './launch.ts'
import { secretMatches } from './identity.ts'
import { answer, problem } from './routes.ts'
import { openStore } from './store.ts'
import { acceptWebSocket } from './websocket.ts'

/** The protocol lets a plugin wait this long from `ready`; without a channel it has no reason to live. */
const CHANNEL_WAIT_MS = 30_000

const MANIFEST = {
  name: 'notes',
  version: '1.0.0',
  display_name: 'Notes',
  description: 'Short notes, kept in a SQLite file in its own data directory',
  nav: [{ label: 'Notes', icon: 'notebook-pen', section: 'platform', path: '/notes', order: 40 }],
  ui: null,
  requires_db: false,
  requires_host_data_access: false,
  health_path: '/health',
  public_paths: [],
  capabilities: [],
  host_permissions: ['projects_read'],
  events: [],
}

const { socketPath, dataDir } = parseArguments(process.argv.slice(2))
say({ type: 'hello', protocol_version: 2, manifest: MANIFEST })
const { secret } = await readLaunchConfig(process.stdin)

mkdirSync(dataDir, { recursive: true })
const store = openStore(join(dataDir, 'notes.sqlite'))
let channel: Channel | null = null

const server = createServer((request, response) => {
  const { pathname } = new URL(request.url ?? '/', 'http://localhost')
  if (pathname === MANIFEST.health_path) {
    response.setHeader('content-type', 'application/json').end(JSON.stringify({ status: 'ok', plugin: MANIFEST.name }))
    return
  }
  if (!secretMatches(request.headers['x-temps-auth-signature'], secret)) return problem(response, 401, 'Unauthorized', 'the host secret is missing or wrong')
  if (channel === null) return problem(response, 503, 'Plugin Initializing', 'the host has not opened the channel yet')
  answer(request, response, pathname, { store, channel }).catch((error: unknown) => {
    console.error('request failed:', error)
    if (!response.headersSent) problem(response, 500, 'Internal Error', 'see the log of the plugin')
    else response.destroy()
  })
})

server.on('upgrade', (request, socket) => {
  socket.on('error', () => socket.destroy()) // the host went away; the close handler says so
  const refuse = (status: string) => socket.end(`HTTP/1.1 ${status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n`)
  if (request.url !== '/_temps/channel') return refuse('404 Not Found')
  if (!secretMatches(request.headers['x-temps-auth-signature'], secret)) return refuse('401 Unauthorized')
  if (channel !== null) return refuse('409 Conflict')
  const connection = acceptWebSocket(request, socket)
  if (connection === null) return refuse('400 Bad Request')
  clearTimeout(channelTimer)
  channel = new Channel(connection)
  channel.call('get_host_capabilities', {}).then(
    (capabilities) => console.error('channel open; the host grants', JSON.stringify(capabilities)),
    (error: unknown) => console.error('channel open, but the host did not say what it grants:', error),
  )
})

rmSync(socketPath, { force: true })
server.listen(socketPath, () => {
  chmodSync(socketPath, 0o600) // as the strict SDK does: reaching it is then the host's problem
  say({ type: 'ready', ready: true, has_ui: true, protocol_version: 2 })
})
const channelTimer = setTimeout(() => {
  console.error(`no channel within ${CHANNEL_WAIT_MS / 1000} s of ready`)
  process.exit(1)
}, CHANNEL_WAIT_MS)

function stop(): void {
  server.close()
  server.closeAllConnections()
  store.close()
  process.exit(0)
}
process.on('SIGINT', stop)
process.on('SIGTERM', stop)
