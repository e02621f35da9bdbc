import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import type { Egress, EgressRule } from '../../src/base/egress-rule.ts'
import { parseIp } from '../../src/base/ip-address.ts'
import type { HostView } from '../../src/egress/addresses.ts'
import { DayBudget } from '../../src/egress/day-budget.ts'
import { DecoyScan } from '../../src/egress/decoy-scan.ts'
import { dial } from '../../src/egress/dial.ts'
import { Relay, type Closed, type Opened, type Refused, type RelayLimits, type RelayRun } from '../../src/egress/relay.ts'
import type { Resolved } from '../../src/egress/resolver.ts'

export const rule = (id: number, match: EgressRule['match'], ports: number[], more: Partial<EgressRule> = {}): EgressRule => ({
  id, match, ports, private: false, tls: ports[0] === 443 ? 'require' : 'auto', ech: false, until: null, reason: 'a test', ...more,
})
export const rules = (...allow: EgressRule[]): Egress => ({ mode: 'enforce', until: null, allow })
export const EXAMPLE = rule(1, { kind: 'host', name: 'example.org' }, [443])

export type TestRecord = ({ type: 'opened' } & Opened) | ({ type: 'closed' } & Closed) | ({ type: 'refused' } & Refused)

export interface KitOptions {
  readonly rules?: Egress
  /** What the plugin dialled. Default: the synthetic address of example.org, port 443. */
  readonly dialled?: { readonly address: string; readonly port: number }
  readonly names?: Readonly<Record<string, string>>
  readonly resolved?: Resolved | Promise<Resolved>
  readonly host?: Partial<HostView>
  readonly budget?: DayBudget
  readonly limits?: Partial<RelayLimits>
  readonly opened?: () => Promise<void>
  /** Decoys; none are laid out by default. */
  readonly secrets?: readonly string[]
  /** What the wall clock says. */
  readonly now?: () => number
  /** No server behind the door. */
  readonly nobody?: boolean
}

/**
 * A door of one connection at a time, without root: the plugin's side is a loopback socket that is said to have dialled something else, and the
 * dialler ends at a loopback server whatever address was judged; `dialled` has what it was asked to dial.
 */
export class Kit {
  readonly records: TestRecord[] = []
  readonly dialled: { addresses: readonly string[]; port: number }[] = []
  readonly relays: Relay[] = []
  /** The door's end of each connection of the plugin. */
  readonly clients: Socket[] = []
  /** How many names a resolver was asked for. */
  resolving = 0
  /** Of each relay: nothing of it is left. */
  readonly served: Promise<void>[] = []
  egress: Egress
  readonly #servers: Server[] = []
  readonly #sockets: Socket[] = []
  #plugin = 0

  private constructor(egress: Egress) {
    this.egress = egress
  }

  static async start(serve: (socket: Socket) => void, options: KitOptions = {}): Promise<Kit> {
    const kit = new Kit(options.rules ?? rules(EXAMPLE))
    const upstream = await kit.#listen(createServer({ allowHalfOpen: true }, (socket) => {
      kit.#sockets.push(socket)
      socket.on('error', () => {})
      serve(socket)
    }))
    if (options.nobody === true) kit.#servers.pop()?.close()
    const budget = options.budget ?? new DayBudget(null, { day: '2026-01-01', bytes: 0 }, Date.now())
    const run: RelayRun = {
      egress: () => kit.egress,
      host: () => ({ hostAddresses: [], onLink: [], ownPorts: [8480], ...options.host }),
      nameOf: (address) => (options.names ?? { '198.18.1.0': 'example.org' })[address] ?? null,
      resolve: async () => {
        kit.resolving += 1
        return options.resolved ?? { addresses: ['93.184.216.34'] }
      },
      dial: async (addresses, port, signal) => {
        kit.dialled.push({ addresses, port })
        const dialled = await dial(['127.0.0.1'], upstream, signal)
        return 'failed' in dialled ? dialled : { ...dialled, address: addresses[0] ?? '' }
      },
      budget,
      opened: async (event) => {
        await options.opened?.()
        kit.records.push({ type: 'opened', ...event })
      },
      closed: (event) => kit.records.push({ type: 'closed', ...event }),
      refused: (event) => kit.records.push({ type: 'refused', ...event }),
      now: options.now ?? Date.now,
      ticks: () => performance.now(),
      scan: () => (options.secrets === undefined ? null : new DecoyScan(options.secrets)),
      limits: { helloMs: 20_000, idleMs: 20_000, halfClosedMs: 20_000, ...options.limits },
    }
    kit.#plugin = await kit.#listen(createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
      const relay = new Relay(kit.relays.length + 1, socket, options.dialled ?? { address: '198.18.1.0', port: 443 }, run)
      kit.relays.push(relay)
      kit.clients.push(socket)
      kit.served.push(relay.serve())
    }))
    return kit
  }

  /** A connection of the plugin. */
  plugin(): Plugin {
    const socket = connect({ port: this.#plugin, host: '127.0.0.1', allowHalfOpen: true })
    this.#sockets.push(socket)
    return new Plugin(socket)
  }

  async record<T extends TestRecord['type']>(type: T): Promise<Extract<TestRecord, { type: T }>> {
    for (const until = Date.now() + 20_000; Date.now() < until;) {
      const found = this.records.find((record) => record.type === type)
      if (found !== undefined) return found as Extract<TestRecord, { type: T }>
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    throw new Error(`no ${type} among ${JSON.stringify(this.records)}`)
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy()
    for (const server of this.#servers) server.close()
  }

  async #listen(server: Server): Promise<number> {
    this.#servers.push(server)
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return (server.address() as AddressInfo).port
  }
}

export class Plugin {
  readonly socket: Socket
  received = Buffer.alloc(0)
  end: 'open' | 'ended' | 'reset' = 'open'
  readonly closed: Promise<'ended' | 'reset'>

  constructor(socket: Socket) {
    this.socket = socket
    socket.on('data', (bytes) => { this.received = Buffer.concat([this.received, bytes]) })
    socket.on('end', () => { this.end = 'ended' })
    socket.on('error', () => { this.end = 'reset' })
    this.closed = new Promise((resolve) => {
      socket.on('end', () => resolve('ended'))
      socket.on('error', () => resolve('reset'))
    })
  }

  async receives(bytes: number): Promise<Buffer> {
    while (this.received.length < bytes && this.end === 'open') await Promise.race([once(this.socket, 'data'), this.closed])
    return this.received
  }
}

export const ip = (text: string): Uint8Array => parseIp(text) ?? new Uint8Array()
