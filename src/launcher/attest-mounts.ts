import { readdirSync, readFileSync, statfsSync, statSync } from 'node:fs'
import type { PlanMount, SandboxPlan } from '../plan/plan.ts'
import type { Expect } from './comparison.ts'

/** proc_pid_mountinfo(5): every mount of the plan with its flags and what lies on it, the masks, and not one mount more. */
export function attestMounts(proc: string, plan: SandboxPlan, staged: ReadonlyMap<string, string>, expect: Expect): void {
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
    if (mount.type === 'bind') expect(`source of ${mount.destination}`, identity(staged.get(mount.destination) ?? mount.source), identity(`${proc}/root${mount.destination}`))
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

/** Device and inode: the object itself, whatever path leads to it. */
export function identity(path: string): string {
  try {
    const { dev, ino } = statSync(path, { bigint: true })
    return `${dev}:${ino}`
  } catch {
    return 'absent' // a finding: no object compares equal to it
  }
}
