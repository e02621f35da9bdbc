import { existsSync, realpathSync } from 'node:fs'
import { basename, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import type { AuditEvent, AuditSink } from '../audit/record.ts'
import { LEARNING, opensDoor } from '../base/egress-rule.ts'
import { isPluginName, type PluginName } from '../base/ids.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { DoorKeeper, NO_DECOYS } from '../launcher/door-keeper.ts'
import { attemptsBetween, NOTHING_REFUSED, watchEgress, type Attempt } from '../launcher/egress-watch.ts'
import { enterNamespaces, hasEntered } from '../launcher/enter.ts'
import type { LaunchHost } from '../launcher/host.ts'
import { readRefused } from '../launcher/network.ts'
import { IsolationError } from '../launcher/isolation-error.ts'
import { openRun, type OpenRun } from '../launcher/open-run.ts'
import { requireRoot } from '../launcher/preflight.ts'
import type { GatedRun } from '../launcher/sandbox.ts'
import { watchResources } from '../launcher/snapshots.ts'
import { storeExecutable } from '../launcher/store.ts'
import { compileCommand } from '../plan/compile.ts'
import { planDigest } from '../plan/digest.ts'
import type { HostConfig } from '../policy/host-config.ts'
import { finishRaw, loadPolicy, type LoadedPolicy, type LoadOptions } from '../policy/load.ts'
import { parsePolicy } from '../policy/parse.ts'
import type { LogRecord } from './audit-history.ts'
import { parseDestination } from './destination.ts'
import type { CommandIo } from './io.ts'
import { Learned } from './learned.ts'
import { writePolicy } from './policy-init.ts'
import { withPrivateHost } from './private-host.ts'
import { openRunAudit } from './run-audit.ts'
import { recordedPolicy } from './recorded-policy.ts'
import { whoActs } from './who.ts'

const RUN = 'run' as PluginName
/** A recording that was forgotten ends by closing. */
const RECORD_MS = 86_400_000
const END_RECORD_MS = 5000

interface RunOptions {
  readonly policyFile: string | null
  readonly memory: string | null
  readonly cpu: string | null
  readonly tasks: number | null
  readonly read: readonly string[]
  readonly env: readonly string[]
  /** `HOST:PORT`, as for `cordon allow`. */
  readonly allow: readonly string[]
  /** Where to write the policy that one learning run shows; absolute. */
  readonly record: string | null
  readonly command: readonly string[]
}

/**
 * `cordon run [--policy FILE | --memory 256M --cpu 25% --tasks 64 --read PATH --env NAME=VALUE --allow HOST:PORT --record FILE] -- CMD ARG…`:
 * anything behind the same walls; with --record every public name is let through, and a policy that would have been enough is written. stdio is relayed through FIFOs (no terminal or descriptor of the caller enters), the exit status is the program's.
 */
export async function runCommand(args: readonly string[], io: CommandIo, context: { config: HostConfig; signal: AbortSignal; load: LoadOptions; tree: string }): Promise<number> {
  const options = parseRunOptions(args)
  if (options.record !== null) requireAbsent(options.record)
  requireRoot()
  if (!hasEntered()) enterNamespaces(null)
  const { config } = context
  const loaded = runPolicy(options, context.load)
  if (options.record !== null) io.err(`cordon: ${LEARNING}: every public name can be reached and is recorded`)
  const from = new Date().toISOString()
  const learned = new Learned([])
  const status = await withPrivateHost(config, (host, runDir) => runOn(host, runDir, loaded, options.command, io, context, (record) => learned.add(record)))
  if (options.record === null) return status
  const { env } = loaded.policy
  const executable = programPath(options.command[0] ?? '')
  const text = recordedPolicy({ plugin: recordedName(options.record), executable, command: options.command, from, to: new Date().toISOString(), status, read: loaded.policy.read.map(({ path }) => path), env, learned })
  parsePolicy(text, options.record, context.load.own) // what is written passes the check
  writePolicy(options.record, text)
  io.err(`cordon: wrote ${printable(options.record, 300)}; next: cordon policy check ${printable(options.record, 300)}`)
  return status
}

/** @param heard each record that was handed over, as it will stand in the log */
async function runOn(host: LaunchHost, runDir: string, loaded: LoadedPolicy, command: readonly string[], io: CommandIo, { signal, tree }: { signal: AbortSignal; tree: string }, heard: (record: LogRecord) => void): Promise<number> {
  const { config, facts } = host
  const slot = await host.takeSlot()
  const { runId } = slot
  const log = await openRunAudit(config, runId).catch(async (error: unknown) => {
    await slot.remove()
    throw error
  })
  const audit = overheard(log, heard)
  const { egress, limits } = loaded.policy
  const doors = opensDoor(egress) ? openDoors(host, runDir, tree, audit) : null
  try {
    const object = await programObject(command, loaded, config)
    const { uid } = await host.users.allocateEphemeral()
    const open = await openRun(host, slot, {
      uid, group: 'run', object, dataPath: null,
      door: doors === null ? null : ({ runId: run, network }) => doors.open({ run, plugin: RUN, network, egressMaxPerDay: limits.EgressMax, maxConnections: limits.MaxConnections, decoys: NO_DECOYS }, egress),
      compile: (places) => compileCommand(loaded.policy, facts, places, command),
    })
    const plan_digest = planDigest(open.plan)
    await audit.append({ type: 'run.started', run: runId, plan_digest, policyDigest: loaded.digest, uid, who: whoActs(), program: command[0] ?? '', ...(object === null ? {} : { sha256: object.sha256 }), arguments: command.slice(1) }, 'operator')
    const run = await open.start().catch((error: unknown) => {
      if (error instanceof IsolationError) audit.note({ type: 'isolation.violated', run: runId, plan_digest, differences: error.record() }, 'launcher')
      throw error
    })
    await audit.append({ type: 'isolation.attested', run: runId, plan_digest, found: run.found }, 'launcher')
    const watched = watch(host, open, run, loaded, audit, plan_digest)
    const exit = await relay(run, signal).finally(watched.end)
    const refused = attemptsBetween(NOTHING_REFUSED, await readRefused(open.network))
    // It has ended: its record is waited for, and not for ever. Where it cannot be written the log's `gap` tells of it, and the status is the program's.
    const told = audit.append({ type: 'run.ended', run: runId, reason: exit.text, oom_kills: exit.oomKills }, 'launcher').catch(() => {})
    await Promise.race([told, sleep(END_RECORD_MS, undefined, { ref: false })])
    if (watched.changed !== null) throw watched.changed
    report(io, exit.oomKills, refused.attempts)
    return exit.status ?? 137
  } finally {
    await doors?.close(runId)
    await doors?.stop()
    await slot.remove()
    await log.close()
  }
}

/** A recording learns from the records themselves, whoever keeps them. */
function overheard(log: AuditSink, heard: (record: LogRecord) => void): AuditSink {
  const hear = ({ type, ...fields }: AuditEvent): void => {
    const { plugin, run, policyDigest: _, ...data } = fields as { plugin?: string; run?: string; policyDigest?: string }
    heard({ time: new Date().toISOString(), type, plugin: plugin ?? null, run: run ?? null, data })
  }
  return {
    append: async (event, origin) => {
      const done = await log.append(event, origin)
      hear(event)
      return done
    },
    note: (event, origin) => {
      log.note(event, origin)
      hear(event)
    },
  }
}

/** A door of this run's own. What is sent counts for it alone, so it must not touch what the daemon remembers of its plugins. */
function openDoors(host: LaunchHost, runDir: string, tree: string, audit: AuditSink): DoorKeeper {
  const files = { door: `${tree}/dist/door.cjs`, doorHelper: `${tree}/dist/doorhelper.cjs`, node: process.execPath }
  const { listen: { port } } = host.config
  const say = (message: string): void => void process.stderr.write(`cordon: ${message}\n`)
  return new DoorKeeper({ ...host, config: { ...host.config, stateDir: runDir } }, files, audit, say, () => (port === 0 ? [] : [port]), () => {}) // without its door the program is sealed
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
        allow: { type: 'string', multiple: true }, record: { type: 'string' },
        read: { type: 'string', multiple: true }, env: { type: 'string', multiple: true },
      },
    })
  } catch (error) {
    throw new CordonError('USAGE_BAD_OPTION', `run: ${error instanceof Error ? error.message : String(error)}`)
  }
  const { values, positionals } = parsed
  const command = split < 0 ? positionals : args.slice(split + 1)
  if (command.length === 0) throw new CordonError('USAGE_BAD_OPTION', 'run: no command; expected: cordon run [OPTIONS] -- CMD ARG…')
  if (values.policy !== undefined && (values.memory ?? values.cpu ?? values.tasks ?? values.read ?? values.allow ?? values.record) !== undefined) {
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
    allow: values.allow ?? [],
    record: values.record === undefined ? null : resolve(values.record),
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
  const raw = {
    plugin: RUN,
    executable: { path: '/usr/bin/true' },
    limits: {
      ...(options.memory === null ? {} : { MemoryMax: options.memory }),
      ...(options.cpu === null ? {} : { CPUQuota: options.cpu }),
      ...(options.tasks === null ? {} : { TasksMax: options.tasks }),
    },
    read: options.read.map((path) => ({ path: resolve(path), reason: 'given on the command line' })),
    env,
    egress: { ...(options.record === null ? {} : { mode: 'learn', until: new Date(Date.now() + RECORD_MS).toISOString().replace(/\.\d{3}Z$/, 'Z') }), allow: options.allow.map(allowed) },
  }
  return finishRaw(raw, '(options of cordon run)', load)
}

/** Whoever writes an address means that very one, also where it is private. */
function allowed(written: string): unknown {
  const { text, kind, port } = parseDestination(written)
  if (port === null) throw new CordonError('EGRESS_BAD_DESTINATION', `--allow "${printable(written, 100)}": expected a port behind it, as in ${text}:443`)
  return { ...(kind === 'cidr' ? { cidr: text, private: true } : { host: text }), ports: [port], reason: 'given on the command line' }
}

/** Before anything runs: a recording that cannot be kept is none. */
function requireAbsent(file: string): void {
  recordedName(file)
  if (existsSync(file)) throw new CordonError('POLICY_EXISTS', `${printable(file, 300)} exists already; it was left as it is`)
}

/** The policy is for a plugin of the file's name, as everywhere. */
function recordedName(file: string): PluginName {
  const stem = basename(file, '.yaml')
  if (!file.endsWith('.yaml') || !isPluginName(stem)) throw new CordonError('USAGE_BAD_OPTION', `run: --record ${printable(file, 300)}; expected NAME.yaml with the name of a plugin`)
  return stem
}

/** As it is found inside the walls, where only /usr lies in PATH. */
function programPath(named: string): string {
  if (named.includes('/')) return realProgram(named)
  const place = ['/usr/local/bin', '/usr/bin', '/usr/sbin'].find((dir) => existsSync(`${dir}/${named}`))
  return `${place ?? '/usr/bin'}/${named}`
}

/** @throws CordonError STORE_ABSENT */
function realProgram(named: string): string {
  try {
    return realpathSync(named)
  } catch (cause) {
    throw new CordonError('STORE_ABSENT', `there is no program ${printable(named, 300)} (${cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown'})`, { cause })
  }
}

/** A program that is not under /usr is copied into the content store like a plugin's, so that what was hashed is what runs. */
async function programObject(command: readonly string[], loaded: LoadedPolicy, config: HostConfig): Promise<{ path: string; entry: string | null; sha256: string } | null> {
  const named = command[0] ?? ''
  if (!named.includes('/')) return null
  const path = realProgram(named)
  const visible = [{ path: '/usr' }, ...loaded.policy.runtime].some((tree) => path.startsWith(`${tree.path}/`))
  if (visible) return null
  const stored = await storeExecutable({ path, entry: null, sha256: null }, `${config.stateDir}/store`)
  return { path: stored.path, entry: null, sha256: stored.sha256 }
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
