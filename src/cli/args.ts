import { parseArgs } from 'node:util'
import { isPluginName, type PluginName } from '../base/ids.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'

/** Options that every command takes, wherever they stand before a `--`. */
export interface GlobalOptions {
  /** As written; null: the usual place, which may be absent. */
  readonly config: string | null
  readonly json: boolean
  readonly help: boolean
  readonly version: boolean
  readonly color: boolean
}

/**
 * Take the global options out of a command line. Whatever follows `--` belongs to the program that is run.
 * @returns the options, and the words that are left in their order
 * @throws CordonError USAGE_BAD_OPTION
 */
export function takeGlobals(argv: readonly string[]): { readonly options: GlobalOptions; readonly rest: readonly string[] } {
  const end = argv.indexOf('--')
  const own = end < 0 ? argv : argv.slice(0, end)
  let config: string | null = null
  const seen = new Set<string>()
  const rest: string[] = []
  for (let at = 0; at < own.length; at++) {
    const word = own[at] ?? ''
    if (word === '--config' || word.startsWith('--config=')) {
      const value = word === '--config' ? own[++at] : word.slice('--config='.length)
      if (value === undefined || value === '' || value.startsWith('-')) throw new CordonError('USAGE_BAD_OPTION', '--config expects a file')
      if (config !== null) throw new CordonError('USAGE_BAD_OPTION', '--config was given twice')
      config = value
    } else if (FLAGS.has(word)) {
      seen.add(word)
    } else {
      rest.push(word)
    }
  }
  return {
    options: { config, json: seen.has('--json'), help: seen.has('--help') || seen.has('-h'), version: seen.has('--version'), color: !seen.has('--no-color') },
    rest: end < 0 ? rest : [...rest, ...argv.slice(end)],
  }
}

const FLAGS = new Set(['--json', '--help', '-h', '--version', '--no-color'])

/** Exactly one plugin name and no option. @throws CordonError USAGE_BAD_OPTION */
export function onePlugin(command: string, args: readonly string[]): PluginName {
  const [name, more] = words(command, args)
  if (name === undefined || more !== undefined) throw new CordonError('USAGE_BAD_OPTION', `${command}: expected one plugin name`)
  return pluginName(command, name)
}

/** At most one plugin name and no option. */
export function maybePlugin(command: string, args: readonly string[]): PluginName | null {
  return args.length === 0 ? null : onePlugin(command, args)
}

export function noArguments(command: string, args: readonly string[]): void {
  if (words(command, args).length > 0) throw new CordonError('USAGE_BAD_OPTION', `${command}: takes no arguments, found "${printable(args[0] ?? '', 80)}"`)
}

export function pluginName(command: string, word: string): PluginName {
  if (!isPluginName(word)) throw new CordonError('USAGE_BAD_OPTION', `${command}: "${printable(word, 80)}" is no plugin name`)
  return word
}

function words(command: string, args: readonly string[]): string[] {
  try {
    return parseArgs({ args: [...args], strict: true, allowPositionals: true, options: {} }).positionals
  } catch (error) {
    throw wrongOption(command, error)
  }
}

/** @param error of `parseArgs`: what is wrong in its first sentence, advice about Node's own ways behind it */
export function wrongOption(command: string, error: unknown): CordonError {
  const [first = ''] = (error instanceof Error ? error.message : String(error)).split(/\n|\. /)
  return new CordonError('USAGE_BAD_OPTION', `${command}: ${printable(first.replace(/\.$/, ''), 300)}`, { cause: error })
}
