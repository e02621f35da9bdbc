import * as z from 'zod'

/** One attempt of deploy/samples/hostile, in its own words. */
const ATTEMPT = z.object({
  wall: z.string().max(40),
  tried: z.string().max(300),
  /** An errno name, or a word such as LOOPBACK-ONLY. */
  result: z.string().max(80),
  expected: z.array(z.string().max(80)).max(20),
  verdict: z.enum(['held', 'BROKEN', 'not-applicable']),
  /** Why it could not be tried here. */
  reason: z.string().max(300).optional(),
})
export type Attempt = z.infer<typeof ATTEMPT>

const SUM = z.object({ summary: z.literal(true), held: z.number(), broken: z.number() })

/**
 * @param rows the whole report, attempts and then their sum
 * @throws Error when it is not complete: a program that was killed in the middle proves nothing
 */
export function completeReport(rows: readonly unknown[]): Attempt[] {
  const attempts = rows.flatMap((row) => ATTEMPT.safeParse(row).data ?? [])
  const sum = SUM.safeParse(rows.at(-1)).data
  const count = (verdict: Attempt['verdict']) => attempts.filter((attempt) => attempt.verdict === verdict).length
  if (attempts.length === 0 || attempts.length !== rows.length - 1 || sum === undefined || sum.held !== count('held') || sum.broken !== count('BROKEN')) {
    throw new Error(`the report of the hostile sample is not complete: ${attempts.length} attempts and ${sum === undefined ? 'no' : 'another'} sum`)
  }
  return attempts
}

export interface WallResult {
  readonly name: string
  /** At least one attempt was made and refused, and none got through. */
  readonly held: boolean
  readonly made: number
  /** The refused attempt that says most. */
  readonly example: Attempt | null
}

export function byWall(attempts: readonly Attempt[]): WallResult[] {
  return [...Map.groupBy(attempts, (attempt) => attempt.wall)].map(([name, all]) => {
    const made = all.filter(({ verdict }) => verdict !== 'not-applicable')
    // An errno says more than a word of the sample's own, such as LIMITED.
    const example = made.find(({ result, verdict }) => verdict === 'held' && /^E[A-Z]+$/.test(result)) ?? made.find(({ verdict }) => verdict === 'held') ?? null
    return { name, held: made.length > 0 && made.every(({ verdict }) => verdict === 'held'), made: made.length, example }
  })
}
