import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import type { Difference } from './comparison.ts'

export class IsolationError extends CordonError<'LAUNCH_ISOLATION'> {
  readonly differences: readonly Difference[]
  constructor(differences: readonly Difference[]) {
    super('LAUNCH_ISOLATION', `the kernel does not show what was asked for: ${differences.slice(0, 5).map((d) => `${d.what} is "${printable(d.found)}", expected "${d.expected}"`).join('; ')}`)
    this.differences = differences
  }

  /** For `isolation.violated`: bounded, since what was found may be long. */
  record(): { what: string; expected: string; found: string }[] {
    return violationRecord(this.differences)
  }
}

export function violationRecord(differences: readonly Difference[]): { what: string; expected: string; found: string }[] {
  return differences.slice(0, 50).map(({ what, expected, found }) => ({ what, expected, found: printable(found, 500) }))
}
