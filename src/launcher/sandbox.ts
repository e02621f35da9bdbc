import { closeSync } from 'node:fs'
import type { Duplex } from 'node:stream'
import type { Socket } from 'node:net'
import { execa } from 'execa'
import { renderOci } from '../plan/oci.ts'
import type { HostFacts, SandboxPlan } from '../plan/plan.ts'
import { attestAgain, type AttestContext } from './attest.ts'
import { makeRoot, writeConfig, type Bundle } from './bundle.ts'
import { shareGroup } from './cgroup-shares.ts'
import { killCgroup, removeTree } from './cgroup.ts'
import { readCgroupFigures } from './cgroup-figures.ts'
import type { CgroupTree } from './cgroup-tree.ts'
import type { Difference } from './comparison.ts'
import { attestGate, waitForGate } from './gate.ts'
import { IsolationError } from './isolation-error.ts'
import { stageGrants } from './pin.ts'
import { exitStatus, exitText, type RunExit } from './run-exit.ts'
import { RUNTIME_ENV, standUp, type Standing, type StandingHost } from './standing.ts'

/** A runtime whose container was killed tidies up and ends by itself; before that, killing it would leave a zombie to somebody else. */
const RUNTIME_END_MS = 3000

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

/** The runtime's environment is ours, and its failure is a value that we look at. */
const QUIET = { extendEnv: false, env: RUNTIME_ENV, reject: false } as const

/** v1 kills one process only; a plugin without one of its processes is in no defined state, so the rest follows. */
function groupKillOnOom(oomKills: () => number, kill: () => Promise<void>): NodeJS.Timeout {
  return setInterval(() => {
    if (oomKills() > 0) kill().catch(() => {}) // `exited` tries again and reports
  }, 250).unref()
}
