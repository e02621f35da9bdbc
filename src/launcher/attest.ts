import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import { OOM_SCORE_ADJ } from '../plan/limits.ts'
import type { SandboxPlan } from '../plan/plan.ts'

/** What the launcher knows beyond the plan: facts of the objects that it made for this run. */
export interface AttestContext {
  /** Inode of the expected network namespace. */
  readonly netnsInode: number
  readonly ipv6: boolean
  /** Seccomp filters that the launcher itself already stands behind (a unit's SystemCallFilter): the child has one more. */
  readonly inheritedFilters: number
  readonly runtime: 'crun' | 'runc'
  /** Device and inode of the three stdio FIFOs. */
  readonly stdio: readonly string[]
  /** Descriptors that are meant to be open besides 0, 1, 2 (the gateway's two socketpairs). */
  readonly extraFds: readonly number[]
  /** Cgroup directories of the run by controller (`unified` on version 2). */
  readonly cgroupDirs: ReadonlyMap<string, string>
}

export interface Difference {
  readonly what: string
  readonly expected: string
  readonly found: string
}

const NAMESPACES = ['mnt', 'pid', 'ipc', 'uts', 'cgroup'] as const

/**
 * Read back what the kernel says about one process behind the walls and compare it with the plan.
 * @param proc `/proc/self/fd/N` of an open /proc/PID: it can never become another process
 * @returns everything that was looked at, and every difference; an empty `differences` is the proof
 */
export function attestProcess(proc: string, plan: SandboxPlan, context: AttestContext): { found: Record<string, string>; differences: Difference[] } {
  const found: Record<string, string> = {}
  const differences: Difference[] = []
  const expect = (what: string, expected: string, actual: string): void => {
    found[what] = actual
    if (expected !== actual) differences.push({ what, expected, found: actual })
  }
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
  expect('oom_score_adj', String(OOM_SCORE_ADJ), readFileSync(`${proc}/oom_score_adj`, 'utf8').trim())

  for (const kind of NAMESPACES) expect(`ns/${kind}`, 'own', readlinkSync(`${proc}/ns/${kind}`) === readlinkSync(`/proc/self/ns/${kind}`) ? 'the launcher\'s' : 'own')
  const network = readlinkSync(`${proc}/ns/net`)
  expect('ns/net', `net:[${context.netnsInode}]`, network)
  expect('ns/user', readlinkSync('/proc/self/ns/user'), readlinkSync(`${proc}/ns/user`))

  const limits = readFileSync(`${proc}/limits`, 'utf8')
  expect('RLIMIT_CORE', `${plan.rlimits.CORE} ${plan.rlimits.CORE}`, limitOf(limits, 'Max core file size'))
  expect('RLIMIT_NOFILE', `${plan.rlimits.NOFILE} ${plan.rlimits.NOFILE}`, limitOf(limits, 'Max open files'))

  attestMounts(readFileSync(`${proc}/mountinfo`, 'utf8'), plan, expect)
  attestCgroup(readFileSync(`${proc}/cgroup`, 'utf8'), plan, context, expect)
  attestNetwork(proc, context.ipv6, expect)
  return { found, differences }
}

/** Descriptors of the gate: 0, 1, 2 are our FIFOs and nothing else is open. (The init holds its own signal descriptors.) */
export function attestDescriptors(proc: string, context: AttestContext): Difference[] {
  const open = readdirSync(`${proc}/fd`).map(Number).sort((a, b) => a - b)
  const wanted = [0, 1, 2, ...context.extraFds]
  const differences: Difference[] = []
  if (open.join(' ') !== wanted.join(' ')) differences.push({ what: 'open descriptors', expected: wanted.join(' '), found: open.join(' ') })
  for (const [fd, expected] of context.stdio.entries()) {
    const at = statSync(`${proc}/fd/${fd}`, { bigint: true })
    const found = !at.isFIFO() ? 'no FIFO' : context.runtime === 'runc' ? expected : `${at.dev}:${at.ino}` // runc puts pipes of its own between
    if (found !== expected) differences.push({ what: `descriptor ${fd}`, expected, found })
  }
  return differences
}

type Expect = (what: string, expected: string, found: string) => void

/** The checks that are repeated at each snapshot: the cgroup's files and the namespace's links, routes, listeners. */
export function attestAgain(proc: string, plan: SandboxPlan, context: AttestContext): Difference[] {
  const differences: Difference[] = []
  const expect: Expect = (what, expected, found) => {
    if (expected !== found) differences.push({ what, expected, found })
  }
  attestCgroup(readFileSync(`${proc}/cgroup`, 'utf8'), plan, context, expect)
  attestNetwork(proc, context.ipv6, expect)
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

/** proc_pid_mountinfo(5): every mount of the plan with its flags, the masks, and not one mount more. */
function attestMounts(text: string, plan: SandboxPlan, expect: Expect): void {
  const mounts = new Map<string, { flags: Set<string>; type: string }>()
  for (const line of text.trim().split('\n')) {
    const [left, right] = line.split(' - ')
    const fields = left?.split(' ') ?? []
    const point = (fields[4] ?? '').replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)))
    mounts.set(point, { flags: new Set(fields[5]?.split(',')), type: right?.split(' ')[0] ?? '' }) // a later mount on the same point is the one that counts
  }
  expect('mount /', 'ro', mounts.get('/')?.flags.has('ro') === true ? 'ro' : 'rw')
  const allowed = new Set(['/', ...plan.masked, ...plan.readonly])
  for (const mount of plan.mounts) {
    allowed.add(mount.destination)
    const at = mounts.get(mount.destination)
    // On v1, runc leaves the tmpfs that holds the controllers' views writable for root; it is root's, 0755, and each view is read-only.
    const holder = mount.type === 'cgroup' && plan.cgroup.version === 1
    const wanted = mount.options.filter((o) => ['ro', 'rw', 'nosuid', 'nodev', 'noexec'].includes(o) && !(holder && o === 'ro'))
    if (mount.type !== 'bind' && !mount.options.includes('ro')) wanted.push('rw')
    expect(`mount ${mount.destination}`, wanted.sort().join(','), at === undefined ? 'absent' : wanted.filter((o) => at.flags.has(o)).sort().join(','))
  }
  // Below /sys/fs/cgroup a v1 host shows one mount per controller, all read-only like their parent.
  const cgroupViews = [...mounts].filter(([point]) => point.startsWith('/sys/fs/cgroup/'))
  for (const [point, { flags }] of cgroupViews) expect(`mount ${point}`, 'ro', flags.has('ro') ? 'ro' : 'rw')
  const submounts = plan.mounts.filter((m) => m.options.includes('rslave')).map((m) => `${m.destination}/`)
  const strangers = [...mounts.keys()].filter((p) => !allowed.has(p) && !p.startsWith('/sys/fs/cgroup/') && !submounts.some((s) => p.startsWith(s)))
  expect('other mounts', '', strangers.slice(0, 10).join(' '))
  for (const path of plan.readonly) {
    const at = mounts.get(path)
    if (at !== undefined) expect(`mount ${path}`, 'ro', at.flags.has('ro') ? 'ro' : 'rw') // absent in /proc of this kernel: nothing to protect
  }
}

function attestCgroup(text: string, plan: SandboxPlan, context: AttestContext, expect: Expect): void {
  const { cgroup } = plan
  const read = (controller: string, file: string): string => {
    const dir = context.cgroupDirs.get(controller)
    try {
      return dir === undefined ? 'absent' : readFileSync(`${dir}/${file}`, 'utf8').trim()
    } catch {
      return 'absent'
    }
  }
  const leaf = `/${cgroup.path.replace(/^\//, '')}`
  if (cgroup.version === 2) {
    expect('cgroup', `0::${leaf}`, text.trim())
    expect('memory.max', String(cgroup.memoryMaxBytes), read('unified', 'memory.max'))
    if (cgroup.memoryHighBytes !== null) expect('memory.high', String(cgroup.memoryHighBytes), read('unified', 'memory.high'))
    const swap = read('unified', 'memory.swap.max')
    expect('memory.swap.max', '0', swap === 'absent' ? '0' : swap) // a kernel without swap accounting has no such file
    expect('memory.oom.group', '1', read('unified', 'memory.oom.group'))
    expect('cpu.max', `${cgroup.cpuQuotaUs} ${cgroup.cpuPeriodUs}`, read('unified', 'cpu.max'))
    if (cgroup.cpuWeight !== null) expect('cpu.weight', String(cgroup.cpuWeight), read('unified', 'cpu.weight'))
    expect('pids.max', String(cgroup.tasksMax), read('unified', 'pids.max'))
    return
  }
  for (const line of text.trim().split('\n')) {
    const [, names, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? []
    const ours = names?.split(',').some((name) => context.cgroupDirs.has(name)) === true
    if (ours) expect(`cgroup ${names}`, 'the run\'s', path?.endsWith(leaf) === true ? 'the run\'s' : (path ?? ''))
  }
  expect('memory.limit_in_bytes', String(cgroup.memoryMaxBytes), read('memory', 'memory.limit_in_bytes'))
  expect('cpu.cfs_quota_us', String(cgroup.cpuQuotaUs), read('cpu', 'cpu.cfs_quota_us'))
  expect('pids.max', String(cgroup.tasksMax), read('pids', 'pids.max'))
}

/** Only `lo`, only local routes, and (while the door is shut) nothing of ours listening. */
function attestNetwork(proc: string, ipv6: boolean, expect: Expect): void {
  const lines = (file: string): string[] => readFileSync(`${proc}/net/${file}`, 'utf8').trim().split('\n')
  expect('links', 'lo', lines('dev').slice(2).map((line) => line.trim().split(':')[0]).join(' '))
  expect('routes to elsewhere', '', lines('route').slice(1).join('; ')) // /proc/net/route lists all that is not local or broadcast
  expect('default route', 'local', /0\.0\.0\.0\n\s+\/0 host LOCAL/.test(readFileSync(`${proc}/net/fib_trie`, 'utf8')) ? 'local' : 'absent')
  if (!ipv6) return
  const routes6 = lines('ipv6_route').map((line) => line.trim().split(/\s+/))
  expect('ipv6 links', 'lo', [...new Set(routes6.map((route) => route[9]))].join(' '))
  // Flags of linux/ipv6_route.h: RTF_LOCAL marks a local route, RTF_REJECT the kernel's own null entry.
  const elsewhere = routes6.filter((route) => (parseInt(route[8] ?? '0', 16) & (0x80000000 | 0x0200)) === 0 && route[0] !== '0'.repeat(31) + '1')
  expect('ipv6 routes to elsewhere', '', elsewhere.map((route) => `${route[0]}/${route[1]}`).join(' '))
}
