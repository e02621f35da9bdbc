import { spawn, type ChildProcess } from 'node:child_process'
import type { Writable } from 'node:stream'
import type { RunId } from '../base/ids.ts'
import type { HostFacts } from '../plan/plan.ts'
import type { Bundle } from './bundle.ts'
import { openStdio, type Stdio } from './stdio.ts'

/** The environment of every runtime process: ours, nothing of whoever started the launcher. */
export const RUNTIME_ENV = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' } as const

/**
 * A process with the stdio of one run that waits for a word and then becomes the OCI runtime. Forking a process of Node's size and
 * loading two programs takes some 4 ms, which a prepared slot has behind it before anybody asks for a start.
 */
export interface Standing {
  readonly child: ChildProcess
  readonly stdio: Stdio
  waits(): boolean
  /** The bundle is complete: become the runtime. */
  begin(): void
  /** It is not wanted. Nothing is left of it, nor of our ends of its stdio; does nothing once it has begun. */
  dismiss(): Promise<void>
}

export interface StandingHost {
  readonly facts: Pick<HostFacts, 'runtime'>
  /** State directory of the OCI runtime, ours alone. */
  readonly ociRoot: string
}

/**
 * @param extraPairs socketpairs from fd 3 on that the program gets besides its stdio; at most 6, for the shell below knows one digit
 */
export function standUp(host: StandingHost, bundle: Bundle, runId: RunId, extraPairs = 0): Standing {
  const stdio = openStdio(bundle.stdioDir)
  const word = 3 + extraPairs
  let child: ChildProcess
  try {
    // pdeathsig on the runtime: if the launcher dies, so does it, and with it (oci.ts) the init and its pid namespace. It survives the
    // exec of a program that gains no privilege, prctl(2). Plain spawn, not execa: descriptors of ours as stdio, and not one stream or
    // listener more per run than needed.
    child = spawn('/usr/bin/setpriv', [
      '--pdeathsig', 'KILL', '--', '/bin/sh', '-c', `IFS= read -r go <&${word} && [ "$go" = go ] || exit 125; exec ${word}<&-; exec "$@"`, 'cordon-runtime',
      host.facts.runtime.path, ...runtimeArguments(host, bundle, runId, extraPairs),
    ], { env: RUNTIME_ENV, stdio: [...stdio.childFds, ...Array.from({ length: extraPairs + 1 }, (): 'pipe' => 'pipe')] })
  } finally {
    stdio.closeChildEnds()
  }
  const line = child.stdio[word] as Writable | undefined
  line?.on('error', () => {}) // EPIPE: it was killed; its exit is what counts
  let begun = false
  const lives = (): boolean => child.pid !== undefined && child.exitCode === null && child.signalCode === null
  return {
    child,
    stdio,
    waits: () => !begun && lives(),
    begin: () => {
      begun = true
      line?.end('go\n')
    },
    dismiss: async () => {
      if (begun) return
      begun = true
      for (const stream of [stdio.stdin, stdio.stdout, stdio.stderr]) stream.destroy()
      if (!lives()) return
      const ended = new Promise((resolve) => child.once('exit', resolve))
      child.kill('SIGKILL')
      await ended
    },
  }
}

function runtimeArguments(host: StandingHost, bundle: Bundle, runId: RunId, extraPairs: number): string[] {
  const global = ['--root', host.ociRoot, '--log', bundle.logFile, '--log-format', 'json']
  const run = ['run', '--bundle', bundle.dir, '--pid-file', bundle.pidFile, '--preserve-fds', String(extraPairs)]
  return host.facts.runtime.kind === 'crun' ? [...global, '--cgroup-manager', 'cgroupfs', ...run, runId] : [...global, ...run, '--keep', runId]
}
