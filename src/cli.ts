import { readFileSync, realpathSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { COMMANDS } from './cli/commands.ts'
import { runCli } from './cli/main.ts'
import { CordonError } from './errors.ts'
import { HOST_CONFIG_FILE, loadHostConfig } from './policy/load-host-config.ts'

/** The `cordon` command: lies in `dist` (or `src`), one directory below the installation. */
async function main(): Promise<void> {
  const tree = dirname(dirname(realpathSync(process.argv[1] ?? '')))
  const { version } = JSON.parse(readFileSync(`${tree}/package.json`, 'utf8')) as { version: string }
  const ending = new AbortController()
  let endedBy = 130
  for (const [name, status] of [['SIGINT', 130], ['SIGTERM', 143]] as const) {
    process.on(name, () => {
      if (ending.signal.aborted) process.exit(status) // the second time it is meant
      endedBy = status
      ending.abort()
    })
  }
  standSomewhere()
  // `cordon list | head`: the reader has seen enough. 141 is what a shell shows for SIGPIPE.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(141)
    const lost = new CordonError('OUTPUT_LOST', `standard output cannot be written (${error.code ?? 'unknown'})`)
    writeSync(2, `error: ${lost.code} ${lost.message}\nhint:  ${lost.hint}\n`)
    process.exit(lost.exit)
  })
  process.stderr.on('error', () => {}) // nobody is left to be told
  const terminal = {
    out: (line: string) => void process.stdout.write(`${line}\n`),
    err: (line: string) => void process.stderr.write(`${line}\n`),
    terminal: process.stdout.isTTY === true,
    color: process.stdout.isTTY === true && (process.env['NO_COLOR'] ?? '') === '' && process.env['TERM'] !== 'dumb',
  }
  const loadConfig = (file: string | null) => loadHostConfig(file ?? HOST_CONFIG_FILE, 'required', file !== null).config
  const status = await runCli(process.argv.slice(2), terminal, { tree, version, signal: ending.signal, loadConfig }, COMMANDS)
  process.stdout.write('', () => process.exit(status === 130 ? endedBy : status)) // after everything above was written
}

/** A working directory that somebody removed: what needs one would fail, and nothing here depends on it but relative names. */
function standSomewhere(): void {
  try {
    process.cwd()
  } catch {
    process.chdir('/')
  }
}

void main()
