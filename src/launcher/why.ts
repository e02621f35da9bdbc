import type { DoorStats } from '../wire/door.ts'
import type { WhyAnswer } from '../wire/operator-answers.ts'
import type { PluginStatus } from '../wire/requests.ts'

type Step = WhyAnswer['steps'][number]

export interface WhyFacts {
  readonly name: string
  /** null: no such plugin. */
  readonly status: PluginStatus | null
  /** Its policy was refused at the last load: the first problem, with file and position. */
  readonly refused: { readonly message: string; readonly hint: string } | null
  readonly policiesDir: string
  readonly gatewayPort: number | null
  readonly gatewayReason: string | null
  readonly auditError: string | null
  /** What the door of its run refused, the latest last; texts are printable. */
  readonly refusals: DoorStats['refused']
  /** System calls that its filter refuses are on record. */
  readonly recordsRefusedCalls: boolean
}

/** Of the refusals; `cordon egress` shows more. */
const TOLD = 3

/** The causes of "it does not work", in the order in which they must be mended. Pure. */
export function explainWhy(facts: WhyFacts): WhyAnswer {
  const { name, status } = facts
  const steps: Step[] = []
  const step = (ok: boolean, good: string, bad: string, fix: string | null): boolean => {
    steps.push({ ok, text: ok ? good : bad, fix: ok ? null : fix })
    return ok
  }
  const all = ((): boolean => {
    if (status?.state === 'quarantined') return step(false, '', `it is in quarantine: ${status.reason ?? ''}`, `Look first: cordon audit tail --plugin ${name}. Then: cordon release ${name} --reason TEXT`)
    if (facts.refused !== null) return step(false, '', `its policy was refused: ${facts.refused.message}`, `${facts.refused.hint} Then: cordon reload`)
    if (status === null) return step(false, '', `there is no plugin "${name}"`, `cordon policy init ${name} && cordon reload`)
    if (!step(status.state !== 'waiting', 'it has a valid policy', `it has no policy in ${facts.policiesDir}, so nothing is granted and it does not run`, `cordon policy init ${name} && cordon reload`)) return false
    if (!step(status.state !== 'disabled', 'it is enabled', 'it is disabled', `cordon enable ${name} && cordon start ${name}`)) return false
    if (!step(facts.auditError === null, 'the audit log takes records', `the audit log cannot be written, so ${status.state === 'paused' ? 'it stands still, as its policy says' : 'nothing is started'}: ${facts.auditError ?? ''}`, 'Make room or repair the file system; recording goes on by itself.')) return false
    if (!step(facts.gatewayPort !== null, `the gateway serves on port ${facts.gatewayPort}`, `the gateway does not serve: ${facts.gatewayReason ?? 'it is starting'}`, 'Look at the daemon log: journalctl -u cordon')) return false
    switch (status.state) {
      case 'running': return step(true, `it runs${status.version === null ? '' : ` (version ${status.version})`}`, '', null)
      case 'paused': return step(false, '', `it stands still: ${status.reason ?? ''}`, 'Make room or repair the file system; it runs on by itself.')
      case 'starting': return step(false, '', 'it is starting; a plugin has 30 s for each step of the handshake', `cordon status ${name}`)
      case 'stopping': return step(false, '', 'it is being stopped', `cordon status ${name}`)
      case 'stopped': return step(false, '', status.reason === null ? 'it is stopped' : `it is stopped: ${status.reason}`, `cordon start ${name}`)
      case 'backoff': return step(false, '', `it failed and waits for its next start: ${status.reason ?? ''}`, fixFor(status))
      case 'failed': return step(false, '', `it failed: ${status.reason ?? ''}`, fixFor(status))
      case 'waiting':
      case 'disabled': return false
      default: return status.state satisfies never
    }
  })()
  if (all && status?.learning != null) steps.push({ ok: true, text: `LEARNING, NOT PROTECTED until ${status.learning}`, fix: null })
  if (all && facts.refusals.length > 0) step(false, '', `it runs, and its door refused ${refused(facts.refusals)}`, fixForRefusals(name, facts.refusals))
  if (all && status !== null && status.unenforced.length > 0) steps.push({ ok: true, text: `it runs WITHOUT these walls, as its policy says: ${status.unenforced.join(', ')}`, fix: null })
  if (all && !facts.recordsRefusedCalls) steps.push({ ok: true, text: 'system calls that its filter refuses are not recorded on this host: that needs crun and a readable /dev/kmsg', fix: null })
  return { steps }
}

/** Nobody shall open what a decoy was laid out for. */
function fixForRefusals(name: string, refusals: WhyFacts['refusals']): string {
  return refusals.some(({ code }) => code === 'tripwire')
    ? `It touched a decoy: treat it as hostile. cordon quarantine ${name}; then: cordon audit tail --plugin ${name}`
    : `If it needs that, add a line to egress.allow of its policy, then: cordon policy apply ${name}. cordon egress ${name} shows all of it.`
}

/** The latest first. */
function refused(refusals: WhyFacts['refusals']): string {
  const told = refusals.slice(-TOLD).reverse().map(({ what, say, count }) => `${what} (${count}×): ${say}`)
  return `${told.join(' | ')}${refusals.length > TOLD ? ` | and ${refusals.length - TOLD} more` : ''}`.slice(0, 3900)
}

/** The line that mends it, by what the reason begins with. */
function fixFor(status: PluginStatus): string {
  const { name, reason } = status
  const text = reason ?? ''
  if (text.includes('oom-kill')) return `Raise limits.MemoryMax in its policy, then: cordon reload && cordon start ${name}`
  if (text.includes('STORE_PIN_MISMATCH')) return `If the new program is the one that you want, put its sha256 into the policy, then: cordon reload && cordon start ${name}`
  if (text.includes('STORE_')) return `Mend the file that executable.path names, then: cordon start ${name}`
  if (text.includes('HANDSHAKE_NAME')) return `Name policy file and plugin: as the manifest does, or install the right program, then: cordon reload`
  if (text.includes('PLAN_UNENFORCEABLE')) return 'Drop the limit, or list it under unenforced: in its policy, then: cordon reload'
  if (text.startsWith('start-limit')) return `cordon logs ${name}; when it is mended: cordon start ${name}`
  return `cordon logs ${name}`
}
