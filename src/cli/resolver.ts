import { Resolver } from 'node:dns/promises'
import type { AskResolver } from '../policy/lint-resolved.ts'

/**
 * The name servers of this host, asked directly: unlike dns.lookup() such a question can be cancelled, and two that hang do not
 * hold up the rest of the process. It is also how the door asks, so /etc/hosts counts for neither.
 */
export const askResolver: AskResolver = async (name, signal) => {
  const resolver = new Resolver({ timeout: 1500, tries: 1 })
  const stop = (): void => resolver.cancel()
  signal.addEventListener('abort', stop, { once: true })
  try {
    const answers = await Promise.allSettled([resolver.resolve4(name), resolver.resolve6(name)])
    const failed = answers.find((one) => one.status === 'rejected' && !NO_ADDRESS.has(codeOf(one.reason)))
    const addresses = answers.flatMap((one) => (one.status === 'fulfilled' ? one.value : []))
    if (addresses.length === 0 && failed?.status === 'rejected') throw failed.reason
    return addresses
  } finally {
    signal.removeEventListener('abort', stop)
  }
}

/** "There is none" is an answer. */
const NO_ADDRESS = new Set(['ENODATA', 'ENOTFOUND'])

function codeOf(reason: unknown): string {
  return reason instanceof Error && 'code' in reason ? String(reason.code) : ''
}
