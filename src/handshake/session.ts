import { setTimeout as sleep } from 'node:timers/promises'
import type { Dispatcher } from 'undici'
import type { HostPermission } from '../base/host-permissions.ts'
import type { PluginName, RunId } from '../base/ids.ts'
import { printable } from '../base/printable.ts'
import { CordonError, toSafeError, type ErrorCode, type SafeError } from '../errors.ts'
import { acceptManifest, effectivePermissions, sharedPublicPaths } from './accept.ts'
import { LineReader } from './line-reader.ts'
import type { Manifest } from './manifest.ts'
import { parseFirstLine, parseReadyLine, type ArgumentStyle, type Generation } from './parse.ts'
import { waitUntilServing, type ProbeLimits } from './readiness.ts'

/** What the launcher says about a run when it starts it. */
export interface StartedRun {
  readonly run: RunId
  readonly plugin: PluginName
  readonly style: ArgumentStyle
  readonly secret: string
  readonly socketPath: string
  readonly uid: number
  readonly grants: readonly HostPermission[]
  readonly legacyGrants: 'deny' | 'grant'
  readonly publicPaths: readonly string[]
}

/** The plugin's socket after launcher and gateway agreed on what it is. */
export interface TakenSocket {
  readonly dispatcher: Dispatcher
  /** A connection that callers cannot use up: a plugin with many open streams must not look unhealthy. */
  readonly probes: Dispatcher
  /** A path of our own that names the checked descriptor, never the plugin's directory. */
  readonly fdPath: string
  /** Never throws; connections are cut before the descriptor goes. */
  close(): void
}

export interface OpenChannel {
  /** Resolves with the reason, printable, when the connection has ended for whatever cause. */
  readonly closed: Promise<string>
  close(): void
}

/** A run that answers requests. */
export interface RunningPlugin {
  readonly generation: Generation
  readonly manifest: Manifest
  readonly permissions: readonly HostPermission[]
  readonly publicPaths: readonly string[]
  readonly dispatcher: Dispatcher
  readonly openapi: unknown
}

export interface SessionLimits {
  readonly helloMs: number
  readonly readyMs: number
  readonly probe: ProbeLimits
  /** A plugin that ends loses its stdout, socket and channel first; its exit says more, so wait this long for it. */
  readonly exitGraceMs: number
}

/** Section 4: 30 s per line; section 13: 10 s of probing, 40 s where no channel shortens the SDK's own wait of 30 s. */
export const SESSION_LIMITS: SessionLimits = {
  helloMs: 30_000,
  readyMs: 30_000,
  probe: { everyMs: 100, totalMs: 10_000, totalWithoutChannelMs: 40_000, oneMs: 2000, graceMs: 500 },
  exitGraceMs: 1000,
}

export interface SessionDeps {
  readonly limits: SessionLimits
  /** Ask the launcher to write the launch config to the plugin's stdin. */
  releaseLaunchConfig(): Promise<void>
  /** Ask the launcher to take the socket over, then open it ourselves and compare. */
  openSocket(): Promise<TakenSocket>
  openChannel(socket: TakenSocket, manifest: Manifest, permissions: readonly HostPermission[]): Promise<OpenChannel>
  /** Polls the health path from now on; resolves with the reason when the plugin is given up, rejects when the signal ends it. */
  watchHealth(socket: TakenSocket, manifest: Manifest, signal: AbortSignal): Promise<string>
  onAccepted(manifest: Manifest, generation: Generation, permissions: readonly HostPermission[]): void
  onRunning(plugin: RunningPlugin): void
  /** Called once at most, and never after `end`. */
  onFailed(error: SafeError): void
  onChannelClosed(reason: string): void
  /** Not fatal, printable. */
  warn(message: string): void
  /** The launcher is stopping this run, so what breaks now is no failure. */
  isStopping(): boolean
}

export interface Session {
  /** A chunk of stdout. It is consumed when this returns: kept, within limits, during the handshake, and dropped after it. */
  feed(bytes: Buffer): void
  stdoutEnd(): void
  /** The process has gone; everything of this run is closed. */
  end(): void
}

/** The peer went away, which is mostly the shadow of an exit that the launcher is about to report. */
const SHADOWS_OF_AN_EXIT = new Set<ErrorCode>(['HANDSHAKE_NO_OUTPUT', 'HANDSHAKE_EOF', 'HANDSHAKE_SOCKET', 'PROXY_SOCKET_REFUSED', 'CHANNEL_REFUSED', 'CHANNEL_LOST'])

/**
 * One run from its start to its end: first line, launch config, `ready`, socket, channel, readiness, then `running` until the
 * channel or the health is lost. Each step happens once and in this order.
 */
export function startSession(started: StartedRun, deps: SessionDeps): Session {
  const ended = new AbortController()
  const reader = new LineReader()
  const open: { close(): void }[] = []
  const closeAll = (): void => {
    ended.abort()
    for (const thing of open.splice(0).reverse()) thing.close()
  }
  const keep = <T extends { close(): void }>(thing: T): T => {
    if (ended.signal.aborted) thing.close()
    else open.push(thing)
    return thing
  }

  converse(started, deps, reader, keep, ended.signal).catch(async (error: unknown) => {
    if (ended.signal.aborted) return
    const safe = toSafeError(error)
    if (safe.code === 'INTERNAL_BUG') deps.warn(`handshake: ${printable(error instanceof Error ? (error.stack ?? error.message) : String(error), 1000)}`)
    if (SHADOWS_OF_AN_EXIT.has(safe.code)) await sleep(deps.limits.exitGraceMs, undefined, { signal: ended.signal }).catch(() => {}) // it ended: looked at next
    if (ended.signal.aborted) return
    closeAll()
    if (!deps.isStopping()) deps.onFailed(safe)
  })

  return {
    feed: (bytes) => reader.push(bytes),
    stdoutEnd: () => reader.end(),
    end: closeAll,
  }
}

/** Never returns while the run is well. */
async function converse(
  started: StartedRun,
  deps: SessionDeps,
  reader: LineReader,
  keep: <T extends { close(): void }>(thing: T) => T,
  signal: AbortSignal,
): Promise<never> {
  const { limits } = deps
  const first = parseFirstLine(await reader.next(started.style === '2' ? 'hello' : 'manifest', limits.helloMs, signal), started.style)
  const { generation, manifest } = first
  for (const warning of acceptManifest(manifest, started.plugin)) deps.warn(warning)
  const permissions = effectivePermissions(manifest, started.grants, started.legacyGrants)
  deps.onAccepted(manifest, generation, permissions)

  if (generation === '2') await deps.releaseLaunchConfig()
  signal.throwIfAborted()
  const ready = parseReadyLine(await reader.next('ready', limits.readyMs, signal), generation)
  if (ready.openapiProblem !== null) deps.warn(`the openapi document of \`ready\` is ignored: ${ready.openapiProblem}`)

  const socket = keep(await deps.openSocket())
  signal.throwIfAborted()
  const channel = await openChannel(generation, deps, socket, manifest, permissions, signal)
  if (channel !== null) keep(channel)
  signal.throwIfAborted()
  const lost = channel === null ? new Promise<never>(() => {}) : watchChannel(channel, generation, deps, signal)
  lost.catch(() => {}) // raced below; without this a loss between two races would count as unhandled

  const plugin: RunningPlugin = {
    generation,
    manifest,
    permissions,
    publicPaths: sharedPublicPaths(started.publicPaths, manifest.public_paths),
    dispatcher: socket.dispatcher,
    openapi: ready.openapi,
  }
  const probe = { dispatcher: socket.probes, secret: started.secret, limits: limits.probe, hasChannel: channel !== null, signal }
  await Promise.race([waitUntilServing(probe), lost])
  signal.throwIfAborted()
  deps.onRunning(plugin)

  const unwell = await Promise.race([deps.watchHealth(socket, manifest, signal), lost])
  throw new CordonError('HEALTH_FAILED', unwell)
}

/** Mandatory in generation 2; a generation 1 plugin without one gets no data access (sections 4.4 and 5). */
async function openChannel(
  generation: Generation,
  deps: SessionDeps,
  socket: TakenSocket,
  manifest: Manifest,
  permissions: readonly HostPermission[],
  signal: AbortSignal,
): Promise<OpenChannel | null> {
  try {
    return await deps.openChannel(socket, manifest, permissions)
  } catch (error) {
    if (generation === '2' || signal.aborted) throw error
    deps.warn(`no channel, so no data access: ${toSafeError(error).message}`)
    return null
  }
}

/** Rejects when a generation 2 plugin has lost its channel: every further call would fail, and no SDK reconnects (10.1). */
async function watchChannel(channel: OpenChannel, generation: Generation, deps: SessionDeps, signal: AbortSignal): Promise<never> {
  const reason = await channel.closed
  signal.throwIfAborted()
  deps.onChannelClosed(reason)
  if (generation === '2') throw new CordonError('CHANNEL_LOST', `the channel was closed: ${reason}`)
  deps.warn(`the channel was closed, so the plugin has no data access until it is restarted: ${reason}`)
  return new Promise<never>(() => {})
}
