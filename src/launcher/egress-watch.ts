import type { AuditSink } from '../audit/record.ts'
import { forgetDestinations, outgoingDatagrams, readRefused, type RefusedCounts, type SealedNetwork } from './network.ts'

const LOOK_EVERY_MS = 1000
/** Destinations named in one record; the rest is a number. */
const MAX_NAMED = 50

/** One destination and how often it was tried since the last record. */
export interface Attempt {
  readonly destination: string
  readonly count: number
}

/**
 * Differences of two readings (pure). What the counters saw and no set could hold is the gap: a full set drops the
 * destination, never the count.
 */
export function attemptsBetween(before: RefusedCounts, after: RefusedCounts): { attempts: Attempt[]; unnamed: number } {
  const attempts: Attempt[] = []
  let named = 0
  for (const [destination, packets] of after.destinations) {
    const earlier = before.destinations.get(destination) ?? 0
    const count = packets >= earlier ? packets - earlier : packets // the set was emptied in between
    if (count > 0) attempts.push({ destination: sentence(destination), count })
    named += count
  }
  let total = 0
  for (const [name, packets] of after.totals) total += packets - (before.totals.get(name) ?? 0)
  return { attempts: attempts.sort((a, b) => b.count - a.count), unnamed: Math.max(0, total - named) }
}

/** The fields of an `egress.attempted` record. */
function attemptsRecord({ attempts }: { readonly attempts: readonly Attempt[] }) {
  return {
    outcome: 'refused' as const, reason: 'no egress is granted', more: Math.max(0, attempts.length - MAX_NAMED),
    attempts: attempts.slice(0, MAX_NAMED).map(({ destination, count }) => ({ destination, count })),
  }
}

/** What came to the door faster than one plugin may (pure). */
export function tooFastBetween(before: RefusedCounts, after: RefusedCounts): Attempt[] {
  return [
    { destination: 'the door: connections', count: after.tooFast.tcp - before.tooFast.tcp },
    { destination: 'the door: questions for names', count: after.tooFast.udp - before.tooFast.udp },
  ].filter(({ count }) => count > 0)
}

/** `tcp6 2001:db8::1 443` as a person writes it: `tcp [2001:db8::1]:443`. */
function sentence(key: string): string {
  const [set = '', address = '', port = ''] = key.split(' ')
  const protocol = set.slice(0, -1)
  if (protocol === 'other') return `protocol ${port} ${address}`
  return set.endsWith('6') ? `${protocol} [${address}]:${port}` : `${protocol} ${address}:${port}`
}

export const NOTHING_REFUSED: RefusedCounts = { totals: new Map(), destinations: new Map(), tooFast: { tcp: 0, udp: 0 }, nearlyFull: false }

/**
 * Watch what a sealed namespace refuses and record it within a second or two.
 * @param proc open /proc/PID of a process in it
 * @returns ends the watch with a last reading, so that nothing of the last second is lost
 */
export function watchEgress(network: SealedNetwork, proc: string, audit: AuditSink, who: { plugin: string; run: string }, trouble: (error: unknown) => void): () => Promise<void> {
  let seenDatagrams = -1
  let last = NOTHING_REFUSED
  let busy: Promise<void> = Promise.resolve()

  const read = async (): Promise<void> => {
    const now = await readRefused(network)
    const { attempts, unnamed } = attemptsBetween(last, now)
    const tooFast = tooFastBetween(last, now)
    last = now
    if (now.nearlyFull) {
      await forgetDestinations(network)
      last = { ...now, destinations: new Map() }
    }
    if (attempts.length > 0) {
      audit.note({ type: 'egress.attempted', ...who, ...attemptsRecord({ attempts }) }, 'launcher')
    }
    if (tooFast.length > 0) {
      audit.note({ type: 'egress.attempted', ...who, outcome: 'refused', reason: 'faster than one plugin may come to the door', more: 0, attempts: tooFast.map((one) => ({ ...one })) }, 'launcher')
    }
    if (unnamed > 0) audit.note({ type: 'gap', ...who, what: 'egress destinations', count: unnamed, reason: 'more destinations at once than the kernel set holds' }, 'launcher')
  }

  const look = (): void => {
    busy = busy.then(async () => {
      const datagrams = tryOutgoing(proc) // a file read; only when something was sent is nft asked
      if (datagrams === null || datagrams === seenDatagrams) return
      seenDatagrams = datagrams
      await read()
    }).catch(trouble)
  }
  const timer = setInterval(look, LOOK_EVERY_MS)
  return async () => {
    clearInterval(timer)
    await busy
    await read().catch(trouble)
  }
}

function tryOutgoing(proc: string): number | null {
  try {
    return outgoingDatagrams(proc)
  } catch {
    return null // ESRCH: the process has ended; the last reading does not need it
  }
}
