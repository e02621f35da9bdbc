import type { Session } from './visit.ts'

/** One attempt of the hostile sample, in its own words: the sample is ours, and still its texts are only shown. */
export interface Attempt {
  readonly wall: string
  readonly tried: string
  /** An errno name, or a word such as LOOPBACK-ONLY. */
  readonly result: string
  readonly expected: readonly string[]
  readonly verdict: 'held' | 'BROKEN' | 'not-applicable'
  /** Why it could not be tried here. */
  readonly reason?: string
}

interface Summary {
  readonly summary: true
  readonly held: number
  readonly broken: number
}

export interface Wall {
  readonly name: string
  /** At least one attempt was made and refused, and none got through. */
  readonly held: boolean
  /** "12 attempts, such as: read the password hashes (ENOENT)" */
  readonly refusals: string
}

/**
 * Its report; the answer comes when everything was tried.
 * @throws Error when it is not complete: a plugin that was killed in the middle proves nothing
 */
export async function readReport(session: Session): Promise<Attempt[]> {
  const { status, text } = await session.get('/api/x/hostile/report')
  if (status !== 200) throw new Error(`the report of the hostile sample was answered with HTTP ${status}`)
  const rows = JSON.parse(text) as (Attempt | Summary)[]
  const attempts = rows.filter((row) => 'wall' in row)
  const summary = rows.find((row) => 'summary' in row)
  const count = (verdict: Attempt['verdict']) => attempts.filter((attempt) => attempt.verdict === verdict).length
  if (attempts.length === 0 || summary === undefined || summary.held !== count('held') || summary.broken !== count('BROKEN')) {
    throw new Error(`the report of the hostile sample is not complete: ${attempts.length} attempts and ${summary === undefined ? 'no' : 'another'} sum`)
  }
  return attempts
}

export function byWall(attempts: readonly Attempt[]): Wall[] {
  return [...Map.groupBy(attempts, (attempt) => attempt.wall)].map(([name, all]) => {
    const made = all.filter(({ verdict }) => verdict !== 'not-applicable')
    // An errno says more than a word of the sample's own, such as LIMITED.
    const shown = made.find(({ result, verdict }) => verdict === 'held' && /^E[A-Z]+$/.test(result)) ?? made[0]
    const example = shown === undefined ? '' : `, such as: ${shown.tried} (${shown.result})`
    return {
      name,
      held: made.length > 0 && made.every(({ verdict }) => verdict === 'held'),
      refusals: `${made.length} attempt${made.length === 1 ? '' : 's'}${example}`,
    }
  })
}
