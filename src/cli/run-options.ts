import { existsSync } from 'node:fs'
import { basename, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { isPluginName, type PluginName } from '../base/ids.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { finishRaw, loadPolicy, type LoadedPolicy, type LoadOptions } from '../policy/load.ts'
import { wrongOption } from './args.ts'
import { parseDestination } from './destination.ts'

/** A recording that was forgotten ends by closing. */
const RECORD_MS = 86_400_000

export interface RunOptions {
  readonly policyFile: string | null
  readonly memory: string | null
  readonly cpu: string | null
  readonly tasks: number | null
  readonly read: readonly string[]
  readonly env: readonly string[]
  /** `HOST:PORT`, as for `cordon allow`. */
  readonly allow: readonly string[]
  /** Where to write the policy that one learning run shows; absolute. */
  readonly record: string | null
  readonly command: readonly string[]
}

/** @throws CordonError USAGE_BAD_OPTION */
export function parseRunOptions(args: readonly string[]): RunOptions {
  const split = args.indexOf('--')
  const own = split < 0 ? [...args] : args.slice(0, split)
  let parsed
  try {
    parsed = parseArgs({
      args: own,
      allowPositionals: split < 0,
      options: {
        policy: { type: 'string' }, memory: { type: 'string' }, cpu: { type: 'string' }, tasks: { type: 'string' },
        allow: { type: 'string', multiple: true }, record: { type: 'string' },
        read: { type: 'string', multiple: true }, env: { type: 'string', multiple: true },
      },
    })
  } catch (error) {
    throw wrongOption('run', error)
  }
  const { values, positionals } = parsed
  const command = split < 0 ? positionals : args.slice(split + 1)
  if (command.length === 0) throw new CordonError('USAGE_BAD_OPTION', 'run: no command; expected: cordon run [OPTIONS] -- CMD ARG…')
  if (values.policy !== undefined && (values.memory ?? values.cpu ?? values.tasks ?? values.read ?? values.env ?? values.allow ?? values.record) !== undefined) {
    throw new CordonError('USAGE_BAD_OPTION', 'run: --policy stands alone; limits, paths and variables are in the file')
  }
  if (values.tasks !== undefined && !/^\d{1,6}$/.test(values.tasks)) throw new CordonError('USAGE_BAD_OPTION', `run: --tasks ${printable(values.tasks)}; expected a number`)
  return {
    policyFile: values.policy ?? null,
    memory: values.memory ?? null,
    cpu: values.cpu ?? null,
    tasks: values.tasks === undefined ? null : Number(values.tasks),
    read: values.read ?? [],
    env: values.env ?? [],
    allow: values.allow ?? [],
    record: values.record === undefined ? null : resolve(values.record),
    command,
  }
}

/** Options become a policy and go through the same checks as a file. @param name what it is for, in place of a plugin */
export function runPolicy(name: PluginName, options: RunOptions, load: LoadOptions): LoadedPolicy {
  const env = Object.fromEntries(options.env.map((pair) => {
    const at = pair.indexOf('=')
    if (at < 1) throw new CordonError('USAGE_BAD_OPTION', `run: --env ${printable(pair)}; expected NAME=VALUE`)
    return [pair.slice(0, at), pair.slice(at + 1)]
  }))
  if (options.policyFile !== null) return loadPolicy(resolve(options.policyFile), load)
  const raw = {
    plugin: name,
    executable: { path: '/usr/bin/true' },
    limits: {
      ...(options.memory === null ? {} : { MemoryMax: options.memory }),
      ...(options.cpu === null ? {} : { CPUQuota: options.cpu }),
      ...(options.tasks === null ? {} : { TasksMax: options.tasks }),
    },
    read: options.read.map((path) => ({ path: resolve(path), reason: 'given on the command line' })),
    env,
    egress: { ...(options.record === null ? {} : { mode: 'learn', until: new Date(Date.now() + RECORD_MS).toISOString().replace(/\.\d{3}Z$/, 'Z') }), allow: options.allow.map(allowed) },
  }
  return finishRaw(raw, '(options of cordon run)', load)
}

/** Whoever writes an address means that very one, also where it is private. */
function allowed(written: string): unknown {
  const { text, kind, port } = parseDestination(written)
  if (port === null) throw new CordonError('EGRESS_BAD_DESTINATION', `--allow "${printable(written, 100)}": expected a port behind it, as in ${text}:443`)
  return { ...(kind === 'cidr' ? { cidr: text, private: true } : { host: text }), ports: [port], reason: 'given on the command line' }
}

/** Before anything runs: a recording that cannot be kept is none. */
export function requireAbsent(file: string): void {
  recordedName(file)
  if (existsSync(file)) throw new CordonError('POLICY_EXISTS', `${printable(file, 300)} exists already; it was left as it is`)
}

/** The policy is for a plugin of the file's name, as everywhere. */
export function recordedName(file: string): PluginName {
  const stem = basename(file, '.yaml')
  if (!file.endsWith('.yaml') || !isPluginName(stem)) throw new CordonError('USAGE_BAD_OPTION', `run: --record ${printable(file, 300)}; expected NAME.yaml with the name of a plugin`)
  return stem
}
