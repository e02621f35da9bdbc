import { listenPorts, opensDoor, type Egress } from '../base/egress-rule.ts'
import type { PluginName, RunId } from '../base/ids.ts'
import type { Policy } from '../policy/policy.ts'
import { NO_DECOYS, type DoorKeeper, type Swapped } from './door-keeper.ts'
import type { SealedNetwork } from './network.ts'
import type { GatedRun } from './sandbox.ts'

export interface ListenersOf {
  readonly run: RunId
  readonly plugin: PluginName
  readonly network: SealedNetwork
  readonly gated: Pick<GatedRun, 'expectListeners'>
  readonly doors: Pick<DoorKeeper, 'open' | 'close' | 'swap'>
  /** Uid of the listeners' owner. */
  readonly doorHelper: number
}

/** The door's listeners in the network of a run that has been released: which there are, and which are expected to be there. */
export class RunListeners {
  readonly #of: ListenersOf
  /** TCP ports, 53 among them; null while the door is shut. */
  #ports: readonly number[] | null
  #isShut = false

  /** @param ports open since its start; null: it began without a door */
  constructor(of: ListenersOf, ports: readonly number[] | null) {
    this.#of = of
    this.#ports = ports
  }

  get isOpen(): boolean {
    return this.#ports !== null
  }

  /**
   * Other rules: in force without a restart, and what they forbid ends.
   * @returns null when it has no door and needs none, or was shut meanwhile
   */
  async retune(egress: Egress, { EgressMax, MaxConnections }: Policy['limits']): Promise<Swapped | null> {
    const { run, plugin, network, gated, doors, doorHelper } = this.#of
    if (this.#ports === null && !opensDoor(egress)) return null
    const wanted = [53, ...listenPorts(egress)]
    let swapped: Swapped = { closed: 0, held: [] }
    if (this.#ports === null) {
      await doors.open({ run, plugin, network, egressMaxPerDay: EgressMax, maxConnections: MaxConnections, decoys: NO_DECOYS }, egress)
      this.#ports = wanted
    } else {
      const known = this.#ports
      swapped = await doors.swap(run, egress, wanted.filter((port) => !known.includes(port)))
      this.#ports = [...new Set([...known, ...wanted.filter((port) => !swapped.held.includes(port))])]
    }
    if (this.#wasShut()) { // while the listeners were opened; whatever came of them goes
      await doors.close(run, 'quarantined')
      this.#ports = null
      return null
    }
    gated.expectListeners({ tcp: this.#ports, udp: [53], uid: doorHelper })
    return swapped
  }

  /** For good, in quarantine. Resolves when the door has closed. */
  shut(): Promise<void> {
    const { run, gated, doors } = this.#of
    this.#isShut = true
    gated.expectListeners(null)
    this.#ports = null
    return doors.close(run, 'quarantined')
  }

  #wasShut(): boolean {
    return this.#isShut
  }
}
