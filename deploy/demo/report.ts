import { completeReport, type Attempt } from '../../src/cli/attempts.ts'
import type { Session } from './visit.ts'

/**
 * What the hostile sample says that it tried; the answer comes when everything was tried.
 * @throws Error when it is not complete
 */
export async function readReport(session: Session): Promise<Attempt[]> {
  const { status, text } = await session.get('/api/x/hostile/report')
  if (status !== 200) throw new Error(`the report of the hostile sample was answered with HTTP ${status}`)
  return completeReport(JSON.parse(text) as unknown[])
}
