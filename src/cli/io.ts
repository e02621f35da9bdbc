/** What a command may do to the terminal. `out` is the answer (stdout), `err` everything about it (stderr). */
export interface CommandIo {
  readonly out: (line: string) => void
  readonly err: (line: string) => void
  readonly json: boolean
  readonly color: boolean
  /** `out` is a terminal, so sentences are broken at 80 columns (table.ts, `prose`); a program gets them whole. */
  readonly terminal?: boolean
}
