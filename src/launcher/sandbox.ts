import type { ChildProcess } from 'node:child_process'
import { closeSync, constants, existsSync, openSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import type { Duplex } from 'node:stream'
import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { execa } from 'execa'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { renderOci } from '../plan/oci.ts'
import type { HostFacts, SandboxPlan } from '../plan/plan.ts'
import { attestAbove, attestAgain, attestDescriptors, attestProcess, attestProgram, type AttestContext } from './attest.ts'
import { makeRoot, writeConfig, type Bundle } from './bundle.ts'
import { shareGroup } from './cgroup-shares.ts'
import { killCgroup, removeTree } from './cgroup.ts'
import { readCgroupFigures } from './cgroup-figures.ts'
import type { CgroupTree } from './cgroup-tree.ts'
import type { Difference } from './comparison.ts'
import { stageGrants } from './pin.ts'
import { RUNTIME_ENV, standUp, type Standing, type StandingHost } from './standing.ts'

/** From the runtime's start to a gate that waits; a loaded emulated machine needs seconds. */
const GATE_TIMEOUT_MS = 60_000
const POLL_MS = 1
/** How often the gate is asked for without a pause once its init is there: some ten milliseconds of one CPU. */
const MAX_SPINS = 200
/** A runtime whose container was killed tidies up and ends by itself; before that, killing it would leave a zombie to somebody else. */
const RUNTIME_END_MS = 3000

/** How a run ended. The runtime cannot tell `exit 139` from SIGSEGV, so neither do we. */
export interface RunExit {
  readonly status: number | null
  /** In words: `exit 3`, `exit 137 or SIGKILL`. */
  readonly text: string
  /** Processes of this run that the kernel killed for want of memory. */
  readonly oomKills: number
}

/** A program that stands behind all walls, attested, waiting at the gate. */
export interface GatedRun {
  readonly plan: SandboxPlan
  readonly stdin: Socket
  readonly stdout: Socket
  readonly stderr: Socket
  /** Our ends of the extra socketpairs, fd 3 and up. */
  readonly extra: readonly Duplex[]
  /** What the kernel says, for the record. */
  readonly found: Readonly<Record<string, string>>
  /** `/proc/self/fd/N` of the first process behind the walls (the init), which lives as long as the run; valid until `exited`. */
  readonly proc: string
  /** Lets the program start. @param secret argument of generation 1, added by the gate */
  release(secret?: string): void
  /** cgroup and network checks again, at each snapshot. */
  attestAgain(): Difference[]
  /** The rules changed: from now on these of the door's listeners are expected. */
  expectListeners(listeners: SandboxPlan['listeners']): void
  /** SIGINT, SIGTERM to the program, through the runtime (it checks that the process is still the same). */
  signal(name: 'INT' | 'TERM'): Promise<void>
  /** Ends every process of the run, by cgroup; waits until it is empty. */
  kill(): Promise<void>
  readonly exited: Promise<RunExit>
}

export interface SandboxHost extends StandingHost {
  readonly facts: HostFacts
  readonly tree: CgroupTree
  readonly inheritedFilters: number
}

export class IsolationError extends CordonError<'LAUNCH_ISOLATION'> {
  readonly differences: readonly Difference[]
  constructor(differences: readonly Difference[]) {
    super('LAUNCH_ISOLATION', `the kernel does not show what was asked for: ${differences.slice(0, 5).map((d) => `${d.what} is "${printable(d.found)}", expected "${d.expected}"`).join('; ')}`)
    this.differences = differences
  }

  /** For `isolation.violated`: bounded, since what was found may be long. */
  record(): { what: string; expected: string; found: string }[] {
    return violationRecord(this.differences)
  }
}

export function violationRecord(differences: readonly Difference[]): { what: string; expected: string; found: string }[] {
  return differences.slice(0, 50).map(({ what, expected, found }) => ({ what, expected, found: printable(found, 500) }))
}

/**
 * Start a plan and bring it to the gate: nothing of the plugin has run when this resolves. On any failure, everything
 * that was started is killed and an error tells why.
 * @param group cgroup group of the run, its lasting parent
 * @param options extraPairs: socketpairs from fd 3 on; ready: what else must be there before the attestation: the network's rules, the door's
 *        listeners; standing: the runtime's process, where there is one already (without extra pairs)
 * @throws IsolationError, CordonError LAUNCH_RUNTIME
 */
export async function startGated(host: SandboxHost, plan: SandboxPlan, bundle: Bundle, group: string, netns: { inode: number; ipv6: boolean } | null, options: { readonly extraPairs?: number; readonly ready?: Promise<unknown>; readonly standing?: Standing | null } = {}): Promise<GatedRun> {
  const extraPairs = options.extraPairs ?? 0
  const staged = await stageGrants(plan.mounts, `${bundle.dir}/stage`)
  const cgroupDirs = host.tree.dirs(group, plan.runId)
  const kill = (): Promise<void> => killCgroup(host.tree.version, cgroupDirs)
  // Unified counts are hierarchical and survive in the lasting parent (crun removes the leaf before it returns); v1 ones stay in the
  // leaf, which is why runc is told to keep it.
  const oomKills = (): number => readCgroupFigures(host.tree.version, host.tree.version === 2 ? host.tree.dirs(group) : cgroupDirs).oomKills ?? 0
  options.ready?.catch(() => {}) // awaited once the gate stands
  const waiting = options.standing?.waits() === true ? options.standing : null
  if (waiting === null) await options.standing?.dismiss() // somebody killed it
  const standing = waiting ?? (await standUp(host, bundle, plan.runId, { extraPairs }))
  const { stdio, child: runtime } = standing
  let oomBefore = 0
  try {
    makeRoot(plan, staged)
    writeConfig(bundle, renderOci(plan, staged))
    host.tree.makeGroup(group)
    shareGroup(host.tree.version, host.tree.dirs(group), plan.cgroup)
    oomBefore = oomKills()
  } catch (error) {
    await standing.dismiss()
    throw error
  }
  standing.begin()
  const watch = host.tree.version === 1 ? groupKillOnOom(oomKills, kill) : null
  const exited = exitStatus(runtime).then(async (status): Promise<RunExit> => {
    clearInterval(watch ?? undefined)
    const oom = oomKills() - oomBefore
    await kill() // the pid namespace died with its init; this proves it
    if (plan.runtime === 'runc') await execa(host.facts.runtime.path, ['--root', host.ociRoot, 'delete', '--force', plan.runId], { ...QUIET, timeout: 10_000 })
    await removeTree(cgroupDirs)
    return { status, text: exitText(status), oomKills: oom }
  })
  let procFd: number | null = null
  try {
    const context: AttestContext = {
      listeners: plan.listeners,
      netnsInode: netns?.inode ?? null,
      ipv6: netns?.ipv6 ?? false,
      inheritedFilters: host.inheritedFilters,
      runtime: plan.runtime,
      stdio: stdio.identity,
      extraFds: Array.from({ length: extraPairs }, (_, i) => 3 + i),
      cgroupDirs,
      staged,
    }
    const { initFd, gateFd } = await waitForGate(bundle, plan, exited)
    // What is kept open for later looks is the init: the program can end its first thread and go on, and its /proc/PID/net is empty then.
    procFd = initFd
    const proc = `/proc/self/fd/${initFd}`
    const { found, differences } = await attestGate({ initFd, gateFd }, plan, context, options.ready)
    if (differences.length > 0) throw new IsolationError(differences)
    const { stdin } = stdio
    return {
      plan, stdin, stdout: stdio.stdout, stderr: stdio.stderr, found, proc, exited, kill,
      extra: Array.from({ length: extraPairs }, (_, i) => runtime.stdio[3 + i] as Duplex),
      release: (secret) => void stdin.write(secret === undefined ? 'go\n' : `go ${secret}\n`),
      attestAgain: () => attestAgain(proc, plan, context),
      expectListeners: (listeners) => { context.listeners = listeners },
      signal: async (name) => {
        await execa(host.facts.runtime.path, ['--root', host.ociRoot, 'kill', plan.runId, name], { ...QUIET, timeout: 10_000 })
      },
    }
  } catch (error) {
    await kill()
    // What it started may stand in another cgroup than the one that was just emptied; it dies with the runtime.
    const stubborn = setTimeout(() => runtime.kill('SIGKILL'), RUNTIME_END_MS)
    await exited.finally(() => clearTimeout(stubborn))
    stdio.stdin.destroy()
    stdio.stdout.destroy()
    stdio.stderr.destroy()
    throw error
  } finally {
    void exited.catch(() => {}).then(() => { // whoever waits for `exited` hears of it
      if (procFd !== null) closeSync(procFd)
      stdio.stdin.destroy() // nobody reads it any more, and a FIFO without a reader never says so by itself
    })
  }
}

/**
 * The gate, which becomes the program, and the init above it. Closes the gate's descriptor.
 * @throws CordonError LAUNCH_RUNTIME when they are gone already
 */
async function attestGate({ initFd, gateFd }: Gate, plan: SandboxPlan, context: AttestContext, ready: Promise<unknown> | undefined): Promise<{ found: Record<string, string>; differences: Difference[] }> {
  try {
    await ready
    const proc = `/proc/self/fd/${gateFd}`
    const { found, differences } = attestProcess(proc, plan, context)
    differences.push(...attestDescriptors(proc, context), ...attestProgram(proc, plan))
    if (initFd !== gateFd) {
      const known = new Set(differences.map(({ what, found: seen }) => `${what} ${seen}`))
      differences.push(...attestAbove(`/proc/self/fd/${initFd}`, proc, plan, context).filter(({ what, found: seen }) => !known.has(`${what} ${seen}`)))
    }
    return { found, differences }
  } catch (error) {
    // proc(5): of a process that has ended, whoever ended it.
    const gone = error instanceof Error && 'code' in error && (error.code === 'ESRCH' || error.code === 'ENOENT')
    throw gone ? new CordonError('LAUNCH_RUNTIME', 'it was ended while it stood at the gate', { cause: error }) : error
  } finally {
    if (initFd !== gateFd) closeSync(gateFd)
  }
}

/** The runtime's environment is ours, and its failure is a value that we look at. */
const QUIET = { extendEnv: false, env: RUNTIME_ENV, reject: false } as const

function exitStatus(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve) => {
    child.once('exit', (code) => resolve(code))
    child.once('error', () => resolve(null)) // setpriv itself could not be started
  })
}

/** v1 kills one process only; a plugin without one of its processes is in no defined state, so the rest follows. */
function groupKillOnOom(oomKills: () => number, kill: () => Promise<void>): NodeJS.Timeout {
  return setInterval(() => {
    if (oomKills() > 0) kill().catch(() => {}) // `exited` tries again and reports
  }, 250).unref()
}

/** Open /proc directories; both the same where the gate is the init itself. */
interface Gate {
  readonly initFd: number
  readonly gateFd: number
}

async function waitForGate(bundle: Bundle, plan: SandboxPlan, exited: Promise<RunExit>): Promise<Gate> {
  let ended: RunExit | null = null
  exited.then((exit) => { ended = exit }, () => { ended = { status: null, text: 'it could not be ended', oomKills: 0 } })
  const shell = statSync('/bin/sh')
  const until = Date.now() + GATE_TIMEOUT_MS
  let initFd: number | null = null
  let asked = 0
  try {
    while (Date.now() < until) {
      if (ended !== null) throw new CordonError('LAUNCH_RUNTIME', `${plan.runtime} could not start it: ${runtimeLog(bundle)}`)
      initFd ??= openInit(bundle)
      if (initFd !== null) {
        const gateFd = findGate(initFd, shell, plan.own)
        if (gateFd !== null) return { initFd, gateFd }
        // A few milliseconds are left: ask at once again, for a timer would add one.
        if (++asked < MAX_SPINS) await new Promise(setImmediate)
        else await sleep(POLL_MS)
      } else {
        await sleep(POLL_MS)
      }
    }
    throw new CordonError('LAUNCH_RUNTIME', `${plan.runtime} did not reach the gate within ${GATE_TIMEOUT_MS / 1000} s: ${runtimeLog(bundle)}`)
  } catch (error) {
    if (initFd !== null) closeSync(initFd)
    throw error
  }
}

function openInit(bundle: Bundle): number | null {
  if (!existsSync(bundle.pidFile)) return null
  const pid = readFileSync(bundle.pidFile, 'utf8')
  if (!/^\d+$/.test(pid)) return null
  try {
    return openSync(`/proc/${pid}`, constants.O_RDONLY | constants.O_DIRECTORY)
  } catch {
    return null // it has ended already; the runtime's exit tells more
  }
}

/**
 * The gate is the process that has become the shell and sleeps in its `read`: the init itself for the gateway, its only child otherwise.
 * (Before it sleeps, the dynamic loader may have a library open, which the attestation would rightly not accept.)
 */
function findGate(initFd: number, shell: { dev: number; ino: number }, direct: boolean): number | null {
  const isShell = (proc: string): boolean => {
    try {
      const exe = statSync(`${proc}/exe`)
      return exe.ino === shell.ino && exe.dev === shell.dev && /^State:\s+S/m.test(readFileSync(`${proc}/status`, 'utf8'))
    } catch {
      return false // between fork and exec, or gone; the caller asks again
    }
  }
  const init = `/proc/self/fd/${initFd}`
  if (direct) return isShell(init) ? initFd : null
  const pid = readlinkSync(init).split('/').pop() ?? ''
  let child: string
  try {
    child = readFileSync(`${init}/task/${pid}/children`, 'utf8').trim()
  } catch {
    return null
  }
  if (!/^\d+$/.test(child)) return null
  let fd: number
  try {
    fd = openSync(`/proc/${child}`, constants.O_RDONLY | constants.O_DIRECTORY)
  } catch {
    return null
  }
  if (isShell(`/proc/self/fd/${fd}`)) return fd
  closeSync(fd)
  return null
}

function runtimeLog(bundle: Bundle): string {
  try {
    const last = readFileSync(bundle.logFile, 'utf8').trim().split('\n').slice(-3)
    return printable(last.map((line) => String((JSON.parse(line) as { msg?: unknown }).msg)).join('; '), 800)
  } catch {
    return 'the runtime left no message'
  }
}

function exitText(status: number | null): string {
  if (status === null) return 'the runtime was killed'
  if (status <= 128 || status > 192) return `exit ${status}`
  const signal = SIGNALS[status - 128]
  return signal === undefined ? `exit ${status}` : `exit ${status} or ${signal}`
}

const SIGNALS: Readonly<Record<number, string>> = { 1: 'SIGHUP', 2: 'SIGINT', 3: 'SIGQUIT', 4: 'SIGILL', 6: 'SIGABRT', 7: 'SIGBUS', 8: 'SIGFPE', 9: 'SIGKILL', 11: 'SIGSEGV', 13: 'SIGPIPE', 14: 'SIGALRM', 15: 'SIGTERM', 31: 'SIGSYS' }
