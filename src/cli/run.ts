import { setTimeout as sleep } from 'node:timers/promises'
import type { AuditEvent, AuditSink } from '../audit/record.ts'
import { LEARNING, opensDoor } from '../base/egress-rule.ts'
import type { PluginName } from '../base/ids.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { DoorKeeper, NO_DECOYS } from '../launcher/door-keeper.ts'
import { attemptsBetween, NOTHING_REFUSED, watchEgress, type Attempt } from '../launcher/egress-watch.ts'
import { enterNamespaces, hasEntered } from '../launcher/enter.ts'
import type { LaunchHost } from '../launcher/host.ts'
import { IsolationError } from '../launcher/isolation-error.ts'
import { readRefused } from '../launcher/network.ts'
import { openRun, type OpenRun } from '../launcher/open-run.ts'
import { requireRoot } from '../launcher/preflight.ts'
import type { GatedRun } from '../launcher/sandbox.ts'
import { watchResources } from '../launcher/snapshots.ts'
import { compileCommand } from '../plan/compile.ts'
import { planDigest } from '../plan/digest.ts'
import type { HostConfig } from '../policy/host-config.ts'
import type { LoadedPolicy, LoadOptions } from '../policy/load.ts'
import { parsePolicy } from '../policy/parse.ts'
import type { LogRecord } from './audit-history.ts'
import type { CommandIo } from './io.ts'
import { Learned } from './learned.ts'
import { programObject, programPath } from './named-program.ts'
import { writePolicy } from './policy-init.ts'
import { withPrivateHost } from './private-host.ts'
import { recordedPolicy } from './recorded-policy.ts'
import { openRunAudit } from './run-audit.ts'
import { parseRunOptions, recordedName, requireAbsent, runPolicy } from './run-options.ts'
import { relayStdio } from './run-stdio.ts'
import { whoActs } from './who.ts'

const RUN = 'run' as PluginName
const END_RECORD_MS = 5000

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
  const loaded = runPolicy(RUN, options, context.load)
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
    const object = await programObject(command[0] ?? '', loaded, config.stateDir)
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
    const { exit, lost } = await relayStdio(run, signal).finally(watched.end)
    const refused = attemptsBetween(NOTHING_REFUSED, await readRefused(open.network))
    // It has ended: its record is waited for, and not for ever. Where it cannot be written the log's `gap` tells of it, and the status is the program's.
    const told = audit.append({ type: 'run.ended', run: runId, reason: exit.text, oom_kills: exit.oomKills }, 'launcher').catch(() => {})
    await Promise.race([told, sleep(END_RECORD_MS, undefined, { ref: false })])
    if (watched.changed !== null) throw watched.changed
    report(io, exit.oomKills, refused.attempts)
    if (lost !== null) throw new CordonError('OUTPUT_LOST', `what the program printed could not be written to standard output (${printable(lost)})`)
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

/** Said only to a person: a script's stderr stays the program's. */
function report(io: CommandIo, oomKills: number, attempts: readonly Attempt[]): void {
  if (!process.stderr.isTTY) return
  if (oomKills > 0) io.err('cordon: it was killed because it wanted more memory than its limit (oom-kill)')
  const shown = attempts.slice(0, 5).map(({ destination, count }) => `${destination} (${count}×)`)
  if (attempts.length > 0) io.err(`cordon: refused on the network: ${shown.join(', ')}${attempts.length > 5 ? ` and ${attempts.length - 5} more` : ''}`)
}
