import { spawn, type ChildProcess } from 'node:child_process'
import type { Duplex } from 'node:stream'
import { printable } from '../base/printable.ts'
import type { RunId } from '../base/ids.ts'
import { CordonError } from '../errors.ts'
import type { HostFacts } from '../plan/plan.ts'
import type { Bundle } from './bundle.ts'
import { openStdio, type Stdio } from './stdio.ts'

/** The environment of every runtime process: ours, nothing of whoever started the launcher. */
export const RUNTIME_ENV = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' } as const

/** Longest that its places may take: a few system calls. */
const PLACES_TIMEOUT_MS = 20_000
/** Of what it says when it cannot make them. */
const MAX_SAID = 4096

/**
 * A process that has made the places of one run, waits for a word and then becomes the OCI runtime. Forking a process of Node's size and
 * loading three programs takes some 5 ms, which a prepared slot has behind it before anybody asks for a start, and another one while its
 * network is made.
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

interface StandingOptions {
  /** Where to mount the tmpfs of a plugin's socket; null: it serves none, or has it already. */
  readonly socketDir?: string | null
  /** Socketpairs from fd 3 on that the program gets besides its stdio; at most 6, for the shell below knows one digit. */
  readonly extraPairs?: number
}

/**
 * The process is forked before this returns its promise, which resolves when the places are there.
 * @param bundle its directory exists (makeDirs)
 * @throws CordonError LAUNCH_PROGRAM
 */
export async function standUp(host: StandingHost, bundle: Bundle, runId: RunId, { socketDir = null, extraPairs = 0 }: StandingOptions = {}): Promise<Standing> {
  const word = 3 + extraPairs
  // pdeathsig on the runtime: if the launcher dies, so does it, and with it (oci.ts) the init and its pid namespace. It survives the
  // exec of a program that gains no privilege, prctl(2). Plain spawn, not execa: not one stream or listener more per run than needed.
  const child = spawn('/usr/bin/setpriv', [
    '--pdeathsig', 'KILL', '--', '/bin/sh', '-euc', script(word), 'cordon-runtime', bundle.stdioDir, socketDir ?? '',
    host.facts.runtime.path, ...runtimeArguments(host, bundle, runId, extraPairs),
  ], { env: RUNTIME_ENV, stdio: ['ignore', 'ignore', 'ignore', ...Array.from({ length: extraPairs + 1 }, (): 'pipe' => 'pipe')] })
  const lives = (): boolean => child.pid !== undefined && child.exitCode === null && child.signalCode === null
  const end = async (): Promise<void> => {
    if (!lives()) return
    const ended = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGKILL')
    await ended
  }
  let line: Duplex
  let stdio: Stdio
  try {
    line = await placed(child, child.stdio[word] as Duplex | undefined)
    stdio = openStdio(bundle.stdioDir)
  } catch (error) {
    await end()
    throw error
  }
  line.once('close', stdio.letGo) // it closes its end when it has opened those of the program, and so does its death
  let begun = false
  return {
    child,
    stdio,
    waits: () => !begun && lives(),
    begin: () => {
      begun = true
      line.end('go\n')
    },
    dismiss: async () => {
      if (begun) return
      begun = true
      for (const stream of [stdio.stdin, stdio.stdout, stdio.stderr]) stream.destroy()
      await end()
    },
  }
}

/** Resolves with our end of the word's socketpair once the places are there. */
function placed(child: ChildProcess, line: Duplex | undefined): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    let said = ''
    const fail = (why: string): void => {
      clearTimeout(timer)
      reject(new CordonError('LAUNCH_PROGRAM', `the places of a run could not be made: ${why}${said === '' ? '' : `: ${printable(said.trim(), 500)}`}`))
    }
    const timer = setTimeout(() => fail(`it took longer than ${PLACES_TIMEOUT_MS / 1000} s`), PLACES_TIMEOUT_MS)
    child.once('error', (error) => fail(error.message)) // setpriv itself could not be started
    if (line === undefined) return
    line.on('error', () => {}) // EPIPE: it was killed; its exit is what counts
    line.once('close', () => fail('its shell ended'))
    line.on('data', (bytes: Buffer) => {
      said = (said + bytes.toString('utf8')).slice(0, MAX_SAID)
      if (!said.endsWith(PLACED)) return
      clearTimeout(timer)
      resolve(line)
    })
  })
}

const PLACED = 'placed\n'
/** A plugin once filled /run through its socket directory: room for a socket and a few small files. */
const SOCKET_DIR_OPTIONS = 'size=64k,nr_inodes=16,nosuid,nodev,noexec'

/**
 * FIFOs that are there are taken as they are: another process stood here before and was dismissed. They are open to everybody, for the
 * program through /dev/stdout; their directory is not.
 */
function script(word: number): string {
  return `
exec 2>&${word}
fifos=
if [ ! -p "$1/stderr" ]; then (umask 0; exec mkfifo -m 666 "$1/stdin" "$1/stdout" "$1/stderr") & fifos=$!; fi
[ -z "$2" ] || mount -t tmpfs -o ${SOCKET_DIR_OPTIONS},mode=0700 cordon-socket "$2"
[ -z "$fifos" ] || wait $fifos
echo placed >&${word}
IFS= read -r go <&${word} && [ "$go" = go ] || exit 125
exec <"$1/stdin" >"$1/stdout" 2>"$1/stderr" ${word}<&-
shift 2
exec "$@"`
}

function runtimeArguments(host: StandingHost, bundle: Bundle, runId: RunId, extraPairs: number): string[] {
  const global = ['--root', host.ociRoot, '--log', bundle.logFile, '--log-format', 'json']
  const run = ['run', '--bundle', bundle.dir, '--pid-file', bundle.pidFile, '--preserve-fds', String(extraPairs)]
  return host.facts.runtime.kind === 'crun' ? [...global, '--cgroup-manager', 'cgroupfs', ...run, runId] : [...global, ...run, '--keep', runId]
}
