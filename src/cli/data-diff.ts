import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import type { PluginName } from '../base/ids.ts'
import { printable, printableWithin } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { keptListings, listData, listingsDir } from '../launcher/data-listing.ts'
import { aboutBytes, counted } from './amounts.ts'
import { pluginName } from './args.ts'
import type { CommandContext } from './context.ts'
import type { CommandIo } from './io.ts'
import { compareListings, readListing, type ChangeKind, type DataChange, type ListedFile } from './listed-files.ts'
import { readOptions } from './policy-options.ts'
import { parseSince } from './since.ts'
import { formatTable, wrap } from './table.ts'

const DEFAULT_ROWS = 200
const SIGN: Readonly<Record<ChangeKind, string>> = { added: '+', written: '~', changed: 'm', removed: '-' }

/**
 * `cordon data diff NAME --since WHEN`: what lies in a plugin's data directory now, against the newest listing from before. Its own code
 * reads names only; the directory is walked by a process of the plugin's user (launcher/data-listing.ts).
 * @throws CordonError USAGE_BAD_OPTION, DATA_LISTING, DATA_NONE
 */
export async function dataDiff(args: readonly string[], io: CommandIo, { config }: Pick<CommandContext, 'config'>, now = Date.now()): Promise<number> {
  const { positionals, values } = readOptions('data diff', args, { since: { type: 'string' }, rows: { type: 'string' } })
  if (positionals.length !== 1) throw new CordonError('USAGE_BAD_OPTION', 'data diff: expected one plugin name')
  const name = pluginName('data diff', positionals[0] ?? '')
  if (typeof values['since'] !== 'string') throw new CordonError('USAGE_BAD_OPTION', 'data diff: expected --since WHEN, as in 3h or 2026-11-01')
  const since = parseSince('--since', values['since'], now)
  const rows = typeof values['rows'] === 'string' ? Number(values['rows']) : DEFAULT_ROWS
  if (!Number.isInteger(rows) || rows < 1 || rows > 1_000_000) throw new CordonError('USAGE_BAD_OPTION', '--rows expects a number from 1 to 1000000')
  const dataPath = `${config.stateDir}/data/${name}`
  if (!existsSync(dataPath)) throw new CordonError('DATA_NONE', `${dataPath} does not exist`)
  const kept = keptListings(listingsDir(config.stateDir, name))
  const baseline = kept.findLast(({ atMs }) => atMs <= since) ?? null
  const current = await currentListing(config.stateDir, dataPath)
  const changes = baseline === null ? changedSince(current.files, since) : compareListings(readListing(baseline.file), current.files)
  const notes = [
    ...(baseline === null ? [`no listing from before ${iso(since)} is kept: what was changed since is shown by the kernel's mark of each file, and what was removed cannot be`] : []),
    ...(baseline !== null && !baseline.complete ? ['the earlier listing is not complete; some that are shown as added may have been there'] : []),
    ...(current.complete ? [] : ['some places could not be read even by their owner, or there was too much; the list is not complete']),
  ]
  if (io.json) {
    io.out(JSON.stringify({ plugin: name, since: iso(since), comparedWith: baseline === null ? null : iso(baseline.atMs), complete: current.complete && baseline?.complete === true, changes: changes.map(readable) }))
  } else {
    say(io, name, baseline === null ? since : baseline.atMs, changes, rows)
    for (const note of notes) io.err(`note: ${note}`)
  }
  return 0
}

async function currentListing(stateDir: string, dataPath: string): Promise<{ readonly files: Map<string, ListedFile>; readonly complete: boolean }> {
  const dir = mkdtempSync(`${stateDir}/listing-`)
  try {
    const { file, complete } = await listData(dataPath, dir)
    return { files: readListing(file), complete }
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

/** Without anything to compare with: what the kernel marked since. */
function changedSince(files: ReadonlyMap<string, ListedFile>, since: number): DataChange[] {
  return compareListings(new Map(), files).filter(({ at, type }) => Number(at) * 1000 >= since && type !== 'd').map((change) => ({ ...change, kind: 'written' }))
}

function say(io: CommandIo, name: PluginName, from: number, changes: readonly DataChange[], rows: number): void {
  if (changes.length === 0) return io.out(`nothing in the data of ${name} changed since ${iso(from)}`)
  const count = (kind: ChangeKind): number => changes.filter((change) => change.kind === kind).length
  const grown = changes.reduce((sum, { bytes, bytesBefore, type }) => sum + (type === 'f' ? (bytes ?? 0) - (bytesBefore ?? 0) : 0), 0)
  const sum = `${name} since ${iso(from)}: ${count('added')} added, ${count('written')} written, ${count('changed')} changed in mode or owner, ${count('removed')} removed; ${grown < 0 ? '-' : '+'}${aboutBytes(Math.abs(grown))}`
  for (const line of wrap(sum)) io.out(line)
  for (const line of formatTable(['', 'WHEN', 'TYPE', 'BYTES', 'PATH'], changes.slice(0, rows).map(row))) io.out(line)
  if (changes.length > rows) io.err(`note: ${counted(changes.length - rows, 'more change')}; --rows N or --json shows them`)
}

function row(change: DataChange): string[] {
  const size = change.bytes === null ? `was ${aboutBytes(change.bytesBefore ?? 0)}` : change.bytesBefore === null || change.bytesBefore === change.bytes ? aboutBytes(change.bytes) : `${aboutBytes(change.bytesBefore)} > ${aboutBytes(change.bytes)}`
  return [SIGN[change.kind], change.at === null ? '' : iso(Number(change.at) * 1000).slice(5, 19).replace('T', ' '), change.type, size, printableWithin(utf8(change.path), 200)]
}

function readable(change: DataChange): object {
  return { ...change, path: printable(utf8(change.path), 4096), at: change.at === null ? null : iso(Number(change.at) * 1000) }
}

const utf8 = (latin1: string): string => Buffer.from(latin1, 'latin1').toString('utf8')
const iso = (ms: number): string => new Date(ms).toISOString()
