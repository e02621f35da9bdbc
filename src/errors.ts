/**
 * Every error that a user can see: code, exit status of the CLI (sysexits.h), HTTP status, and what to do about it.
 * A message says what was found, where, and what was expected; the hint here says what to do. Codes are never reused.
 */
export interface ErrorEntry {
  readonly exit: number
  readonly http: number
  readonly hint: string
}

export const ERRORS = {
  USAGE_UNKNOWN_COMMAND: { exit: 64, http: 400, hint: 'Run `cordon --help` for the list of commands.' },
  USAGE_BAD_OPTION: { exit: 64, http: 400, hint: 'Run the command with --help; it shows the options and an example.' },
  INTERNAL_BUG: { exit: 70, http: 500, hint: 'This is a defect in Cordon; report it with the message above.' },
} as const satisfies Record<string, ErrorEntry>

export type ErrorCode = keyof typeof ERRORS
export type CodeOf<Area extends string> = Extract<ErrorCode, `${Area}_${string}`>

/** Base of all errors that are shown to a user. `message` may hold untrusted text only after `printable()`. */
export class CordonError<Code extends ErrorCode = ErrorCode> extends Error {
  readonly code: Code
  constructor(code: Code, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'CordonError'
    this.code = code
  }
  get hint(): string {
    return ERRORS[this.code].hint
  }
  get exit(): number {
    return ERRORS[this.code].exit
  }
  get http(): number {
    return ERRORS[this.code].http
  }
}

/** What crosses a process boundary or HTTP: no stack, no host path. */
export interface SafeError {
  readonly code: ErrorCode
  readonly message: string
  readonly hint: string
}

export function toSafeError(error: unknown): SafeError {
  if (error instanceof CordonError) return { code: error.code, message: error.message, hint: error.hint }
  return { code: 'INTERNAL_BUG', message: 'an unexpected error; the daemon log has the details', hint: ERRORS.INTERNAL_BUG.hint }
}
