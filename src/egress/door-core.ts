import { Socket as DatagramSocket } from 'node:dgram'
import { Server } from 'node:net'
import type { RunId } from '../base/ids.ts'
import { CordonError, toSafeError } from '../errors.ts'
import type { DoorOrder } from '../wire/door-client.ts'
import { HANDED_OVER, type DoorEvent, type FromDoor } from '../wire/door.ts'
import { hostView, type HostView } from './addresses.ts'
import type { Dial } from './dial.ts'
import type { RelayLimits } from './relay.ts'
import { DNS_PORT, RunDoor } from './run-door.ts'
import { Turns } from './turns.ts'

/** Runs at once on one host; a bound, not a promise. */
const MAX_RUNS = 512

export interface DoorWorld {
  readonly say: (message: FromDoor) => void
  /** A record that follows; never throws. */
  readonly note: (event: DoorEvent) => void
  readonly record: (event: DoorEvent) => Promise<void>
  readonly dial: Dial
  readonly now: () => number
  readonly ticks: () => number
  readonly relayLimits: RelayLimits
  readonly leave: () => void
}

interface Entry { readonly door: RunDoor; readonly ipv6: boolean; ports: readonly number[]; readonly served: Set<string> }

/** The door's table of runs: carries out the launcher's orders, and gives each listener that is handed over to its run. */
export class DoorCore {
  readonly #world: DoorWorld
  readonly #runs = new Map<RunId, Entry>()
  readonly #turns: Turns
  #host: HostView | null = null
  #resolvers: readonly string[] = []

  constructor(world: DoorWorld) {
    this.#world = world
    this.#turns = new Turns(world.ticks)
  }

  /** @throws CordonError only for a defect; what is wrong with an order is its answer */
  order(order: DoorOrder): void {
    if (order.type === 'shutdown') {
      for (const { door } of this.#runs.values()) door.close('stopping')
      return this.#world.leave()
    }
    try {
      this.#world.say({ type: 'answer', id: order.id, ok: this.#carryOut(order) })
    } catch (error) {
      this.#world.say({ type: 'answer', id: order.id, error: toSafeError(error) })
    }
  }

  /**
   * One message of the lent socketpair. Only our own helper writes there; what does not fit is an error of ours and ends the door.
   * @returns the run whose listeners are all handed over, to be acknowledged
   * @throws CordonError WIRE_MALFORMED
   */
  handedOver(message: unknown, handle: unknown): RunId | null {
    const parsed = HANDED_OVER.safeParse(message)
    if (!parsed.success) throw new CordonError('WIRE_MALFORMED', 'the second socketpair brought something else than a listener')
    if ('done' in parsed.data) {
      this.#tellServing(parsed.data.run)
      return parsed.data.run
    }
    const { run, port, protocol, family } = parsed.data
    const entry = this.#runs.get(run)
    if (protocol === 'tcp' && handle instanceof Server) {
      if (entry === undefined) handle.close() // it was closed meanwhile
      else entry.door.addServer(handle, port)
    } else if (protocol === 'udp' && handle instanceof DatagramSocket && port === DNS_PORT) {
      if (entry === undefined) handle.close()
      else entry.door.addDatagrams(handle)
    } else {
      throw new CordonError('WIRE_MALFORMED', `the second socketpair brought no ${protocol} socket where one was announced`)
    }
    entry?.served.add(key(protocol, port, family))
    return null
  }

  #carryOut(order: Exclude<DoorOrder, { type: 'shutdown' }>): unknown {
    switch (order.type) {
      case 'configure':
        this.#host = readHost(order)
        this.#resolvers = order.resolvers
        for (const { door } of this.#runs.values()) door.hostChanged()
        return {}
      case 'openRun': {
        if (this.#host === null) throw new CordonError('DOOR_STATE', 'a run was opened before the door was configured')
        if (this.#runs.has(order.run)) throw new CordonError('DOOR_STATE', `run ${order.run} is open already`)
        if (this.#runs.size >= MAX_RUNS) throw new CordonError('DOOR_STATE', `${MAX_RUNS} runs are open already`)
        const { note, record, dial, now, ticks, relayLimits } = this.#world
        const door = new RunDoor(order, {
          note, record, dial, now, ticks, relayLimits, turns: this.#turns,
          host: () => this.#host ?? NOWHERE,
          resolvers: () => this.#resolvers,
        })
        this.#runs.set(order.run, { door, ipv6: order.ipv6, ports: order.ports, served: new Set() })
        return {}
      }
      case 'swapRules': {
        const entry = this.#entry(order.run)
        entry.ports = order.ports
        return { closed: entry.door.swapRules(order.rules) }
      }
      case 'closeRun': {
        const { door } = this.#entry(order.run)
        this.#runs.delete(order.run)
        door.close(order.code)
        return { spent: door.stats().spent }
      }
      case 'makeRoom':
        return { closed: this.#makeRoom() }
      case 'stats':
        return this.#entry(order.run).door.stats()
      default:
        return order satisfies never
    }
  }

  /** Of the run that has most connections that nobody reads, all of these; who reads, and every other run, keeps what it has. The first look only looks. */
  #makeRoom(): number {
    const most = mostOf([...this.#runs.values()].map(({ door }) => door.unread()))
    for (const relay of most) relay.close('unread')
    return most.length
  }

  #entry(run: RunId): Entry {
    const entry = this.#runs.get(run)
    if (entry === undefined) throw new CordonError('DOOR_STATE', `run ${run} is not open`)
    return entry
  }

  #tellServing(run: RunId): void {
    const entry = this.#runs.get(run)
    if (entry === undefined) return
    entry.door.serving = true
    // After a swap: a high port that the plugin holds itself never comes.
    this.#world.say({ type: 'serving', run, missing: expectedOf(entry).filter((one) => !entry.served.has(one)) })
  }
}

/** Used only between processes that disagree; it opens nothing. */
const NOWHERE: HostView = { hostAddresses: [], onLink: [], ownPorts: [] }

/** The longest of these lists; none where there is none. */
export function mostOf<T>(lists: readonly (readonly T[])[]): readonly T[] {
  return lists.reduce((most, list) => (list.length > most.length ? list : most), [])
}

function key(protocol: 'tcp' | 'udp', port: number, family: 4 | 6): string {
  return `${protocol}${family}:${port}`
}

function expectedOf({ ports, ipv6 }: Entry): string[] {
  const families = ipv6 ? ([4, 6] as const) : ([4] as const)
  return families.flatMap((family) => [key('udp', DNS_PORT, family), ...[DNS_PORT, ...ports].map((port) => key('tcp', port, family))])
}

/** @throws CordonError WIRE_MALFORMED: an address that cannot be read would be one that is not refused */
function readHost({ hostAddresses, onLink, ownPorts, name }: Extract<DoorOrder, { type: 'configure' }>): HostView {
  const view = hostView({ hostAddresses, onLink, ownPorts })
  return view === null ? malformed([...hostAddresses, ...onLink].join(' ')) : { ...view, name }
}

function malformed(text: string): never {
  throw new CordonError('WIRE_MALFORMED', `"${text.slice(0, 60)}": not all of these are addresses of this host`)
}
