import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import { OOM_SCORE_ADJ } from '../plan/limits.ts'
import { gateArguments } from '../plan/oci.ts'
import type { SandboxPlan } from '../plan/plan.ts'
import { attestCgroup } from './attest-cgroup.ts'
import { attestMounts, identity } from './attest-mounts.ts'
import { attestNetwork, attestNoOtherSockets } from './attest-network.ts'
import { comparison, type Comparison, type Difference, type Expect } from './comparison.ts'

/** What the launcher knows beyond the plan: facts of the objects that it made for this run. */
export interface AttestContext {
  /** Inode of the expected network namespace; null: the host's. */
  readonly netnsInode: number | null
  readonly ipv6: boolean
  /** Seccomp filters that the launcher itself already stands behind (a unit's SystemCallFilter): the child has one more. */
  readonly inheritedFilters: number
  readonly runtime: 'crun' | 'runc'
  /** Device and inode of the three stdio FIFOs. */
  readonly stdio: readonly string[]
  /** Descriptors that are meant to be open besides 0, 1, 2 (the gateway's two socketpairs). */
  readonly extraFds: readonly number[]
  /** The door's listeners that must be there; SandboxPlan.listeners at first, others once the rules changed. */
  listeners: SandboxPlan['listeners']
  /** Cgroup directories of the run by controller (`unified` on version 2). */
  readonly cgroupDirs: ReadonlyMap<string, string>
  /** Where grants of the policy were bound to, by destination (pin.ts). */
  readonly staged: ReadonlyMap<string, string>
}

const NAMESPACES = ['mnt', 'pid', 'ipc', 'uts', 'cgroup'] as const

/**
 * Read back what the kernel says about one process behind the walls and compare it with the plan. The text of the system call filter
 * can only be read by tracing the process, so of the filter it is its presence and the number of filters that are compared.
 * @param proc `/proc/self/fd/N` of an open /proc/PID: it can never become another process
 * @returns everything that was looked at, and every difference; an empty `differences` is the proof
 */
export function attestProcess(proc: string, plan: SandboxPlan, context: AttestContext): Omit<Comparison, 'expect'> {
  const { found, differences, expect } = comparison()
  attestItself(proc, plan, context, expect)
  attestMounts(proc, plan, context.staged, expect)
  if (context.netnsInode !== null) { // the door has the host's network, where there is nothing to expect
    attestNetwork(proc, context.listeners, context.ipv6, expect)
    attestNoOtherSockets(proc, context.listeners, context.ipv6, expect) // not asked again: the program may listen on the loopback of its own
  }
  return { found, differences }
}

/**
 * The init above a process that `attestProcess` looked at: what is its own, and that it stands in the same namespaces, so that mounts and
 * network are the same objects and need no second look.
 */
export function attestAbove(init: string, below: string, plan: SandboxPlan, context: AttestContext): Difference[] {
  const { differences, expect } = comparison()
  attestItself(init, plan, context, expect)
  for (const kind of [...NAMESPACES, 'net']) expect(`ns/${kind} of the init`, readlinkSync(`${below}/ns/${kind}`), readlinkSync(`${init}/ns/${kind}`))
  return differences
}

/** Everything but what a process shares with others of its namespaces. */
function attestItself(proc: string, plan: SandboxPlan, context: AttestContext, expect: Expect): void {
  const status = parseStatus(readFileSync(`${proc}/status`, 'utf8'))
  const field = (name: string): string => status.get(name) ?? 'absent'

  const { uid, gid } = plan.user
  expect('Uid', `${uid} ${uid} ${uid} ${uid}`, field('Uid'))
  expect('Gid', `${gid} ${gid} ${gid} ${gid}`, field('Gid'))
  expect('Groups', plan.user.additionalGids.join(' '), field('Groups'))
  for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) expect(set, '0000000000000000', field(set))
  expect('NoNewPrivs', '1', field('NoNewPrivs'))
  expect('Seccomp', '2', field('Seccomp'))
  expect('Seccomp_filters', String(context.inheritedFilters + 1), field('Seccomp_filters'))
  expect('Umask', '0077', field('Umask'))
  expect('oom_score_adj', String(OOM_SCORE_ADJ), readFileSync(`${proc}/oom_score_adj`, 'utf8').trim())

  for (const kind of NAMESPACES) expect(`ns/${kind}`, 'own', readlinkSync(`${proc}/ns/${kind}`) === readlinkSync(`/proc/self/ns/${kind}`) ? 'the launcher\'s' : 'own')
  const network = readlinkSync(`${proc}/ns/net`)
  expect('ns/net', context.netnsInode === null ? readlinkSync('/proc/self/ns/net') : `net:[${context.netnsInode}]`, network)
  for (const kind of ['user', 'time']) expect(`ns/${kind}`, namespaceOf('/proc/self', kind), namespaceOf(proc, kind))

  const limits = readFileSync(`${proc}/limits`, 'utf8')
  expect('RLIMIT_CORE', `${plan.rlimits.CORE} ${plan.rlimits.CORE}`, limitOf(limits, 'Max core file size'))
  expect('RLIMIT_NOFILE', `${plan.rlimits.NOFILE} ${plan.rlimits.NOFILE}`, limitOf(limits, 'Max open files'))
  attestCgroup(readFileSync(`${proc}/cgroup`, 'utf8'), plan.cgroup, context.cgroupDirs, expect)
}

/** What the gate is about to become: exactly the planned program, in the planned directory and environment. */
export function attestProgram(proc: string, plan: SandboxPlan): Difference[] {
  const { differences, expect } = comparison()
  const words = (file: string): string[] => readFileSync(`${proc}/${file}`, 'utf8').split('\0').slice(0, -1)
  expect('arguments', JSON.stringify(gateArguments(plan)), JSON.stringify(words('cmdline')))
  expect('working directory', identity(`${proc}/root${plan.cwd}`), identity(`${proc}/cwd`))
  const planned = Object.entries(plan.env).map(([name, value]) => `${name}=${value}`)
  const found = words('environ').filter((pair) => 'HOME' in plan.env || !pair.startsWith('HOME=')) // a runtime adds a HOME where there is none
  // Names only: a value may be a secret that a runtime took from somewhere.
  const names = (pairs: string[]): string => pairs.map((pair) => pair.split('=')[0]).sort().join(' ')
  expect('environment, too much', '', names(found.filter((pair) => !planned.includes(pair))))
  expect('environment, missing', '', names(planned.filter((pair) => !found.includes(pair))))
  return differences
}

/** Descriptors of the gate: 0, 1, 2 are our FIFOs and nothing else is open. (The init holds its own signal descriptors.) */
export function attestDescriptors(proc: string, context: AttestContext): Difference[] {
  const { differences, expect } = comparison()
  const open = readdirSync(`${proc}/fd`).map(Number).sort((a, b) => a - b)
  expect('open descriptors', [0, 1, 2, ...context.extraFds].join(' '), open.join(' '))
  for (const [fd, expected] of context.stdio.entries()) {
    const at = statSync(`${proc}/fd/${fd}`, { bigint: true })
    expect(`descriptor ${fd}`, expected, !at.isFIFO() ? 'no FIFO' : context.runtime === 'runc' ? expected : `${at.dev}:${at.ino}`) // runc puts pipes of its own between
  }
  return differences
}

/** The checks that are repeated at each snapshot: the cgroup's files and the namespace's links, routes, listeners. */
export function attestAgain(proc: string, plan: SandboxPlan, context: AttestContext): Difference[] {
  const { differences, expect } = comparison()
  attestCgroup(readFileSync(`${proc}/cgroup`, 'utf8'), plan.cgroup, context.cgroupDirs, expect)
  if (context.netnsInode !== null) attestNetwork(proc, context.listeners, context.ipv6, expect)
  return differences
}

function parseStatus(text: string): Map<string, string> {
  return new Map(text.split('\n').map((line) => {
    const at = line.indexOf(':')
    return [line.slice(0, at), line.slice(at + 1).trim().split(/\s+/).join(' ')]
  }))
}

function limitOf(text: string, name: string): string {
  return new RegExp(`^${name}\\s+(\\S+)\\s+(\\S+)`, 'm').exec(text)?.slice(1, 3).join(' ') ?? 'absent'
}

function namespaceOf(proc: string, kind: string): string {
  try {
    return readlinkSync(`${proc}/ns/${kind}`)
  } catch {
    return 'absent' // a kernel without time namespaces
  }
}
