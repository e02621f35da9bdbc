import { existsSync, lstatSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { CordonError } from '../errors.ts'

/** Directories of one cgroup by controller; the one entry `unified` on version 2. As `CgroupTree.dirs()` gives them. */
export type CgroupDirs = ReadonlyMap<string, string>

/** SIGKILL takes effect within milliseconds, except on processes in uninterruptible sleep. */
const KILL_LIMIT_MS = 10_000
const REMOVE_LIMIT_MS = 2_000
const FREEZE_LIMIT_MS = 5_000
const MAX_DEPTH = 16
const MAX_CGROUPS = 10_000

/**
 * Kill every process in a cgroup and below, by cgroup and never by a remembered pid; resolves once it is empty or gone.
 * @throws CordonError CGROUP_BUSY when processes remain after limitMs
 */
export async function killCgroup(version: 1 | 2, dirs: CgroupDirs, limitMs = KILL_LIMIT_MS): Promise<void> {
  const until = performance.now() + limitMs
  const unified = dirs.get('unified')
  // cgroup.kill would take us too, and nobody would be left to stop the rest.
  if (processesIn(dirs).has(process.pid)) throw new CordonError('INTERNAL_BUG', `refused to kill ${[...dirs.values()].join(', ')}: our own process is in it`)
  if (version === 2 && unified !== undefined && existsSync(`${unified}/cgroup.kill`)) {
    write(`${unified}/cgroup.kill`, '1') // Linux 5.14, cgroup-v2.rst: also takes whatever is forked meanwhile
  } else {
    await killByFreezing(version, dirs, until)
  }
  if (!(await waitEmpty(dirs, until - performance.now()))) {
    throw new CordonError('CGROUP_BUSY', `${[...dirs.values()][0] ?? 'a cgroup'} still holds the processes ${[...processesIn(dirs)].slice(0, 10).join(', ')} ${limitMs} ms after SIGKILL`)
  }
}

/**
 * Frozen processes neither fork nor exit, so the list is complete and no pid can change hands between reading and killing;
 * SIGKILL takes effect on thawing (v1) or at once (v2). Without a freezer the rounds below reach forks as well, later.
 */
async function killByFreezing(version: 1 | 2, dirs: CgroupDirs, until: number): Promise<void> {
  const freezer = freezerOf(version, dirs)
  for (let pids = processesIn(dirs); pids.size > 0 && performance.now() < until; pids = processesIn(dirs)) {
    if (freezer !== null) {
      write(freezer.path, freezer.freeze)
      await frozen(version, freezer.dir, Math.min(until, performance.now() + 500))
      pids = processesIn(dirs)
    }
    for (const pid of pids) kill(pid)
    // Below too: whoever froze a leaf (we or the runtime) may have been killed before it could thaw it, and what is frozen cannot die.
    if (freezer !== null) for (const path of cgroupsBelow(freezer.dir)) write(`${path}/${freezer.file}`, freezer.thaw)
    await sleep(5)
  }
}

async function frozen(version: 1 | 2, dir: string, until: number): Promise<boolean> {
  for (;;) {
    const text = version === 2 ? read(`${dir}/cgroup.events`) : read(`${dir}/freezer.state`)
    if (text === null || /^(FROZEN$|frozen 1$)/m.test(text)) return true
    if (performance.now() >= until) return false
    await sleep(2)
  }
}

/**
 * Let no process of a cgroup or below run on; what they fork meanwhile is caught too (cgroup-v2.rst, cgroup.freeze; cgroup-v1/freezer-subsystem.rst).
 * The order is given when this returns. `killCgroup` ends it, and `thawCgroup`.
 * @returns `still`: does the kernel say within limitMs that all of them stand still? One in uninterruptible sleep stands still when it wakes.
 *          null where this kernel has no freezer, or the cgroup is gone
 */
export function freezeCgroup(version: 1 | 2, dirs: CgroupDirs, limitMs = FREEZE_LIMIT_MS): { readonly still: Promise<boolean> } | null {
  const freezer = freezerOf(version, dirs)
  if (freezer === null) return null
  write(freezer.path, freezer.freeze)
  return { still: frozen(version, freezer.dir, performance.now() + limitMs) }
}

/** Let it run on. */
export function thawCgroup(version: 1 | 2, dirs: CgroupDirs): void {
  const freezer = freezerOf(version, dirs)
  if (freezer !== null) write(freezer.path, freezer.thaw)
}

/** @returns null where this kernel has none, or the cgroup is gone */
function freezerOf(version: 1 | 2, dirs: CgroupDirs) {
  const dir = version === 2 ? dirs.get('unified') : dirs.get('freezer')
  const [file, freeze, thaw] = version === 2 ? (['cgroup.freeze', '1', '0'] as const) : (['freezer.state', 'FROZEN', 'THAWED'] as const)
  return dir === undefined || !existsSync(`${dir}/${file}`) ? null : { dir, file, path: `${dir}/${file}`, freeze, thaw }
}

/** @returns false when a process is still there after limitMs; a directory that does not exist is empty */
export async function waitEmpty(dirs: CgroupDirs, limitMs: number): Promise<boolean> {
  const until = performance.now() + limitMs
  for (let pause = 1; ; pause = Math.min(pause * 2, 50)) {
    if (processesIn(dirs).size === 0) return true
    if (performance.now() >= until) return false
    await sleep(pause)
  }
}

/** Every process in these cgroups and below. 0 stands for a process of another pid namespace, which cannot be named but is there. */
export function processesIn(dirs: CgroupDirs): Set<number> {
  const found = new Set<number>()
  for (const dir of dirs.values()) {
    for (const path of cgroupsBelow(dir)) {
      for (const line of (read(`${path}/cgroup.procs`) ?? '').split('\n')) if (line !== '') found.add(figure(line, `${path}/cgroup.procs`))
    }
  }
  return found
}

/**
 * Remove cgroups and all below them, deepest first. Links are never followed; an absent directory is fine.
 * @throws CordonError CGROUP_BUSY when one cannot be removed within limitMs (it is not empty)
 */
export async function removeTree(dirs: CgroupDirs, limitMs = REMOVE_LIMIT_MS): Promise<void> {
  const until = performance.now() + limitMs
  for (const dir of dirs.values()) {
    for (const path of cgroupsBelow(dir).reverse()) {
      // A cgroup stays busy for a moment after its last process has ended.
      while (!removed(path)) {
        if (performance.now() >= until) throw new CordonError('CGROUP_BUSY', `${path} cannot be removed, it is not empty`)
        await sleep(10)
      }
    }
  }
}

function removed(path: string): boolean {
  try {
    rmdirSync(path)
    return true
  } catch (error) {
    const errno = errnoOf(error)
    if (errno === 'ENOENT') return true
    if (errno === 'EBUSY' || errno === 'ENOTEMPTY') return false
    throw error
  }
}

/** The cgroup itself, then everything below it, parents before children. */
function cgroupsBelow(dir: string): string[] {
  const found: string[] = []
  const visit = (path: string, depth: number): void => {
    if (depth > MAX_DEPTH || found.length >= MAX_CGROUPS) throw new CordonError('CGROUP_BUSY', `${dir} holds more than ${MAX_CGROUPS} cgroups, or deeper ones than ${MAX_DEPTH}`)
    found.push(path)
    for (const entry of list(path)) if (entry.isDirectory()) visit(`${path}/${entry.name}`, depth + 1)
  }
  if (lstatSync(dir, { throwIfNoEntry: false })?.isDirectory() === true) visit(dir, 0)
  return found
}

function list(path: string) {
  try {
    return readdirSync(path, { withFileTypes: true })
  } catch (error) {
    if (isGone(error)) return []
    throw error
  }
}

function kill(pid: number): void {
  // Our own process or init in a plugin's cgroup would be a defect elsewhere; 0 would signal our whole group.
  if (pid <= 1 || pid === process.pid) return
  try {
    process.kill(pid, 'SIGKILL')
  } catch (error) {
    if (errnoOf(error) !== 'ESRCH') throw error
  }
}

function write(path: string, text: string): void {
  try {
    writeFileSync(path, text, { flag: 'r+' })
  } catch (error) {
    if (!isGone(error)) throw error
  }
}

/** @returns null when the cgroup or the file does not exist (any more), or the kernel has the feature switched off */
export function read(path: string): string | null {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (isGone(error) || errnoOf(error) === 'EOPNOTSUPP') return null
    throw error
  }
}

/** A number as the kernel prints it. @throws CordonError CGROUP_BAD_FIGURE */
export function figure(text: string, where: string): number {
  const value = Number(text)
  if (!/^\d{1,20}$/.test(text)) throw new CordonError('CGROUP_BAD_FIGURE', `${where} holds ${JSON.stringify(text.slice(0, 40))}, expected a number`)
  return Math.min(value, Number.MAX_SAFE_INTEGER) // 2^63 and the like mean "no limit"
}

/** ENODEV: the cgroup was removed while its file was open. */
function isGone(error: unknown): boolean {
  const errno = errnoOf(error)
  return errno === 'ENOENT' || errno === 'ENODEV' || errno === 'ENOTDIR'
}

function errnoOf(error: unknown): string | null {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : null
}
