import { mkdirSync, realpathSync } from 'node:fs'
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { openAuditLog } from '../audit/log.ts'
import type { AuditSink } from '../audit/record.ts'
import type { PluginName } from '../base/ids.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { attemptsBetween, NOTHING_REFUSED, watchEgress, type Attempt } from '../launcher/egress-watch.ts'
import { enterNamespaces, hasEntered } from '../launcher/enter.ts'
import type { LaunchHost } from '../launcher/host.ts'
import { readRefused } from '../launcher/network.ts'
import { openRun, type OpenRun } from '../launcher/open-run.ts'
import { IsolationError, type GatedRun } from '../launcher/sandbox.ts'
import { watchResources } from '../launcher/snapshots.ts'
import { storeExecutable } from '../launcher/store.ts'
import { compileCommand } from '../plan/compile.ts'
import { planDigest } from '../plan/digest.ts'
import type { HostConfig } from '../policy/host-config.ts'
import { finishRaw, loadPolicy, type LoadedPolicy, type LoadOptions } from '../policy/load.ts'
import type { RawPolicy } from '../policy/schema.ts'
import type { CommandIo } from './io.ts'
import { withPrivateHost } from './private-host.ts'

const RUN = 'run' as PluginName

interface RunOptions {
  readonly policyFile: string | null
  readonly memory: string | null
  readonly cpu: string | null
  readonly tasks: number | null
  readonly read: readonly string[]
  readonly env: readonly string[]
  readonly command: readonly string[]
}

/**
 * `cordon run [--policy FILE | --memory 256M --cpu 25% --tasks 64 --read PATH --env NAME=VALUE] -- CMD ARG…`: anything behind the same
 * walls. stdio is relayed through FIFOs (no terminal or descriptor of the caller enters), the exit status is the program's.
 */
export async function runCommand(args: readonly string[], io: CommandIo, context: { config: HostConfig; signal: AbortSignal; load: LoadOptions }): Promise<number> {
  const options = parseRunOptions(args)
  if (!hasEntered()) enterNamespaces(null)
  const { config } = context
  const loaded = runPolicy(options, context.load)
  return withPrivateHost(config, (host) => runOn(host, loaded, options.command, io, context.signal))
}

async function runOn(host: LaunchHost, loaded: LoadedPolicy, command: readonly string[], io: CommandIo, signal: AbortSignal): Promise<number> {
  const { config, facts } = host
  const slot = await host.takeSlot()
  const { runId } = slot
  mkdirSync(`${config.stateDir}/runs`, { recursive: true, mode: 0o700 })
  const audit = await openAuditLog({ dir: `${config.stateDir}/runs/${runId}` })
  try {
    const object = await programObject(command, loaded, config)
    const { uid } = await host.users.allocateEphemeral()
    const open = await openRun(host, slot, { uid, group: 'run', object, dataPath: null, door: null, compile: (places) => compileCommand(loaded.policy, facts, places, command) })
    const plan_digest = planDigest(open.plan)
    await audit.append({ type: 'run.started', run: runId, plan_digest, policyDigest: loaded.digest, command: command.map((arg) => printable(arg, 300)), uid }, 'operator')
    const run = await open.start().catch((error: unknown) => {
      if (error instanceof IsolationError) audit.note({ type: 'isolation.violated', run: runId, plan_digest, differences: error.record() }, 'launcher')
      throw error
    })
    await audit.append({ type: 'isolation.attested', run: runId, plan_digest, found: run.found }, 'launcher')
    const watched = watch(host, open, run, loaded, audit, plan_digest)
    const exit = await relay(run, signal).finally(watched.end)
    const refused = attemptsBetween(NOTHING_REFUSED, await readRefused(open.network))
    audit.note({ type: 'run.ended', run: runId, reason: exit.text, oom_kills: exit.oomKills }, 'launcher')
    if (watched.changed !== null) throw watched.changed
    report(io, exit.oomKills, refused.attempts)
    return exit.status ?? 137
  } finally {
    await slot.remove()
    await audit.close()
  }
}

/** What it tries on the network, what it uses, and whether its walls still stand, while it runs. */
function watch(host: LaunchHost, open: OpenRun, run: GatedRun, loaded: LoadedPolicy, audit: AuditSink, plan_digest: string) {
  const watched: { changed: IsolationError | null; end(): Promise<void> } = {
    changed: null,
    end: async () => {
      await endResources()
      await endEgress()
    },
  }
  const endEgress = watchEgress(open.network, run.proc, audit, { plugin: RUN, run: run.plan.runId }, () => {}) // the last reading makes up for a failed one
  const endResources = watchResources({
    host, group: RUN, plugin: RUN, run, audit, limits: loaded.policy.limits,
    violated: (differences) => {
      if (watched.changed !== null) return
      watched.changed = new IsolationError(differences)
      audit.note({ type: 'isolation.violated', run: run.plan.runId, plan_digest, differences: watched.changed.record() }, 'launcher')
      run.kill().catch(() => {}) // `exited` tries again and reports
    },
  })
  return watched
}

function parseRunOptions(args: readonly string[]): RunOptions {
  const split = args.indexOf('--')
  const own = split < 0 ? [...args] : args.slice(0, split)
  let parsed
  try {
    parsed = parseArgs({
      args: own,
      allowPositionals: split < 0,
      options: {
        policy: { type: 'string' }, memory: { type: 'string' }, cpu: { type: 'string' }, tasks: { type: 'string' },
        read: { type: 'string', multiple: true }, env: { type: 'string', multiple: true },
      },
    })
  } catch (error) {
    throw new CordonError('USAGE_BAD_OPTION', `run: ${error instanceof Error ? error.message : String(error)}`)
  }
  const { values, positionals } = parsed
  const command = split < 0 ? positionals : args.slice(split + 1)
  if (command.length === 0) throw new CordonError('USAGE_BAD_OPTION', 'run: no command; expected: cordon run [OPTIONS] -- CMD ARG…')
  if (values.policy !== undefined && (values.memory ?? values.cpu ?? values.tasks ?? values.read) !== undefined) {
    throw new CordonError('USAGE_BAD_OPTION', 'run: --policy stands alone; the limits and paths are in the file')
  }
  if (values.tasks !== undefined && !/^\d{1,6}$/.test(values.tasks)) throw new CordonError('USAGE_BAD_OPTION', `run: --tasks ${printable(values.tasks)}; expected a number`)
  return {
    policyFile: values.policy ?? null,
    memory: values.memory ?? null,
    cpu: values.cpu ?? null,
    tasks: values.tasks === undefined ? null : Number(values.tasks),
    read: values.read ?? [],
    env: values.env ?? [],
    command,
  }
}

/** Options become a policy and go through the same checks as a file. */
function runPolicy(options: RunOptions, load: LoadOptions): LoadedPolicy {
  const env = Object.fromEntries(options.env.map((pair) => {
    const at = pair.indexOf('=')
    if (at < 1) throw new CordonError('USAGE_BAD_OPTION', `run: --env ${printable(pair)}; expected NAME=VALUE`)
    return [pair.slice(0, at), pair.slice(at + 1)]
  }))
  if (options.policyFile !== null) return loadPolicy(resolve(options.policyFile), load)
  const raw: RawPolicy = {
    plugin: RUN,
    executable: { path: '/usr/bin/true' },
    limits: {
      ...(options.memory === null ? {} : { MemoryMax: options.memory }),
      ...(options.cpu === null ? {} : { CPUQuota: options.cpu }),
      ...(options.tasks === null ? {} : { TasksMax: options.tasks }),
    },
    read: options.read.map((path) => ({ path: resolve(path), reason: 'given on the command line' })),
    env,
  } as RawPolicy
  return finishRaw(raw, '(options of cordon run)', load)
}

/** A program that is not under /usr is copied into the content store like a plugin's, so that what was hashed is what runs. */
async function programObject(command: readonly string[], loaded: LoadedPolicy, config: HostConfig): Promise<{ path: string; entry: string | null } | null> {
  const named = command[0] ?? ''
  if (!named.includes('/')) return null
  const path = realpathSync(named)
  const visible = [{ path: '/usr' }, ...loaded.policy.runtime].some((tree) => path.startsWith(`${tree.path}/`))
  if (visible) return null
  const stored = await storeExecutable({ path, entry: null, sha256: null }, `${config.stateDir}/store`)
  return { path: stored.path, entry: null }
}

async function relay(run: GatedRun, signal: AbortSignal) {
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

/** Said only to a person: a script's stderr stays the program's. */
function report(io: CommandIo, oomKills: number, attempts: readonly Attempt[]): void {
  if (!process.stderr.isTTY) return
  if (oomKills > 0) io.err('cordon: it was killed because it wanted more memory than its limit (oom-kill)')
  const shown = attempts.slice(0, 5).map(({ destination, count }) => `${destination} (${count}×)`)
  if (attempts.length > 0) io.err(`cordon: refused on the network: ${shown.join(', ')}${attempts.length > 5 ? ` and ${attempts.length - 5} more` : ''}`)
}
