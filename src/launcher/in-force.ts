import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { canonicalJson } from '../base/canonical-json.ts'
import { isPluginName, type PluginName } from '../base/ids.ts'

/** Which policy was in force last, by plugin: a change of the file while no daemon ran is a change all the same. */
export class InForce {
  readonly #path: string
  readonly #digests: Map<string, string>
  readonly #log: (message: string) => void

  constructor(stateDir: string, log: (message: string) => void) {
    this.#path = `${stateDir}/policies/in-force.json`
    this.#log = log
    this.#digests = readDigests(this.#path)
  }

  of(plugin: string): string | null {
    return this.#digests.get(plugin) ?? null
  }

  plugins(): PluginName[] {
    return [...this.#digests.keys()].filter(isPluginName)
  }

  digests(): Iterable<string> {
    return this.#digests.values()
  }

  /** @param digest null: its policy is gone */
  set(plugin: string, digest: string | null): void {
    if (this.of(plugin) === digest) return
    if (digest === null) this.#digests.delete(plugin)
    else this.#digests.set(plugin, digest)
    try {
      mkdirSync(dirname(this.#path), { recursive: true, mode: 0o700 })
      writeFileSync(`${this.#path}.new`, canonicalJson(Object.fromEntries(this.#digests)), { mode: 0o600, flush: true })
      renameSync(`${this.#path}.new`, this.#path)
    } catch (error) {
      this.#log(`which policy is in force could not be remembered: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
}

/** Written by us alone; what does not read as expected is as good as nothing, and is overwritten. */
function readDigests(path: string): Map<string, string> {
  try {
    const found = Object.entries(JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>)
    return new Map(found.filter((pair): pair is [string, string] => typeof pair[1] === 'string' && /^[0-9a-f]{64}$/.test(pair[1])))
  } catch {
    return new Map() // as said above
  }
}
