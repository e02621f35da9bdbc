import { readFileSync, realpathSync } from 'node:fs'
import { dirname } from 'node:path'
import { COMMANDS } from './cli/commands.ts'
import { runCli } from './cli/main.ts'
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
  // `cordon list | head`: the reader has seen enough. 141 is what a shell shows for SIGPIPE.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 141 : 74))
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

void main()
