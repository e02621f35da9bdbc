import { CordonError, ERRORS } from '../errors.ts'
import { printable } from '../base/printable.ts'
import { nearest } from '../base/suggest.ts'
import type { Command } from './commands.ts'
import { wrap } from './table.ts'

const GLOBAL_OPTIONS = [
  ['--config FILE', 'configuration of the host (/etc/cordon/cordon.yaml)'],
  ['--json', 'answers and errors as JSON, one object a line'],
  ['--no-color', 'no colour; also with NO_COLOR set, or when it is no terminal'],
  ['--help', 'of a command: its options, an example, its exit codes'],
  ['--version', ''],
] as const

/** sysexits.h, as far as the catalogue uses it. */
export const EXIT_TEXTS: Readonly<Record<number, string>> = {
  0: 'success',
  64: 'wrong usage of the command line',
  65: 'something given is not valid: a policy, a program, a handshake',
  66: 'a named file does not exist',
  69: 'something needed does not run or does not exist on this host',
  70: 'a defect: of Cordon, or a wall that does not stand as planned',
  71: 'the operating system refused',
  73: 'a file exists or cannot be made',
  74: 'reading or writing failed; the disk may be full',
  75: 'not now; try again later',
  76: 'the other side broke the protocol',
  77: 'not permitted',
  78: 'the configuration of the host must be mended',
  130: 'ended by Ctrl-C',
  143: 'ended by SIGTERM',
}

export function overview(commands: readonly Command[]): string[] {
  return [
    'Cordon runs programs that you did not write behind kernel walls, and remembers',
    'what they did.',
    '',
    'usage: cordon [OPTIONS] COMMAND …',
    '',
    ...pairs(commands.map(({ name, summary }) => [name, summary] as const)),
    ...pairs([['help COMMAND', 'its options, an example, its exit codes'], ['help exit-codes', 'what the exit statuses mean']]),
    '',
    ...pairs(GLOBAL_OPTIONS),
  ]
}

export function commandHelp(command: Command): string[] {
  return [
    command.summary,
    '',
    `usage: cordon ${command.name} ${command.usage}`.trimEnd(),
    ...(command.options.length === 0 ? [] : ['', ...pairs(command.options)]),
    '',
    'example:',
    `  ${command.example}`,
    '',
    'exit codes (all others: cordon help exit-codes):',
    ...pairs(command.exits),
  ]
}

export function exitCodes(): string[] {
  const lines = ['Exit statuses follow sysexits.h; errors name their code on stderr.', '']
  for (const [status, text] of Object.entries(EXIT_TEXTS)) {
    const codes = Object.entries(ERRORS).filter(([, entry]) => entry.exit === Number(status)).map(([code]) => code)
    lines.push(`${status.padStart(3)}  ${text}`)
    if (codes.length > 0) lines.push(...wrap(`     ${codes.join(' ')}`, 80, '     '))
  }
  return [...lines, '', ...wrap('`cordon run` ends with the status of its program; `why`, `policy diff`, `policy apply` and `policy test` with 1, `audit verify` with 2, 3 or 4: see their help.')]
}

/**
 * Which command a command line means: the longest name that it begins with.
 * @throws CordonError USAGE_UNKNOWN_COMMAND, with the nearest name
 */
export function findCommand(words: readonly string[], commands: readonly Command[]): { readonly command: Command; readonly args: readonly string[] } {
  for (const length of [2, 1]) {
    const name = words.slice(0, length).join(' ')
    const command = words.length >= length ? commands.find((one) => one.name === name) : undefined
    if (command !== undefined) return { command, args: words.slice(length) }
  }
  const [first = '', second = ''] = words
  const group = commands.filter((one) => one.name.startsWith(`${first} `))
  if (group.length > 0) {
    const near = nearest(second, group.map((one) => one.name.slice(first.length + 1)))
    const found = second === '' || second.startsWith('-') ? `"${first}" alone does nothing` : `"${first}" has no command "${printable(second, 40)}"`
    throw new CordonError('USAGE_UNKNOWN_COMMAND', `${found}; ${near === null ? `there are ${group.map((one) => one.name).join(', ')}` : `did you mean "${first} ${near}"?`}`)
  }
  const near = nearest(first, [...new Set(commands.map((one) => one.name.split(' ')[0] ?? ''))])
  throw new CordonError('USAGE_UNKNOWN_COMMAND', `unknown command "${printable(first, 40)}"${near === null ? '' : `; did you mean "${near}"?`}`)
}

const COLUMN = 22

function pairs(rows: readonly (readonly [string, string])[]): string[] {
  return rows.flatMap(([left, right]) => {
    const label = `  ${left}`.padEnd(COLUMN)
    return wrap(`${label}${label.endsWith(' ') ? '' : '  '}${right}`, 80, ' '.repeat(COLUMN)).map((line) => line.trimEnd())
  })
}
