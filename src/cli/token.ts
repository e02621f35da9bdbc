import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { noArguments } from './args.ts'
import type { CommandContext } from './context.ts'
import type { CommandIo } from './io.ts'

/** `cordon token`: where the admin token lies. Never the token itself, so that it ends up in no scrollback. */
export async function tokenCommand(args: readonly string[], io: CommandIo, { config }: CommandContext): Promise<number> {
  noArguments('token', args)
  const path = join(config.stateDir, 'admin-token')
  const exists = existsSync(path)
  io.out(io.json ? JSON.stringify({ path, exists }) : path)
  if (!io.json) io.err(exists ? `use: curl -H "Authorization: Bearer $(sudo cat ${path})" http://localhost:${portOf(config)}/api/x/plugins` : 'it is made at the first `cordon serve`')
  return 0
}

/** Where the configuration leaves the port open, the one that a running daemon has. */
function portOf({ listen, runDir }: CommandContext['config']): string {
  if (listen.port !== 0) return String(listen.port)
  try {
    return readFileSync(join(runDir, 'port'), 'utf8').trim()
  } catch {
    return 'PORT' // it does not run
  }
}
