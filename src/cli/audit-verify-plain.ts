import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { NOT_SHOWN, VERIFY_EXIT, verifyLog, type Head, type VerifyResult } from '../audit/verify.ts'
import { listSegments, openSegment } from '../audit/segments.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import type { CommandIo } from './io.ts'

/** A commit under way can look like a torn line; it is finished long before this. */
const SECOND_LOOK_MS = 300
const SHOWN_GAPS = 10

/**
 * `cordon audit verify [--head SEQ:HASH] [FILE]`: one sentence first, then details.
 * @returns 0 whole, 2 tampered, 3 unverifiable tail, 4 gap
 * @throws CordonError USAGE_BAD_OPTION, AUDIT_NOT_FOUND, AUDIT_UNAVAILABLE
 */
export async function auditVerifyPlain(args: readonly string[], io: CommandIo, options: { readonly dir: string; readonly signal: AbortSignal }): Promise<number> {
  const { head, file } = parseOptions(args)
  const path = file ?? options.dir
  // Names what is missing, in the words of `audit tail`.
  for (const segment of file === null ? await listSegments(path) : [{ path: file }]) await (await openSegment(segment.path)).close()
  const look = { signal: options.signal, ...(head === null ? {} : { head }) }
  let result = await verifyLog(path, look)
  if (result.verdict === 'unverifiable-tail') {
    await sleep(SECOND_LOOK_MS, undefined, { signal: options.signal })
    result = await verifyLog(path, look)
  }
  if (io.json) io.out(JSON.stringify({ ...result, exit: VERIFY_EXIT[result.verdict], notShown: result.headConfirmed ? null : NOT_SHOWN }))
  else for (const line of describe(result, head)) io.out(line)
  return VERIFY_EXIT[result.verdict]
}

function parseOptions(args: readonly string[]): { head: Head | null; file: string | null } {
  try {
    const { values, positionals } = parseArgs({ args: [...args], strict: true, allowPositionals: true, options: { head: { type: 'string' } } })
    if (positionals.length > 1) throw new CordonError('USAGE_BAD_OPTION', `audit verify: ${positionals.length} files were named, expected at most one`)
    return { head: values.head === undefined ? null : parseHead(values.head), file: positionals[0] ?? null }
  } catch (error) {
    if (error instanceof CordonError) throw error
    throw new CordonError('USAGE_BAD_OPTION', `audit verify: ${printable(error instanceof Error ? error.message : String(error))}`, { cause: error })
  }
}

function parseHead(text: string): Head {
  const match = /^(\d{1,15}):([0-9a-f]{64})$/.exec(text)
  if (match === null) throw new CordonError('USAGE_BAD_OPTION', `audit verify: --head "${printable(text, 90)}" is not SEQ:HASH as an earlier verify printed it`)
  return { seq: Number(match[1]), hash: match[2] ?? '' }
}

function describe(result: VerifyResult, head: Head | null): string[] {
  const lines = [sentence(result)]
  if (result.firstBad !== null) lines.push(`  record ${result.firstBad.seq}, line ${result.firstBad.line}, byte ${result.firstBad.offset}: ${result.firstBad.problem}`)
  for (const gap of result.gaps.slice(0, SHOWN_GAPS)) lines.push(`  gap at record ${gap.seq}, ${gap.time}: ${gap.reason} ${printable(JSON.stringify(gap.data), 300)}`)
  if (result.gapCount > SHOWN_GAPS) lines.push(`  and ${result.gapCount - SHOWN_GAPS} more gaps; \`cordon audit tail --type gap\` shows them`)
  if (result.clockSteps > 0) lines.push(`  the wall clock went back ${result.clockSteps} times; the order of the records does not depend on it`)
  if (result.lastHash !== null && result.firstBad === null) lines.push(`head: ${result.records - 1}:${result.lastHash}`)
  lines.push(result.headConfirmed && head !== null ? `The remembered record ${head.seq} is in it, unchanged.` : `note: ${NOT_SHOWN}`)
  return lines
}

function sentence(result: VerifyResult): string {
  const n = `${result.records} record${result.records === 1 ? '' : 's'}`
  switch (result.verdict) {
    case 'whole':
      return result.records === 0 ? 'The log is empty.' : `The log is whole: ${n}, each chained to the one before, the last of ${result.lastTime ?? ''}.`
    case 'gap':
      return `The log is unchanged, but says itself that records are missing: ${n}, ${result.gapCount} gap${result.gapCount === 1 ? '' : 's'}.`
    case 'unverifiable-tail':
      return `The log's end cannot be verified: ${n} are whole, then a line that was not finished.`
    case 'tampered':
      return `The log was TAMPERED WITH or damaged: only the first ${n} can be believed.`
  }
}

/** A single file, or a log without the record that begins a sealed one. */
export function isPlainLog(path: string): boolean {
  const stats = statSync(path, { throwIfNoEntry: false })
  if (stats?.isDirectory() !== true) return stats !== undefined
  try {
    const first = join(path, 'records/0000000000000000.jsonl')
    if (!statSync(first).isFile()) return true
    return statSync(join(path, 'checkpoint'), { throwIfNoEntry: false }) === undefined && !/"type":"log\.created","v":1\}$/m.test(readFileSync(first, 'utf8'))
  } catch {
    return false
  }
}
