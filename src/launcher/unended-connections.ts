import type { DoorEvent } from '../wire/door.ts'

type Opened = Extract<DoorEvent, { type: 'egress.opened' }>
type Closed = Extract<DoorEvent, { type: 'egress.closed' }>

/** More than a door with all its descriptors can have; one that claims more is hostile, and then its last words are not wanted. */
const MAX_OPEN = 16_384

/** Connections whose opening is on record and whose end is not: when the door ends, nobody else can tell it. */
export class UnendedConnections {
  readonly #ticks: () => number
  readonly #open = new Map<string, { readonly event: Opened; readonly at: number }>()

  /** @param ticks monotonic milliseconds */
  constructor(ticks: () => number) {
    this.#ticks = ticks
  }

  see(event: DoorEvent): void {
    if (event.type === 'egress.opened' && this.#open.size < MAX_OPEN) this.#open.set(key(event), { event, at: this.#ticks() })
    else if (event.type === 'egress.closed') this.#open.delete(key(event))
  }

  tell(note: (event: Closed) => void): void {
    for (const { event: { plugin, run, connection, name, dialled, port, rule, sni, address }, at } of this.#open.values()) {
      note({
        type: 'egress.closed', plugin, run, connection, name, dialled, port, rule, sni, address, bytesOut: 0, bytesIn: 0, ms: Math.max(0, Math.round(this.#ticks() - at)),
        by: 'door', code: 'door-ended', requests: 0,
      })
    }
    this.#open.clear()
  }
}

function key({ run, connection }: Opened | Closed): string {
  return `${run} ${connection}`
}
