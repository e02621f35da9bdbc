import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { CordonError } from '../errors.ts'
import type { HostFacts } from '../plan/plan.ts'
import type { HostConfig } from '../policy/host-config.ts'
import { killCgroup, removeTree } from './cgroup.ts'
import { openLegacyTree, openUnifiedTree, cgroupVersion, type CgroupTree } from './cgroup-tree.ts'
import { DataListings } from './data-listing.ts'
import { Observer } from './observer.ts'
import { findInit, probeHost, requireMergedUsr, requireRoot } from './preflight.ts'
import { runProgram } from './run-program.ts'
import { slotSource, type Slot } from './slots.ts'
import { createUsers, type Users } from './users.ts'

/** A host that is ready to run something behind walls: directories, cgroups and facts of one Cordon process. */
export interface LaunchHost {
  readonly config: HostConfig
  readonly facts: HostFacts
  readonly tree: CgroupTree
  readonly users: Users
  readonly observer: Observer
  readonly listings: DataListings
  readonly ociRoot: string
  readonly bundlesDir: string
  readonly socketsDir: string
  readonly initPath: string
  readonly inheritedFilters: number
  /** The plugin-independent part of a run, ready made where one was prepared. */
  takeSlot(): Promise<Slot>
  /** Take away what was prepared, kill whatever is left in our cgroups, remove them and all places. */
  close(): Promise<void>
}

/** Places below runDir; root-only but for the sockets, which the gateway's group enters. */
export function runPlaces(runDir: string) {
  return { ociRoot: `${runDir}/oci`, bundlesDir: `${runDir}/bundles`, networksDir: `${runDir}/net`, socketsDir: `${runDir}/sockets`, initPath: `${runDir}/init` }
}

/**
 * Make the places and take the cgroup. The caller stands in a mount namespace of its own (and, on unified hosts, a cgroup
 * namespace): see enter.ts.
 * @param runDir of this process: the daemon's, or one below it for a single `cordon run`
 * @param daemon `clean` is called before anything is made below runDir, to take away what an earlier one left (recover.ts); `prepare`
 *        keeps one slot ready, so that a start need not wait for it. null for a single run.
 */
export async function openLaunchHost(config: HostConfig, runDir: string, daemon: { clean(tree: CgroupTree): Promise<void>; readonly prepare: boolean } | null): Promise<LaunchHost> {
  requireRoot()
  requireMergedUsr()
  process.umask(0o022) // modes are as they are written here; an operator's 077 would shut plugins out of their own read-only root
  const places = runPlaces(runDir)
  for (const dir of [config.stateDir, config.runDir, runDir]) mkdirSync(dir, { recursive: true, mode: 0o700 })
  const tree = await openTree(runDir)
  await daemon?.clean(tree)
  const removePlaces = async (): Promise<void> => {
    await runProgram('/usr/bin/umount', ['--lazy', '--quiet', places.socketsDir, places.bundlesDir]).catch(() => '') // not mounted when it failed early
    for (const path of Object.values(places)) rmSync(path, { recursive: true, force: true })
  }
  try {
    for (const dir of [places.ociRoot, places.bundlesDir, places.networksDir]) mkdirSync(dir, { recursive: true, mode: 0o700 })
    mkdirSync(places.socketsDir, { recursive: true, mode: 0o711 })
    // Shared, so that socket directories mounted later reach the gateway's mount namespace, which is a slave of this one mount.
    // Bundles on a tmpfs: some forty small files and directories per start, which cost 30 ms where /run is a disk and 1 ms here.
    await runProgram('/bin/sh', ['-euc', MOUNTS, 'cordon-places', places.socketsDir, places.bundlesDir])
    const facts = await probeHost(config, tree)
    copyInit(places.initPath)
    const inheritedFilters = Number(/^Seccomp_filters:\s+(\d+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? 0)
    const users = createUsers(config.stateDir, config.uids)
    const observer = new Observer(facts)
    const slots = slotSource({ ...places, socketsDir: daemon === null ? null : places.socketsDir, ipv6: facts.ipv6 }, { facts, ociRoot: places.ociRoot }, daemon?.prepare === true)
    return {
      config, facts, tree, users, observer, listings: new DataListings(config.stateDir), ...places, inheritedFilters,
      takeSlot: slots.take,
      close: async () => {
        observer.close()
        await slots.close()
        await killCgroup(tree.version, tree.dirs(''))
        await removeTree(tree.dirs(''))
        await removePlaces()
      },
    }
  } catch (error) {
    await removePlaces()
    throw error
  }
}

async function openTree(runDir: string): Promise<CgroupTree> {
  // The name of the directory of each process keeps the daemon and every `cordon run` apart on v1, where they share hierarchies.
  if (cgroupVersion() === 1) return openLegacyTree(`cordon${runDir.replaceAll('/', '-')}`)
  // First away with the view of the host's root: mount(2) refuses the same file system twice on one mount point (EBUSY).
  await runProgram('/bin/sh', ['-euc', 'umount --lazy /sys/fs/cgroup; mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 /sys/fs/cgroup', 'cordon-cgroup'])
  return openUnifiedTree('supervisor')
}

const MOUNTS = `
mount --bind "$1" "$1"
mount --make-shared "$1"
mount -t tmpfs -o mode=0700,nosuid,nodev,size=64m cordon-bundles "$2"`

/** Root-owned and 0711: a program that its user cannot read is not dumpable, so a plugin cannot write its init's memory. */
function copyInit(path: string): void {
  const init = findInit()
  if (init === null) throw new CordonError('HOST_PROGRAMS', 'no catatonit or tini')
  if (existsSync(path)) return
  copyFileSync(init, path)
  chmodSync(path, 0o711)
}
