import { CordonError } from '../errors.ts'
import { explain } from '../plan/explain.ts'
import { loadPolicy } from '../policy/load.ts'
import type { Policy } from '../policy/policy.ts'
import { position } from '../policy/problem.ts'
import type { CommandIo } from './io.ts'
import { loadOptions, policyFile, readOptions, type PolicyCommandOptions } from './policy-options.ts'

export interface PolicyExplainOptions extends PolicyCommandOptions {
  /** The OCI configuration that this host would run; for `--oci`. */
  readonly renderOci: (policy: Policy) => unknown
}

/**
 * `cordon policy explain NAME|FILE [--oci]`: what the policy lets the plugin do, in sentences; `--oci`: what the runtime is told.
 * @throws CordonError USAGE_BAD_OPTION; PolicyError as loadPolicy
 */
export async function policyExplain(args: readonly string[], io: CommandIo, options: PolicyExplainOptions): Promise<number> {
  const { values, positionals: [word, more] } = readOptions('policy explain', args, { oci: { type: 'boolean' } })
  if (word === undefined || more !== undefined) throw new CordonError('USAGE_BAD_OPTION', 'policy explain: expected one plugin name or policy file')
  const { policy, digest, warnings, distrust } = loadPolicy(policyFile(word, options.config), loadOptions(options, 'reported'))
  for (const warning of warnings) io.err(`warning: ${position(warning)} ${warning.message}`)
  for (const why of distrust) io.err(`warning: the daemon would refuse it as it lies there: ${why}`)
  if (values.oci === true) io.out(JSON.stringify(options.renderOci(policy), null, io.json ? 0 : 2))
  else if (io.json) io.out(JSON.stringify({ plugin: policy.plugin, digest, policy, sentences: explain(policy) }))
  else for (const line of [...explain(policy), `Policy digest: ${digest}`]) io.out(line)
  return 0
}
