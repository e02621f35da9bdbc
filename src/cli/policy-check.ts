import { basename } from 'node:path'
import { ERRORS } from '../errors.ts'
import { loadPolicies, loadPolicy, type LoadedPolicy } from '../policy/load.ts'
import { loadHostConfig } from '../policy/load-host-config.ts'
import { lintEnded } from '../policy/lint-egress.ts'
import { lintResolved, type AskResolver } from '../policy/lint-resolved.ts'
import type { Policy } from '../policy/policy.ts'
import { PolicyError, position, type PolicyProblem, type PolicyWarning } from '../policy/problem.ts'
import type { CommandIo } from './io.ts'
import { loadOptions, policyFile, readOptions, type PolicyCommandOptions } from './policy-options.ts'
import { askResolver } from './resolver.ts'
import { lintUnused } from './unused-rules.ts'

interface Report {
  readonly file: string
  readonly plugin: string | null
  readonly digest: string | null
  readonly problems: readonly (PolicyProblem | { readonly code: keyof typeof ERRORS; readonly message: string; readonly hint: string })[]
  readonly warnings: readonly (PolicyWarning | { readonly message: string })[]
}

interface Checked extends Report {
  /** What was accepted; null for anything else. Never printed. */
  readonly policy: Policy | null
}

/**
 * `cordon policy check [NAME|FILE …]`: every problem of every file in one run. Without arguments: all policies of this host,
 * and then owner and mode count as problems too; for a named file, which may be a draft, they are warnings.
 * A file named cordon.yaml is checked as the host's configuration. `--resolve` also asks this host's resolver for the names in it,
 * `--used` the audit log for rules that nothing used.
 * @returns 0, or the exit status of the first problem
 * @throws CordonError USAGE_BAD_OPTION; PolicyError when the directory itself cannot be read
 */
export async function policyCheck(args: readonly string[], io: CommandIo, options: PolicyCommandOptions, ask: AskResolver = askResolver, signal: AbortSignal = new AbortController().signal): Promise<number> {
  const { values, positionals } = readOptions('policy check', args, { resolve: { type: 'boolean' }, used: { type: 'boolean' } })
  const checked = positionals.length === 0 ? checkHost(options) : positionals.map((word) => checkFile(policyFile(word, options.config), options))
  const reports: Report[] = []
  for (const { policy, ...report } of checked) {
    const now = Date.now()
    const today = policy === null ? [] : [
      ...lintEnded(policy.egress, now), ...(values.resolve === true ? await lintResolved(policy.egress, ask) : []),
      ...(values.used === true ? await lintUnused(`${options.config.stateDir}/audit`, policy.plugin, policy.egress, now, signal) : []),
    ]
    reports.push({ ...report, warnings: [...report.warnings, ...today.map((message) => ({ message }))] })
  }
  const first = reports.flatMap((report) => report.problems)[0]
  if (io.json) io.out(JSON.stringify({ ok: first === undefined, files: reports }))
  else for (const line of reports.length === 0 ? [`no policies in ${options.config.policiesDir}`] : reports.flatMap(describe)) io.out(line)
  return first === undefined ? 0 : ERRORS[first.code].exit
}

function checkHost(options: PolicyCommandOptions): Checked[] {
  const set = loadPolicies(options.config.policiesDir, loadOptions(options, 'reported'))
  return [
    ...set.refused.map((one) => refused(one.file, one.plugin, one.error)),
    ...[...set.loaded.values()].map((one) => {
      const report = accepted(one)
      return { ...report, problems: one.distrust.map((message) => ({ code: 'POLICY_UNTRUSTED' as const, message, hint: ERRORS.POLICY_UNTRUSTED.hint })) }
    }),
    ...set.ignored.map((name) => ({ file: `${options.config.policiesDir}/${name}`, plugin: null, digest: null, problems: [], warnings: [{ message: 'is no policy (its name does not end in .yaml) and is ignored' }], policy: null })),
  ]
}

function checkFile(file: string, options: PolicyCommandOptions): Checked {
  try {
    if (basename(file) === 'cordon.yaml') {
      const { distrust, warnings } = loadHostConfig(file, 'reported', true)
      return { file, plugin: null, digest: null, problems: [], warnings: [...warnings, ...draftWarnings(distrust)], policy: null }
    }
    const loaded = loadPolicy(file, loadOptions(options, 'reported'))
    const report = accepted(loaded)
    return { ...report, warnings: [...report.warnings, ...draftWarnings(loaded.distrust)] }
  } catch (error) {
    if (error instanceof PolicyError) return refused(file, null, error)
    throw error
  }
}

function accepted(loaded: LoadedPolicy): Checked {
  return { file: loaded.file, plugin: loaded.policy.plugin, digest: loaded.digest, problems: [], warnings: loaded.warnings, policy: loaded.policy }
}

function refused(file: string, plugin: string | null, error: PolicyError): Checked {
  const problems = error.problems.length > 0 ? error.problems : [{ code: error.code, message: error.message, hint: error.hint }]
  return { file, plugin, digest: null, problems, warnings: [], policy: null }
}

function draftWarnings(distrust: readonly string[]): { message: string }[] {
  return distrust.map((why) => ({ message: `the daemon would refuse it as it lies there: ${why}` }))
}

function describe(report: Report): string[] {
  return [
    ...report.problems.flatMap((problem) => [`error: ${problem.code} ${'line' in problem ? `${position(problem)} ` : ''}${problem.message}`, `hint:  ${problem.hint}`]),
    ...report.warnings.map((warning) => `warning: ${'line' in warning ? position(warning) : report.file} ${warning.message}`),
    ...(report.problems.length === 0 && report.digest !== null ? [`ok: ${report.file} (policy ${report.digest.slice(0, 12)})`] : []),
    ...(report.problems.length === 0 && basename(report.file) === 'cordon.yaml' ? [`ok: ${report.file}`] : []),
  ]
}
