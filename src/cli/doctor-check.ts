import * as z from 'zod'

/** `untried`: it needs root. A `warn` costs something that is named; with a `FAIL` nothing or not safely runs. */
export const CHECK = z.object({
  name: z.string(),
  state: z.enum(['ok', 'warn', 'FAIL', 'untried']),
  /** What was found, as it was found. */
  found: z.string(),
  /** What that means for plugins; null when all is well and there is nothing to say. */
  means: z.string().nullable(),
  /** The line that mends it. */
  mend: z.string().nullable(),
})
export type Check = z.infer<typeof CHECK>

export function ok(name: string, found: string, means: string | null = null): Check {
  return { name, state: 'ok', found, means, mend: null }
}

export function warn(name: string, found: string, means: string, mend: string | null = null): Check {
  return { name, state: 'warn', found, means, mend }
}

export function fail(name: string, found: string, means: string, mend: string | null): Check {
  return { name, state: 'FAIL', found, means, mend }
}

export function untried(name: string, found: string): Check {
  return { name, state: 'untried', found, means: null, mend: 'run it as root' }
}
