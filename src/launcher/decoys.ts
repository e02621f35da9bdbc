import { createHmac, randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import type { PluginName } from '../base/ids.ts'

/** What lies about for whoever rummages: a name that nobody has a reason to ask for, and a secret that opens nothing. */
export interface Decoy {
  readonly name: string
  /** Put into the plugin's environment, where a curious program looks first. */
  readonly env: Readonly<Record<string, string>>
  /** The part of the secret that no honest byte can hold by chance. */
  readonly secret: string
}

/**
 * The decoy of one plugin: always the same one, and not to be guessed without the key of this host, so that a touch is no accident.
 * @param keyPath root-only file with the key; made at first use
 */
export function decoyOf(plugin: PluginName, keyPath: string): Decoy {
  const word = (what: string, length: number): string => createHmac('sha256', readKey(keyPath)).update(`${what} ${plugin}`).digest('hex').slice(0, length)
  const name = `backup-${word('name', 10)}.internal`
  const secret = word('token', 40)
  return { name, secret, env: { BACKUP_URL: `https://${name}/v1`, BACKUP_TOKEN: `bk_${secret}` } }
}

function readKey(path: string): Buffer {
  try {
    return readFileSync(path)
  } catch { // not made yet; where anything stands there that cannot be read, `wx` fails
    writeFileSync(path, randomBytes(32), { mode: 0o600, flag: 'wx' })
    return readFileSync(path)
  }
}
