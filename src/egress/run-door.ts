import { Socket as DatagramSocket } from 'node:dgram'
import { createServer, type Server, type Socket } from 'node:net'
import type { Egress } from '../base/egress-rule.ts'
import type { PluginName, RunId } from '../base/ids.ts'
import { printableWithin } from '../base/printable.ts'
import type { DoorEvent, DoorLimits, DoorStats } from '../wire/door.ts'
import type { HostView } from './addresses.ts'
import { Coalescer } from './coalesce.ts'
import { DayBudget } from './day-budget.ts'
import { DecoyScan, namesSecret } from './decoy-scan.ts'
import type { Dial } from './dial.ts'
import { RunDns } from './dns.ts'
import { DnsServer } from './dns-server.ts'
import { REASONS, type ReasonCode } from './reasons.ts'
import { Relay, type Refused, type RelayLimits, type RelayRun } from './relay.ts'
import { RunResolver } from './resolver.ts'
import { decideQuery } from './rules.ts'
import { SyntheticPool } from './synthetic.ts'
import type { Turns } from './turns.ts'
import { WaitingRoom } from './waiting-room.ts'

export const DNS_PORT = 53
/** Names that one run may ever look up: at most about 16 MiB of memory, and far more than any plugin with a purpose. */
const MAX_NAMES = 32_768
const TICK_MS = 1000
const WAIT_MS = 30_000
const FLUSH_TICKS = 10
const REFUSED_KEPT = 64
/** One is enough to know; more say how it went on. */
const TOUCHES_TOLD = 16
/** Between two looks of a quarter of a second: who takes that much reads, only slower than the other side sends. */
const READ_BYTES = 256 * 1024
/** Of the open connections, in statistics; with long names more would not fit into one frame. */
const OPEN_SHOWN = 200

/** Why a run's door shuts. */
type Shut = 'stopping' | 'quarantined'
/** A connection that was accepted; the two ends that the plugin dialled are asked for at once, while it is there. */
interface Knock { readonly socket: Socket; readonly dialled: string; readonly port: number }
/** Of connections that never got as far as being judged. */
const TURNED_AWAY = {
  'too-many-connections': REASONS['too-many-connections'],
  'plugin-left': `${REASONS['plugin-left']} It was waiting for a place, since as many were open as \`MaxConnections\` allows.`,
  'stopping': `${REASONS['stopping']} The connection was waiting and had not been let through.`,
  'quarantined': `${REASONS['quarantined']} The connection was waiting and had not been let through.`,
} as const satisfies Partial<Record<ReasonCode, string>>

/** Whom the door tells, and what it needs of the world; a test gives its own. */
export interface DoorOutside {
  readonly note: (event: DoorEvent) => void
  /** Resolves once the record is durable. */
  readonly record: (event: DoorEvent) => Promise<void>
  readonly dial: Dial
  readonly host: () => HostView
  readonly resolvers: () => readonly string[]
  /** ms since 1970. */
  readonly now: () => number
  /** Monotonic ms. */
  readonly ticks: () => number
  readonly relayLimits: RelayLimits
  /** Shared by all runs. */
  readonly turns: Turns
}

export interface RunTerms {
  readonly run: RunId
  readonly plugin: PluginName
  readonly rules: Egress
  readonly limits: DoorLimits
  /** Canonical names that nothing honest knows of, and secrets that nothing honest sends. */
  readonly decoys: { readonly names: readonly string[]; readonly secrets: readonly string[] }
}

/** All that the door holds of one run of one plugin: its listeners, its names, its connections. */
export class RunDoor {
  readonly plugin: PluginName
  readonly run: RunId
  readonly #outside: DoorOutside
  #rules: Egress
  readonly #decoys: ReadonlySet<string>
  readonly #secrets: readonly string[]
  /** What was told of touches; each once. */
  readonly #touches = new Set<string>()
  readonly #pool = new SyntheticPool(MAX_NAMES)
  readonly #dns: RunDns
  readonly #dnsServer: DnsServer
  readonly #resolver: RunResolver
  readonly #budget: DayBudget
  readonly #relays = new Set<Relay>()
  /** With the bytes that they had carried then. */
  #heldUp: ReadonlyMap<Relay, { readonly in: number; readonly out: number }> = new Map()
  readonly #room: WaitingRoom<Knock>
  readonly #servers: Server[] = []
  readonly #coalescer: Coalescer<DoorEvent>
  readonly #refused = new Map<string, { what: string; code: string; say: string; count: number }>()
  readonly #totals = { opened: 0, refused: 0, bytesOut: 0, bytesIn: 0 }
  readonly #timer: NodeJS.Timeout
  #connections = 0
  #tickCount = 0
  #closed: Shut | null = null
  serving = false

  constructor(terms: RunTerms, outside: DoorOutside) {
    this.plugin = terms.plugin
    this.run = terms.run
    this.#rules = terms.rules
    this.#decoys = new Set(terms.decoys.names)
    this.#secrets = terms.decoys.secrets
    this.#outside = outside
    this.#budget = new DayBudget(terms.limits.egressMaxPerDay, terms.limits.spent, outside.now())
    this.#resolver = new RunResolver({ servers: outside.resolvers, now: outside.ticks })
    this.#coalescer = new Coalescer((event, coalesced, others) => outside.note({ ...event, coalesced, ...(others === 0 ? {} : { others }) } as DoorEvent))
    this.#room = new WaitingRoom<Knock>(terms.limits.maxConnections, (knock) => this.#admit(knock))
    this.#dns = new RunDns({
      pool: this.#pool,
      judge: (name) => {
        if (this.#decoys.has(name) || namesSecret(name, this.#secrets)) return { allowed: false, code: 'tripwire', say: `${name}: ${REASONS.tripwire}` }
        const decision = decideQuery(this.#rules, name, outside.now())
        return decision.verdict === 'allow' ? { allowed: true } : { allowed: false, code: decision.code, say: decision.say }
      },
      refused: ({ name, type, code, say }) => {
        const lower = name.toLowerCase() // a secret may stand in a name that is none
        if (code === 'tripwire' || namesSecret(lower, this.#secrets)) this.#touch(this.#decoys.has(lower) ? 'name' : 'secret', 'look-up', null, name)
        this.#count(name, code, say)
        this.#coalescer.note(`dns ${code}`, name, () => ({ type: 'dns.refused', plugin: this.plugin, run: this.run, name, query: type, code, say: say.slice(0, 600), coalesced: 0 }))
      },
      now: outside.ticks,
      reason: (code) => REASONS[code],
    })
    this.#dnsServer = new DnsServer(this.#dns, (work) => outside.turns.later(this, work))
    this.#timer = setInterval(() => this.#tick(), TICK_MS)
    this.#timer.unref()
  }

  /** Takes a listener of the sealed namespace over: it accepts here from now on. */
  addServer(handle: Server, port: number): void {
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, (socket) => {
      if (port === DNS_PORT) this.#dnsServer.addStream(socket)
      else this.accept(socket)
    })
    server.on('error', () => {}) // a connection that was gone before it was accepted
    server.listen(handle)
    if (this.#closed !== null) server.close()
    else this.#servers.push(server)
  }

  addDatagrams(socket: DatagramSocket): void {
    if (this.#closed !== null) socket.close()
    else this.#dnsServer.addDatagrams(socket)
  }

  accept(socket: Socket): void {
    socket.on('error', () => {}) // it may be reset while it waits
    const { localAddress: dialled = '', localPort: port = 1 } = socket
    const knock = { socket, dialled, port }
    if (!this.#outside.turns.later(this, () => this.#enter(knock))) this.#turnAway(knock, 'too-many-connections')
  }

  #enter(knock: Knock): void {
    if (this.#closed !== null) this.#turnAway(knock, this.#closed)
    else if (!this.#room.enter(knock, this.#outside.ticks())) this.#turnAway(knock, 'too-many-connections')
  }

  /** @returns how many open connections the new rules ended */
  swapRules(rules: Egress): number {
    this.#rules = rules
    return this.#rejudge()
  }

  /** Addresses may be the host's own now. */
  hostChanged(): void {
    this.#rejudge()
  }

  /** @returns connections that are held up, were so when this was asked last, and have carried next to nothing since */
  unread(): readonly Relay[] {
    const before = this.#heldUp
    this.#heldUp = new Map([...this.#relays].filter(({ heldUp }) => heldUp.in || heldUp.out).map((relay) => [relay, { in: relay.bytesIn, out: relay.bytesOut }]))
    return [...this.#heldUp].filter(([relay, now]) => {
      const then = before.get(relay)
      return then !== undefined && ((relay.heldUp.in && now.in - then.in < READ_BYTES) || (relay.heldUp.out && now.out - then.out < READ_BYTES))
    }).map(([relay]) => relay)
  }

  /** Everything of the run ends, at once. */
  close(code: Shut): void {
    if (this.#closed !== null) return
    this.#closed = code
    clearInterval(this.#timer)
    for (const server of this.#servers) server.close()
    this.#dnsServer.close()
    this.#outside.turns.finish(this) // what came in and had no turn yet is refused as well
    for (const knock of this.#room.drop()) this.#turnAway(knock, code)
    for (const relay of this.#relays) relay.close(code)
    this.#resolver.close()
    this.#coalescer.flush()
  }

  stats(): DoorStats {
    const open = [...this.#relays].filter((relay) => relay.isOpen)
    const sum = (key: 'bytesOut' | 'bytesIn'): number => open.reduce((total, relay) => total + relay[key], this.#totals[key])
    return {
      serving: this.serving,
      open: open.slice(0, OPEN_SHOWN).map((relay) => relay.view()),
      totals: {
        open: open.length, opened: this.#totals.opened, refused: this.#totals.refused, waiting: this.#room.waiting, bytesOut: sum('bytesOut'), bytesIn: sum('bytesIn'),
        queries: this.#dns.answered, queriesDropped: this.#dns.dropped, names: this.#pool.size,
      },
      refused: [...this.#refused.values()],
      spent: this.#budget.spent(this.#outside.now()),
    }
  }

  #admit(knock: Knock): void {
    const { socket, dialled: address, port } = knock
    if (socket.destroyed) {
      this.#turnAway(knock, 'plugin-left')
      this.#room.leave()
      return
    }
    this.#connections += 1
    const relay = new Relay(this.#connections, socket, { address, port }, this.#relayRun())
    this.#relays.add(relay)
    void relay.serve().finally(() => {
      this.#relays.delete(relay)
      this.#room.leave()
      if (this.#closed !== null) this.#coalescer.flush() // no tick does it any more
    })
  }

  #relayRun(): RelayRun {
    const { plugin, run } = this
    const stamp = { plugin, run }
    return {
      egress: () => this.#rules,
      host: this.#outside.host,
      nameOf: (address) => this.#pool.nameOf(address),
      resolve: (name) => this.#resolver.resolve(name),
      dial: this.#outside.dial,
      budget: this.#budget,
      opened: async (event) => {
        await this.#outside.record({ type: 'egress.opened', ...stamp, ...event, alpn: [...event.alpn], ...this.#compared() })
        this.#totals.opened += 1
      },
      closed: (event) => {
        this.#totals.bytesOut += event.bytesOut
        this.#totals.bytesIn += event.bytesIn
        // Else nobody would see why everything that it sends breaks off.
        if (event.code === 'budget-spent' || event.code === 'unread') this.#count(`${event.name ?? event.dialled}:${event.port}`, event.code, REASONS[event.code])
        this.#outside.note({ type: 'egress.closed', ...stamp, ...event })
      },
      refused: (event) => this.#refuse(event),
      now: this.#outside.now,
      ticks: this.#outside.ticks,
      limits: this.#outside.relayLimits,
      scan: () => (this.#secrets.length === 0 ? null : new DecoyScan(this.#secrets)),
    }
  }

  #refuse(refused: Refused): void {
    const touched = [refused.sni, refused.host?.replace(/:\d+$/, '').toLowerCase()].find((name) => typeof name === 'string' && this.#decoys.has(name))
    const event: Refused = touched === undefined ? refused : { ...refused, code: 'tripwire', say: `${touched}: ${REASONS.tripwire}` }
    const what = `${event.name ?? event.dialled}:${event.port}`
    if (event.code === 'tripwire') this.#touch(touched === undefined ? 'secret' : 'name', 'connection', event.connection, touched ?? what)
    this.#totals.refused += 1
    this.#count(what, event.code, event.say)
    this.#coalescer.note(event.code, what, () => ({ type: 'egress.refused', plugin: this.plugin, run: this.run, ...event, addresses: event.addresses.slice(0, 32), coalesced: 0, ...(event.addresses.length > 0 || event.name === null ? this.#compared() : {}) }))
  }

  #compared(): { readonly network?: string } {
    const { name } = this.#outside.host()
    return name === undefined ? {} : { network: name }
  }

  /** Past the coalescer, which a flood of other refusals could fill. */
  #touch(decoy: 'name' | 'secret', where: 'look-up' | 'connection', connection: number | null, what: string): void {
    const key = `${decoy} ${where} ${what}`
    if (this.#touches.size >= TOUCHES_TOLD || this.#touches.has(key)) return
    this.#touches.add(key)
    const say = decoy === 'name' ? `it asked for the decoy name ${what}` : `it sent the decoy secret ${where === 'look-up' ? 'in the name' : 'to'} ${what}`
    this.#outside.note({ type: 'tripwire.touched', plugin: this.plugin, run: this.run, severity: 'critical', decoy, where, connection, say: printableWithin(say, 600) })
  }

  #turnAway({ socket, dialled, port }: Knock, code: keyof typeof TURNED_AWAY): void {
    this.#refuse({ connection: 0, name: this.#pool.nameOf(dialled), dialled, port, rule: null, sni: null, addresses: [], host: null, code, say: TURNED_AWAY[code], ms: 0 })
    socket.resetAndDestroy()
  }

  #count(what: string, code: string, say: string): void {
    const key = `${what} ${code}`
    const known = this.#refused.get(key)
    this.#refused.delete(key) // to the end: the latest are kept
    this.#refused.set(key, { what: what.slice(0, 320), code, say: say.slice(0, 300), count: (known?.count ?? 0) + 1 })
    const [oldest] = this.#refused.keys()
    if (this.#refused.size > REFUSED_KEPT && oldest !== undefined) this.#refused.delete(oldest)
  }

  #rejudge(): number {
    let closed = 0
    for (const relay of [...this.#relays]) if (relay.rejudge()) closed += 1
    return closed
  }

  #tick(): void {
    this.#tickCount += 1
    for (const knock of this.#room.drop(this.#outside.ticks() - WAIT_MS)) this.#turnAway(knock, 'too-many-connections')
    for (const relay of this.#relays) relay.probe()
    // Time alone can end a rule (`until`) and learning.
    if (this.#rules.until !== null || this.#rules.allow.some((rule) => rule.until !== null)) this.#rejudge()
    if (this.#tickCount % FLUSH_TICKS === 0) this.#coalescer.flush()
  }
}
