import { spawn } from 'node:child_process'
import { closeSync, copyFileSync, cpSync, createWriteStream, existsSync, lstatSync, mkdirSync, openSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs'
import { once } from 'node:events'
import { finished } from 'node:stream/promises'
import { join } from 'node:path'
import type { PluginName } from '../base/ids.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { EVERYTHING } from '../history/filter.ts'
import { findRecords, type HistoryOptions } from '../history/find.ts'
import { listData } from '../launcher/data-listing.ts'

/** The parts of `cordon evidence`: each writes below a directory of ours and says in one sentence why it cannot. */

const MAX_RECORDS = 1_000_000
const MAX_DESCRIPTORS = 256
const MAX_TEXT = 4096
/** A frozen /tmp: TmpMax is mostly far below. */
const MAX_TMP_BYTES = 2 * 2 ** 30
const TMP_TIMEOUT_MS = 300_000
const MAX_PROGRAMS = 8

export interface Gathered {
  readonly records: number
  readonly firstSeq: number | null
  readonly lastSeq: number | null
  /** Hex digests that the records name. */
  readonly policies: ReadonlySet<string>
  readonly programs: ReadonlySet<string>
}

/** The plugin's records as the log has them, byte by byte. */
export async function writeRecords(file: string, plugin: PluginName, sinceMs: number, history: HistoryOptions): Promise<Gathered> {
  const policies = new Set<string>()
  const programs = new Set<string>()
  let records = 0
  let firstSeq: number | null = null
  let lastSeq: number | null = null
  const out = createWriteStream(file, { mode: 0o600, flags: 'wx' })
  for await (const { line, record, fields } of findRecords({ filter: { ...EVERYTHING, plugins: [plugin], since: sinceMs }, order: 'newer', beyond: null }, history)) {
    if (++records > MAX_RECORDS) throw new CordonError('EVIDENCE_LIMIT', `more than ${MAX_RECORDS} records of ${plugin}`)
    firstSeq ??= fields.seq
    lastSeq = fields.seq
    for (const digest of [record.policy, record.data['policy_digest'], record.data['policyDigest']]) if (isDigest(digest)) policies.add(digest)
    if (isDigest(record.data['sha256']) && (record.type === 'executable.stored' || record.type === 'plugin.start')) programs.add(record.data['sha256'])
    if (!out.write(`${line}\n`)) await once(out, 'drain')
  }
  out.end()
  await finished(out)
  return { records, firstSeq, lastSeq, policies, programs }
}

function isDigest(value: unknown): value is string {
  return typeof value === 'string' && /^[0-9a-f]{64}$/.test(value)
}

/** The policies that the records name, from the archive, and the file as it is now. */
export function copyPolicies(dir: string, { stateDir, policiesDir }: { readonly stateDir: string; readonly policiesDir: string }, plugin: PluginName, digests: ReadonlySet<string>): string | null {
  mkdirSync(dir, { mode: 0o700 })
  const now = join(policiesDir, `${plugin}.yaml`)
  if (existsSync(now)) copyFileSync(now, join(dir, 'now.yaml'))
  const missing = [...digests].filter((digest) => !copied(join(stateDir, 'policies', `${digest}.json`), join(dir, `${digest}.json`)))
  return missing.length === 0 ? null : `the archive no longer has ${missing.map((digest) => digest.slice(0, 12)).join(', ')}`
}

/** What ran: the objects of the store, which are root's and never change. */
export function copyPrograms(dir: string, stateDir: string, digests: ReadonlySet<string>): string | null {
  mkdirSync(dir, { mode: 0o700 })
  const missing: string[] = []
  for (const digest of [...digests].slice(-MAX_PROGRAMS)) {
    const tree = join(stateDir, 'store/tree', digest)
    if (copied(join(stateDir, 'store/sha256', digest), join(dir, digest))) continue
    if (existsSync(tree)) cpSync(tree, join(dir, digest), { recursive: true, dereference: false, verbatimSymlinks: true })
    else missing.push(digest.slice(0, 12))
  }
  const older = Math.max(0, digests.size - MAX_PROGRAMS)
  const words = [...(missing.length > 0 ? [`the store no longer has ${missing.join(', ')}`] : []), ...(older > 0 ? [`${older} older ones were left out`] : [])]
  return words.length === 0 ? null : words.join('; ')
}

/** What it printed; the directory is root's. */
export function copyLogs(dir: string, stateDir: string, plugin: PluginName): string | null {
  mkdirSync(dir, { mode: 0o700 })
  const from = join(stateDir, 'logs', plugin)
  if (!existsSync(from)) return 'it never printed anything'
  for (const name of readdirSync(from)) copied(join(from, name), join(dir, name))
  return null
}

/** The public part of the log that the proofs need. */
export function copyLogHead(dir: string, auditDir: string): null {
  mkdirSync(dir, { mode: 0o700 })
  for (const name of ['checkpoint', 'seals.jsonl']) copied(join(auditDir, name), join(dir, name))
  const witnessed = join(auditDir, 'witnessed')
  if (!existsSync(witnessed)) return null
  mkdirSync(join(dir, 'witnessed'), { mode: 0o700 })
  for (const name of readdirSync(witnessed)) copied(join(witnessed, name), join(dir, 'witnessed', name))
  return null
}

/** The data directory by name, size, times and mode; its content stays where it is. */
export async function listDataInto(file: string, stateDir: string, plugin: PluginName, scratch: string): Promise<string | null> {
  const listing = await listData(join(stateDir, 'data', plugin), scratch)
  copyFileSync(listing.file, file)
  return listing.complete ? null : 'some places could not be read, even by their owner'
}

export interface RunningPlugin {
  readonly uid: number
  readonly pids: readonly number[]
  readonly frozen: boolean
}

/** What runs, in the kernel's words; names and arguments are the plugin's own and are made printable. */
export function writeProcesses(file: string, { uid, pids }: RunningPlugin): string | null {
  const processes = pids.flatMap((pid) => {
    try {
      return [describeProcess(pid, uid)]
    } catch {
      return [] // ended while it was looked at; counted below
    }
  })
  writeFileSync(file, `${JSON.stringify(processes, null, 1)}\n`, { mode: 0o600, flag: 'wx' })
  return processes.length === pids.length ? null : `${pids.length - processes.length} of ${pids.length} ended while they were looked at`
}

function describeProcess(pid: number, uid: number): object {
  const proc = openSync(`/proc/${pid}`, 'r')
  try {
    const at = `/proc/self/fd/${proc}`
    const read = (name: string): string => readFileSync(`${at}/${name}`, 'latin1')
    const status = new Map(read('status').split('\n').map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim()]))
    if (!(status.get('Uid') ?? '').split('\t').includes(String(uid))) throw new Error('not a process of the plugin') // the number was given to another
    const link = (name: string): string => {
      try {
        return printable(readlinkSync(`${at}/${name}`), MAX_TEXT)
      } catch {
        return '' // a process that has ended has none
      }
    }
    return {
      pid, name: printable(status.get('Name') ?? '', 64), state: status.get('State'), parent: status.get('PPid'), pid_inside: status.get('NSpid'), threads: status.get('Threads'),
      arguments: read('cmdline').split('\0').slice(0, -1).slice(0, 256).map((word) => printable(word, MAX_TEXT)), exe: link('exe'), cwd: link('cwd'),
      descriptors: readdirSync(`${at}/fd`).slice(0, MAX_DESCRIPTORS).map((fd) => `${fd} ${link(`fd/${fd}`)}`),
    }
  } finally {
    closeSync(proc)
  }
}

/** /tmp of the run as a tar file, read by a process of the plugin's user without privileges: what lies there can lead it nowhere else. */
export async function archiveTmp(file: string, { uid, pids, frozen }: RunningPlugin): Promise<string | null> {
  const inside = pids.map((pid) => `/proc/${pid}/root/tmp`).find((path) => lstatSync(path, { throwIfNoEntry: false })?.isDirectory() === true && lstatSync(path).uid === uid)
  if (inside === undefined) return 'no process of it has a /tmp'
  const out = openSync(file, 'wx', 0o600)
  try {
    const id = String(uid)
    const child = spawn('/usr/bin/prlimit', [
      `--fsize=${MAX_TMP_BYTES}`, '--core=0', '--', '/usr/bin/setpriv', '--reuid', id, '--regid', id, '--clear-groups', '--no-new-privs', '--inh-caps=-all', '--ambient-caps=-all', '--bounding-set=-all', '--pdeathsig', 'KILL',
      '--', '/usr/bin/tar', '--create', '--file=-', '--one-file-system', '--sort=name', '.',
    ], { cwd: inside, env: { LC_ALL: 'C', PATH: '/usr/bin:/bin' }, stdio: ['ignore', out, 'ignore'], timeout: TMP_TIMEOUT_MS, killSignal: 'SIGKILL' })
    const status = await new Promise<number | null>((resolve) => {
      child.once('error', () => resolve(null))
      child.once('exit', (code) => resolve(code))
    })
    const words = [...(status === 0 ? [] : ['not everything in it could be read']), ...(frozen ? [] : ['the plugin was not frozen and may have changed it meanwhile'])]
    return words.length === 0 ? null : words.join('; ')
  } finally {
    closeSync(out)
  }
}

/** Regular files only, from directories that are root's. */
function copied(from: string, to: string): boolean {
  if (lstatSync(from, { throwIfNoEntry: false })?.isFile() !== true) return false
  copyFileSync(from, to)
  return true
}
