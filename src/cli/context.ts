import type { HostConfig } from '../policy/host-config.ts'
import type { LoadOptions } from '../policy/load.ts'
import type { CommandIo } from './io.ts'

/** What every command gets besides its arguments and the terminal. */
export interface CommandContext {
  readonly config: HostConfig
  /** The file that --config named; null: the usual place. `serve` hands it on to the launcher. */
  readonly configFile: string | null
  /** Fires on SIGINT or SIGTERM. */
  readonly signal: AbortSignal
  /** Where this installation lies: the directory above `dist`. */
  readonly tree: string
  readonly load: LoadOptions
}

/** @returns the exit status */
export type RunCommand = (args: readonly string[], io: CommandIo, context: CommandContext) => Promise<number>
