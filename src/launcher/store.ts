import { chmod, lstat, lutimes, mkdir, mkdtemp, open, readdir, rename, rm, type FileHandle } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { execa } from 'execa'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { digestFile, errnoOf, identityOf, openNamed, sameIdentity, type Identity } from './store-file.ts'
import { digestTree, resolveEntry, TREE_LIMITS, type TreeDigest, type TreeLimits } from './store-tree.ts'

/** As in a policy: path and pin are the operator's; what lies at the path is the plugin author's. */
export interface ExecutableSource {
  readonly path: string
  readonly entry: string | null
  readonly sha256: string | null
}

export interface StoredExecutable {
  /** Of the file, or the tree hash (store-tree.ts). */
  readonly sha256: string
  /** Absolute path of the object; root-owned and never changed once it is there. */
  readonly path: string
  readonly entry: string | null
  readonly kind: 'file' | 'directory'
  readonly bytes: number
}

/** What this process has stored, by source path; only files. Being out of date means an older program runs, never an unhashed one. */
export type StoreMemory = Map<string, { readonly identity: Identity; readonly stored: StoredExecutable }>

const HEX = /^[0-9a-f]{64}$/
const TEMP = /^tmp-(\d+)-/
const STALE_MS = 3_600_000

/**
 * Bring a program into the content store: `<storeDir>/sha256/<hex>` for a file, `<storeDir>/tree/<hex>` for a directory
 * (two places, so that no file can pose as a tree). The source is only read: never linked, renamed or executed.
 * @throws CordonError STORE_ABSENT, STORE_REFUSED, STORE_TOO_LARGE, STORE_CHANGING, STORE_PIN_MISMATCH, STORE_IO
 */
export async function storeExecutable(source: ExecutableSource, storeDir: string, memory: StoreMemory = new Map(), limits: TreeLimits = TREE_LIMITS): Promise<StoredExecutable> {
  const named = await openNamed(source.path, source.path)
  try {
    const stat = await named.stat({ bigint: true })
    if (stat.isFile()) return await storeFile(source, named, storeDir, memory, limits)
    if (stat.isDirectory()) return await storeTree(source, named, storeDir, limits)
    const found = stat.isSymbolicLink() ? 'a symbolic link' : 'a FIFO, socket or device'
    throw new CordonError('STORE_REFUSED', `${printable(source.path)} is ${found}, expected a regular file or a directory`)
  } catch (error) {
    if (error instanceof CordonError) throw error
    throw new CordonError('STORE_IO', `copying ${printable(source.path)} into the store failed (${errnoOf(error)})`, { cause: error })
  } finally {
    await named.close()
  }
}

/** The object of a file that has not changed since this process stored it; null asks for storeExecutable(). */
export async function unchanged(source: ExecutableSource, memory: StoreMemory): Promise<StoredExecutable | null> {
  const known = memory.get(source.path)
  if (known === undefined || source.entry !== null || (source.sha256 !== null && source.sha256 !== known.stored.sha256)) return null
  const named = await openNamed(source.path, source.path)
  try {
    const stat = await named.stat({ bigint: true })
    return stat.isFile() && sameIdentity(identityOf(stat), known.identity) && (await isPresent(known.stored)) ? known.stored : null
  } finally {
    await named.close()
  }
}

/** Remove what an interrupted copy left. A directory of another living process (`cordon run`) is left alone for an hour. */
export async function cleanStore(storeDir: string): Promise<number> {
  let removed = 0
  for (const name of await readdir(storeDir).catch(ignoreAbsent)) {
    const pid = TEMP.exec(name)?.[1]
    if (pid === undefined) continue
    const path = join(storeDir, name)
    const ageMs = Date.now() - (await lstat(path)).mtimeMs
    if (pid !== String(process.pid) && ageMs < STALE_MS && (await exists(`/proc/${pid}`))) continue
    await rm(path, { recursive: true, force: true })
    removed += 1
  }
  return removed
}

async function storeFile(source: ExecutableSource, named: FileHandle, storeDir: string, memory: StoreMemory, limits: TreeLimits): Promise<StoredExecutable> {
  const shown = printable(source.path)
  if (source.entry !== null) throw new CordonError('STORE_REFUSED', `${shown} is a file, but "entry" needs a directory`)
  const stat = await named.stat()
  if ((stat.mode & 0o111) === 0) throw new CordonError('STORE_REFUSED', `${shown} is not executable (mode ${(stat.mode & 0o7777).toString(8)})`)
  if (stat.size === 0) throw new CordonError('STORE_REFUSED', `${shown} is empty`)

  const seen = await digestFile(named, source.path, null, limits.fileBytes)
  checkPin(source, seen.sha256)
  const stored = { sha256: seen.sha256, path: join(storeDir, 'sha256', seen.sha256), entry: null, kind: 'file', bytes: seen.bytes } as const
  if (!(await isPresent(stored))) {
    await inTemp(storeDir, async (temp) => {
      const into = await open(join(temp, 'object'), 'wx', 0o600)
      try {
        const copied = await digestFile(named, source.path, into, limits.fileBytes)
        checkSame(source, copied.sha256, seen.sha256)
        await into.chmod(0o555) // a new file with a plain mode: setuid, setgid and file capabilities of the source are gone
        await into.sync()
      } finally {
        await into.close()
      }
      await moveIntoPlace(join(temp, 'object'), stored.path)
    })
  }
  memory.set(source.path, { identity: seen.identity, stored })
  return stored
}

async function storeTree(source: ExecutableSource, named: FileHandle, storeDir: string, limits: TreeLimits): Promise<StoredExecutable> {
  const shown = printable(source.path)
  if (source.entry === null) throw new CordonError('STORE_REFUSED', `${shown} is a directory; "entry" must name the program in it`)
  const seen = await digestTree(named, source.path, null, limits)
  checkEntry(source, source.entry, seen)
  checkPin(source, seen.sha256)
  const stored = { sha256: seen.sha256, path: join(storeDir, 'tree', seen.sha256), entry: source.entry, kind: 'directory', bytes: seen.bytes } as const
  if (!(await isPresent(stored))) {
    await inTemp(storeDir, async (temp) => {
      const object = join(temp, 'object')
      await mkdir(object)
      checkSame(source, (await digestTree(named, source.path, object, limits)).sha256, seen.sha256)
      await chmod(object, 0o755)
      // One syncfs(2) instead of an fsync for each of maybe 20,000 files.
      await execa('/usr/bin/sync', ['--file-system', object], { env: {}, extendEnv: false, timeout: 120_000 })
      await moveIntoPlace(object, stored.path)
    })
  }
  return stored
}

function checkEntry(source: ExecutableSource, entry: string, tree: TreeDigest): void {
  const shown = `entry "${printable(entry)}" of ${printable(source.path)}`
  if (entry === '' || entry.startsWith('/') || entry.split('/').includes('..')) throw new CordonError('STORE_REFUSED', `${shown} must be a relative path without ".."`)
  const found = resolveEntry(entry, tree.entries)
  if (found === null) throw new CordonError('STORE_ABSENT', `${shown} does not exist in the directory`)
  if (found.kind !== 'file' || !found.executable) throw new CordonError('STORE_REFUSED', `${shown} is not an executable file`)
}

function checkPin(source: ExecutableSource, found: string): void {
  if (source.sha256 !== null && source.sha256 !== found) {
    throw new CordonError('STORE_PIN_MISMATCH', `${printable(source.path)} has the hash ${found}, the policy expects ${printable(source.sha256)}`)
  }
}

function checkSame(source: ExecutableSource, copied: string, seen: string): void {
  if (copied !== seen) throw new CordonError('STORE_CHANGING', `${printable(source.path)} was ${seen} at the first reading and ${copied} at the second`)
}

/**
 * Its time is set anew, so that it is not collected (collect.ts) before a record names it.
 * @throws CordonError STORE_CORRUPT when something lies there that this store did not put there
 */
async function isPresent(stored: StoredExecutable): Promise<boolean> {
  if (!HEX.test(stored.sha256)) return false
  const now = new Date()
  await lutimes(stored.path, now, now).catch(() => undefined) // what cannot be changed cannot be collected either; absent: said below
  const stat = await lstat(stored.path).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return null
    throw error
  })
  if (stat === null) return false
  const right = stored.kind === 'file' ? stat.isFile() && stat.size === stored.bytes && (stat.mode & 0o7777) === 0o555 : stat.isDirectory() && (stat.mode & 0o7777) === 0o755
  if (!right || stat.uid !== process.geteuid?.()) throw new CordonError('STORE_CORRUPT', `${stored.path} has another type, size, mode or owner than it was given`)
  return true
}

async function inTemp(storeDir: string, work: (temp: string) => Promise<void>): Promise<void> {
  await mkdir(storeDir, { recursive: true, mode: 0o711 })
  const temp = await mkdtemp(join(storeDir, `tmp-${process.pid}-`))
  try {
    await work(temp)
  } finally {
    await rm(temp, { recursive: true, force: true })
  }
}

async function moveIntoPlace(from: string, to: string): Promise<void> {
  const directory = dirname(to)
  await mkdir(directory, { recursive: true, mode: 0o711 })
  await rename(from, to).catch((error: unknown) => {
    // Another process stored the same tree first; its name proves that it is the same.
    if (errnoOf(error) !== 'ENOTEMPTY' && errnoOf(error) !== 'EEXIST') throw error
  })
  const handle = await open(directory)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

async function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  )
}

function ignoreAbsent(error: unknown): string[] {
  if (errnoOf(error) === 'ENOENT') return []
  throw error
}
