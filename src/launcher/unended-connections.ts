import type { DoorEvent } from '../wire/door.ts'

export type Opened = Extract<DoorEvent, { type: 'egress.opened' }>
export type Closed = Extract<DoorEvent, { type: 'egress.closed' }>

/** More than a door with all its descriptors can have; one that claims more is hostile, and then its last words are not wanted. */
const MAX_OPEN = 16_384

/** Connections whose opening is on record and whose end is not: when the door ends, nobody else can tell it. */
export class UnendedConnections {
  readonly #ticks: () => number
  readonly #open = new Map<string, { readonly event: Opened; readonly at: number }>()
  #told: ((event: Closed) => void) | null = null

  /** @param ticks monotonic milliseconds */
  constructor(ticks: () => number) {
    this.#ticks = ticks
  }

  see(event: DoorEvent): void {
    if (event.type === 'egress.closed') this.#open.delete(key(event))
    if (event.type !== 'egress.opened') return
    if (this.#told !== null) this.#told(closedBy('door-ended', event, 0)) // its record came to the disk after the door's end
    else if (this.#open.size < MAX_OPEN) this.#open.set(key(event), { event, at: this.#ticks() })
  }

  /** The door has ended. */
  tell(note: (event: Closed) => void): void {
    for (const { event, at } of this.#open.values()) note(closedBy('door-ended', event, Math.max(0, Math.round(this.#ticks() - at))))
    this.#open.clear()
    this.#told = note
  }
}

/** The end of a connection of which nobody can say more than that it is over. @param ms that it lasted at least */
export function closedBy(code: 'door-ended' | 'daemon-ended', { plugin, run, connection, name, dialled, port, rule, sni, address }: Omit<Opened, 'type'>, ms: number): Closed {
  return { type: 'egress.closed', plugin, run, connection, name, dialled, port, rule, sni, address, bytesOut: 0, bytesIn: 0, ms, by: 'door', code, requests: 0 }
}

function key({ run, connection }: Opened | Closed): string {
  return `${run} ${connection}`
}
