import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Dispatcher } from 'undici'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'

/** Milliseconds. `oneMs` bounds a single probe: a plugin may accept a connection and never answer. */
export interface ProbeLimits {
  readonly everyMs: number
  readonly totalMs: number
  readonly totalWithoutChannelMs: number
  readonly oneMs: number
  readonly graceMs: number
}

export interface Probe {
  readonly dispatcher: Dispatcher
  readonly secret: string
  readonly limits: ProbeLimits
  readonly hasChannel: boolean
  readonly signal: AbortSignal
}

/**
 * Protocol section 13: nothing marks the end of a plugin's start, so an improbable path is asked for until the answer is
 * neither 503 nor a connection failure. A Rust plugin answers an empty 404 both before and after; it gets a short grace.
 * @throws CordonError HANDSHAKE_NOT_SERVING
 */
export async function waitUntilServing(probe: Probe): Promise<void> {
  const { limits } = probe
  const total = probe.hasChannel ? limits.totalMs : limits.totalWithoutChannelMs
  const overall = AbortSignal.any([probe.signal, AbortSignal.timeout(total)])
  let last = 'no answer'
  while (!overall.aborted) {
    try {
      const answer = await ask(probe, overall)
      if (answer.status !== 503) {
        if (answer.status === 404 && answer.empty) await pause(limits.graceMs, probe.signal)
        return
      }
      last = 'status 503'
    } catch (error) {
      if (!overall.aborted) last = printable(error instanceof Error ? error.message : String(error)) // a probe that our own limit cuts off says nothing of the plugin
    }
    await pause(limits.everyMs, overall)
  }
  probe.signal.throwIfAborted()
  throw new CordonError('HANDSHAKE_NOT_SERVING', `the plugin did not serve requests within ${total / 1000} s after \`ready\`; the last probe got: ${last}`)
}

async function ask(probe: Probe, overall: AbortSignal): Promise<{ status: number; empty: boolean }> {
  const answer = await probe.dispatcher.request({
    origin: 'http://localhost',
    method: 'GET',
    path: `/__ready-${randomUUID()}`,
    headers: { host: 'localhost', 'x-temps-auth-signature': probe.secret },
    signal: AbortSignal.any([overall, AbortSignal.timeout(probe.limits.oneMs)]),
  })
  answer.body.on('error', () => {}) // the status is all that is wanted
  answer.body.destroy()
  return { status: answer.statusCode, empty: answer.headers['content-length'] === '0' }
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => {}) // the loop looks at the signal itself
}
