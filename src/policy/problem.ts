import { CordonError, ERRORS, type CodeOf } from '../errors.ts'

export type PolicyCode = CodeOf<'POLICY'>

/** One thing that is wrong with one place of a file. `message` is printable; line and column count from 1. */
export interface PolicyProblem {
  readonly code: PolicyCode
  readonly message: string
  readonly hint: string
  readonly file: string
  readonly line: number
  readonly column: number
}

/** Something that is allowed and that the operator should know. Never stops a plugin. */
export interface PolicyWarning {
  readonly message: string
  readonly file: string
  readonly line: number
  readonly column: number
}

/** Where a field of a file stands; `at` tells the name of the field from its value. */
export type Locate = (path: readonly PropertyKey[], at?: 'key' | 'value') => { readonly line: number; readonly column: number }

/** Problems kept per file: enough to mend it, and a bound on what a hostile file can make us hold. */
export const MAX_PROBLEMS = 200

/** A policy or the host configuration was refused. `problems` holds all of them, in file order; the message tells the first. */
export class PolicyError extends CordonError<PolicyCode> {
  readonly problems: readonly PolicyProblem[]

  constructor(code: PolicyCode, message: string, options?: { cause?: unknown; problems?: readonly PolicyProblem[] }) {
    super(code, message, options)
    this.name = 'PolicyError'
    this.problems = options?.problems ?? []
  }

  override get hint(): string {
    return this.problems[0]?.hint ?? super.hint
  }
}

/** @param problems at least one */
export function invalid(file: string, problems: readonly PolicyProblem[]): PolicyError {
  const sorted = problems.toSorted((a, b) => a.line - b.line || a.column - b.column).slice(0, MAX_PROBLEMS)
  const [first] = sorted
  const more = problems.length > 1 ? ` (and ${problems.length - 1} more in this file)` : ''
  const message = first === undefined ? `${file} is not valid` : `${position(first)} ${first.message}${more}`
  return new PolicyError('POLICY_INVALID', message, { problems: sorted })
}

/** Of what was not read from a file. */
export const NO_LINE = { line: 0, column: 0 } as const

export function position(at: { readonly file: string; readonly line: number; readonly column: number }): string {
  return at.line === NO_LINE.line ? at.file : `${at.file}:${at.line}:${at.column}`
}

export function problemAt(
  file: string, where: { readonly line: number; readonly column: number }, code: PolicyCode, message: string, hint: string = ERRORS[code].hint,
): PolicyProblem {
  return { code, message, hint, file, line: where.line, column: where.column }
}
