import { lstatSync, mkdtempSync, renameSync, unlinkSync } from 'node:fs'
import { lstat, opendir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { unnamedBy, type NamedMemory } from '../audit/named.ts'
import type { AuditSink } from '../audit/record.ts'
import { CordonError } from '../errors.ts'
import { errnoOf } from './store-file.ts'

/** What was stored or taken from the store this recently is left alone: its record may be on its way. */
const GRACE_MS = 3_600_000
/** Looked at per collection, and named in one record; the next collection goes on. */
const MAX_CANDIDATES = 1024
const PER_RECORD = 64
/** Entries read of a directory: what lies there beyond them waits for its turn, too. */
const MAX_ENTRIES = 100_000

export interface InUse {
  /** Digests of programs that run, are about to, or that a policy in force demands. */
  readonly programs: ReadonlySet<string>
  /** Digests of policies in force. */
  readonly policies: ReadonlySet<string>
}

export interface CollectOptions {
  readonly stateDir: string
  readonly audit: AuditSink
  /** What the records of closed segments name, from one collection to the next. */
  readonly memory: NamedMemory
  /** Asked right before something goes, and in the same turn. */
  readonly inUse: () => InUse
  readonly signal: AbortSignal
  readonly nowMs?: number
}

export interface Collected {
  readonly programs: readonly string[]
  readonly policies: readonly string[]
}

interface Candidate {
  readonly kind: 'program' | 'policy'
  readonly digest: string
  readonly path: string
  /** Everybody who takes an object from the store sets its time anew (store.ts, policy-archive.ts). */
  readonly stamp: string
}

/**
 * Remove the programs of the content store and the compiled policies that nothing names any more: no record of the log or of a single run,
 * no policy in force, nothing that runs. What goes is on record before. Killed in between, the next one finds the same again.
 * All of it lies in directories that only root writes; a tree holds links that its author chose, and they are removed and not followed.
 * @throws CordonError AUDIT_UNAVAILABLE, or what the calls throw: nothing was removed that was not told
 */
export async function collect(options: CollectOptions): Promise<Collected> {
  const { stateDir, audit, memory, inUse, signal, nowMs = Date.now() } = options
  const store = join(stateDir, 'store')
  const before = inUse()
  const candidates = (await Promise.all([
    candidatesIn(join(store, 'sha256'), 'program', /^([0-9a-f]{64})$/),
    candidatesIn(join(store, 'tree'), 'program', /^([0-9a-f]{64})$/),
    candidatesIn(join(stateDir, 'policies'), 'policy', /^([0-9a-f]{64})\.json$/),
  ])).flat().filter((one) => Math.abs(nowMs - one.timeMs) > GRACE_MS && !isUsed(one, before)).sort((a, b) => a.timeMs - b.timeMs).slice(0, MAX_CANDIDATES)
  if (candidates.length === 0) return { programs: [], policies: [] }
  const unnamed = await unnamedBy([join(stateDir, 'audit'), ...(await runLogs(join(stateDir, 'runs')))], candidates.map(({ digest }) => digest), memory, signal)
  const used = inUse()
  const due = candidates.filter((one) => unnamed.has(one.digest) && !isUsed(one, used))
  const gone: Candidate[] = []
  for (let at = 0; at < due.length; at += PER_RECORD) {
    signal.throwIfAborted()
    const some = due.slice(at, at + PER_RECORD)
    await audit.append({ type: 'store.collected', programs: digestsOf(some, 'program'), policies: digestsOf(some, 'policy') }, 'launcher')
    gone.push(...(await removeUnused(some, store, inUse)))
  }
  return { programs: digestsOf(gone, 'program'), policies: digestsOf(gone, 'policy') }
}

function isUsed({ kind, digest }: Pick<Candidate, 'kind' | 'digest'>, { programs, policies }: InUse): boolean {
  return (kind === 'program' ? programs : policies).has(digest)
}

function digestsOf(some: readonly Candidate[], kind: Candidate['kind']): string[] {
  return some.filter((one) => one.kind === kind).map(({ digest }) => digest)
}

async function candidatesIn(dir: string, kind: Candidate['kind'], name: RegExp): Promise<(Candidate & { readonly timeMs: number })[]> {
  const own = await lstat(dir).catch(ignoreAbsent)
  if (own === null) return []
  if (!own.isDirectory() || own.uid !== process.geteuid?.() || (own.mode & 0o022) !== 0) throw new CordonError('STORE_CORRUPT', `${dir} is not a directory that only its owner writes`)
  const found: (Candidate & { readonly timeMs: number })[] = []
  let seen = 0
  for await (const entry of await opendir(dir)) {
    if (++seen > MAX_ENTRIES) break
    const digest = name.exec(entry.name)?.[1]
    if (digest === undefined) continue
    const path = join(dir, entry.name)
    const facts = await lstat(path, { bigint: true }).catch(ignoreAbsent)
    if (facts !== null) found.push({ kind, digest, path, stamp: stampOf(facts), timeMs: Number(facts.mtimeMs) })
  }
  return found
}

function stampOf({ ino, mtimeNs }: { readonly ino: bigint; readonly mtimeNs: bigint }): string {
  return `${ino}:${mtimeNs}`
}

/** `cordon run` keeps a log of its own for each run. */
async function runLogs(dir: string): Promise<string[]> {
  const names = (await readdir(dir).catch(ignoreAbsent)) ?? []
  return names.filter((name) => /^[0-9a-f]{16}$/.test(name)).map((name) => join(dir, name))
}

/** In one turn, so that no start of the daemon's comes in between: out of the store first, then away. */
async function removeUnused(some: readonly Candidate[], store: string, inUse: () => InUse): Promise<Candidate[]> {
  const used = inUse()
  const temp = some.some(({ kind }) => kind === 'program') ? mkdtempSync(join(store, `tmp-${process.pid}-`)) : null // cleanStore() knows the name
  try {
    const gone: Candidate[] = []
    for (const one of some) {
      if (isUsed(one, used)) continue
      const now = lstatSync(one.path, { bigint: true, throwIfNoEntry: false })
      if (now === undefined || stampOf(now) !== one.stamp) continue
      if (temp === null || one.kind === 'policy') unlinkSync(one.path)
      else renameSync(one.path, join(temp, `${one.digest}-${gone.length}`))
      gone.push(one)
    }
    return gone
  } finally {
    if (temp !== null) await rm(temp, { recursive: true, force: true })
  }
}

function ignoreAbsent(error: unknown): null {
  if (errnoOf(error) === 'ENOENT') return null
  throw error
}
