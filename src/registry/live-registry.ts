import type { PluginName, RunId } from '../base/ids.ts'
import type { PluginStatus } from '../wire/requests.ts'
import type { Endpoint, PluginView, Registry } from './registry.ts'
import { isLegalFirst, isLegalMove } from './state.ts'

/**
 * What the launcher says about each plugin, joined with what the gateway itself knows about its socket. An endpoint is shown
 * only while the launcher says that exactly this run is running: after a stop or a restart nothing reaches the old socket.
 */
export class LiveRegistry implements Registry {
  readonly #warn: (message: string) => void
  readonly #endpoints = new Map<RunId, Endpoint>()
  #statuses: ReadonlyMap<PluginName, PluginStatus> = new Map()

  /** @param warn told about a state that cannot follow from the one before; the launcher is believed all the same */
  constructor(warn: (message: string) => void) {
    this.#warn = warn
  }

  get(name: PluginName): PluginView | null {
    const status = this.#statuses.get(name)
    return status === undefined ? null : this.#view(status)
  }

  /** By name. */
  list(): readonly PluginView[] {
    return [...this.#statuses.values()].map((status) => this.#view(status))
  }

  /** The launcher's whole list, as it is now. */
  update(statuses: readonly PluginStatus[]): void {
    for (const status of statuses) {
      const before = this.#statuses.get(status.name)?.state
      const legal = before === undefined ? isLegalFirst(status.state) : isLegalMove(before, status.state)
      if (!legal) this.#warn(`plugin "${status.name}" went from ${before ?? 'nothing'} to ${status.state}, which is no legal move`)
    }
    const sorted = [...statuses].sort((a, b) => (a.name < b.name ? -1 : 1))
    this.#statuses = new Map(sorted.map((status) => [status.name, status]))
  }

  /** This run answers requests. */
  connect(endpoint: Endpoint): void {
    this.#endpoints.set(endpoint.run, endpoint)
  }

  /** This run is over or given up. */
  disconnect(run: RunId): void {
    this.#endpoints.delete(run)
  }

  #view(status: PluginStatus): PluginView {
    const endpoint = status.run === null ? undefined : this.#endpoints.get(status.run)
    const usable = status.state === 'running' && endpoint !== undefined && endpoint.plugin === status.name
    return { status, endpoint: usable ? endpoint : null }
  }
}
