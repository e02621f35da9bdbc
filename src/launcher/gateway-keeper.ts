import { setTimeout as sleep } from 'node:timers/promises'
import { CordonError } from '../errors.ts'
import type { HostConfig } from '../policy/host-config.ts'
import type { GatewayProcess } from './gateway-child.ts'

const BACKOFF_MS = [0, 1000, 2000, 5000, 10_000, 30_000, 60_000] as const
/** A gateway that lived as long was well. One that ends sooner, time after time, must not keep the host busy with starts. */
const WELL_MS = 60_000

type Listen = HostConfig['listen']

export interface GatewayKeeperDeps {
  /** From the configuration; port 0: any, and the first one taken is kept. */
  readonly listen: Listen
  readonly stopping: AbortSignal
  start(listen: Listen): Promise<GatewayProcess>
  /** One serves now. */
  onServing(): void
  /** It is gone, and none serves; the next one is started when this has resolved. It must not reject. */
  onLost(): Promise<unknown>
  /** A defect: nobody keeps the gateway any more. */
  onDefect(error: unknown): void
  log(message: string): void
}

/** The gateway process of a daemon: started once, and again whenever it ended, until the daemon stops. */
export class GatewayKeeper {
  readonly #deps: GatewayKeeperDeps
  #listen: Listen
  #now: GatewayProcess | null = null
  #reason: string | null = null
  #since = 0
  /** Gateways in a row that were not well. */
  #lost = 0
  #waiters: (() => void)[] = []
  #coming: Promise<void> = Promise.resolve()

  constructor(deps: GatewayKeeperDeps) {
    this.#deps = deps
    this.#listen = deps.listen
  }

  /** The one that serves. */
  get now(): GatewayProcess | null {
    return this.#now
  }

  /** Why none serves, if one did or was to; printable. */
  get reason(): string | null {
    return this.#reason
  }

  /** Served on now, or else to be; 0: not known yet. */
  get port(): number {
    return this.#now?.port ?? this.#listen.port
  }

  async start(): Promise<void> {
    const { start, onServing, onDefect, log, listen: { host } } = this.#deps
    const gateway = await start(this.#listen)
    this.#now = gateway
    this.#since = performance.now()
    this.#reason = null
    // Where the configuration leaves the port open, links and cookies of people are bound to the one that was taken first. A gateway says it
    // itself, so only one that needs no privilege is kept.
    if (this.#listen.port === 0 && gateway.port >= 1024) this.#listen = { ...this.#listen, port: gateway.port }
    log(`serving on http://${host}:${gateway.port}`)
    for (const wake of this.#waiters.splice(0)) wake()
    onServing()
    this.#coming = gateway.ended.then(({ reason }) => this.#ended(gateway, reason)).catch((error: unknown) => onDefect(error))
  }

  /** Once the daemon stops: resolves when none is left, and none comes. */
  async stop(): Promise<void> {
    await this.#stopNow()
    await this.#coming // one that was being started again is stopped as soon as it stands
  }

  async #stopNow(): Promise<void> {
    await this.#now?.stop()
  }

  /** Resolves once one serves; rejects when the signal ends it. */
  ready(signal: AbortSignal): Promise<void> {
    if (this.#now !== null) return Promise.resolve()
    return new Promise((resolve, reject) => {
      signal.addEventListener('abort', () => reject(new CordonError('LAUNCH_STATE', 'stopped while it waited for the gateway')), { once: true })
      this.#waiters.push(resolve)
    })
  }

  /** Plugins hold secrets and sockets that only the old gateway knew: they are stopped in order, then all begins again. */
  async #ended(gateway: GatewayProcess, reason: string): Promise<void> {
    const { stopping, onLost, log } = this.#deps
    if (this.#now !== gateway) return
    this.#now = null
    this.#reason = reason
    if (stopping.aborted) return
    log(`the gateway ended (${reason}); stopping plugins, then starting it again`)
    await onLost()
    if (performance.now() - this.#since >= WELL_MS) this.#lost = 0
    while (!stopping.aborted) {
      await sleep(BACKOFF_MS[Math.min(this.#lost++, BACKOFF_MS.length - 1)], undefined, { signal: stopping }).catch(() => {}) // the daemon stops: looked at next
      if (stopping.aborted) return
      try {
        await this.start()
        if (stopping.aborted) await this.#stopNow()
        return
      } catch (error) {
        this.#reason = error instanceof Error ? error.message : String(error)
        log(`the gateway could not be started again: ${this.#reason}`)
      }
    }
  }
}
