import { readdirSync, readFileSync, readlinkSync, statfsSync, statSync } from 'node:fs'
import { OOM_SCORE_ADJ } from '../plan/limits.ts'
import { gateArguments, sharesFromWeight } from '../plan/oci.ts'
import type { PlanMount, SandboxPlan } from '../plan/plan.ts'

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
  /** Cgroup directories of the run by controller (`unified` on version 2). */
  /** The door's listeners that must be there; SandboxPlan.listeners at first, others once the rules changed. */
  listeners: SandboxPlan['listeners']
  readonly cgroupDirs: ReadonlyMap<string, string>
  /** Where grants of the policy were bound to, by destination (pin.ts). */
  readonly staged: ReadonlyMap<string, string>
}

export interface Difference {
  readonly what: string
  readonly expected: string
  readonly found: string
}

const NAMESPACES = ['mnt', 'pid', 'ipc', 'uts', 'cgroup'] as const

/**
 * Read back what the kernel says about one process behind the walls and compare it with the plan. The text of the system call filter
 * can only be read by tracing the process, so of the filter it is its presence and the number of filters that are compared.
 * @param proc `/proc/self/fd/N` of an open /proc/PID: it can never become another process
 * @returns everything that was looked at, and every difference; an empty `differences` is the proof
 */
export function attestProcess(proc: string, plan: SandboxPlan, context: AttestContext): Attested {
  const { found, differences, expect } = collector()
  attestItself(proc, plan, context, expect)
  attestMounts(proc, plan, context, expect)
  if (context.netnsInode !== null) { // the door has the host's network, where there is nothing to expect
    attestNetwork(proc, context.listeners, context.ipv6, expect)
    const door = doorSockets(context.listeners, context.ipv6)
    expect('sockets', '', socketsIn(proc).filter((one) => !door.includes(one)).slice(0, 5).join('; ')) // not asked again: the program may listen on the loopback of its own
  }
  return { found, differences }
}

/**
 * The init above a process that `attestProcess` looked at: what is its own, and that it stands in the same namespaces, so that mounts and
 * network are the same objects and need no second look.
 */
export function attestAbove(init: string, below: string, plan: SandboxPlan, context: AttestContext): Difference[] {
  const { differences, expect } = collector()
  attestItself(init, plan, context, expect)
  for (const kind of [...NAMESPACES, 'net']) expect(`ns/${kind} of the init`, readlinkSync(`${below}/ns/${kind}`), readlinkSync(`${init}/ns/${kind}`))
  return differences
}

interface Attested {
  readonly found: Record<string, string>
  readonly differences: Difference[]
}

function collector(): Attested & { readonly expect: Expect } {
  const found: Record<string, string> = {}
  const differences: Difference[] = []
  return {
    found,
    differences,
    expect: (what, expected, actual) => {
      found[what] = actual
      if (expected !== actual) differences.push({ what, expected, found: actual })
    },
  }
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
  attestCgroup(readFileSync(`${proc}/cgroup`, 'utf8'), plan, context, expect)
}

/** What the gate is about to become: exactly the planned program, in the planned directory and environment. */
export function attestProgram(proc: string, plan: SandboxPlan): Difference[] {
  const differences: Difference[] = []
  const compare = (what: string, expected: string, found: string): void => {
    if (expected !== found) differences.push({ what, expected, found })
  }
  const words = (file: string): string[] => readFileSync(`${proc}/${file}`, 'utf8').split('\0').slice(0, -1)
  compare('arguments', JSON.stringify(gateArguments(plan)), JSON.stringify(words('cmdline')))
  compare('working directory', identity(`${proc}/root${plan.cwd}`), identity(`${proc}/cwd`))
  const planned = Object.entries(plan.env).map(([name, value]) => `${name}=${value}`)
  const found = words('environ').filter((pair) => 'HOME' in plan.env || !pair.startsWith('HOME=')) // a runtime adds a HOME where there is none
  // Names only: a value may be a secret that a runtime took from somewhere.
  const names = (pairs: string[]): string => pairs.map((pair) => pair.split('=')[0]).sort().join(' ')
  compare('environment, too much', '', names(found.filter((pair) => !planned.includes(pair))))
  compare('environment, missing', '', names(planned.filter((pair) => !found.includes(pair))))
  return differences
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

/** Device and inode: the object itself, whatever path leads to it. */
function identity(path: string): string {
  try {
    const { dev, ino } = statSync(path, { bigint: true })
    return `${dev}:${ino}`
  } catch {
    return 'absent'
  }
}

/** proc_pid_mountinfo(5): every mount of the plan with its flags and what lies on it, the masks, and not one mount more. */
function attestMounts(proc: string, plan: SandboxPlan, context: AttestContext, expect: Expect): void {
  const mounts = new Map<string, { flags: Set<string>; type: string }>()
  for (const line of readFileSync(`${proc}/mountinfo`, 'utf8').trim().split('\n')) {
    const [left, right] = line.split(' - ')
    const fields = left?.split(' ') ?? []
    const point = (fields[4] ?? '').replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)))
    mounts.set(point, { flags: new Set(fields[5]?.split(',')), type: right?.split(' ')[0] ?? '' }) // a later mount on the same point is the one that counts
  }
  expect('mount /', 'ro', mounts.get('/')?.flags.has('ro') === true ? 'ro' : 'rw')
  expect('root directory', identity(plan.rootPath), identity(`${proc}/root`))
  const allowed = new Set(['/', ...plan.masked, ...plan.readonly])
  for (const mount of plan.mounts) {
    allowed.add(mount.destination)
    const at = mounts.get(mount.destination)
    // On v1, runc leaves the tmpfs that holds the controllers' views writable for root; it is root's, 0755, and each view is read-only.
    const holder = mount.type === 'cgroup' && plan.cgroup.version === 1
    const wanted = mount.options.filter((o) => ['ro', 'rw', 'nosuid', 'nodev', 'noexec'].includes(o) && !(holder && o === 'ro'))
    if (mount.type !== 'bind' && !mount.options.includes('ro')) wanted.push('rw')
    expect(`mount ${mount.destination}`, wanted.sort().join(','), at === undefined ? 'absent' : wanted.filter((o) => at.flags.has(o)).sort().join(','))
    if (mount.type === 'bind') expect(`source of ${mount.destination}`, identity(context.staged.get(mount.destination) ?? mount.source), identity(`${proc}/root${mount.destination}`))
    else expect(`type of ${mount.destination}`, holder ? 'tmpfs' : fileSystem(mount, plan), at?.type ?? 'absent')
    if (mount.type === 'tmpfs') attestTmpfs(`${proc}/root${mount.destination}`, mount, expect)
  }
  // Below /sys/fs/cgroup a v1 host shows one mount per controller, all read-only like their parent.
  const cgroupViews = [...mounts].filter(([point]) => point.startsWith('/sys/fs/cgroup/'))
  for (const [point, { flags }] of cgroupViews) expect(`mount ${point}`, 'ro', flags.has('ro') ? 'ro' : 'rw')
  const submounts = plan.mounts.filter((m) => m.options.includes('rslave')).map((m) => `${m.destination}/`)
  const strangers = [...mounts.keys()].filter((p) => !allowed.has(p) && !p.startsWith('/sys/fs/cgroup/') && !submounts.some((s) => p.startsWith(s)))
  expect('other mounts', '', strangers.slice(0, 10).join(' '))
  // What this kernel's /proc does not have needs no mask.
  const inside = (path: string): boolean => statSync(`${proc}/root${path}`, { throwIfNoEntry: false }) !== undefined
  expect('masked paths that can be seen', '', plan.masked.filter((path) => inside(path) && !isMasked(`${proc}/root${path}`, mounts.get(path))).join(' '))
  expect('read-only paths that can be written', '', plan.readonly.filter((path) => inside(path) && mounts.get(path)?.flags.has('ro') !== true).join(' '))
}

function fileSystem({ type }: PlanMount, plan: SandboxPlan): string {
  return type === 'cgroup' && plan.cgroup.version === 2 ? 'cgroup2' : type
}

const NULL_DEVICE = 0x103 // 1:3, Documentation/admin-guide/devices.txt

/** OCI's way: an empty read-only directory over a directory, /dev/null over a file. */
function isMasked(path: string, mount: { flags: Set<string> } | undefined): boolean {
  if (mount === undefined) return false
  const at = statSync(path)
  return at.isDirectory() ? mount.flags.has('ro') && readdirSync(path).length === 0 : at.isCharacterDevice() && at.rdev === NULL_DEVICE
}

/** The kernel rounds a size up to whole pages, and says itself how large they are. */
function attestTmpfs(path: string, { destination, options }: PlanMount, expect: Expect): void {
  const option = (name: string): string | null => options.find((o) => o.startsWith(`${name}=`))?.slice(name.length + 1) ?? null
  const size = option('size')
  const inodes = option('nr_inodes')
  const uid = option('uid')
  const { bsize, blocks, files } = statfsSync(path)
  expect(`size of ${destination}`, size === null ? '0' : String(Math.ceil(Number(size) / bsize) * bsize), String(blocks * bsize))
  if (inodes !== null) expect(`inodes of ${destination}`, inodes, String(files))
  if (uid !== null) expect(`owner of ${destination}`, uid, String(statSync(path).uid))
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
    if (cgroup.cpuWeight !== null) {
      expect('cpu.weight', String(cgroup.cpuWeight), read('unified', 'cpu.weight'))
      expect('cpu.weight of its group', String(cgroup.cpuWeight), read('unified', '../cpu.weight')) // the one that counts (cgroup-shares.ts)
    }
    expect('pids.max', String(cgroup.tasksMax), read('unified', 'pids.max'))
    if (cgroup.ioWeight !== null) expect('io.weight', `default ${cgroup.ioWeight}`, read('unified', 'io.weight').split('\n')[0] ?? '')
    if (cgroup.ioBandwidth !== null) {
      const { device, readBps, writeBps } = cgroup.ioBandwidth
      const line = read('unified', 'io.max').split('\n').find((one) => one.startsWith(`${device} `))
      expect('io.max', `rbps=${readBps ?? 'max'} wbps=${writeBps ?? 'max'}`, line?.split(' ').slice(1, 3).join(' ') ?? 'absent')
    }
    return
  }
  for (const line of text.trim().split('\n')) {
    const [, names, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? []
    const ours = names?.split(',').some((name) => context.cgroupDirs.has(name)) === true
    if (ours) expect(`cgroup ${names}`, 'the run\'s', path?.endsWith(leaf) === true ? 'the run\'s' : (path ?? ''))
  }
  expect('memory.limit_in_bytes', String(cgroup.memoryMaxBytes), read('memory', 'memory.limit_in_bytes'))
  const withSwap = read('memory', 'memory.memsw.limit_in_bytes')
  expect('memory.memsw.limit_in_bytes', String(cgroup.memoryMaxBytes), withSwap === 'absent' ? String(cgroup.memoryMaxBytes) : withSwap) // as above
  expect('cpu.cfs_quota_us', String(cgroup.cpuQuotaUs), read('cpu', 'cpu.cfs_quota_us'))
  expect('cpu.cfs_period_us', String(cgroup.cpuPeriodUs), read('cpu', 'cpu.cfs_period_us'))
  if (cgroup.cpuWeight !== null) {
    expect('cpu.shares', String(sharesFromWeight(cgroup.cpuWeight)), read('cpu', 'cpu.shares'))
    expect('cpu.shares of its group', String(sharesFromWeight(cgroup.cpuWeight)), read('cpu', '../cpu.shares'))
  }
  if (cgroup.ioBandwidth !== null) {
    const { device, readBps, writeBps } = cgroup.ioBandwidth
    for (const [file, rate] of [['blkio.throttle.read_bps_device', readBps], ['blkio.throttle.write_bps_device', writeBps]] as const) {
      if (rate !== null) expect(file, `${device} ${rate}`, read('blkio', file))
    }
  }
  expect('pids.max', String(cgroup.tasksMax), read('pids', 'pids.max'))
}

/**
 * Every socket of the namespace that has an address, by proc_pid_net(5): table, local address, uid of its owner. The counts of sockstat come
 * first: the kernel walks the whole host's table to list the TCP sockets of one namespace, which costs 5 ms on a host with much memory, twice.
 */
function socketsIn(proc: string): string[] {
  const read = (file: string): string => {
    try {
      return readFileSync(`${proc}/net/${file}`, 'utf8')
    } catch {
      return '' // no IPv6 in this kernel
    }
  }
  const counts = `${read('sockstat')}\n${read('sockstat6')}`
  const inUse = (table: string): boolean => !new RegExp(`^${table.toUpperCase()}: inuse 0( |$)`, 'm').test(counts)
  return ['tcp', 'tcp6', 'udp', 'udp6', 'raw', 'raw6', 'unix'].filter((table) => table === 'unix' || inUse(table)).flatMap((table) =>
    read(table).trim().split('\n').slice(1).map((line) => {
      const fields = line.trim().split(/\s+/)
      return table === 'unix' ? 'unix' : `${table} ${fields[1] ?? ''} ${fields[7] ?? ''}`
    }))
}

/** The door's listeners as `socketsIn` shows them: every wildcard address, owned by the helper that opened them. */
function doorSockets(listeners: SandboxPlan['listeners'], ipv6: boolean): string[] {
  if (listeners === null) return []
  const { tcp, udp, uid } = listeners
  const hex = (port: number): string => port.toString(16).toUpperCase().padStart(4, '0')
  const all = (table: string, ports: readonly number[]): string[] => ports.flatMap((port) => [
    `${table} 00000000:${hex(port)} ${uid}`,
    ...(ipv6 ? [`${table}6 ${'0'.repeat(32)}:${hex(port)} ${uid}`] : []),
  ])
  return [...all('tcp', tcp), ...all('udp', udp)]
}

/** Only `lo`, only local routes, and all of the door's listeners. */
function attestNetwork(proc: string, listeners: SandboxPlan['listeners'], ipv6: boolean, expect: Expect): void {
  const lines = (file: string): string[] => readFileSync(`${proc}/net/${file}`, 'utf8').trim().split('\n')
  expect('links', 'lo', lines('dev').slice(2).map((line) => line.trim().split(':')[0]).join(' '))
  expect('routes to elsewhere', '', lines('route').slice(1).join('; ')) // /proc/net/route lists all that is not local or broadcast
  expect('default route', 'local', /0\.0\.0\.0\n\s+\/0 host LOCAL/.test(readFileSync(`${proc}/net/fib_trie`, 'utf8')) ? 'local' : 'absent')
  const open = socketsIn(proc)
  expect('door', '', doorSockets(listeners, ipv6).filter((one) => !open.includes(one)).slice(0, 5).join('; ')) // what should listen and does not
  if (!ipv6) return
  const routes6 = lines('ipv6_route').map((line) => line.trim().split(/\s+/))
  expect('ipv6 links', 'lo', [...new Set(routes6.map((route) => route[9]))].join(' '))
  // Flags of linux/ipv6_route.h: RTF_LOCAL marks a local route, RTF_REJECT the kernel's own null entry.
  const elsewhere = routes6.filter((route) => (parseInt(route[8] ?? '0', 16) & (0x80000000 | 0x0200)) === 0 && route[0] !== '0'.repeat(31) + '1')
  expect('ipv6 routes to elsewhere', '', elsewhere.map((route) => `${route[0]}/${route[1]}`).join(' '))
}
