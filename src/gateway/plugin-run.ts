import * as z from 'zod'
import type { HostPermission } from '../base/host-permissions.ts'
import { printable, printableWithin } from '../base/printable.ts'
import { CHANNEL_LIMITS, openChannel } from '../channel/connection.ts'
import { NO_ENTITIES } from '../channel/provider.ts'
import { CordonError, toSafeError } from '../errors.ts'
import type { Manifest } from '../handshake/manifest.ts'
import { SESSION_LIMITS, startSession, type OpenChannel, type Session, type TakenSocket } from '../handshake/session.ts'
import { openSocketDispatcher } from '../proxy/dispatcher.ts'
import { Client } from '../proxy/undici.ts'
import { HEALTH_LIMITS, watchHealth } from '../registry/health.ts'
import type { LiveRegistry } from '../registry/live-registry.ts'
import type { LauncherClient } from '../wire/client.ts'
import type { GatewayEvent } from '../wire/events.ts'
import type { PluginState, ToGateway } from '../wire/requests.ts'
import { budgetedLog } from './log.ts'

export type RunStarted = Extract<ToGateway, { type: 'runStarted' }>

export interface PluginRunDeps {
  readonly client: LauncherClient
  readonly registry: LiveRegistry
  record(event: GatewayEvent): void
}

const PROBE_CONNECT_MS = 2000

/** Decimal, because 64 bits do not fit a JSON number. */
const TAKEN = z.strictObject({ dev: z.string().regex(/^[0-9]{1,20}$/), ino: z.string().regex(/^[0-9]{1,20}$/) })

/** One run of a plugin on the gateway's side: the session's steps, tied to the launcher, the registry and the records. */
export function startPluginRun(started: RunStarted, { client, registry, record }: PluginRunDeps): Session {
  const { run, plugin, secret } = started
  const warn = budgetedLog(`plugin ${plugin} (${run})`, Date.now)
  const is = (state: PluginState): boolean => {
    const status = registry.get(plugin)?.status
    return status !== undefined && status.run === run && status.state === state
  }

  const session = startSession(started, {
    limits: SESSION_LIMITS,
    async releaseLaunchConfig() {
      await client.ask({ type: 'releaseLaunchConfig', run })
    },
    async openSocket() {
      const answer = await client.ask({ type: 'takeSocket', run }).catch((cause: unknown) => {
        throw new CordonError('HANDSHAKE_SOCKET', `the socket of the plugin was not taken over: ${toSafeError(cause).message}`, { cause })
      })
      const taken = TAKEN.safeParse(answer)
      if (!taken.success) throw new CordonError('WIRE_MALFORMED', 'the launcher answered `takeSocket` with something else than device and inode')
      const socket = openSocketDispatcher(started.socketPath, { ...taken.data, uid: started.uid })
      const probes = new Client('http://localhost', { connect: { socketPath: socket.fdPath, timeout: PROBE_CONNECT_MS } })
      const close = (): void => {
        // First the connections that go by the descriptor's number, then the number itself.
        void probes.destroy().then(() => socket.close()).catch((error: unknown) => warn(`closing its socket: ${printable(String(error))}`))
      }
      return { dispatcher: socket.dispatcher, probes, fdPath: socket.fdPath, close }
    },
    openChannel(socket: TakenSocket, manifest: Manifest, permissions: readonly HostPermission[]): Promise<OpenChannel> {
      return openChannel({
        fdPath: socket.fdPath,
        secret,
        context: { plugin, manifest, permissions: () => permissions, provider: NO_ENTITIES },
        limits: CHANNEL_LIMITS,
        record: (call) => record({ type: 'channel.call', plugin, run, ...call }),
        warn,
      })
    },
    watchHealth: ({ probes }, manifest, signal) =>
      watchHealth({ dispatcher: probes, secret, path: manifest.health_path, standsStill: () => is('paused') }, HEALTH_LIMITS, signal, (healthy, detail) =>
        record({ type: 'health.changed', plugin, run, healthy, detail: printableWithin(detail, 300) })),
    onAccepted(manifest, generation, permissions) {
      const requested = [...(manifest.host_permissions ?? [])]
      record({ type: 'plugin.handshake', plugin, run, generation, name: manifest.name, version: manifest.version, requested, granted: [...permissions] })
    },
    onRunning({ generation, manifest, publicPaths, dispatcher, openapi }) {
      registry.connect({ plugin, run, secret, manifest, publicPaths, dispatcher, openapi })
      client.say({ type: 'running', run, generation, version: manifest.version })
    },
    onFailed({ code, message }) {
      registry.disconnect(run)
      record({ type: 'plugin.refused', plugin, run, code, message: message.slice(0, 2000) })
      client.say({ type: 'failed', run, code, message: message.slice(0, 2000) })
    },
    onChannelClosed: (reason) => record({ type: 'channel.closed', plugin, run, reason: printableWithin(reason, 300) }),
    warn,
    isStopping: () => is('stopping'),
  })

  return {
    ...session,
    end() {
      registry.disconnect(run)
      session.end()
    },
  }
}
