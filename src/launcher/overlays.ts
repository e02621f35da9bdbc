import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import * as z from 'zod'
import type { PluginName } from '../base/ids.ts'
import { MAX_WITHOUT, NO_OVERLAY, type EgressOverlay } from '../policy/overlay.ts'
import { EGRESS } from '../wire/door.ts'

const FILE = z.record(z.string().max(64), z.strictObject({ allow: EGRESS.shape.allow, without: z.array(z.string().max(320)).max(MAX_WITHOUT), learnUntil: z.string().max(40).nullable() }))

/** Temporary rules of all plugins; kept over a restart of the daemon, since `--for 1h` means an hour and not "until something restarts". */
export interface Overlays {
  of(plugin: PluginName): EgressOverlay
  /** @throws when it cannot be written; then nothing changed */
  set(plugin: PluginName, overlay: EgressOverlay): void
}

/** @param path below the state directory, written by us alone; what does not read as expected grants nothing */
export function openOverlays(path: string, log: (message: string) => void): Overlays {
  let all: Record<string, EgressOverlay> = {}
  try {
    all = FILE.parse(JSON.parse(readFileSync(path, 'utf8')))
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) log(`${path} does not read as expected; temporary rules are gone: ${error instanceof Error ? error.message.slice(0, 200) : ''}`)
  }
  return {
    of: (plugin) => all[plugin] ?? NO_OVERLAY,
    set(plugin, overlay) {
      const next = { ...all, [plugin]: overlay }
      if (overlay.allow.length === 0 && overlay.without.length === 0 && overlay.learnUntil === null) delete next[plugin]
      writeFileSync(`${path}.new`, JSON.stringify(next), { mode: 0o600 })
      renameSync(`${path}.new`, path)
      all = next
    },
  }
}
