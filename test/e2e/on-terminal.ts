import { spawn } from 'node:child_process'

/** A command on a terminal of its own (a pseudo-terminal by python3's pty), as a person sits at it. */
export interface OnTerminal {
  /** What it has shown so far; the terminal's line ends are `\r\n`, here `\n`. */
  shown(): string
  type(text: string): void
  /** Resolves once it has shown this. @throws when it ends or 60 s pass before */
  shows(what: RegExp): Promise<void>
  readonly ended: Promise<number>
}

// The exit status of the command, which pty.spawn gives as waitpid does.
const PTY = 'import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))'
const LIMIT_MS = 60_000

export function onTerminal(argv: readonly string[], env: Readonly<Record<string, string>>): OnTerminal {
  const child = spawn('/usr/bin/python3', ['-c', PTY, ...argv], { stdio: ['pipe', 'pipe', 'pipe'], env: { TERM: 'dumb', ...env } })
  let shown = ''
  const watchers = new Set<() => void>()
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      shown += text.replaceAll('\r\n', '\n')
      for (const look of watchers) look()
    })
  }
  const ended = new Promise<number>((done) => child.once('close', (status) => done(status ?? -1)))
  return {
    shown: () => shown,
    type: (text) => void child.stdin.write(text),
    shows: (what) => new Promise((done, fail) => {
      const look = (): void => {
        if (!what.test(shown)) return
        clearTimeout(timer)
        watchers.delete(look)
        done()
      }
      const timer = setTimeout(() => fail(new Error(`not shown within ${LIMIT_MS / 1000} s: ${what.source}; shown: ${shown}`)), LIMIT_MS)
      void ended.then((status) => fail(new Error(`it ended with ${status} and had not shown ${what.source}: ${shown}`)))
      watchers.add(look)
      look()
    }),
    ended,
  }
}
