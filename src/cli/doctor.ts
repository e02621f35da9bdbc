import { execa } from 'execa'
import * as z from 'zod'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import type { CommandContext } from './context.ts'
import { CHECK, fail, untried, type Check } from './doctor-check.ts'
import { lookAtHost, lookAtMachine } from './doctor-look.ts'
import { tryMachine } from './doctor-trial.ts'
import type { CommandIo } from './io.ts'
import { withProgress } from './progress.ts'
import { wrap } from './table.ts'

/** The trial takes a second; an emulated machine needs minutes. */
const TRIAL_LIMIT_MS = 300_000
/** As when nothing is started because something is missing (HOST_PROGRAMS and its like). */
const FAILED = 69

/**
 * `cordon doctor`: what this machine enforces, found by doing it and not by asking for versions.
 * @returns 0 when nothing FAILs, else 69
 */
export async function doctorCommand(args: readonly string[], io: CommandIo, context: CommandContext): Promise<number> {
  if (args.some((word) => word !== '--trial')) throw new CordonError('USAGE_BAD_OPTION', `doctor: takes no arguments, found "${printable(args[0] ?? '', 80)}"`)
  if (args.length > 0) {
    io.out(JSON.stringify({ checks: await tryMachine(context) }))
    return 0
  }
  const root = process.getuid?.() === 0
  const machine = lookAtMachine(context.config, root)
  const trial = await withProgress(io, 'trying the walls', tried(machine, root, context))
  const checks = [...machine, ...trial, ...await lookAtHost(context, root)]
  const failed = checks.filter(({ state }) => state === 'FAIL').length
  if (io.json) {
    io.out(JSON.stringify({ ok: failed === 0, checks }))
  } else {
    for (const check of checks) for (const line of describe(check, io.color)) io.out(line)
    io.out('')
    io.out(summary(checks, failed))
  }
  return failed === 0 ? 0 : FAILED
}

const TRIAL = z.object({ checks: z.array(CHECK) })

async function tried(machine: readonly Check[], root: boolean, { configFile, signal }: CommandContext): Promise<Check[]> {
  if (!root) return [untried('walls', 'containers, namespaces and cgroups were not tried')]
  if (machine.some(({ state }) => state === 'FAIL')) return [fail('walls', 'not tried, for want of the above', 'nothing can be started on this machine', 'mend the above first')]
  const script = process.argv[1] ?? ''
  const own = configFile === null ? [] : ['--config', configFile]
  const { stdout, stderr, exitCode } = await execa(process.execPath, [...process.execArgv, script, 'doctor', '--trial', ...own], {
    reject: false, stdin: 'ignore', timeout: TRIAL_LIMIT_MS, cancelSignal: signal, maxBuffer: 1024 * 1024,
  })
  signal.throwIfAborted()
  const parsed = TRIAL.safeParse(jsonOf(stdout)).data
  if (parsed !== undefined) return parsed.checks
  const hint = /^hint: +(.*)$/m.exec(stderr)?.[1] ?? null
  return [fail('walls', printable(stderr.replace(/^hint:.*$/m, '').replace(/^error: /, '').trim(), 600) || `the trial ended with ${exitCode ?? 'a signal'}`, 'nothing can be started on this machine', hint === null ? null : printable(hint, 300))]
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    return null // what it printed instead is in stderr
  }
}

const COLORS = { ok: 32, warn: 33, FAIL: 31, untried: 36 } as const
const LABEL = 25

function describe({ name, state, found, means, mend }: Check, color: boolean): string[] {
  const indent = ' '.repeat(LABEL)
  const part = (text: string): string[] => wrap(printable(text, 1500), 80 - LABEL).map((line) => `${indent}${line}`)
  const [first = '', ...more] = part(found)
  const word = state.padEnd(8)
  return [
    `${color ? `\u001b[${COLORS[state]}m${word}\u001b[0m` : word}${name.padEnd(LABEL - 8)}${first.trimStart()}`,
    ...more,
    ...(means === null ? [] : part(`means: ${means}`)),
    ...(mend === null ? [] : part(`mend:  ${mend}`)),
  ]
}

function summary(checks: readonly Check[], failed: number): string {
  const count = (state: Check['state']): number => checks.filter((check) => check.state === state).length
  const rest = [`${count('warn')} to know about`, ...(count('untried') > 0 ? [`${count('untried')} not tried`] : [])].join(', ')
  return failed === 0 ? `Nothing fails; ${rest}.` : `${failed} ${failed === 1 ? 'check fails' : 'checks fail'}; ${rest}.`
}
