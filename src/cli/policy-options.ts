import { resolve } from 'node:path'
import { parseArgs, type ParseArgsConfig } from 'node:util'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import type { HostConfig } from '../policy/host-config.ts'
import type { LoadOptions } from '../policy/load.ts'
import type { Ownership } from '../policy/trusted-file.ts'

/** What every `policy` command must know of this host. */
export interface PolicyCommandOptions {
  readonly config: HostConfig
  /** `policies/` of this tree. */
  readonly presetsDir: string
}

export function loadOptions({ config, presetsDir }: PolicyCommandOptions, ownership: Ownership): LoadOptions {
  return { presetsDir, own: config, ownership }
}

/** NAME means the policy of that plugin; anything with a slash or an ending is a file. Absolute afterwards. */
export function policyFile(word: string, config: HostConfig): string {
  return /[/.]/.test(word) ? resolve(word) : `${config.policiesDir}/${word}.yaml`
}

/** @throws CordonError USAGE_BAD_OPTION in the words of the command */
export function readOptions<T extends NonNullable<ParseArgsConfig['options']>>(command: string, args: readonly string[], options: T) {
  try {
    return parseArgs({ args: [...args], strict: true, allowPositionals: true, options })
  } catch (error) {
    throw new CordonError('USAGE_BAD_OPTION', `${command}: ${printable(error instanceof Error ? error.message : String(error))}`, { cause: error })
  }
}
