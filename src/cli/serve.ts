import { mkdirSync } from 'node:fs'
import { MALLOC_ENV } from '../base/malloc-env.ts'
import { CordonError } from '../errors.ts'
import { enterNamespaces } from '../launcher/enter.ts'
import { requireRoot } from '../launcher/preflight.ts'
import { noArguments } from './args.ts'
import type { CommandContext } from './context.ts'
import type { CommandIo } from './io.ts'
import { isHeld } from './run-audit.ts'

/** The launcher is small and idle: a small young generation keeps it so. */
const LAUNCHER_FLAGS = ['--max-semi-space-size=1', '--max-old-space-size=128'] as const

/**
 * `cordon serve`: becomes the launcher (same pid) in a mount namespace and, on unified hosts, a cgroup namespace of its own, holding
 * the lock of its state directory until it ends.
 * @throws CordonError HOST_BUSY when another daemon holds the lock
 */
export async function serveCommand(args: readonly string[], _io: CommandIo, { config, configFile, tree }: CommandContext): Promise<number> {
  noArguments('serve', args)
  requireRoot()
  mkdirSync(config.stateDir, { recursive: true, mode: 0o700 })
  const lock = `${config.stateDir}/lock`
  // Before anything of ours is made; to try it here could keep another one, which starts at the same time, from having it (enter.ts decides).
  if (isHeld(lock)) throw new CordonError('HOST_BUSY', `another daemon holds ${lock}`)
  enterNamespaces(lock, [process.execPath, ...LAUNCHER_FLAGS, `${tree}/dist/launcher.cjs`, ...(configFile === null ? [] : [configFile])], MALLOC_ENV)
}
