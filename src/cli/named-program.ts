import { existsSync, realpathSync } from 'node:fs'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { storeExecutable } from '../launcher/store.ts'
import type { LoadedPolicy } from '../policy/load.ts'

/** As it is found inside the walls, where only /usr lies in PATH. */
export function programPath(named: string): string {
  if (named.includes('/')) return realProgram(named)
  const place = ['/usr/local/bin', '/usr/bin', '/usr/sbin'].find((dir) => existsSync(`${dir}/${named}`))
  return `${place ?? '/usr/bin'}/${named}`
}

/** @throws CordonError STORE_ABSENT */
function realProgram(named: string): string {
  try {
    return realpathSync(named)
  } catch (cause) {
    throw new CordonError('STORE_ABSENT', `there is no program ${printable(named, 300)} (${cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown'})`, { cause })
  }
}

/** A program that is not under /usr is copied into the content store like a plugin's, so that what was hashed is what runs. */
export async function programObject(named: string, loaded: LoadedPolicy, stateDir: string): Promise<{ path: string; entry: string | null; sha256: string } | null> {
  if (!named.includes('/')) return null
  const path = realProgram(named)
  const visible = [{ path: '/usr' }, ...loaded.policy.runtime].some((tree) => path.startsWith(`${tree.path}/`))
  if (visible) return null
  const stored = await storeExecutable({ path, entry: null, sha256: null }, `${stateDir}/store`)
  return { path: stored.path, entry: null, sha256: stored.sha256 }
}
