import { readFileSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join, resolve } from 'node:path'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { archivedPolicy } from '../launcher/policy-archive.ts'
import { collect, type Report, type Verdict } from '../report/collect.ts'
import { page } from '../report/page.ts'
import { pluginName } from './args.ts'
import { historyOptions } from './audit-query.ts'
import type { CommandContext, RunCommand } from './context.ts'
import type { CommandIo } from './io.ts'
import { readOptions } from './policy-options.ts'
import { withProgress } from './progress.ts'
import { parseSince, parseUpTo } from './since.ts'

const DAY_MS = 86_400_000
/** As `cordon audit verify` takes them. */
const EVIDENCE = { key: { type: 'string' }, with: { type: 'string', multiple: true }, witness: { type: 'string', multiple: true } } as const

/**
 * `cordon audit report`: what happened, for a person after an incident. The verdict on the log comes first and is that of
 * `cordon audit verify` with the same `--key`, `--with` and `--witness`, asked as a command of its own, so that the report cannot know better.
 * @throws CordonError USAGE_BAD_OPTION, AUDIT_NO_CHECKPOINT, AUDIT_NOT_FOUND, AUDIT_UNAVAILABLE, AUDIT_INDEX, AUDIT_REPORT
 */
export function auditReport(loadVerify: () => Promise<RunCommand>, now = Date.now()): RunCommand {
  return async (args, io, context) => {
    const { values, positionals } = readOptions('audit report', args, { plugin: { type: 'string' }, since: { type: 'string' }, until: { type: 'string' }, out: { type: 'string' }, ...EVIDENCE })
    if (positionals.length > 0) throw wrong(`takes options only, found "${printable(positionals[0] ?? '', 80)}"`)
    const plugin = values.plugin === undefined ? null : pluginName('audit report', values.plugin)
    const untilMs = values.until === undefined ? now : Math.min(now, parseUpTo('audit report: --until', values.until, now))
    const sinceMs = values.since === undefined ? untilMs - DAY_MS : parseSince('audit report: --since', values.since, now)
    if (sinceMs >= untilMs) throw wrong('--since is not before --until')
    if (values.out === undefined && !io.json && process.stdout.isTTY === true) throw wrong('the report is a page for a browser: name a file with --out, or write it to one with >')
    const { key, with: saved = [], witness = [] } = values
    const evidence = [...(key === undefined ? [] : [`--key=${key}`]), ...saved.map((file) => `--with=${file}`), ...witness.map((word) => `--witness=${word}`)]
    const verdict = await verdictOf(loadVerify, evidence, io, context)
    const report = await withProgress(io, 'reading the audit log', collect({
      plugin, sinceMs, untilMs, verdict, history: historyOptions(context.config.stateDir, io, context.signal), policyOf: (digest) => archivedPolicy(context.config.stateDir, digest),
    }))
    const text = io.json ? JSON.stringify(report, asJson) : page(report, { host: hostname(), version: versionOf(context.tree), madeMs: now })
    if (values.out === undefined) io.out(text.trimEnd())
    else write(resolve(values.out), text, report, io)
    return 0
  }
}

async function verdictOf(loadVerify: () => Promise<RunCommand>, evidence: readonly string[], io: CommandIo, context: CommandContext): Promise<Verdict> {
  const lines: string[] = []
  const out = (line: string): void => void lines.push(...line.split('\n'))
  try {
    const exit = await (await loadVerify())(evidence, { out, err: io.err, json: false, color: false }, context)
    return { exit, lines }
  } catch (error) {
    if (!(error instanceof CordonError) || context.signal.aborted) throw error
    // What was named to compare with is not what was meant: no report says less than was asked for.
    if (error.code === 'USAGE_BAD_OPTION' || error.code === 'AUDIT_NO_CHECKPOINT') throw error
    return { exit: error.exit, lines: [`The log could not be verified: ${error.message}`, error.hint] }
  }
}

function write(file: string, text: string, { verdict, records }: Report, io: CommandIo): void {
  try {
    writeFileSync(file, text, { mode: 0o600, flag: 'wx' })
  } catch (error) {
    throw new CordonError('AUDIT_REPORT', `${printable(file)} could not be written: ${(error as NodeJS.ErrnoException).code ?? 'error'}`, { cause: error })
  }
  if (!io.json) io.err(`${printable(file)}: ${records} records; ${verdict.lines[0] ?? ''}`)
}

/** A Map as an object, sizes as numbers: JSON for other programs. */
function asJson(_: string, value: unknown): unknown {
  return value instanceof Map ? Object.fromEntries(value) : value
}

function versionOf(tree: string): string {
  const { version } = JSON.parse(readFileSync(join(tree, 'package.json'), 'utf8')) as { version: string }
  return version
}

function wrong(what: string): CordonError {
  return new CordonError('USAGE_BAD_OPTION', `audit report: ${what}`)
}
