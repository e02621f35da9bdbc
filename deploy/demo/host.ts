import { execFile, spawn } from 'node:child_process'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { Policy } from '../../src/policy/policy.ts'
import type { PluginStatus } from '../../src/wire/requests.ts'
import { patient } from './patience.ts'
import type { Place } from './place.ts'

const run = promisify(execFile)
const CORDON = join(import.meta.dirname, '..', 'cordon')
const STOP_TIMEOUT_MS = patient(30_000)
const POLL_MS = 250

export type Status = Pick<PluginStatus, 'name' | 'state' | 'reason' | 'generation' | 'version'>

export interface Host {
  readonly port: number
  readonly ended: Promise<void>
  /** Resolves when all of them run; rejects as soon as one has failed for good, and with the signal's reason. */
  running(names: readonly string[], signal: AbortSignal): Promise<void>
  status(): Promise<Status[]>
  /** The policy with every choice explicit, as `cordon policy explain --json` has it. */
  policy(name: string): Promise<Policy>
  /** A one-time link to the plugin's page. */
  link(name: string): Promise<string>
  stop(): Promise<void>
  /** After stop(): is the log whole? Gaps that it names itself (exit status 4) are shown, and no tampering. */
  verifyLog(): Promise<{ readonly text: string; readonly intact: boolean }>
  /** The end of what `cordon serve` printed. */
  lastWords(): string
}

/** `cordon serve` in a session of its own, so that Ctrl-C reaches this demo alone and it decides the order of things. */
export function startHost(place: Place): Host {
  const logFile = `${place.base}/serve.log`
  const log = openSync(logFile, 'a', 0o600)
  const own = ['--config', place.configFile]
  // It must not outlive the demo, however the demo ends.
  const child = spawn('setpriv', ['--pdeathsig', 'TERM', CORDON, 'serve', ...own], { stdio: ['ignore', log, log], detached: true })
  closeSync(log)
  const ended = new Promise<void>((done) => {
    child.on('exit', () => done())
    child.on('error', () => done())
  })
  const alive = () => child.pid !== undefined && child.exitCode === null && child.signalCode === null
  const ask = async (args: readonly string[]) => (await run(CORDON, [...args, ...own], { timeout: patient(20_000) })).stdout

  const status = async () => (JSON.parse(await ask(['status', '--json'])) as { plugins: Status[] }).plugins

  async function running(names: readonly string[], signal: AbortSignal): Promise<void> {
    let last = 'it did not answer'
    for (;;) {
      if (signal.aborted) throw new Error(`the plugins do not run: ${last}`)
      if (!alive()) throw new Error('Cordon ended while starting')
      // Until the control socket exists, `status` fails; the deadline ends that.
      const states = await status().catch((error: unknown) => { last = firstLine(error); return null })
      if (states !== null) {
        const wanted = names.map((name) => states.find((found) => found.name === name) ?? { name, state: 'absent', reason: null })
        const lost = wanted.find(({ state }) => state === 'failed' || state === 'disabled')
        if (lost !== undefined) throw new Error(`${lost.name} is ${lost.state}: ${lost.reason ?? 'no reason given'}`)
        if (wanted.every(({ state }) => state === 'running')) return
        const waiting = wanted.filter(({ state }) => state !== 'running')
        last = waiting.map(({ name, state, reason }) => `${name} is ${state}${reason === null ? '' : ` (${reason})`}`).join(', ')
      }
      await sleep(POLL_MS)
    }
  }

  async function stop(): Promise<void> {
    if (!alive() || child.pid === undefined) return
    process.kill(-child.pid, 'SIGTERM')
    if (await Promise.race([ended.then(() => true), sleep(STOP_TIMEOUT_MS, false, { ref: false })])) return
    process.kill(-child.pid, 'SIGKILL')
    await ended
    throw new Error(`Cordon did not stop within ${STOP_TIMEOUT_MS / 1000} s and was killed`)
  }

  return {
    port: place.port,
    ended,
    running,
    status,
    policy: async (name) => {
      const explained = await ask(['policy', 'explain', `${place.policiesDir}/${name}.yaml`, '--json'])
      return (JSON.parse(explained) as { policy: Policy }).policy
    },
    link: async (name) => {
      const url = /https?:\/\/\S+/.exec(await ask(['open', name]))?.[0]
      if (url === undefined) throw new Error(`\`cordon open ${name}\` printed no link`)
      return url
    },
    stop,
    verifyLog: () => ask(['audit', 'verify']).then(
      (text) => ({ text, intact: true }),
      (error: unknown) => ({ text: outputOf(error), intact: (error as { code?: unknown }).code === 4 }),
    ),
    lastWords: () => readFileSync(logFile, 'utf8').split('\n').slice(-20).join('\n'),
  }
}

/** Both streams of a command that failed. */
function outputOf(error: unknown): string {
  const { stdout = '', stderr = '', message = '' } = error as { stdout?: string; stderr?: string; message?: string }
  return `${stdout}${stderr}`.trim() || message
}

function firstLine(error: unknown): string {
  return outputOf(error).split('\n')[0] ?? ''
}
