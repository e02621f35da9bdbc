import * as z from 'zod'
import type { PolicyCode } from './problem.ts'
import { UnitError } from './units.ts'

/** Carries the catalogue code through zod's `custom` issues; issues.ts reads it. */
export interface Fault { readonly code: PolicyCode; readonly message: string; readonly hint?: string }
export type Check<T> = (value: T) => Fault | null

/** Entries in any list; nobody reviews more. */
export const LIST_MAX = 64

export const reason = z.string().superRefine(faults((text) => (
  text.trim() !== '' && text.length <= 200 && !/\p{Cc}/u.test(text) ? null : { code: 'POLICY_BAD_VALUE', message: 'expected 1 to 200 characters on one line that say why the plugin needs this' }
))).meta({ description: 'Why the plugin needs this; whoever reads the policy after an incident will ask.', minLength: 1, maxLength: 200 })

/** @param bounds null, or the range that was expected */
export function unit<In, Out>(parse: (written: In) => Out, bounds: (value: Out) => string | null): (value: In, context: z.RefinementCtx<In>) => void {
  return faults((written: In) => {
    try {
      const range = bounds(parse(written))
      return range === null ? null : { code: 'POLICY_OUT_OF_BOUNDS', message: `expected ${range}` }
    } catch (error) {
      if (!(error instanceof UnitError)) throw error
      return { code: 'POLICY_BAD_VALUE', message: error.message }
    }
  })
}

export function faults<T>(check: Check<T>): (value: T, context: z.RefinementCtx<T>) => void {
  return (value, context) => {
    const fault = check(value)
    if (fault !== null) context.addIssue({ code: 'custom', message: fault.message, params: { code: fault.code, hint: fault.hint } })
  }
}

export function noDuplicates(list: readonly string[]): Fault | null {
  const twice = list.find((item, index) => list.indexOf(item) !== index)
  return twice === undefined ? null : { code: 'POLICY_CONFLICT', message: `names ${JSON.stringify(twice)} twice` }
}
