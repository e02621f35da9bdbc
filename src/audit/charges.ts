import { DEFAULT_BUDGET, DOOR_BUDGET, RecordBudget, type BudgetLimits } from './budget.ts'
import { CATALOGUE } from './catalogue.ts'
import type { Stamp } from './entry.ts'
import type { AuditEvent, AuditOrigin } from './record.ts'

/** Records of the gateway that name no plugin (a stranger's requests) share one budget. */
const GATEWAY_ACCOUNT = '(gateway)'

/** Whose budget a record is charged to; null: the launcher's own and what an operator did are never limited. */
export function accountOf(event: AuditEvent, origin: AuditOrigin): string | null {
  if (origin === 'operator') return null
  if (origin === 'run') return `cordon run ${'of' in event && typeof event.of === 'string' ? event.of : 'run' in event ? String(event.run) : ''}`
  if ('plugin' in event && typeof event.plugin === 'string') return event.plugin
  return origin === 'gateway' ? GATEWAY_ACCOUNT : null
}

/** The budgets of all accounts: what the door says of connections has one of its own, which a plugin's other records cannot use up. */
export class Charges {
  readonly #plain: RecordBudget
  readonly #door = new RecordBudget(DOOR_BUDGET)

  constructor(limits: BudgetLimits = DEFAULT_BUDGET) {
    this.#plain = new RecordBudget(limits)
  }

  /** @returns false: not within the budget of that account; then it was counted instead */
  charge(account: string, event: AuditEvent, origin: AuditOrigin, bytes: number, { monoMs, wallMs }: Stamp): boolean {
    const budget = origin === 'door' || (origin === 'run' && CATALOGUE.get(event.type)?.source === 'door') ? this.#door : this.#plain
    if (budget.take(account, event.type, bytes, monoMs)) return true
    budget.coalesce(account, event.type, monoMs, wallMs)
    return false
  }

  /** What was counted since the last call, per account. */
  drain(): ReturnType<RecordBudget['drain']> {
    return [...this.#plain.drain(), ...this.#door.drain()]
  }

  overdrawn(): string[] {
    return [...new Set([...this.#plain.overdrawn(), ...this.#door.overdrawn()])]
  }
}
