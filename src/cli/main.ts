import { resolve } from 'node:path'
import { printable } from '../base/printable.ts'
import { CordonError, toSafeError } from '../errors.ts'
import type { HostConfig } from '../policy/host-config.ts'
import { PolicyError, position } from '../policy/problem.ts'
import { takeGlobals } from './args.ts'
import type { Command } from './commands.ts'
import { commandHelp, exitCodes, findCommand, overview } from './help.ts'
import type { CommandIo } from './io.ts'

export interface Terminal {
  readonly out: (line: string) => void
  readonly err: (line: string) => void
  /** The environment and the terminal permit colour; --no-color still turns it off. */
  readonly color: boolean
  /** `out` is one. */
  readonly terminal?: boolean
}

export interface Place {
  /** The directory that holds `dist` and `policies`. */
  readonly tree: string
  readonly version: string
  readonly signal: AbortSignal
  /** @param file absolute, as --config named it; null: the usual place, which may be absent */
  readonly loadConfig: (file: string | null) => HostConfig
}

/**
 * One command line from words to exit status. Never throws: whatever goes wrong becomes `error:` and `hint:` lines.
 * @param argv without the interpreter and the script
 */
export async function runCli(argv: readonly string[], terminal: Terminal, place: Place, commands: readonly Command[]): Promise<number> {
  // Before the options are understood, an error must already know how to print itself.
  const json = beforeDashes(argv).includes('--json')
  try {
    const { options, rest } = takeGlobals(argv)
    const io: CommandIo = { out: terminal.out, err: terminal.err, json, color: terminal.color && options.color && !json, terminal: terminal.terminal === true }
    if (options.version) {
      io.out(json ? JSON.stringify({ version: place.version }) : `cordon ${place.version}`)
      return 0
    }
    const help = helpFor(rest, options.help, commands)
    if (help !== null) {
      io.out(json ? JSON.stringify({ help }) : help.join('\n'))
      return 0
    }
    if (rest.length === 0) throw new CordonError('USAGE_UNKNOWN_COMMAND', 'a command is missing')
    const { command, args } = findCommand(rest, commands)
    const configFile = options.config === null ? null : resolve(options.config)
    const config = place.loadConfig(configFile)
    const load = { presetsDir: `${place.tree}/policies`, own: config, ownership: 'required' } as const
    const run = await command.load()
    return await run(args, io, { config, configFile, signal: place.signal, tree: place.tree, load })
  } catch (error) {
    if (place.signal.aborted && (error === place.signal.reason || (error instanceof Error && error.name === 'AbortError'))) return 130
    return report(error, terminal, json)
  }
}

function helpFor(words: readonly string[], asked: boolean, commands: readonly Command[]): string[] | null {
  const [first, ...others] = words
  if (first === 'help' && others[0] === 'exit-codes') return exitCodes()
  const topic = first === 'help' ? others : words
  if (first !== 'help' && !asked) return null
  if (topic.length === 0) return overview(commands)
  const group = commands.filter((one) => one.name.startsWith(`${topic[0] ?? ''} `))
  if (topic.length === 1 && group.length > 0) return overview(group)
  return commandHelp(findCommand(topic, commands).command)
}

function report(error: unknown, terminal: Terminal, json: boolean): number {
  const known = error instanceof CordonError
  const safe = known ? toSafeError(error) : { ...toSafeError(error), message: printable(error instanceof Error ? `${error.name}: ${error.message}` : String(error), 1000) }
  const exit = known ? error.exit : 70
  const problems = error instanceof PolicyError ? error.problems : []
  if (json) terminal.err(JSON.stringify({ error: safe, exit, problems }))
  else if (problems.length > 0) {
    for (const problem of problems) {
      terminal.err(`error: ${problem.code} ${position(problem)} ${problem.message}`)
      terminal.err(`hint:  ${problem.hint}`)
    }
  } else {
    terminal.err(`error: ${safe.code} ${safe.message}`)
    terminal.err(`hint:  ${safe.hint}`)
  }
  return exit
}

function beforeDashes(argv: readonly string[]): readonly string[] {
  const end = argv.indexOf('--')
  return end < 0 ? argv : argv.slice(0, end)
}
