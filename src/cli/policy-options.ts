import { realpathSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { parseArgs, type ParseArgsConfig } from 'node:util'
import type { HostConfig } from '../policy/host-config.ts'
import type { LoadOptions } from '../policy/load.ts'
import type { Ownership } from '../policy/trusted-file.ts'
import { wrongOption } from './args.ts'

/** What every `policy` command must know of this host. */
export interface PolicyCommandOptions {
  readonly config: HostConfig
  /** `policies/` of this tree. */
  readonly presetsDir: string
}

export function loadOptions({ config, presetsDir }: PolicyCommandOptions, ownership: Ownership): LoadOptions {
  return { presetsDir, own: config, ownership }
}

/**
 * NAME means the policy of that plugin; anything with a slash or an ending is a file. Absolute afterwards.
 * The loader follows no links; the directory of a file that the operator named may lie behind one, the file itself may not be one.
 */
export function policyFile(word: string, config: HostConfig): string {
  if (!/[/.]/.test(word)) return `${config.policiesDir}/${word}.yaml`
  const file = resolve(word)
  try {
    return join(realpathSync(dirname(file)), basename(file))
  } catch {
    return file // the loader says what is missing, with the name that was given
  }
}

/** @throws CordonError USAGE_BAD_OPTION in the words of the command */
export function readOptions<T extends NonNullable<ParseArgsConfig['options']>>(command: string, args: readonly string[], options: T) {
  try {
    return parseArgs({ args: [...args], strict: true, allowPositionals: true, options })
  } catch (error) {
    throw wrongOption(command, error)
  }
}
