import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import type { PluginName } from '../base/ids.ts'

/** Which plugins the operator disabled: one empty file each, so that it survives a restart and can be seen with ls. */
export function disabledPlugins(stateDir: string) {
  const dir = `${stateDir}/disabled`
  return {
    has: (name: PluginName): boolean => existsSync(`${dir}/${name}`),
    add(name: PluginName): void {
      mkdirSync(dir, { recursive: true, mode: 0o700 })
      writeFileSync(`${dir}/${name}`, '', { mode: 0o600 })
    },
    remove: (name: PluginName): void => rmSync(`${dir}/${name}`, { force: true }),
  }
}
