import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { WebSocketServer, type WebSocket } from 'ws'
import type { PluginName } from '../../src/base/ids.ts'
import type { HostPermission } from '../../src/base/host-permissions.ts'
import { CHANNEL_LIMITS, openChannel, type Channel, type ChannelLimits } from '../../src/channel/connection.ts'
import { NO_ENTITIES, type HostDataProvider } from '../../src/channel/provider.ts'
import { effectivePermissions } from '../../src/handshake/accept.ts'
import { parseManifest } from '../../src/handshake/parse-manifest.ts'

/** The plugin's side of a channel: a real WebSocket server on a Unix socket in a directory of its own. */
export interface Peer {
  readonly path: string
  readonly http: Server
  /** Headers of the upgrade request. */
  readonly upgrade: Promise<IncomingMessage>
  readonly socket: Promise<WebSocket>
  /** The next text frame from the host, parsed. */
  next(): Promise<Record<string, unknown>>
  /** All text frames so far. */
  readonly texts: string[]
  close(): Promise<void>
}

export async function startPeer(onUpgrade?: (socket: Duplex) => void): Promise<Peer> {
  const dir = await mkdtemp(join(tmpdir(), 'cordon-channel-'))
  const path = join(dir, 'plugin.sock')
  const http = createServer((_, response) => void response.writeHead(404).end())
  const wss = new WebSocketServer({ noServer: true })
  const texts: string[] = []
  let read = 0
  let wake = (): void => {}
  const upgrade = new Promise<IncomingMessage>((resolve) => http.on('upgrade', (request) => resolve(request)))
  const socket = new Promise<WebSocket>((resolve) => {
    http.on('upgrade', (request, raw, head) => {
      if (onUpgrade !== undefined) return onUpgrade(raw)
      wss.handleUpgrade(request, raw, head, (ws) => {
        ws.on('error', () => {})
        ws.on('message', (data, isBinary) => {
          if (!isBinary) texts.push(String(data))
          wake()
        })
        resolve(ws)
      })
    })
  })
  const raws = new Set<Duplex>()
  http.on('connection', (raw) => raws.add(raw))
  await new Promise<void>((resolve) => http.listen(path, resolve))
  return {
    path,
    http,
    upgrade,
    socket,
    texts,
    async next() {
      while (texts.length <= read) await new Promise<void>((resolve) => (wake = resolve))
      read += 1
      return JSON.parse(texts[read - 1] ?? '') as Record<string, unknown>
    },
    async close() {
      for (const raw of raws) raw.destroy() // upgraded ones too, which the server no longer counts
      await new Promise((resolve) => http.close(resolve))
      await rm(dir, { recursive: true, force: true })
    },
  }
}

export interface HostSide {
  readonly channel: Channel
  readonly calls: { method: string; outcome: string; ms: number }[]
  readonly warnings: string[]
}

export interface HostOptions {
  readonly manifest?: object
  readonly grants?: readonly HostPermission[]
  readonly legacy?: 'deny' | 'grant'
  readonly provider?: Partial<HostDataProvider>
  readonly limits?: Partial<ChannelLimits>
}

export async function connectHost(path: string, options: HostOptions = {}): Promise<HostSide> {
  const manifest = parseManifest({ name: 'sample', version: '1', ...options.manifest }, { requiresDbWhenAbsent: false })
  const calls: HostSide['calls'] = []
  const warnings: string[] = []
  const channel = await openChannel({
    fdPath: path,
    secret: 's3cret',
    context: {
      plugin: 'sample' as PluginName,
      manifest,
      permissions: () => effectivePermissions(manifest, options.grants ?? [], options.legacy ?? 'deny'),
      provider: { ...NO_ENTITIES, ...options.provider },
    },
    limits: { ...CHANNEL_LIMITS, ...options.limits },
    record: (call) => void calls.push(call),
    warn: (message) => void warnings.push(message),
  })
  return { channel, calls, warnings }
}
