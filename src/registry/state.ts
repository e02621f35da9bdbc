import type { PluginState } from '../wire/requests.ts'

/** Which state may follow which. The launcher moves plugins; the gateway checks that what it hears makes sense. */
const MOVES: Readonly<Record<PluginState, readonly PluginState[]>> = {
  /** Found without a policy. */
  waiting: ['stopped', 'starting', 'disabled', 'failed'],
  disabled: ['stopped', 'starting', 'waiting'],
  stopped: ['starting', 'disabled', 'waiting', 'failed'],
  starting: ['running', 'stopping', 'backoff', 'failed', 'stopped', 'disabled'],
  running: ['paused', 'stopping', 'backoff', 'failed', 'stopped', 'disabled'],
  /** Frozen as long as the audit log cannot be written. */
  paused: ['running', 'stopping', 'backoff', 'failed', 'stopped', 'disabled'],
  stopping: ['stopped', 'disabled', 'starting', 'backoff', 'failed', 'waiting'],
  /** Waits before the next start. */
  backoff: ['starting', 'stopped', 'disabled', 'failed', 'waiting'],
  /** Given up, for example at the start limit, until someone starts it. */
  failed: ['starting', 'stopped', 'disabled', 'waiting'],
  /** From any state, until an operator releases it. */
  quarantined: ['starting', 'stopped', 'disabled', 'waiting'],
}

/** Staying is legal: a status is sent again when only its reason or its run changes. */
export function isLegalMove(from: PluginState, to: PluginState): boolean {
  return from === to || to === 'quarantined' || MOVES[from].includes(to)
}

/** A plugin that is seen for the first time is in none of the states that only follow from another one. */
export function isLegalFirst(state: PluginState): boolean {
  return state !== 'running' && state !== 'paused' && state !== 'stopping'
}
