import { createHash } from 'node:crypto'
import { constants } from 'node:fs'
import { open, readFile, readlink, type FileHandle } from 'node:fs/promises'
import { printable } from '../base/printable.ts'
import { processesIn, type CgroupDirs } from './cgroup.ts'

/** Processes looked at in one go; a policy's TasksMax is mostly lower. */
const MAX_PROCESSES = 256
/** Different names, and new programs, that one look tells. */
const MAX_NAMES = 32
const MAX_PROGRAMS = 16
/** Programs remembered per run; what comes after is told with each look, never forgotten. */
const MAX_KNOWN = 1024
/** Programs of all runs whose digest is remembered: interpreters are large and shared. */
const MAX_DIGESTS = 512
/** A larger program is told without its digest: a plugin could make one as large as its disk. */
const MAX_HASHED_BYTES = 256 << 20
const CHUNK_BYTES = 1 << 20

export interface Program {
  /** As it is called behind the walls; the plugin's own words where the file is. */
  readonly path: string
  /** null: it is too large, or changed while it was read. */
  readonly sha256: string | null
  readonly bytes: number
}

export interface Look {
  /** Names of processes and how many have each, most first; a plugin gives itself what name it likes. */
  readonly names: { readonly name: string; readonly count: number }[]
  /** Processes that `names` does not count. */
  readonly more: number
  /** Programs that no earlier look found. */
  readonly fresh: Program[]
}

/** Digests of programs that did not change since they were read: by device, inode and time of change, which no one can set. */
export class ProgramDigests {
  readonly #known = new Map<string, string>()

  async of(file: FileHandle, id: string, size: number): Promise<string | null> {
    const known = this.#known.get(id)
    if (known !== undefined) return known
    const sha256 = size > MAX_HASHED_BYTES ? null : await digest(file, size)
    if (sha256 === null || (await identity(file)).id !== id) return null
    if (this.#known.size >= MAX_DIGESTS) for (const oldest of this.#known.keys()) { this.#known.delete(oldest); break }
    this.#known.set(id, sha256)
    return sha256
  }
}

/**
 * What runs in the cgroup of one run: looked at, not traced, so what lives shorter than the time between two looks is not seen. Names and
 * paths come from the plugin and are carried on as opaque text. Programs are opened through /proc/PID/exe, which the kernel resolves to the very
 * file that the process runs: no path of the plugin's is walked, so none can be a link to somewhere else or change meanwhile.
 */
export class Processes {
  readonly #dirs: CgroupDirs
  readonly #digests: ProgramDigests
  readonly #known = new Set<string>()

  constructor(dirs: CgroupDirs, digests: ProgramDigests) {
    this.#dirs = dirs
    this.#digests = digests
  }

  async look(): Promise<Look> {
    const pids = [...processesIn(this.#dirs)].filter((pid) => pid > 0)
    const seen: { readonly pid: number; readonly name: string }[] = []
    const programs = new Map<string, { readonly pid: number; readonly program: Program }>()
    for (const pid of pids.slice(0, MAX_PROCESSES)) {
      const name = await attempt(() => readFile(`/proc/${pid}/comm`, 'utf8'))
      if (name === null) continue // it has ended
      seen.push({ pid, name: printable(name.replace(/\n$/, ''), 64) })
      const found = programs.size < MAX_PROGRAMS ? await attempt(() => this.#program(pid, programs)) : null
      if (found !== null) programs.set(found.id, { pid, program: found.program })
    }
    // A process may have ended meanwhile, and its number may be somebody else's by now: only what is still here counts.
    const here = processesIn(this.#dirs)
    const names = new Map<string, number>()
    for (const { pid, name } of seen) if (here.has(pid)) names.set(name, (names.get(name) ?? 0) + 1)
    const told = [...names].map(([name, count]) => ({ name, count })).sort((a, b) => b.count - a.count).slice(0, MAX_NAMES)
    const fresh = [...programs].filter(([, { pid }]) => here.has(pid))
    for (const [id] of fresh) if (this.#known.size < MAX_KNOWN) this.#known.add(id)
    return { names: told, more: Math.max(0, here.size - told.reduce((sum, { count }) => sum + count, 0)), fresh: fresh.map(([, { program }]) => program) }
  }

  /** @returns null for one that is known already */
  async #program(pid: number, found: ReadonlyMap<string, unknown>): Promise<{ readonly id: string; readonly program: Program } | null> {
    const exe = `/proc/${pid}/exe`
    const file = await open(exe, constants.O_RDONLY | constants.O_NONBLOCK)
    try {
      const { id, size } = await identity(file)
      if (this.#known.has(id) || found.has(id)) return null
      const path = printable(await readlink(exe), 300)
      return { id, program: { path, sha256: await this.#digests.of(file, id, size), bytes: size } }
    } finally {
      await file.close()
    }
  }
}

async function identity(file: FileHandle): Promise<{ readonly id: string; readonly size: number }> {
  const { dev, ino, size, ctimeNs } = await file.stat({ bigint: true })
  return { id: `${dev} ${ino} ${size} ${ctimeNs}`, size: Number(size) }
}

async function digest(file: FileHandle, size: number): Promise<string | null> {
  const hash = createHash('sha256')
  const chunk = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, Math.max(1, size)))
  for (let at = 0; at < size; ) {
    const { bytesRead } = await file.read(chunk, 0, Math.min(chunk.length, size - at), at)
    if (bytesRead === 0) return null
    hash.update(chunk.subarray(0, bytesRead))
    at += bytesRead
  }
  return hash.digest('hex')
}

/** null: the process has ended, or its disk cannot be read. */
async function attempt<T>(read: () => Promise<T | null>): Promise<T | null> {
  try {
    return await read()
  } catch {
    return null // as said above
  }
}
