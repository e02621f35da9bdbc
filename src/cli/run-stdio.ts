import type { RunExit } from '../launcher/run-exit.ts'
import type { GatedRun } from '../launcher/sandbox.ts'

/**
 * Let the program go with what was given to this command: stdin, stdout, stderr and signals. The second signal kills it.
 * @param signal aborted: a signal came before it began, and it never does
 */
export async function relayStdio(run: GatedRun, signal: AbortSignal): Promise<RunExit> {
  run.stdout.pipe(process.stdout, { end: false })
  run.stderr.pipe(process.stderr, { end: false })
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
  const stop = (name: 'INT' | 'TERM'): void => {
    void (asked ? run.kill() : run.signal(name))
    asked = true
  }
  const onInt = (): void => stop('INT')
  const onTerm = (): void => stop('TERM')
  // From here on signals are the program's: those of the command line would leave at the second one, without tidying up.
  process.removeAllListeners('SIGINT').removeAllListeners('SIGTERM').on('SIGINT', onInt).on('SIGTERM', onTerm)
  try {
    const exit = await run.exited
    await drained
    return exit
  } finally {
    process.off('SIGINT', onInt).off('SIGTERM', onTerm)
    process.stdin.unpipe(run.stdin).pause()
    run.stdin.destroy()
  }
}
