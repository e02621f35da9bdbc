import * as z from 'zod'
import { printable } from '../base/printable.ts'
import type { EgressRecord } from '../egress/record.ts'
import { replay, type Change } from '../egress/replay.ts'
import { CordonError } from '../errors.ts'
import { hostView, type HostView } from '../egress/addresses.ts'
import { hostNetwork } from '../launcher/host-network.ts'
import type { HostConfig } from '../policy/host-config.ts'
import { loadPolicy } from '../policy/load.ts'
import { counted } from './amounts.ts'
import { eachRecord, egressRecord, type LogRecord } from './audit-history.ts'
import type { CommandContext } from './context.ts'
import type { CommandIo } from './io.ts'
import { policyFile, readOptions } from './policy-options.ts'
import { withProgress } from './progress.ts'
import { parseSince } from './since.ts'
import { wrap } from './table.ts'

/** Records decided at once; the log may hold more than memory. */
const BATCH = 20_000
/** Lines of each kind that are told; the rest is counted. A plugin may have asked for millions of names. */
const MAX_CHANGES = 1000
const SHOWN = 50

/**
 * `cordon policy test NAME|FILE --replay 30d`: what the file would have done with what happened to the plugin that it names.
 * @returns 0 if nothing that was let through would be refused now, else 1
 */
export async function policyTest(args: readonly string[], io: CommandIo, { config, load, signal }: CommandContext): Promise<number> {
  const { values, positionals: [word, more] } = readOptions('policy test', args, { replay: { type: 'string' } })
  if (word === undefined || more !== undefined || values.replay === undefined) throw new CordonError('USAGE_BAD_OPTION', 'policy test: expected one plugin name or policy file, and --replay with how far back, as in --replay 30d')
  const now = Date.now()
  const since = parseSince('policy test: --replay', values.replay, now)
  const { policy } = loadPolicy(policyFile(word, config), { ...load, ownership: 'reported' })
  const tally = new Tally()
  let batch: EgressRecord[] = []
  const today = await viewOf(config)
  const recorded = new Map<string, HostView>()
  let assumed = 0
  const hostOf = (network: string | null): HostView => {
    const known = network === null ? undefined : recorded.get(network)
    if (known === undefined && network !== null) assumed += 1
    return known ?? today
  }
  const decide = (): void => {
    tally.add(replay(batch, policy.egress, hostOf, now))
    batch = []
  }
  const read = eachRecord(`${config.stateDir}/audit`, policy.plugin, since, signal, (record) => {
    if (record.type === NETWORK) return void remember(recorded, record)
    const egress = egressRecord(record)
    if (egress === null || egress.type === 'egress.closed') return
    if (batch.push(egress) >= BATCH) decide()
  }, NETWORK)
  const { unreadable } = await withProgress(io, 'reading the audit log', read)
  decide()
  if (assumed > 0) io.err(`warning: ${counted(assumed, 'connection')} ${assumed === 1 ? 'was' : 'were'} compared with the addresses that this host has today; the log does not have those of then`)
  if (unreadable > 0) io.err(`warning: ${counted(unreadable, 'line')} of the log could not be read; cordon audit verify tells more`)
  const { attempts, undecided, newlyRefused, newlyAllowed } = tally
  const answer = { plugin: policy.plugin, since: new Date(since).toISOString(), attempts, undecided, newlyRefused: newlyRefused.sorted(), newlyAllowed: newlyAllowed.sorted(), more: newlyRefused.more + newlyAllowed.more }
  if (io.json) io.out(JSON.stringify(answer))
  else for (const line of describe(answer, newlyRefused.more, newlyAllowed.more)) io.out(line)
  return newlyRefused.empty ? 0 : 1
}

/** Batches of the same log, added up. */
class Tally {
  attempts = 0
  undecided = 0
  readonly newlyRefused = new Changes()
  readonly newlyAllowed = new Changes()

  add(part: ReturnType<typeof replay>): void {
    this.attempts += part.attempts
    this.undecided += part.undecided
    for (const change of part.newlyRefused) this.newlyRefused.add(change)
    for (const change of part.newlyAllowed) this.newlyAllowed.add(change)
  }
}

class Changes {
  readonly #all = new Map<string, Change>()
  /** Times that belong to destinations beyond MAX_CHANGES. */
  more = 0

  get empty(): boolean {
    return this.#all.size === 0
  }

  add(change: Change): void {
    const key = JSON.stringify([change.what, change.then, change.now])
    const known = this.#all.get(key)
    if (known === undefined && this.#all.size === MAX_CHANGES) this.more += change.times
    else this.#all.set(key, known === undefined ? change : { ...known, times: known.times + change.times, first: least(known.first, change.first), last: most(known.last, change.last), certain: known.certain && change.certain })
  }

  sorted(): Change[] {
    return [...this.#all.values()].sort((a, b) => b.times - a.times || (a.what < b.what ? -1 : 1))
  }
}

function least(a: string, b: string): string {
  return a < b ? a : b
}

function most(a: string, b: string): string {
  return a > b ? a : b
}

/** The host as it is now: for what was refused before an address was looked at. */
async function viewOf(config: HostConfig): Promise<HostView> {
  return hostView(await hostNetwork(config.listen.port === 0 ? [] : [config.listen.port])) ?? { hostAddresses: [], onLink: [], ownPorts: [] }
}

/** Addresses, neighbours and own ports as the door had them, by the name that its decisions give. */
const NETWORK = 'host.network'
const RECORDED = z.object({ name: z.string(), addresses: z.array(z.string()), on_link: z.array(z.string()), own_ports: z.array(z.number()), more: z.literal(0) })

function remember(recorded: Map<string, HostView>, { data }: LogRecord): void {
  const found = RECORDED.safeParse(data).data
  const view = found === undefined ? null : hostView({ hostAddresses: found.addresses, onLink: found.on_link, ownPorts: found.own_ports })
  if (found !== undefined && view !== null) recorded.set(found.name, view)
}

interface Told { readonly plugin: string; readonly since: string; readonly attempts: number; readonly undecided: number; readonly newlyRefused: readonly Change[]; readonly newlyAllowed: readonly Change[] }

function describe({ plugin, since, attempts, undecided, newlyRefused, newlyAllowed }: Told, moreRefused: number, moreAllowed: number): string[] {
  return [
    ...wrap(`${plugin}: ${counted(attempts, 'attempt')} since ${since}${undecided === 0 ? '' : `; ${undecided} of them cannot be decided again (a peer that did not answer, a limit, or one of so many that they were only counted)`}`),
    ...list('would be refused now, and was let through', newlyRefused, moreRefused),
    ...list('would be let through now, and was refused', newlyAllowed, moreAllowed),
    ...(attempts === 0 ? ['Nothing happened in this time, so this says nothing about the file.'] : []),
  ]
}

function list(title: string, changes: readonly Change[], more: number): string[] {
  if (changes.length === 0) return [`Nothing ${title}.`]
  const rest = changes.slice(SHOWN).reduce((sum, { times }) => sum + times, more)
  return [
    '', `What ${title}:`,
    ...changes.slice(0, SHOWN).flatMap(({ what, times, last, say, certain }) => [
      ...wrap(`  ${times}× ${printable(what, 320)}, last ${last.slice(0, 19)}Z${certain ? '' : ' (perhaps: the record does not hold all that decides)'}`, 80, '     '),
      ...wrap(`     ${printable(say, 600)}`, 80, '     '),
    ]),
    ...(rest === 0 ? [] : [`  and ${rest} more times elsewhere; --json has ${changes.length} destinations`]),
  ]
}
