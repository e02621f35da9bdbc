import { setTimeout as sleep } from 'node:timers/promises'
import type { Dispatcher } from 'undici'
import { printable } from '../base/printable.ts'

export interface HealthLimits {
  readonly everyMs: number
  readonly timeoutMs: number
  /** Consecutive failures that make a plugin unhealthy; a single one may be a hiccup. */
  readonly failures: number
}

/** Protocol section 9. */
export const HEALTH_LIMITS: HealthLimits = { everyMs: 30_000, timeoutMs: 5000, failures: 3 }

export interface HealthTarget {
  readonly dispatcher: Dispatcher
  readonly secret: string
  /** Checked against the dev runner's rule when the manifest was accepted. */
  readonly path: string
  /** It is paused: then it is not asked, and what it did not answer on the way there is forgiven. */
  readonly standsStill: () => boolean
}

/**
 * GET the health path now and then until it fails `failures` times in a row.
 * @param onChange called at the first answer and at each change; detail is printable
 * @returns why the plugin is unhealthy, printable; rejects with the signal's reason when it is aborted
 */
export async function watchHealth(target: HealthTarget, limits: HealthLimits, signal: AbortSignal, onChange: (healthy: boolean, detail: string) => void): Promise<string> {
  let failures = 0
  let healthy: boolean | null = null
  for (;;) {
    const problem = target.standsStill() ? null : await findProblem(target, limits, signal)
    signal.throwIfAborted()
    const asked = !target.standsStill()
    failures = problem === null || !asked ? 0 : failures + 1
    if (asked && problem === null && healthy !== true) {
      healthy = true
      onChange(true, `GET ${target.path} answered`)
    }
    if (problem !== null && failures >= limits.failures) {
      const detail = `GET ${target.path} failed ${failures} times in a row, last: ${problem}`
      onChange(false, detail)
      return detail
    }
    await sleep(limits.everyMs, undefined, { signal, ref: false })
  }
}

async function findProblem(target: HealthTarget, limits: HealthLimits, signal: AbortSignal): Promise<string | null> {
  try {
    const answer = await target.dispatcher.request({
      origin: 'http://localhost',
      method: 'GET',
      path: target.path,
      headers: { host: 'localhost', 'x-temps-auth-signature': target.secret },
      signal: AbortSignal.any([signal, AbortSignal.timeout(limits.timeoutMs)]),
    })
    answer.body.on('error', () => {}) // only the status says something; the body may be endless
    answer.body.destroy()
    return answer.statusCode >= 200 && answer.statusCode <= 299 ? null : `status ${answer.statusCode}`
  } catch (error) {
    return printable(error instanceof Error ? error.message : String(error), 100)
  }
}
