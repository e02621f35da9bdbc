import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import type { AuditSink } from '../audit/record.ts'
import { LEARNING, type Egress } from '../base/egress-rule.ts'
import type { PluginName, RunId } from '../base/ids.ts'
import { CordonError } from '../errors.ts'
import type { DoorLimits, DoorStats } from '../wire/door.ts'
import { startDoor, type Decoys, type DoorFiles, type DoorProcess } from './door-child.ts'
import type { LaunchHost } from './host.ts'
import type { SealedNetwork } from './network.ts'

/** What was sent since is forgotten where the door or the daemon is killed. */
const REMEMBER_EVERY_MS = 10_000

export const NO_DECOYS: Decoys = { names: [], secrets: [] }

export interface OpenedDoor {
  readonly run: RunId
  readonly plugin: PluginName
  readonly network: SealedNetwork
  /** Bytes per UTC day; null: no such limit. */
  readonly egressMaxPerDay: number | null
  readonly maxConnections: number
  readonly decoys: Decoys
}

export interface Swapped {
  readonly closed: number
  /** Ports that the plugin holds itself, so that no listener could be had. */
  readonly held: readonly number[]
}

/**
 * The door process of a daemon, started when the first plugin needs it and again when it was lost, and what must outlive it: the bytes
 * that each plugin has spent today.
 */
export class DoorKeeper {
  readonly #host: LaunchHost
  readonly #files: DoorFiles
  readonly #audit: AuditSink
  readonly #log: (message: string) => void
  readonly #ownPorts: () => readonly number[]
  readonly #touched: (run: RunId, what: string) => void
  readonly #lost: (runs: readonly RunId[], reason: string) => void
  readonly #spentPath: string
  readonly #spent: Map<string, DoorLimits['spent']>
  readonly #open = new Map<RunId, OpenedDoor & { egress: Egress }>()
  #door: Promise<DoorProcess> | null = null
  #stopping = false
  readonly #remember: NodeJS.Timeout

  /**
   * @param lost called when the door ended with runs open: their listeners went with it, so they must be started again
   * @param touched a run touched a decoy, as the door says; `what` is printable
   */
  constructor(
    host: LaunchHost, files: DoorFiles, audit: AuditSink, log: (message: string) => void, ownPorts: () => readonly number[],
    lost: (runs: readonly RunId[], reason: string) => void, touched: (run: RunId, what: string) => void = () => {},
  ) {
    this.#touched = touched
    this.#host = host
    this.#files = files
    this.#audit = audit
    this.#log = log
    this.#ownPorts = ownPorts
    this.#lost = lost
    this.#spentPath = `${host.config.stateDir}/egress-spent.json`
    this.#spent = readSpent(this.#spentPath)
    this.#remember = setInterval(() => void this.#rememberAll(), REMEMBER_EVERY_MS).unref()
  }

  /**
   * Open a run's door; resolves when every listener serves.
   * @throws CordonError LAUNCH_DOOR
   */
  open(opened: OpenedDoor, egress: Egress): Promise<void> {
    const opening = this.#openNow(opened, egress)
    // Awaited only once the gate stands: a door that ends before that must cost this start, and not the launcher.
    opening.catch(() => {}) // the caller awaits it and hears of it
    return opening
  }

  async #openNow(opened: OpenedDoor, egress: Egress): Promise<void> {
    const door = await this.#ensure()
    this.#open.set(opened.run, { ...opened, egress })
    const limits = { maxConnections: opened.maxConnections, egressMaxPerDay: opened.egressMaxPerDay, spent: this.#spent.get(opened.plugin) ?? { day: new Date().toISOString().slice(0, 10), bytes: 0 } }
    try {
      const missed = await door.open({ run: opened.run, plugin: opened.plugin, egress, limits, network: opened.network, decoys: opened.decoys })
      if (missed.length > 0) throw new CordonError('LAUNCH_DOOR', `no listener on port ${missed.map(({ port, errno }) => `${port} (${errno})`).join(', ')} of its network`)
    } catch (error) {
      await this.close(opened.run)
      throw error
    }
    this.#audit.note({ type: 'door.opened', plugin: opened.plugin, run: opened.run, mode: egress.mode, ...(egress.mode === 'learn' ? { state: LEARNING } : {}), rules: egress.allow.length }, 'launcher')
  }

  /** Put other rules in force for an open door and end what they forbid. */
  async swap(run: RunId, egress: Egress, newPorts: readonly number[]): Promise<Swapped> {
    const opened = this.#open.get(run)
    if (opened === undefined) throw new CordonError('LAUNCH_STATE', 'that run has no open door')
    const { closed, missed } = await (await this.#ensure()).swap({ run, egress, network: opened.network }, newPorts)
    opened.egress = egress
    return { closed, held: [...new Set(missed.map(({ port }) => port))] }
  }

  /**
   * The run is over, or in quarantine. Never throws: what is open ends with the door at the latest, and a door that does not shut one
   * that is in quarantine is ended.
   */
  async close(run: RunId, code: 'stopping' | 'quarantined' = 'stopping'): Promise<void> {
    const opened = this.#open.get(run)
    if (opened === undefined || this.#door === null) return void this.#open.delete(run)
    try {
      const door = await this.#door
      this.#note(opened.plugin, await door.close(run, code))
    } catch (error) {
      if (!this.#stopping) this.#log(`${opened.plugin}: its door could not be closed in order: ${String(error)}`)
      if (code === 'quarantined') await this.#door?.then((door) => door.stop()).catch(() => {}) // it is gone already
    } finally {
      this.#open.delete(run)
      this.#write()
    }
  }

  /** What a run has open, and what it was refused; null when its door is shut. */
  async stats(run: RunId): Promise<DoorStats | null> {
    return this.#door === null || !this.#open.has(run) ? null : (await this.#door).stats(run)
  }

  async stop(): Promise<void> {
    this.#stopping = true
    clearInterval(this.#remember)
    const door = await this.#door?.catch(() => null) // it never stood, so nothing is to be stopped
    await door?.stop()
  }

  #ensure(): Promise<DoorProcess> {
    if (this.#door !== null) return this.#door
    const starting = startDoor(this.#host, this.#files, this.#ownPorts, this.#audit, this.#log, (run, what) => { if (this.#open.has(run)) this.#touched(run, what) })
    this.#door = starting
    starting.then(
      (door) => void door.ended.then(({ reason }) => this.#ended(starting, reason)),
      () => { if (this.#door === starting) this.#door = null },
    )
    return starting
  }

  #ended(door: Promise<DoorProcess>, reason: string): void {
    if (this.#door === door) this.#door = null
    const runs = [...this.#open.keys()]
    this.#open.clear()
    if (this.#stopping) return
    this.#log(`the door ended (${reason})`)
    this.#lost(runs, `the door ended: ${reason}`)
  }

  #note(plugin: string, spent: DoorLimits['spent']): void {
    this.#spent.set(plugin, spent)
  }

  async #rememberAll(): Promise<void> {
    for (const [run, { plugin }] of this.#open) {
      const stats = await this.stats(run).catch(() => null) // it is ending; `close` remembers
      if (stats !== null) this.#note(plugin, stats.spent)
    }
    if (this.#open.size > 0) this.#write()
  }

  #write(): void {
    try {
      writeFileSync(`${this.#spentPath}.new`, JSON.stringify(Object.fromEntries(this.#spent)), { mode: 0o600 })
      renameSync(`${this.#spentPath}.new`, this.#spentPath)
    } catch (error) {
      this.#log(`what plugins sent today could not be remembered: ${String(error)}`)
    }
  }
}

/** Written by us alone; what does not read as expected counts as nothing spent, and is overwritten. */
function readSpent(path: string): Map<string, DoorLimits['spent']> {
  try {
    const found = Object.entries(JSON.parse(readFileSync(path, 'utf8')) as Record<string, { day?: unknown; bytes?: unknown }>)
    return new Map(found.flatMap(([plugin, { day, bytes }]) => (typeof day === 'string' && Number.isSafeInteger(bytes) ? [[plugin, { day, bytes: Number(bytes) }]] : [])))
  } catch {
    return new Map() // as said above
  }
}
