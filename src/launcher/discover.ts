import { lstatSync, readdirSync, statSync } from 'node:fs'
import { isPluginName, type PluginName } from '../base/ids.ts'
import { printable } from '../base/printable.ts'

const MAX_ENTRIES = 1000

export interface Found {
  readonly name: PluginName
  readonly path: string
}

export interface Discovery {
  readonly found: readonly Found[]
  /** Files that are no plugins although they look like it, with the reason. */
  readonly passedOver: readonly { readonly path: string; readonly reason: string }[]
}

/**
 * Executables directly in the plugins directory (protocol section 2.1), by file name. Directories, sockets, FIFOs, devices, dot files and
 * files without an execute bit are not considered; links, files that others may write, and names that are no plugin names are told.
 */
export function discoverPlugins(dir: string): Discovery {
  const found: Found[] = []
  const passedOver: { path: string; reason: string }[] = []
  let names: string[]
  try {
    const stat = statSync(dir)
    if ((stat.mode & 0o022) !== 0 || stat.uid !== 0) return { found, passedOver: [{ path: printable(dir), reason: 'the directory is not root\'s alone to write' }] }
    names = readdirSync(dir).sort().slice(0, MAX_ENTRIES)
  } catch {
    return { found, passedOver } // no directory, no plugins without a policy
  }
  for (const name of names) {
    const path = `${dir}/${name}`
    const stat = lstatSync(path, { throwIfNoEntry: false })
    if (stat === undefined || name.startsWith('.')) continue
    const skip = (reason: string): void => void passedOver.push({ path: printable(path), reason })
    if (stat.isSymbolicLink()) skip('a symlink; copy the program itself')
    else if (!stat.isFile() || (stat.mode & 0o111) === 0) continue
    else if ((stat.mode & 0o022) !== 0 || stat.uid !== 0) skip('others than root may write it')
    else if (!isPluginName(name)) skip('its name is no plugin name (a-z, 0-9, -, at most 64)')
    else found.push({ name, path })
  }
  return { found, passedOver }
}
