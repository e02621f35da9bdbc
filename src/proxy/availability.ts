import type { ErrorCode } from '../errors.ts'
import type { PluginView } from '../registry/registry.ts'
import type { PluginState } from '../wire/requests.ts'
import { isPublic, type Inner } from './paths.ts'

export interface Unavailable {
  readonly code: ErrorCode
  readonly detail: string
  /** Seconds, for the header. */
  readonly retryAfter?: string
}

export const RESERVED: Unavailable = { code: 'PROXY_NOT_FOUND', detail: 'The plugin protocol keeps this path for the host.' }
export const STARTING = { code: 'PROXY_STARTING', detail: 'The plugin is starting.', retryAfter: '2' } as const satisfies Unavailable

export const QUARANTINED: Unavailable = { code: 'PROXY_QUARANTINED', detail: 'The plugin is in quarantine.' }

const PAUSED = { code: 'PROXY_PAUSED', detail: 'The plugin stands still, because the audit log cannot be written.', retryAfter: '10' } as const satisfies Unavailable

/** What will pass: a webhook's sender hears "later" instead of "never". */
export const SOON: Partial<Record<PluginState, Unavailable & { readonly retryAfter: string }>> = { starting: STARTING, backoff: STARTING, paused: PAUSED }

/** May anyone ask for this, without credentials? */
export function isOpen(view: PluginView | null, inner: Inner): boolean {
  return view?.endpoint != null && isPublic(inner, view.endpoint.publicPaths)
}

/** @returns why there is nothing to forward to (protocol section 12.5), or null when there is */
export function unavailable(view: PluginView | null): Unavailable | null {
  if (view === null) return { code: 'PROXY_NOT_FOUND', detail: 'No plugin has this name.' }
  if (view.endpoint !== null) return null
  const { state } = view.status
  if (state === 'starting' || state === 'backoff' || state === 'running') return STARTING
  if (state === 'quarantined') return QUARANTINED
  if (state === 'paused') return PAUSED
  if (state === 'failed') return { code: 'PROXY_UNAVAILABLE', detail: 'The plugin failed and is not running.' }
  return { code: 'PROXY_NOT_RUNNING', detail: `The plugin is ${state}.` }
}
