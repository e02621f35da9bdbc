import type { Socket } from 'node:net'
import type { Egress } from '../base/egress-rule.ts'
import { HOST_INTERNAL } from '../base/egress-rule.ts'
import { parseHostName, type HostName } from '../base/host-name.ts'
import { formatIp, parseIp, unmapped, type IpBytes } from '../base/ip-address.ts'
import { printableWithin } from '../base/printable.ts'
import { judgeAddress, type HostView } from './addresses.ts'
import type { DayBudget } from './day-budget.ts'
import type { DecoyScan } from './decoy-scan.ts'
import type { Dial } from './dial.ts'
import { Inspector, type Refusal } from './inspect.ts'
import { REASONS, type ReasonCode } from './reasons.ts'
import type { Resolved } from './resolver.ts'
import { decideAddress, decideName, type Decision, type Permit } from './rules.ts'
import { isSynthetic } from './synthetic.ts'

/** What a connection needs of its run. */
export interface RelayRun {
  readonly egress: () => Egress
  readonly host: () => HostView
  /** The name that a synthetic address stands for; null when none was given it. */
  readonly nameOf: (address: string) => string | null
  readonly resolve: (name: HostName) => Promise<Resolved>
  readonly dial: Dial
  readonly budget: DayBudget
  readonly opened: (event: Opened) => Promise<void>
  readonly closed: (event: Closed) => void
  readonly refused: (event: Refused) => void
  /** ms since 1970; rules and budgets go by it. */
  readonly now: () => number
  /** Monotonic ms; durations go by it, so that a clock that is set says nothing wrong. */
  readonly ticks: () => number
  readonly limits: RelayLimits
  /** For one connection; null where no decoys are laid out. */
  readonly scan: () => DecoyScan | null
}

export interface RelayLimits {
  /** For the TLS hello or the first HTTP head. */
  readonly helloMs: number
  /** Nothing either way. */
  readonly idleMs: number
  /** The same once one side has ended. */
  readonly halfClosedMs: number
}

/** Idle: IMAP's IDLE is renewed after 29 minutes, and other silent protocols send keep-alives far sooner. */
export const RELAY_LIMITS: RelayLimits = { helloMs: 10_000, idleMs: 30 * 60_000, halfClosedMs: 5 * 60_000 }

/** What all records of one connection say. */
interface About {
  readonly connection: number
  readonly name: string | null
  readonly dialled: string
  readonly port: number
  readonly rule: number | null
  readonly sni: string | null
}
export interface Opened extends About { readonly address: string; readonly ech: boolean; readonly alpn: readonly string[]; readonly code: string; readonly ms: number }
export interface Closed extends About {
  readonly address: string
  readonly bytesOut: number
  readonly bytesIn: number
  readonly ms: number
  readonly by: 'plugin' | 'peer' | 'door'
  readonly code: ReasonCode | null
  readonly requests: number
}
export interface Refused extends About { readonly addresses: readonly string[]; readonly host: string | null; readonly code: ReasonCode; readonly say: string; readonly ms: number }

type Target = { readonly kind: 'name'; readonly name: HostName } | { readonly kind: 'literal'; readonly address: IpBytes }
type Allowed = Extract<Decision, { verdict: 'allow' }>
type Fault = Pick<Refused, 'code' | 'say'> & { readonly rule?: number | null; readonly host?: string | null; readonly addresses?: readonly string[] }

const NOTHING = Buffer.alloc(0)
/** What a plugin sends with a decoy in it goes nowhere. */
const TOUCHED: Refusal = { code: 'tripwire', say: REASONS.tripwire, host: null }

/** Nobody reads it; without one each end of a connection would make an error with its stack. */
const OVER = 'over'

/** Stricter looks at the bytes have a higher rank. */
const TLS_RANK = { off: 0, auto: 1, require: 2 } as const

/**
 * One connection of a plugin, from accept to close. The address that the plugin dialled says which name it means; the rules decide, the first bytes
 * must agree, the real name is resolved and each address judged, exactly a judged one is dialled, the opening is on record, and
 * only then do bytes pass, unchanged, as fast as the slower side takes them.
 */
export class Relay {
  readonly id: number
  readonly dialled: string
  readonly port: number
  readonly #client: Socket
  readonly #run: RelayRun
  readonly #started: number
  readonly #abort = new AbortController()
  readonly #done: Promise<void>
  #finish: () => void = () => {}
  #upstream: Socket | null = null
  #target: Target | null = null
  #decision: Allowed | null = null
  #inspector: Inspector | null = null
  readonly #scan: DecoyScan | null
  #address = ''
  /** Its opening is being written; what ends it meanwhile is told when the answer is there. */
  #recording = false
  #endedEarly: { readonly fault: Fault; readonly by: Closed['by'] } | null = null
  #opened = false
  #openedAt = 0
  #clientEnded = false
  #upstreamEnded = false
  #firstEnd: 'plugin' | 'peer' | null = null
  #idle: NodeJS.Timeout | undefined
  #over = false
  bytesOut = 0
  bytesIn = 0

  /** @param local what the plugin dialled, as the kernel says: localAddress and localPort of the accepted socket */
  constructor(id: number, client: Socket, local: { readonly address: string; readonly port: number }, run: RelayRun) {
    this.id = id
    this.#client = client
    this.#run = run
    this.#scan = run.scan()
    this.#started = run.ticks()
    this.port = local.port
    const bytes = parseIp(local.address)
    this.dialled = bytes === null ? local.address.slice(0, 45) : formatIp(unmapped(bytes))
    this.#done = new Promise((resolve) => { this.#finish = resolve })
    client.on('error', () => this.#ended('plugin', true))
    client.on('end', () => {
      this.#clientEnded = true
      this.#firstEnd ??= 'plugin'
    })
    client.on('close', () => this.#ended('plugin', false))
  }

  /** Open and on record: what `cordon egress` lists. */
  get isOpen(): boolean {
    return this.#opened && !this.#over
  }

  get name(): string | null {
    return this.#target?.kind === 'name' ? this.#target.name : null
  }

  view(): { connection: number; name: string | null; address: string; port: number; rule: number | null; sni: string | null; bytesOut: number; bytesIn: number; ms: number } {
    const { connection, name, port, rule, sni } = this.#about()
    return { connection, name, address: this.#address, port, rule, sni, bytesOut: this.bytesOut, bytesIn: this.bytesIn, ms: this.#since(this.#openedAt) }
  }

  /** Carries it from accept to close; resolves when nothing of it is left, never rejects. */
  async serve(): Promise<void> {
    try {
      const fault = await this.#open()
      if (fault !== null) this.#refuse(fault)
    } catch (error) {
      // Nothing in #open throws by design; a defect must cost this connection only, and be on record.
      this.#refuse({ code: 'connect-failed', say: printableWithin(String(error), 300) })
    }
    await this.#done
  }

  /**
   * A side that has ended is no longer read, so the kernel's word that it is reset reaches nobody, and the connection would keep its
   * place until it counts as idle. Writing nothing to it asks: tcp_sendmsg reports a socket's error also for no bytes.
   */
  probe(): void {
    if (!this.isOpen) return
    const ended = [this.#clientEnded ? this.#client : null, this.#upstreamEnded ? this.#upstream : null]
    for (const side of ended) if (side?.writable === true && side.writableLength === 0) side.write(NOTHING)
  }

  /** Which way what one side has sent waits, because the other does not read as fast: the kernel's buffers are filling. */
  get heldUp(): { readonly in: boolean; readonly out: boolean } {
    return { in: this.isOpen && this.#client.writableNeedDrain, out: this.isOpen && this.#upstream?.writableNeedDrain === true }
  }

  /** The door's own end of it: rules changed, budget spent, run stopped. */
  close(code: ReasonCode): void {
    if (this.#opened) this.#close('door', code)
    else this.#refuse(reason(code))
  }

  /** After a change of rules or of time: does it still hold? Closes it if not. @returns whether it was closed */
  rejudge(): boolean {
    const { isOpen } = this
    const decision = this.#decide()
    const before = this.#decision
    if (this.#over || before === null || decision === null) return false // not decided yet: #open asks the new rules
    const misfit = decision.verdict === 'allow' ? this.#misfit(before.permit, decision.permit) : before.code === 'learning' ? 'learning-ended' : decision.code === 'rule-expired' ? decision.code : 'policy-changed'
    if (misfit === null && decision.verdict === 'allow') {
      this.#decision = decision
      return false
    }
    this.close(misfit ?? 'policy-changed')
    return isOpen
  }

  /** Why what was let through under one permit is not under another, or with other addresses of the host; null: it is. */
  #misfit(before: Permit, now: Permit): ReasonCode | null {
    const seen = this.#inspector?.seen
    if (TLS_RANK[now.tls] > TLS_RANK[before.tls] && seen?.sni !== this.name) return 'policy-changed'
    if (seen?.ech === true && !now.ech) return 'policy-changed'
    const bytes = this.#address === '' ? null : parseIp(this.#address)
    const judged = bytes === null ? null : judgeAddress(bytes, { ...this.#run.host(), port: this.port, private: now.private, hostInternal: now.hostInternal })
    if (judged === null || 'allowed' in judged) return null
    return before.private === now.private && before.hostInternal === now.hostInternal ? judged.refused : 'policy-changed'
  }

  /** @returns why not, or null once bytes pass (or the connection is over already) */
  async #open(): Promise<Fault | null> {
    const target = this.#readTarget()
    if ('code' in target) return target
    this.#target = target
    const decision = this.#decide()
    if (decision === null) return reason('name-not-allowed')
    if (decision.verdict === 'refuse') return decision
    this.#decision = decision
    if (this.#run.budget.isSpent(this.#run.now())) return reason('budget-spent')
    const inspector = new Inspector(decision.permit, target.kind === 'name' ? target.name : null, this.port)
    this.#inspector = inspector

    let first: readonly Buffer[] = []
    if (inspector.waits) {
      const opening = await this.#readOpening(inspector)
      if (this.#over) return null
      if ('code' in opening) return opening
      first = opening.pass
    }
    const addresses = await this.#judgedAddresses(target, () => (this.#decision ?? decision).permit)
    if (this.#over) return null
    if ('code' in addresses) return addresses
    const dialled = await this.#run.dial(addresses, this.port, this.#abort.signal)
    if ('failed' in dialled) return this.#over ? null : { ...reason(dialled.failed), addresses }
    if (this.#over) {
      dialled.socket.destroy()
      return null
    }
    this.#adopt(dialled.socket, dialled.address)
    // The rules, or the host's own addresses, may be others than when it was resolved.
    const misfit = this.#misfit(decision.permit, (this.#decision ?? decision).permit)
    if (misfit !== null) return { ...reason(misfit), addresses }
    this.#recording = true
    const recorded = await this.#run.opened(this.#openedEvent(this.#decision ?? decision)).then(() => true, () => false)
    this.#recording = false
    const early = this.#endedEarly
    if (early !== null) {
      // It keeps its place until here, so that no more openings wait for the log than there are places.
      if (recorded) this.#tellClosed(early.by, early.fault.code)
      else this.#run.refused(this.#refusedEvent(early.fault))
      this.#finish()
      return null
    }
    if (!recorded) return { ...reason('not-recorded'), addresses }
    this.#openedAt = this.#run.ticks()
    this.#opened = true
    this.#pump(first)
    return null
  }

  #readTarget(): Target | Fault {
    const bytes = parseIp(this.dialled)
    if (bytes === null) return reason('synthetic-unknown')
    if (bytes.length === 4 ? bytes[0] === 127 || bytes.every((byte) => byte === 0) || this.dialled === '198.18.0.1' : bytes.subarray(0, 15).every((byte) => byte === 0) && (bytes[15] ?? 0) < 2) return reason('loopback-reset')
    if (!isSynthetic(this.dialled)) return { kind: 'literal', address: bytes }
    const name = parseHostName(this.#run.nameOf(this.dialled) ?? '')
    return name.ok ? { kind: 'name', name: name.name } : reason('synthetic-unknown')
  }

  #decide(): Decision | null {
    const target = this.#target
    if (target === null) return null
    const [egress, now] = [this.#run.egress(), this.#run.now()]
    return target.kind === 'name' ? decideName(egress, target.name, this.port, now) : decideAddress(egress, target.address, this.port, now)
  }

  /** The plugin's first bytes up to where they are judged; bounded in size by the inspector, in time here. */
  #readOpening(inspector: Inspector): Promise<{ readonly pass: readonly Buffer[] } | Refusal> {
    const client = this.#client
    return new Promise((resolve) => {
      const settle = (outcome: { readonly pass: readonly Buffer[] } | Refusal): void => {
        clearTimeout(timer)
        client.pause()
        client.off('data', data)
        client.off('end', end)
        client.off('close', gone)
        resolve(outcome)
      }
      const data = (bytes: Buffer): void => {
        if (this.#scan?.feed(bytes) === true) return settle(TOUCHED)
        const { pass, refused } = inspector.feed(bytes)
        if (refused !== null) settle(refused)
        else if (pass.length > 0) settle({ pass })
      }
      const end = (): void => settle(inspector.end('end') ?? { pass: [] })
      const gone = (): void => settle({ pass: [] })
      const timer = setTimeout(() => settle(inspector.end('timeout') ?? { pass: [] }), this.#run.limits.helloMs)
      client.on('data', data)
      client.on('end', end)
      client.on('close', gone)
      if (this.#clientEnded) end()
      else client.resume()
    })
  }

  /** Every address that may be dialled, or why there is none. */
  async #judgedAddresses(target: Target, permitNow: () => Permit): Promise<string[] | Fault> {
    const found = await this.#candidates(target, permitNow())
    if ('code' in found) return found
    const permit = permitNow() // rules that were changed while it was resolved hold for it too
    const allowed: string[] = []
    let fault: Fault | null = null
    for (const text of found) {
      const bytes = parseIp(text)
      if (bytes === null) continue // a resolver's text that is no address: nothing to dial
      const verdict = judgeAddress(bytes, { ...this.#run.host(), port: this.port, private: permit.private, hostInternal: permit.hostInternal })
      if ('allowed' in verdict) allowed.push(formatIp(verdict.address))
      else fault ??= { code: verdict.refused, say: target.kind === 'name' ? `${target.name}: ${verdict.say}` : verdict.say, addresses: found }
    }
    return allowed.length > 0 ? [...new Set(allowed)] : (fault ?? reason('resolve-empty'))
  }

  async #candidates(target: Target, permit: Permit): Promise<readonly string[] | Fault> {
    if (target.kind === 'literal') return [formatIp(target.address)]
    if (permit.hostInternal && target.name === HOST_INTERNAL) return ['127.0.0.1', '::1']
    const resolved = await this.#run.resolve(target.name)
    return 'failed' in resolved ? { code: resolved.failed, say: `${target.name}: ${REASONS[resolved.failed]}` } : resolved.addresses
  }

  #adopt(upstream: Socket, address: string): void {
    this.#upstream = upstream
    this.#address = address
    upstream.on('error', () => this.#ended('peer', true))
    upstream.on('end', () => {
      this.#upstreamEnded = true
      this.#firstEnd ??= 'peer'
    })
    upstream.on('close', () => this.#ended('peer', false))
  }

  /** Both ways, each at the pace of its reader; an ended side is ended on the other, and the other way goes on. */
  #pump(first: readonly Buffer[]): void {
    const [client, upstream, inspector] = [this.#client, this.#upstream, this.#inspector]
    if (upstream === null || inspector === null) return
    this.#idle = setTimeout(() => this.#close('door', 'idle'), this.#run.limits.idleMs)
    if (!this.#send(first, upstream)) return
    client.on('data', (bytes: Buffer) => {
      this.#idle?.refresh()
      if (this.#scan?.feed(bytes) === true) return this.#refuseLate(TOUCHED)
      const { pass, refused } = inspector.feed(bytes)
      if (!this.#send(pass, upstream)) return
      if (refused !== null) return this.#refuseLate(refused)
      if (upstream.writableNeedDrain) client.pause()
    })
    upstream.on('drain', () => client.resume())
    upstream.on('data', (bytes: Buffer) => {
      this.#idle?.refresh()
      this.bytesIn += bytes.length
      if (!client.write(bytes)) upstream.pause()
    })
    client.on('drain', () => upstream.resume())
    const clientEnd = (): void => {
      const refused = inspector.end('end')
      if (refused !== null && inspector.pending) return this.#refuseLate(refused)
      this.#halfClosed()
      upstream.end()
    }
    const upstreamEnd = (): void => {
      this.#halfClosed()
      client.end()
    }
    if (this.#clientEnded) clientEnd()
    else client.once('end', clientEnd)
    if (this.#upstreamEnded) upstreamEnd()
    else upstream.once('end', upstreamEnd)
    if (upstream.writableNeedDrain) client.pause()
    else client.resume()
    upstream.resume()
  }

  /** @returns false when the day's bytes are spent and the connection was closed for it */
  #send(parts: readonly Buffer[], upstream: Socket): boolean {
    for (const part of parts) {
      if (!this.#run.budget.take(part.length, this.#run.now())) {
        this.#close('door', 'budget-spent')
        return false
      }
      this.bytesOut += part.length
      upstream.write(part)
    }
    return true
  }

  #halfClosed(): void {
    if (this.#over) return
    clearTimeout(this.#idle)
    this.#idle = setTimeout(() => this.#close('door', 'idle'), this.#run.limits.halfClosedMs)
  }

  /** A side is gone. Without an error both halves were ended, and the other side ends by itself. */
  #ended(who: 'plugin' | 'peer', broken: boolean): void {
    if (this.#over) return
    if (!this.#opened) {
      if (who === 'plugin') this.#refuse(reason('plugin-left'), 'plugin')
      else if (broken) this.#refuse(reason('connect-failed'), 'peer')
      return
    }
    if (broken) return this.#close(this.#firstEnd ?? who, null)
    if (this.#client.destroyed && (this.#upstream?.destroyed ?? true)) this.#close(this.#firstEnd ?? who, null)
  }

  #refuseLate(refusal: Refusal): void {
    this.#run.refused(this.#refusedEvent(refusal))
    this.#close('door', refusal.code)
  }

  #refuse(fault: Fault, by: Closed['by'] = 'door'): void {
    if (this.#over) return
    if (this.#recording) this.#endedEarly = { fault, by }
    else this.#run.refused(this.#refusedEvent(fault))
    this.#end()
  }

  #close(by: Closed['by'], code: ReasonCode | null): void {
    if (this.#over) return
    this.#tellClosed(by, code)
    this.#end()
  }

  #tellClosed(by: Closed['by'], code: ReasonCode | null): void {
    this.#run.closed({
      ...this.#about(), address: this.#address, bytesOut: this.bytesOut, bytesIn: this.bytesIn, ms: this.#opened ? this.#since(this.#openedAt) : 0, by, code,
      requests: this.#inspector?.seen.requests ?? 0,
    })
  }

  /** Nothing of it is left: what is not closed yet is reset, so that no program waits for what will not come. */
  #end(): void {
    this.#over = true
    clearTimeout(this.#idle)
    this.#abort.abort(OVER)
    for (const socket of [this.#client, this.#upstream]) if (socket !== null && !socket.destroyed) socket.resetAndDestroy()
    if (!this.#recording) this.#finish()
  }

  #since(ticks: number): number {
    return Math.max(0, Math.round(this.#run.ticks() - ticks))
  }

  #about(): About {
    return { connection: this.id, name: this.name, dialled: this.dialled, port: this.port, rule: this.#decision?.rule ?? null, sni: this.#inspector?.seen.sni?.slice(0, 253) ?? null }
  }

  #openedEvent({ code }: Allowed): Opened {
    const { ech = false, alpn = [] } = this.#inspector?.seen ?? {}
    return { ...this.#about(), address: this.#address, ech, alpn, code, ms: this.#since(this.#started) }
  }

  #refusedEvent({ code, say, rule, host = null, addresses = [] }: Fault): Refused {
    const about = this.#about()
    return { ...about, rule: rule ?? about.rule, addresses, host: host?.slice(0, 253) ?? null, code, say: printableWithin(say, 600), ms: this.#since(this.#started) }
  }
}

function reason(code: ReasonCode): Fault {
  return { code, say: REASONS[code] }
}
