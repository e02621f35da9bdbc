import { spawn } from 'node:child_process'
import { closeSync, existsSync, lstatSync, mkdirSync, openSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { PluginName } from '../base/ids.ts'
import { CordonError } from '../errors.ts'

/** Bytes of one listing: some hundred thousand files. RLIMIT_FSIZE stops it there, and the name says that it is not all. */
const MAX_LISTING_BYTES = 64 << 20
const TIMEOUT_MS = 120_000
/** Listings that are kept of each plugin. */
const KEEP = 30
/** A plugin that ends again and again is not listed each time. */
const LEAST_PAUSE_MS = 600_000

/** `<ms since 1970>-all.list`, or `-part.list` where something was left out. */
const NAME = /^(\d{13})-(all|part)\.list$/

export interface DataListing {
  readonly file: string
  readonly atMs: number
  /** Nothing was left out for its size, its time or its mode. */
  readonly complete: boolean
}

/**
 * What lies in a data directory, into a file: for each entry `type size mtime ctime inode mode NUL path NUL target NUL`, as `find -printf`
 * gives them. find(1) runs as the plugin's user without any privilege and follows no link, so that nothing a plugin
 * made there can lead it elsewhere; here nobody reads what it prints.
 * @param dataPath below a directory of root, so that the plugin cannot put another thing in its place
 * @param dir where the listing goes; root-only
 * @throws CordonError DATA_LISTING
 */
export async function listData(dataPath: string, dir: string, now = Date.now()): Promise<DataListing> {
  const stat = lstatSync(dataPath, { throwIfNoEntry: false })
  if (stat?.isDirectory() !== true) throw new CordonError('DATA_LISTING', `${dataPath} is no directory`)
  if (stat.uid === 0) throw new CordonError('DATA_LISTING', `${dataPath} belongs to root, expected a plugin's user`)
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  const unfinished = join(dir, `${now}.new`)
  const out = openSync(unfinished, 'wx', 0o600)
  try {
    const complete = await find(dataPath, stat.uid, out)
    const file = join(dir, `${now}-${complete ? 'all' : 'part'}.list`)
    renameSync(unfinished, file)
    return { file, atMs: now, complete }
  } finally {
    closeSync(out)
    rmSync(unfinished, { force: true })
  }
}

function find(dataPath: string, uid: number, out: number): Promise<boolean> {
  const id = String(uid)
  const child = spawn('/usr/bin/prlimit', [
    `--fsize=${MAX_LISTING_BYTES}`, '--core=0', '--', '/usr/bin/setpriv', '--reuid', id, '--regid', id, '--clear-groups', '--no-new-privs', '--inh-caps=-all', '--ambient-caps=-all', '--bounding-set=-all',
    '--pdeathsig', 'KILL', '--', '/usr/bin/nice', '-n', '19', '/usr/bin/find', '-P', '.', '-xdev', '-mindepth', '1', '-printf', '%y %s %T@ %C@ %i %m\\0%P\\0%l\\0',
  ], { cwd: dataPath, env: { LC_ALL: 'C' }, stdio: ['ignore', out, 'ignore'], timeout: TIMEOUT_MS, killSignal: 'SIGKILL' })
  return new Promise((resolve, reject) => {
    child.once('error', (error) => reject(new CordonError('DATA_LISTING', `find could not be started: ${error.message}`)))
    child.once('exit', (status) => resolve(status === 0)) // 1: a directory that even its owner may not read; a signal: time or size
  })
}

/** Oldest first. */
export function keptListings(dir: string): DataListing[] {
  if (!existsSync(dir)) return []
  return readdirSync(dir).sort().flatMap((name) => {
    const [, at, whole] = NAME.exec(name) ?? []
    return at === undefined ? [] : [{ file: join(dir, name), atMs: Number(at), complete: whole === 'all' }]
  })
}

/** Listings to compare with later (`cordon data diff`): one at each end of a run and each day. Nothing waits for one. */
export class DataListings {
  readonly #stateDir: string
  readonly #busy = new Set<PluginName>()

  constructor(stateDir: string) {
    this.#stateDir = stateDir
  }

  /** @throws CordonError DATA_LISTING: there is one less, and the plugin's life does not depend on it */
  async keep(name: PluginName): Promise<void> {
    const dir = listingsDir(this.#stateDir, name)
    if (this.#busy.has(name) || Date.now() - (keptListings(dir).at(-1)?.atMs ?? 0) < LEAST_PAUSE_MS) return
    this.#busy.add(name)
    try {
      await listData(`${this.#stateDir}/data/${name}`, dir)
      const kept = new Set(keptListings(dir).slice(-KEEP).map(({ file }) => file))
      for (const name of readdirSync(dir)) if (!kept.has(join(dir, name))) rmSync(join(dir, name), { force: true }) // older ones, and what an end of the daemon cut short
    } finally {
      this.#busy.delete(name)
    }
  }
}

export function listingsDir(stateDir: string, name: PluginName): string {
  return `${stateDir}/data-listings/${name}`
}
