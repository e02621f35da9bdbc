import { closeSync, constants, fstatSync, mkdirSync, openSync, writeFileSync, type BigIntStats } from 'node:fs'
import { CordonError } from '../errors.ts'
import type { PlanMount } from '../plan/plan.ts'
import { runProgram } from './run-program.ts'

/** open(2): a descriptor that only names a place; not among Node's constants (asm-generic/fcntl.h). */
export const O_PATH = 0o10000000

const GROUP_OR_OTHERS_WRITE = 0o022

/** A host path held open, so that what was checked is what gets mounted. */
export interface Pin {
  /** Resolves for any process of root while the launcher lives. */
  readonly procPath: string
  readonly stat: BigIntStats
  close(): void
}

/**
 * Open an absolute path without following a symlink in any component: each step is opened below the descriptor of the
 * one before (`/proc/self/fd/N/name`, openat(2) in effect), so nobody who can write one of its directories can turn it elsewhere.
 * @param rootsAlone no component may be anybody's but root's to change
 * @throws CordonError LAUNCH_PATH when a component is a symlink, absent, or not a directory
 */
function pinPath(path: string, rootsAlone: boolean): Pin {
  const parts = path.split('/').filter((part) => part !== '')
  let fd = openSync('/', O_PATH | constants.O_DIRECTORY)
  try {
    for (const [index, part] of parts.entries()) {
      const next = openSync(`/proc/self/fd/${fd}/${part}`, O_PATH | constants.O_NOFOLLOW)
      closeSync(fd)
      fd = next
      const kind = fstatSync(fd)
      if (kind.isSymbolicLink()) throw new CordonError('LAUNCH_PATH', `/${parts.slice(0, index + 1).join('/')} is a symlink; a path of a policy must hold none`)
      if (rootsAlone && (kind.uid !== 0 || (kind.mode & GROUP_OR_OTHERS_WRITE) !== 0)) {
        throw new CordonError('LAUNCH_PATH', `/${parts.slice(0, index + 1).join('/')} belongs to uid ${kind.uid} and has mode ${(kind.mode & 0o7777).toString(8)}; programs under \`runtime:\` must be root's alone to change`)
      }
    }
  } catch (error) {
    closeSync(fd)
    if (error instanceof CordonError) throw error
    throw new CordonError('LAUNCH_PATH', `cannot open ${path}: ${error instanceof Error ? error.message : String(error)}`, { cause: error })
  }
  return {
    procPath: `/proc/${process.pid}/fd/${fd}`,
    stat: fstatSync(fd, { bigint: true }),
    close: () => closeSync(fd),
  }
}

/**
 * Bind every path that the policy named to a place of ours, from its descriptor, so that nothing can be swapped between the
 * check and the runtime's mount. (The runtime cannot bind from the descriptor itself: it lives in another mount namespace by
 * then, and mount(2) answers EINVAL.) The binds live in the launcher's mount namespace.
 * @param dir root-only directory for them
 * @returns staged path by destination, for renderOci
 */
export async function stageGrants(mounts: readonly PlanMount[], dir: string): Promise<ReadonlyMap<string, string>> {
  const grants = mounts.filter((mount) => mount.pinned !== undefined)
  const staged = new Map<string, string>()
  if (grants.length === 0) return staged
  mkdirSync(dir, { mode: 0o700 })
  const pins: Pin[] = []
  try {
    const args: string[] = []
    for (const [index, grant] of grants.entries()) {
      const pin = pinPath(grant.source, grant.pinned === 'tree')
      pins.push(pin)
      if (grant.pinned === 'socket' && !pin.stat.isSocket()) throw new CordonError('LAUNCH_PATH', `${grant.source} is no Unix socket; \`sockets:\` may name nothing else`)
      const place = `${dir}/${index}`
      if (pin.stat.isDirectory()) mkdirSync(place)
      else writeFileSync(place, '')
      args.push(pin.procPath, place)
      staged.set(grant.destination, place)
    }
    // --no-canonicalize: mount(8) would otherwise turn the descriptor back into a path.
    await runProgram('/bin/sh', ['-euc', 'while [ $# -gt 0 ]; do mount --no-canonicalize --bind "$1" "$2"; shift 2; done', 'cordon-stage', ...args])
    return staged
  } finally {
    for (const pin of pins) pin.close()
  }
}

/** Take the binds away again; absent ones are fine. */
export async function unstageGrants(dir: string, count: number): Promise<void> {
  if (count === 0) return
  const places = Array.from({ length: count }, (_, index) => `${dir}/${index}`)
  await runProgram('/usr/bin/umount', ['--lazy', '--quiet', ...places]).catch(() => '') // some were never made when the start failed early
}
