import { createHash } from 'node:crypto'
import { copyFileSync, createReadStream, lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { release } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { setImmediate as breathe } from 'node:timers/promises'
import { openProver, ProveError, proveRecord } from '../audit/verify/prove.ts'
import type { PluginName } from '../base/ids.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { EVIDENCE_ANSWER, INSPECT_ANSWER } from '../wire/operator-answers.ts'
import { counted } from './amounts.ts'
import { pluginName } from './args.ts'
import { historyOptions } from './audit-query.ts'
import type { CommandContext } from './context.ts'
import { askDaemon } from './control.ts'
import { archiveTmp, copyLogHead, copyLogs, copyPolicies, copyPrograms, listDataInto, writeProcesses, writeRecords, type Gathered, type RunningPlugin } from './evidence-parts.ts'
import type { CommandIo } from './io.ts'
import { readOptions } from './policy-options.ts'
import { withProgress } from './progress.ts'
import { parseSince } from './since.ts'
import { whoActs } from './who.ts'

const DEFAULT_SINCE = '30d'
/** Every record is in the log of records; only so many of the newest get a proof of their own, each some 2 KiB. */
const MAX_PROOFS = 2000

/**
 * `cordon evidence NAME`: everything about one plugin that an investigation needs, in a new directory with a manifest of hashes. What
 * signs the manifest is the audit log: its hash becomes a record, a seal follows at once, and the proof of that record lies beside it.
 * A part that cannot be had is named in the manifest and on stderr; the others are kept.
 * @returns 0, also with parts missing
 * @throws CordonError USAGE_BAD_OPTION, EVIDENCE_EXISTS, AUDIT_NOT_FOUND, AUDIT_UNAVAILABLE
 */
export async function evidenceCommand(args: readonly string[], io: CommandIo, context: CommandContext, now = Date.now()): Promise<number> {
  const { values, positionals } = readOptions('evidence', args, { out: { type: 'string' }, since: { type: 'string' } })
  if (positionals.length !== 1) throw new CordonError('USAGE_BAD_OPTION', 'evidence: expected one plugin name')
  const plugin = pluginName('evidence', positionals[0] ?? '')
  const since = parseSince('--since', values.since ?? DEFAULT_SINCE, now)
  const dir = resolve(values.out ?? `${plugin}-${new Date(now).toISOString().slice(0, 19).replaceAll(':', '')}.evidence`)
  if (lstatSync(dir, { throwIfNoEntry: false }) !== undefined) throw new CordonError('EVIDENCE_EXISTS', `${printable(dir)} exists`)
  mkdirSync(dir, { mode: 0o700 })
  const made = await withProgress(io, 'gathering', gather(dir, plugin, since, io, context, now))
  if (io.json) io.out(JSON.stringify({ dir, ...made }))
  else {
    io.out(`${counted(made.files, 'file')} in ${dir}`)
    io.out(`manifest.json  sha256 ${made.manifestSha256}`)
    if (made.seq !== null) io.out(`That hash is record ${made.seq} of the audit log; manifest.proof shows it.`)
    for (const { part, why } of made.missing) io.err(`note: ${part}: ${why}`)
  }
  return 0
}

interface Missing { readonly part: string; readonly why: string }
interface Made { readonly manifestSha256: string; readonly seq: number | null; readonly files: number; readonly missing: readonly Missing[] }

async function gather(dir: string, plugin: PluginName, since: number, io: CommandIo, context: CommandContext, now: number): Promise<Made> {
  const { config, signal } = context
  const missing: Missing[] = []
  /** @param work what cannot be had, in words, or null; an error says it as well */
  const part = async (name: string, work: () => Promise<string | null> | string | null): Promise<void> => {
    try {
      const why = await work()
      if (why !== null) missing.push({ part: name, why: printable(why, 500) })
    } catch (error) {
      if (signal.aborted) throw error
      missing.push({ part: name, why: printable(error instanceof Error ? error.message : String(error), 500) })
    }
  }
  // First what goes away by itself.
  const running = await whatRuns(plugin, context, missing)
  if (running !== null && running.pids.length > 0) {
    await part('processes.json', () => writeProcesses(join(dir, 'processes.json'), running))
    await part('tmp.tar', () => archiveTmp(join(dir, 'tmp.tar'), running))
  } else if (running !== null) {
    missing.push({ part: 'processes.json, tmp.tar', why: 'it does not run' })
  }
  const history = historyOptions(config.stateDir, io, signal)
  const found: Gathered = await writeRecords(join(dir, 'records.jsonl'), plugin, since, history)
  await part('policies', () => copyPolicies(join(dir, 'policies'), config, plugin, found.policies))
  await part('programs', () => copyPrograms(join(dir, 'programs'), config.stateDir, found.programs))
  await part('logs', () => copyLogs(join(dir, 'logs'), config.stateDir, plugin))
  await part('data.list', async () => {
    const scratch = mkdtempSync(`${config.stateDir}/listing-`)
    try {
      return await listDataInto(join(dir, 'data.list'), config.stateDir, plugin, scratch)
    } finally {
      rmSync(scratch, { recursive: true, force: true })
    }
  })
  await part('audit-verify.py', () => {
    copyFileSync(join(context.tree, 'deploy/audit-verify.py'), join(dir, 'audit-verify.py'))
    return null
  })
  const auditDir = join(config.stateDir, 'audit')
  await part('proofs', () => writeProofs(join(dir, 'proofs'), auditDir, join(dir, 'records.jsonl'), signal))
  await part('log', () => copyLogHead(join(dir, 'log'), auditDir))
  writeFileSync(join(dir, 'README.txt'), README, { mode: 0o600 })

  const files = await hashTree(dir)
  const manifest = `${JSON.stringify({
    v: 1, plugin, made: new Date(now).toISOString(), since: new Date(since).toISOString(), by: printable(whoActs(), 200), cordon: versionOf(context.tree), kernel: release(),
    records: { count: found.records, first_seq: found.firstSeq, last_seq: found.lastSeq }, running, missing, files,
  }, null, 1)}\n`
  writeFileSync(join(dir, 'manifest.json'), manifest, { mode: 0o600, flag: 'wx' })
  const manifestSha256 = createHash('sha256').update(manifest).digest('hex')
  let seq: number | null = null
  await part('manifest.proof', async () => {
    const answer = await askDaemon(config.runDir, { type: 'evidence', plugin, sha256: manifestSha256, files: files.length, who: whoActs() }, EVIDENCE_ANSWER, signal)
    seq = answer.seq
    writeFileSync(join(dir, 'manifest.proof'), await proveRecord(auditDir, answer.seq, signal), { mode: 0o600, flag: 'wx' })
    return null
  })
  return { manifestSha256, seq, files: files.length + 1, missing }
}

async function whatRuns(plugin: PluginName, { config, signal }: CommandContext, missing: Missing[]): Promise<RunningPlugin | null> {
  try {
    // Who owns its data directory is its user: the directory lies below one of root's, and only root can give it away.
    const { uid } = lstatSync(join(config.stateDir, 'data', plugin))
    return { ...(await askDaemon(config.runDir, { type: 'inspect', plugin }, INSPECT_ANSWER, signal)), uid }
  } catch (error) {
    if (signal.aborted) throw error
    missing.push({ part: 'processes.json, tmp.tar', why: printable(error instanceof Error ? error.message : String(error), 500) })
    return null
  }
}

async function writeProofs(dir: string, auditDir: string, records: string, signal: AbortSignal): Promise<string | null> {
  mkdirSync(dir, { mode: 0o700 })
  const newest: string[] = []
  for await (const line of createInterface({ input: createReadStream(records), crlfDelay: Infinity })) {
    newest.push(line)
    if (newest.length > MAX_PROOFS) newest.shift()
  }
  const prover = await openProver(auditDir, signal)
  let unsealed = 0
  for (const line of newest) {
    signal.throwIfAborted()
    const { seq } = JSON.parse(line) as { readonly seq: number }
    try {
      writeFileSync(join(dir, `${seq}.proof`), prover.prove(seq, line), { mode: 0o600, flag: 'wx' })
    } catch (error) {
      if (!(error instanceof ProveError) || error.kind !== 'unsealed') throw error
      unsealed += 1
    }
    await breathe()
  }
  return unsealed === 0 ? null : `${counted(unsealed, 'record')} of the newest ${newest.length} had no seal yet`
}

function versionOf(tree: string): string {
  return (JSON.parse(readFileSync(join(tree, 'package.json'), 'utf8')) as { readonly version: string }).version
}

interface ListedHash { readonly path: string; readonly bytes: number; readonly sha256: string }

/** Every file below, sorted; a link is listed by its target and not followed. */
async function hashTree(root: string, below = ''): Promise<ListedHash[]> {
  const out: ListedHash[] = []
  for (const entry of readdirSync(join(root, below), { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = below === '' ? entry.name : `${below}/${entry.name}`
    if (entry.isDirectory()) out.push(...(await hashTree(root, path)))
    else {
      const hash = createHash('sha256')
      const at = join(root, path)
      if (entry.isFile()) for await (const chunk of createReadStream(at)) hash.update(chunk as Buffer)
      else hash.update(`link:${entry.isSymbolicLink() ? readlinkSync(at) : ''}`)
      out.push({ path, bytes: lstatSync(at).size, sha256: hash.digest('hex') })
    }
  }
  return out
}

const README = `Evidence gathered by \`cordon evidence\`. Treat everything but this file, manifest.json and audit-verify.py as written by an attacker.

manifest.json    SHA-256 of every file here, and what could not be had
manifest.proof   proof that the hash of manifest.json is a record of the audit log
records.jsonl    the plugin's audit records, byte by byte as the log has them
proofs/N.proof   the same proof for record N
log/             the newest checkpoint, kept seals, cosignatures of witnesses
policies/        what it was allowed: now.yaml is its file, HASH.json each policy that a record names
programs/        what ran, by hash
logs/            what it printed
data.list        its data directory: type size mtime ctime inode mode NUL path NUL target NUL
processes.json   what ran, while this was gathered
tmp.tar          its /tmp at that time
audit-verify.py  checks all of this: python3 audit-verify.py --key FINGERPRINT --evidence .
                 and logs and single proofs; take your own copy if you do not trust this one

The fingerprint of the log was shown when the log began: cordon audit key
`
