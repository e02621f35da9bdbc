import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { CordonError } from '../errors.ts'

const V1_CONTROLLERS = ['memory', 'cpu', 'cpuacct', 'pids', 'blkio', 'devices', 'freezer', 'cpuset'] as const
/** Ten times the usual, as the door and the gateway have it among the plugins. */
const SUPERVISOR_WEIGHT = 1000
const V2_CONTROLLERS = ['cpu', 'memory', 'pids', 'io'] as const

/** Where our cgroups lie. Unified: `/` is the cgroup that we were delegated, thanks to our cgroup namespace. */
export interface CgroupTree {
  readonly version: 1 | 2
  readonly controllers: readonly string[]
  /** The name that the OCI runtime gets (config-linux.md, cgroupsPath). */
  ociPath(group: string, leaf: string): string
  /** Directories of one group or leaf, by controller; one entry `unified` on version 2. Group '' is the whole of what is ours below our cgroup. */
  dirs(group: string, leaf?: string): ReadonlyMap<string, string>
  /** The lasting parent of a group: it outlives each run, so the kernel's counts survive the leaf. */
  makeGroup(group: string): void
}

/** Is the host's cgroup root unified? Everything else counts as hybrid or v1 and is served by runc. */
export function cgroupVersion(): 1 | 2 {
  return existsSync('/sys/fs/cgroup/cgroup.controllers') ? 2 : 1
}

/**
 * Take possession of the delegated cgroup. The caller stands in a cgroup namespace rooted there and has mounted cgroup2 on
 * /sys/fs/cgroup, so nothing here or in the runtime can reach an ancestor (crun otherwise edits every subtree_control up to the root).
 * @param supervisor leaf that the launcher itself moves to: a cgroup with controllers for children may hold no process
 *        (cgroup-v2.rst, "No Internal Process Constraint")
 * @throws CordonError LAUNCH_CGROUP when the cgroup is not ours to divide
 */
export function openUnifiedTree(supervisor: string): CgroupTree {
  const root = '/sys/fs/cgroup'
  makeDir(`${root}/${supervisor}`)
  writeFileSync(`${root}/${supervisor}/cgroup.procs`, String(process.pid))
  const controllers = readFileSync(`${root}/cgroup.controllers`, 'utf8').trim().split(' ').filter((c) => (V2_CONTROLLERS as readonly string[]).includes(c))
  const enable = (dir: string): void => {
    try {
      writeFileSync(`${dir}/cgroup.subtree_control`, controllers.map((c) => `+${c}`).join(' '))
    } catch (error) {
      throw new CordonError('LAUNCH_CGROUP', `${dir}/cgroup.subtree_control: ${error instanceof Error ? error.message : String(error)}; other processes live in our cgroup`, { cause: error })
    }
  }
  enable(root)
  // Each act and each record goes by us; beside us stand all plugins together, which must not slow that.
  if (controllers.includes('cpu')) writeFileSync(`${root}/${supervisor}/cpu.weight`, String(SUPERVISOR_WEIGHT))
  return {
    version: 2,
    controllers,
    ociPath: (group, leaf) => `/plugins/${group}/${leaf}`,
    dirs: (group, leaf) => new Map([['unified', [root, 'plugins', ...parts(group, leaf)].join('/')]]),
    makeGroup(group) {
      let dir = root
      for (const part of ['plugins', ...parts(group)]) {
        dir = `${dir}/${part}`
        makeDir(dir)
        enable(dir)
      }
    },
  }
}

/** The same below our own cgroup of every v1 hierarchy, in a directory of our own. */
export function openLegacyTree(base: string): CgroupTree {
  const own = new Map<string, string>()
  for (const line of readFileSync('/proc/self/cgroup', 'utf8').trim().split('\n')) {
    const [, names, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? []
    const below = path === '/' ? '' : (path ?? '')
    for (const name of (names ?? '').split(',')) {
      if ((V1_CONTROLLERS as readonly string[]).includes(name)) own.set(name, `/sys/fs/cgroup/${name}${below}`)
      // Hierarchies without controllers; the runtime makes its directories there too.
      if (name === 'name=systemd') own.set('systemd', `/sys/fs/cgroup/systemd${below}`)
      if (name === '' && existsSync('/sys/fs/cgroup/unified')) own.set('hybrid', `/sys/fs/cgroup/unified${below}`)
    }
  }
  for (const [name, dir] of own) if (!existsSync(dir)) own.delete(name) // compiled in, but not mounted
  if (!own.has('memory') && !own.has('cpu') && !own.has('pids')) throw new CordonError('LAUNCH_CGROUP', 'no cgroup hierarchy is mounted below /sys/fs/cgroup, so no limit could be enforced')
  return {
    version: 1,
    controllers: [...own.keys()],
    ociPath: (group, leaf) => `${base}/${group}/${leaf}`, // relative: runc puts it below our own cgroup of each hierarchy
    dirs: (group, leaf) => new Map([...own].map(([name, dir]) => [name, [dir, base, ...parts(group, leaf)].join('/')])),
    makeGroup(group) {
      for (const dir of own.values()) {
        let at = dir
        for (const part of [base, ...parts(group)]) makeDir((at = `${at}/${part}`))
      }
    },
  }
}

/** One level: on a file system that makes no directories, Node's recursive mkdir tries for ever. */
function makeDir(path: string): void {
  if (!existsSync(path)) mkdirSync(path)
}

function parts(group: string, leaf?: string): string[] {
  return [group, leaf].filter((part) => part !== undefined && part !== '') as string[]
}
