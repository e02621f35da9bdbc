import { connect, isIPv6, type Socket } from 'node:net'
import type { ReasonCode } from './reasons.ts'

export type Dialled =
  | { readonly socket: Socket; readonly address: string }
  | { readonly failed: Extract<ReasonCode, 'connect-refused' | 'connect-timeout' | 'connect-failed'> }

/** Opens a TCP connection to one of these literal addresses; the test's way in. */
export type Dial = (addresses: readonly string[], port: number, signal: AbortSignal) => Promise<Dialled>

export interface DialLimits {
  /** For all addresses together. */
  readonly timeoutMs: number
  /** Head start of each address before the next one (RFC 8305 section 5). */
  readonly staggerMs: number
}

const DIAL_LIMITS: DialLimits = { timeoutMs: 10_000, staggerMs: 250 }

/**
 * Happy Eyeballs (RFC 8305) over addresses that were judged already: families in turn, the first that answers wins and the others are closed.
 * Only literals are dialled, so nothing is resolved anew between the check and the connection.
 * @param addresses canonical text, in the order of the resolver; at least one
 * @param signal ends the attempt; the promise never rejects
 */
export function dial(addresses: readonly string[], port: number, signal: AbortSignal, limits: DialLimits = DIAL_LIMITS): Promise<Dialled> {
  return new Promise((resolve) => {
    const queue = interleave(addresses)
    const tries = new Set<Socket>()
    let stagger: NodeJS.Timeout | undefined
    let worst: 'connect-refused' | 'connect-timeout' | 'connect-failed' | null = null
    let over = false

    const finish = (dialled: Dialled): void => {
      if (over) return
      over = true
      clearTimeout(stagger)
      clearTimeout(deadline)
      signal.removeEventListener('abort', abort)
      const won = 'socket' in dialled ? dialled.socket : null
      for (const socket of tries) if (socket !== won) socket.destroy()
      resolve(dialled)
    }
    const abort = (): void => finish({ failed: 'connect-failed' })
    const deadline = setTimeout(() => finish({ failed: 'connect-timeout' }), limits.timeoutMs)
    signal.addEventListener('abort', abort)
    if (signal.aborted) return abort()

    const next = (): void => {
      clearTimeout(stagger)
      const address = queue.shift()
      if (over || address === undefined) return
      // Accepting halves: a program may end its side and still wait for the answer.
      const socket = connect({ host: address, port, family: isIPv6(address) ? 6 : 4, autoSelectFamily: false, allowHalfOpen: true, noDelay: true })
      tries.add(socket)
      socket.once('connect', () => {
        socket.removeAllListeners('error')
        socket.on('error', () => {}) // until the winner's owner listens; a loser's fate is of no interest
        finish({ socket, address })
      })
      socket.once('error', (error: NodeJS.ErrnoException) => {
        socket.on('error', () => {})
        tries.delete(socket)
        worst ??= error.code === 'ECONNREFUSED' ? 'connect-refused' : error.code === 'ETIMEDOUT' ? 'connect-timeout' : 'connect-failed'
        if (queue.length > 0) next()
        else if (tries.size === 0) finish({ failed: worst })
      })
      if (queue.length > 0) stagger = setTimeout(next, limits.staggerMs)
    }
    next()
    if (queue.length === 0 && tries.size === 0) finish({ failed: 'connect-failed' })
  })
}

/** IPv6 and IPv4 in turn, beginning with the family of the first address; each family keeps its order. */
function interleave(addresses: readonly string[]): string[] {
  const [first] = addresses
  if (first === undefined) return []
  const leading = addresses.filter((address) => isIPv6(address) === isIPv6(first))
  const others = addresses.filter((address) => isIPv6(address) !== isIPv6(first))
  return leading.flatMap((address, index) => [address, ...others.slice(index, index + 1)]).concat(others.slice(leading.length))
}
