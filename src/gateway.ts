import { Socket } from 'node:net'
import { printable, printableWithin } from './base/printable.ts'
import { CordonError, toSafeError } from './errors.ts'
import { listenOn, receiveListener } from './gateway/http-server.ts'
import { logLine } from './gateway/log.ts'
import { startPluginRun } from './gateway/plugin-run.ts'
import { Runs } from './gateway/runs.ts'
import { createFront, type Front } from './proxy/front.ts'
import { LiveRegistry } from './registry/live-registry.ts'
import { LauncherClient, type LauncherMessage } from './wire/client.ts'
import type { GatewayEvent } from './wire/events.ts'
import type { ToGateway } from './wire/requests.ts'

/**
 * Process 2, unprivileged: every hostile byte is read here. It starts with two descriptors: 3 is the framed socketpair to the
 * launcher, 4 (NODE_CHANNEL_FD) the one over which a helper sends the HTTP listening socket. It holds nothing that must be saved:
 * on any unexpected error it leaves, and the launcher starts it again.
 */
const LAUNCHER_FD = 3
const SHUTDOWN_MS = 3000

type Configure = Extract<ToGateway, { type: 'configure' }>

function main(): void {
  process.on('uncaughtException', (error) => leave(70, error))
  process.on('unhandledRejection', (error) => leave(70, error))

  let front: Front | null = null
  let configured = false
  const listener = receiveListener(process, (error) => leave(70, error))
  const registry = new LiveRegistry((message) => logLine(`registry: ${message}`))
  const client = new LauncherClient(new Socket({ fd: LAUNCHER_FD, readable: true, writable: true }), {
    message: (message) => receive(message),
    data: (stream, bytes) => runs.data(stream, bytes),
    closed: (error) => leave(error.code === 'WIRE_CLOSED' ? 0 : 70, error),
  })
  const runs = new Runs(
    (started) => startPluginRun(started, { client, registry, record }),
    (run, bytes) => client.say({ type: 'taken', run, bytes }),
  )

  function record(event: GatewayEvent): void {
    try {
      client.say({ type: 'record', event })
    } catch (error) {
      // A record that does not fit is our defect; ending every plugin for it would let a caller turn it into an outage.
      logLine(`a record was not sent: ${printable(String(error))}`)
    }
  }

  async function serve(configure: Configure): Promise<void> {
    let port = configure.listen.port
    front = createFront({
      registry,
      adminTokenSha256: configure.adminTokenSha256,
      port: () => port,
      act: (act, plugin, who) => client.ask({ type: 'act', act, plugin, who: printableWithin(who, 200) }),
      record,
      now: Date.now,
      version: configure.version,
      forwardedUser: configure.forwardedUser,
    })
    await front.app.ready()
    port = await listenOn(front.server, await listener)
    process.send?.({ taken: true }) // the helper holds the socket until then
    client.say({ type: 'serving', port })
  }

  function receive(message: LauncherMessage): void {
    switch (message.type) {
      case 'configure':
        if (configured) throw new CordonError('WIRE_MALFORMED', 'configured twice')
        configured = true
        return void serve(message).catch((error: unknown) => leave(70, error))
      case 'runStarted':
        return runs.started(message)
      case 'stdoutEnd':
        return runs.stdoutEnd(message.run)
      case 'runEnded':
        return runs.ended(message.run)
      case 'plugins':
        return registry.update(message.plugins)
      case 'mintLink':
        return mintLink(message.id, message.plugin)
      case 'shutdown':
        return void shutDown()
      default:
        return message satisfies never
    }
  }

  function mintLink(id: number, plugin: Extract<LauncherMessage, { type: 'mintLink' }>['plugin']): void {
    try {
      if (front === null) throw new CordonError('WIRE_CLOSED', 'the gateway does not serve yet')
      client.answer(id, { ok: { url: front.mintLink(plugin) } })
    } catch (error) {
      client.answer(id, { error: toSafeError(error) })
    }
  }

  /** The launcher has stopped the plugins by now; requests that are being answered get a moment. */
  async function shutDown(): Promise<void> {
    setTimeout(() => process.exit(0), SHUTDOWN_MS)
    await front?.close().catch((error: unknown) => logLine(`closing: ${printable(String(error))}`))
    process.exit(0)
  }
}

function leave(status: number, error: unknown): never {
  const text = error instanceof CordonError ? `${error.code} ${error.message}` : error instanceof Error ? (error.stack ?? error.message) : String(error)
  logLine(`cordon-gateway: ${printable(text, 2000)}`)
  process.exit(status)
}

main()
