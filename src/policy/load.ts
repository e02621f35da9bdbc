import { createHash } from 'node:crypto'
import { canonicalJson } from '../base/canonical-json.ts'
import { isPluginName, type PluginName } from '../base/ids.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { checkPolicy, parsePolicy, parsePreset, type Parsed } from './parse.ts'
import type { OwnPlaces } from './paths.ts'
import type { Policy } from './policy.ts'
import { invalid, NO_LINE, PolicyError, problemAt, type PolicyWarning } from './problem.ts'
import { resolvePolicy } from './resolve.ts'
import type { RawPolicy, RawPreset } from './schema.ts'
import { listTrustedDirectory, readTrustedFile, type Ownership } from './trusted-file.ts'

export interface LoadOptions {
  /** Where presets lie: `policies/` of this tree. */
  readonly presetsDir: string
  readonly own: OwnPlaces
  readonly ownership: Ownership
}

export interface LoadedPolicy {
  readonly policy: Policy
  /** Hex SHA-256 of the effective policy as canonical JSON: two files that mean the same have the same digest. */
  readonly digest: string
  readonly file: string
  readonly warnings: readonly PolicyWarning[]
  /** Why the daemon would not believe the file or a preset of it; empty under `required`. */
  readonly distrust: readonly string[]
}

export interface RefusedPolicy {
  readonly file: string
  /** By the file's name; null when that is no plugin name. */
  readonly plugin: PluginName | null
  readonly error: PolicyError
}

export interface PolicySet {
  readonly loaded: ReadonlyMap<PluginName, LoadedPolicy>
  readonly refused: readonly RefusedPolicy[]
  /** Names in the directory that are no policies, for `policy check` to tell: an editor's backup, a README. */
  readonly ignored: readonly string[]
}

/** A preset may extend another; a longer chain is a riddle, and a cycle never ends. */
const MAX_CHAIN = 4

/**
 * Every policy of a directory. One that is refused does not keep the others from loading.
 * @throws PolicyError for the directory itself: POLICY_ABSENT, POLICY_UNREADABLE, POLICY_UNTRUSTED
 */
export function loadPolicies(directory: string, options: LoadOptions): PolicySet {
  const loaded = new Map<PluginName, LoadedPolicy>()
  const refused: RefusedPolicy[] = []
  const ignored: string[] = []
  for (const name of listTrustedDirectory(directory, options.ownership)) {
    const file = `${directory}/${name}`
    const stem = name.replace(/\.ya?ml$/, '')
    const plugin = isPluginName(stem) ? stem : null
    if (stem === name || name.startsWith('.')) {
      ignored.push(printable(name))
      continue
    }
    try {
      if (name.endsWith('.yml')) throw new PolicyError('POLICY_NAME_MISMATCH', `${printable(file, 300)} ends in .yml; expected .yaml`)
      const policy = loadPolicy(file, options)
      loaded.set(policy.policy.plugin, policy)
    } catch (error) {
      if (!(error instanceof PolicyError)) throw error
      refused.push({ file: printable(file, 300), plugin, error })
    }
  }
  return { loaded, refused, ignored }
}

/**
 * @param file absolute path of NAME.yaml; NAME must be its `plugin:`
 * @throws PolicyError POLICY_ABSENT, POLICY_UNREADABLE, POLICY_UNTRUSTED, POLICY_INVALID (with every problem)
 */
export function loadPolicy(file: string, options: LoadOptions): LoadedPolicy {
  const { text, distrust } = readTrustedFile(file, options.ownership)
  const own = parsePolicy(text, printable(file, 300), options.own)
  const stem = file.slice(file.lastIndexOf('/') + 1).replace(/\.yaml$/, '')
  if (stem !== own.raw.plugin) {
    throw invalid(own.file, [problemAt(own.file, own.locate(['plugin']), 'POLICY_NAME_MISMATCH', `"plugin" is "${own.raw.plugin}" in a file named "${printable(stem, 100)}.yaml"; expected the same name`)])
  }
  return finish(own, distrust, options)
}

/**
 * The policy of a plugin that has none, under `unknown: run-default`: policies/default.yaml, which grants nothing.
 * @param path host path of the executable that was found
 * @throws PolicyError as loadPolicy
 */
export function loadDefaultPolicy(plugin: PluginName, path: string, options: LoadOptions): LoadedPolicy {
  return finish({ file: `(no policy for ${plugin})`, raw: { plugin, extends: 'default', executable: { path } }, locate: () => NO_LINE, warnings: [] }, [], options)
}

/**
 * A policy that came from options instead of a file (`cordon run`), through the same checks and to the same digest.
 * @throws PolicyError POLICY_INVALID (with every problem)
 */
export function finishRaw(raw: unknown, source: string, options: LoadOptions): LoadedPolicy {
  return finish(checkPolicy(raw, source, options.own), [], options)
}

export function policyDigest(policy: Policy): string {
  return createHash('sha256').update(canonicalJson(policy)).digest('hex')
}

function finish(own: Parsed<RawPolicy>, distrust: readonly string[], options: LoadOptions): LoadedPolicy {
  const chain = loadChain(own, options)
  const policy = resolvePolicy(own, chain.presets)
  return {
    policy,
    digest: policyDigest(policy),
    file: own.file,
    warnings: [...own.warnings, ...chain.presets.flatMap((preset) => preset.warnings)],
    distrust: [...distrust, ...chain.distrust],
  }
}

function loadChain(own: Parsed<RawPolicy>, options: LoadOptions): { presets: Parsed<RawPreset>[]; distrust: string[] } {
  const presets: Parsed<RawPreset>[] = []
  const distrust: string[] = []
  const seen = new Set<string>()
  let at: Parsed<RawPreset> = own
  for (let name = at.raw.extends; name !== undefined; name = at.raw.extends) {
    const refuse = (message: string, cause?: unknown): PolicyError => {
      const error = invalid(at.file, [problemAt(at.file, at.locate(['extends']), 'POLICY_PRESET', message)])
      if (cause !== undefined) error.cause = cause
      return error
    }
    if (seen.has(name)) throw refuse(`"extends" leads back to the preset "${name}"`)
    if (seen.size === MAX_CHAIN) throw refuse(`"extends" goes over more than ${MAX_CHAIN} presets`)
    seen.add(name)
    const file = `${options.presetsDir}/${name}.yaml`
    try {
      const read = readTrustedFile(file, options.ownership)
      distrust.push(...read.distrust)
      at = parsePreset(read.text, printable(file, 300), options.own)
    } catch (error) {
      if (!(error instanceof CordonError) || error.code !== 'POLICY_ABSENT') throw error
      throw refuse(`there is no preset "${name}"${presetNames(options)}`, error)
    }
    presets.push(at)
  }
  return { presets, distrust }
}

function presetNames(options: LoadOptions): string {
  try {
    const names = listTrustedDirectory(options.presetsDir, options.ownership).filter((name) => name.endsWith('.yaml'))
    return `; there are ${names.map((name) => printable(name.slice(0, -5), 64)).join(', ')}`
  } catch {
    return '' // only the list in a message; the refusal itself stands without it
  }
}
