import type { Readable } from 'node:stream'
import type { RunExit } from '../launcher/run-exit.ts'
import type { GatedRun } from '../launcher/sandbox.ts'

/**
 * Let the program go with what was given to this command: stdin, stdout, stderr and signals. The second signal kills it.
 * @param signal aborted: a signal came before it began, and it never does
 * @returns `lost`: why stdout could not be written, null where it was, or its reader left
 */
export async function relayStdio(run: GatedRun, signal: AbortSignal): Promise<{ readonly exit: RunExit; readonly lost: string | null }> {
  let lost: string | null = null
  pass(run.stdout, process.stdout, (why) => { lost ??= why })
  pass(run.stderr, process.stderr, () => {}) // there is no other place to say it
  const drained = Promise.all([run.stdout, run.stderr].map((stream) => new Promise<void>((done) => stream.once('close', () => done()))))
  if (signal.aborted) { // Ctrl-C while the walls were made
    await run.kill()
    await run.exited
    signal.throwIfAborted()
  }
  run.release()
  run.stdin.on('error', () => {}) // EPIPE: the program does not read its input, which is its own affair
  process.stdin.pipe(run.stdin)
  let asked = false
  let over = false
  const stop = (name: 'INT' | 'TERM'): void => {
    if (over) return
    void (asked ? run.kill() : run.signal(name))
    asked = true
  }
  // From here on signals are the program's, and one that comes after its end must not keep us from tidying up.
  process.removeAllListeners('SIGINT').removeAllListeners('SIGTERM').on('SIGINT', () => stop('INT')).on('SIGTERM', () => stop('TERM'))
  try {
    const exit = await run.exited
    await drained
    return { exit, lost }
  } finally {
    over = true
    process.stdin.unpipe(run.stdin).pause()
    run.stdin.destroy()
  }
}

/** Where nobody reads any more, whoever writes meets SIGPIPE as in any pipe; were we to leave for it, the walls would stay behind. */
function pass(from: Readable, to: NodeJS.WriteStream, failed: (why: string) => void): void {
  from.pipe(to, { end: false })
  to.removeAllListeners('error').on('error', ({ code }: NodeJS.ErrnoException) => {
    if (code !== 'EPIPE') failed(code ?? 'unknown')
    from.destroy()
  })
}
