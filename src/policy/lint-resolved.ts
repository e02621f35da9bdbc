import type { Egress, EgressRule } from '../base/egress-rule.ts'
import { formatIp, parseIp, type IpBytes } from '../base/ip-address.ts'
import { printable } from '../base/printable.ts'
import { classifyAddress } from '../base/special-addresses.ts'

/**
 * The host's resolver, as asked for one name: its addresses, none if there are none. Rejects when it cannot say; must obey the signal.
 */
export type AskResolver = (name: string, signal: AbortSignal) => Promise<readonly string[]>

/** A blocked name is often left unanswered; nobody waits longer than this for a warning. */
const RESOLVE_TIMEOUT_MS = 3000
/** Names asked for at once. */
const AT_ONCE = 8

/**
 * What the host's resolver says today about the names of a policy, where that will surprise its author: filters such as Pi-hole
 * answer 0.0.0.0, home resolvers answer private addresses. Names alone; what a wildcard covers cannot be asked for.
 * @returns sentences, in the order of the rules; never rejects
 */
export async function lintResolved(egress: Egress, ask: AskResolver, timeoutMs: number = RESOLVE_TIMEOUT_MS): Promise<string[]> {
  const named = new Map<string, EgressRule>()
  for (const rule of egress.allow) if (rule.match.kind === 'host' && !named.has(rule.match.name)) named.set(rule.match.name, rule)
  const queue = [...named]
  const found: string[][] = []
  for (let at = 0; at < queue.length; at += AT_ONCE) {
    found.push(...await Promise.all(queue.slice(at, at + AT_ONCE).map(([name, rule]) => lintName(name, rule, ask, timeoutMs))))
  }
  return found.flat()
}

async function lintName(name: string, rule: EgressRule, ask: AskResolver, timeoutMs: number): Promise<string[]> {
  const signal = AbortSignal.timeout(timeoutMs)
  const late = new Promise<never>((_resolve, reject) => signal.addEventListener('abort', () => reject(new Error(`no answer within ${timeoutMs / 1000} s`)), { once: true }))
  try {
    const texts = await Promise.race([ask(name, signal), late])
    if (texts.length === 0) return [`${name} has no address for this host's resolver today; a filter such as Pi-hole may hide it`]
    const addresses = texts.map(parseIp)
    return addresses.flatMap((address, index) => (address === null ? [`${name} resolves to "${printable(texts[index] ?? '', 60)}", which is no address`] : lintAddress(name, address, rule)))
  } catch (error) {
    return [`${name} could not be resolved on this host today: ${printable(error instanceof Error ? error.message : String(error), 120)}`]
  }
}

function lintAddress(name: string, bytes: IpBytes, rule: EgressRule): string[] {
  const { address, kind, row } = classifyAddress(bytes)
  const text = `${name} resolves to ${formatIp(address)} on this host today`
  switch (kind) {
    case 'global': return []
    case 'private':
    case 'shared':
    case 'unique-local':
      return rule.private ? [] : [`${text}, which is private (${row.block}): connections will be refused; add private: true if that is meant`]
    case 'unspecified':
      return [`${text}: a DNS filter (Pi-hole, AdGuard) blocks it; connections will be refused until the filter lets it through`]
    case 'loopback':
      return [`${text}, the loopback: a DNS filter or /etc/hosts says so; connections will be refused; for a service of this host use host: host.internal`]
    default:
      return [`${text}, which is ${row.name} (${row.block}): connections will be refused, and no rule can open it`]
  }
}
