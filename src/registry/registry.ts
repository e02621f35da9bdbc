import type { Dispatcher } from 'undici'
import type { PluginName, RunId } from '../base/ids.ts'
import type { Manifest } from '../handshake/manifest.ts'
import type { PluginStatus } from '../wire/requests.ts'

/** A plugin whose socket was taken over: what the proxy and the channel need to reach it. */
export interface Endpoint {
  readonly plugin: PluginName
  readonly run: RunId
  /** The secret header of the protocol; never logged, never sent to a caller. */
  readonly secret: string
  readonly manifest: Manifest
  /** Policy's public paths that the manifest declares too. */
  readonly publicPaths: readonly string[]
  /** Pooled connections to its Unix socket, through a descriptor that was checked (owner, type, not a link). */
  readonly dispatcher: Dispatcher
  /** Its OpenAPI document from `ready`, at most 2 MiB of hostile JSON; null when it sent none. */
  readonly openapi: unknown
}

export interface PluginView {
  readonly status: PluginStatus
  /** null unless the state is `running`. */
  readonly endpoint: Endpoint | null
}

/** The one place in the gateway that knows what runs. */
export interface Registry {
  get(name: PluginName): PluginView | null
  list(): readonly PluginView[]
}
