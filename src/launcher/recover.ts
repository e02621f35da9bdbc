import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { killCgroup, removeTree } from './cgroup.ts'
import { openLegacyTree, cgroupVersion, type CgroupTree } from './cgroup-tree.ts'
import { runPlaces } from './host.ts'

/** What was found and taken away at start. */
export interface Cleaned {
  readonly cgroups: number
  readonly places: number
}

/**
 * Take away what an earlier daemon left: every cgroup below ours is killed and proven empty, then runtime state, bundles and
 * socket directories go. (Its mounts and namespaces went with its mount namespace.)
 * @throws CordonError CGROUP_BUSY when a process does not die
 */
export async function cleanLeftovers(tree: CgroupTree, runDir: string): Promise<Cleaned> {
  const dirs = tree.dirs('')
  const groups = [...dirs.values()].filter((dir) => existsSync(dir)).length
  if (groups > 0) {
    await killCgroup(tree.version, dirs)
    await removeTree(dirs)
  }
  const places = runPlaces(runDir)
  let removed = 0
  for (const dir of [places.ociRoot, places.bundlesDir, places.networksDir, places.socketsDir]) {
    for (const name of existsSync(dir) ? readdirSync(dir) : []) {
      rmSync(`${dir}/${name}`, { recursive: true, force: true })
      removed++
    }
  }
  return { cgroups: groups, places: removed }
}

/** Directories of `cordon run` processes that were killed: named by pid and start time, so a reused pid is no confusion. @returns how many live */
export async function sweepStaleRuns(runDir: string): Promise<number> {
  const parent = `${runDir}/run`
  let alive = 0
  for (const name of existsSync(parent) ? readdirSync(parent) : []) {
    if (isAlive(name)) {
      alive += 1
      continue
    }
    const dir = `${parent}/${name}`
    if (cgroupVersion() === 1) { // on unified hosts its scope or unit went with its processes
      const dirs = openLegacyTree(`cordon${dir.replaceAll('/', '-')}`).dirs('')
      await killCgroup(1, dirs)
      await removeTree(dirs)
    }
    rmSync(dir, { recursive: true, force: true })
  }
  return alive
}

function isAlive(name: string): boolean {
  const [pid, start] = name.split('-')
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[19] === start
  } catch {
    return false // no such process, or a name that is none of ours
  }
}
