import type { PluginName } from '../base/ids.ts'
import { printable } from '../base/printable.ts'
import { suggest } from '../egress/suggest.ts'
import type { Learned } from './learned.ts'

export interface RecordedRun {
  readonly plugin: PluginName
  /** Absolute host path of the program. */
  readonly executable: string
  readonly command: readonly string[]
  /** RFC 3339. */
  readonly from: string
  readonly to: string
  readonly status: number
  /** Host paths that it was given to read. */
  readonly read: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly learned: Pick<Learned, 'records' | 'limits' | 'refused'>
}

const NOTHING = { mode: 'enforce', until: null, allow: [] } as const

/**
 * A policy that lets the same program do again what one run of it did, and nothing else. Pure.
 * @returns the text of NAME.yaml; its lines with the evidence behind each are those of `policy suggest`
 */
export function recordedPolicy({ plugin, executable, command, from, to, status, read, env, learned }: RecordedRun): string {
  const diff = suggest({ plugin, from, to, restarts: 0, events: null, records: learned.records, refused: learned.refused, egress: NOTHING, rights: [], limits: learned.limits(null) }).split('\n')
  const added = (pattern: RegExp): string[] => diff.filter((line) => pattern.test(line)).map((line) => line.slice(1))
  const limits = added(/^\+ {2}(?:MemoryMax|TasksMax|EgressMax): /)
  const rules = added(/^\+ {4}- /)
  return [
    `# What one run used, from ${from} to ${to}; it ended with ${status}. What did not happen in it is not in here.`,
    `#   ${printable(command.join(' '), 300)}`,
    '# A plugin is started without these arguments (see the handshake in the README); `cordon run --policy` takes them.',
    '',
    `plugin: ${plugin}`,
    'executable:',
    `  path: ${JSON.stringify(executable)}`,
    ...(limits.length === 0 ? [] : ['limits:', ...limits]),
    ...(read.length === 0 ? [] : ['read:', ...read.map((path) => `  - { path: ${JSON.stringify(path)}, reason: given with --read }`)]),
    ...(Object.keys(env).length === 0 ? [] : ['env:', ...Object.entries(env).map(([name, value]) => `  ${name}: ${JSON.stringify(value)}`)]),
    ...diff.filter((line) => line.startsWith('#  refused ')),
    ...(rules.length === 0 ? ['# It reached nothing on the network, so nothing is opened.'] : ['egress:', '  allow:', ...rules]),
    '',
  ].join('\n')
}
