/** How many records one plugin may cause. A record costs one token per COST_BYTES begun, so long records use it up sooner. */
export interface BudgetLimits {
  readonly burst: number
  readonly perSecond: number
}

export const DEFAULT_BUDGET: BudgetLimits = { burst: 200, perSecond: 20 }
/**
 * Connections that a policy lets through are a plugin's work, and each has two records: 1,000 a second for ever, which is what the door
 * promises, and a tenth more for refusals. Less would break that promise in the end (at 200 records a second after half a minute), since
 * what is not on record is not connected; the kernel's pace (PACE in plan/nftables.ts) keeps a plugin below it, so that it waits rather than is
 * refused. It does not protect the disk: at this rate the log grows by about 1 MB a second, and a quarter of that would only fill it later.
 */
export const DOOR_BUDGET: BudgetLimits = { burst: 20_000, perSecond: 2_200 }
/**
 * Kept for records that tell what became of the plugin (see EVIDENCE), so that a plugin cannot hide its own violation
 * behind noise that it made before.
 */
const EVIDENCE_BUDGET: BudgetLimits = { burst: 20, perSecond: 1 }
const EVIDENCE = new Set(['isolation.violated', 'seccomp.refused', 'programs.seen', 'plugin.exited', 'plugin.failed', 'plugin.stop', 'plugin.disabled', 'plugin.resumed', 'run.ended'])
const COST_BYTES = 2048
/** A compromised gateway could invent plugin names; names beyond this many share one account. */
const MAX_ACCOUNTS = 1024
const SHARED = '(others)'
const SWEEP_MS = 1000

interface Bucket { tokens: number; at: number }

interface Account {
  readonly plain: Bucket
  readonly evidence: Bucket
  /** Records that were coalesced since the last `gap` record, per type. */
  coalesced: Map<string, number>
  since: number
}

/** Token buckets per plugin, and the counts of what did not fit. Time (milliseconds, monotonic) is an argument. */
export class RecordBudget {
  readonly #limits: BudgetLimits
  readonly #accounts = new Map<string, Account>()
  #sweptAt = -Infinity

  constructor(limits: BudgetLimits) {
    this.#limits = limits
  }

  /** May this record be written? Takes its tokens if so. */
  take(plugin: string, type: string, bytes: number, nowMs: number): boolean {
    const account = this.#account(plugin, nowMs)
    const cost = Math.max(1, Math.ceil(bytes / COST_BYTES))
    if (draw(account.plain, this.#limits, cost, nowMs)) return true
    return EVIDENCE.has(type) && draw(account.evidence, EVIDENCE_BUDGET, cost, nowMs)
  }

  coalesce(plugin: string, type: string, nowMs: number, wallMs: number): void {
    const account = this.#account(plugin, nowMs)
    if (account.coalesced.size === 0) account.since = wallMs
    account.coalesced.set(type, (account.coalesced.get(type) ?? 0) + 1)
  }

  /** What was coalesced since the last call, per plugin. */
  drain(): { readonly plugin: string; readonly counts: Record<string, number>; readonly sinceMs: number }[] {
    const drained = []
    for (const [plugin, account] of this.#accounts) {
      if (account.coalesced.size === 0) continue
      drained.push({ plugin, counts: Object.fromEntries(account.coalesced), sinceMs: account.since })
      account.coalesced = new Map()
    }
    return drained
  }

  overdrawn(): string[] {
    return [...this.#accounts].filter(([, account]) => account.coalesced.size > 0).map(([plugin]) => plugin)
  }

  #account(plugin: string, nowMs: number): Account {
    let account = this.#accounts.get(plugin)
    if (account !== undefined) return account
    if (this.#accounts.size >= MAX_ACCOUNTS && nowMs - this.#sweptAt > SWEEP_MS) this.#sweep(nowMs)
    if (this.#accounts.size >= MAX_ACCOUNTS && plugin !== SHARED) return this.#account(SHARED, nowMs)
    account = { plain: { tokens: this.#limits.burst, at: nowMs }, evidence: { tokens: EVIDENCE_BUDGET.burst, at: nowMs }, coalesced: new Map(), since: 0 }
    this.#accounts.set(plugin, account)
    return account
  }

  /** Forget accounts that are as good as new. */
  #sweep(nowMs: number): void {
    this.#sweptAt = nowMs
    for (const [plugin, account] of this.#accounts) {
      const full = refill(account.plain, this.#limits, nowMs) >= this.#limits.burst && refill(account.evidence, EVIDENCE_BUDGET, nowMs) >= EVIDENCE_BUDGET.burst
      if (full && account.coalesced.size === 0) this.#accounts.delete(plugin)
    }
  }
}

function refill(bucket: Bucket, limits: BudgetLimits, nowMs: number): number {
  bucket.tokens = Math.min(limits.burst, bucket.tokens + (Math.max(0, nowMs - bucket.at) * limits.perSecond) / 1000)
  bucket.at = Math.max(bucket.at, nowMs)
  return bucket.tokens
}

function draw(bucket: Bucket, limits: BudgetLimits, cost: number, nowMs: number): boolean {
  if (refill(bucket, limits, nowMs) < cost) return false
  bucket.tokens -= cost
  return true
}
