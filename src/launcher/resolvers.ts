import { readFileSync } from 'node:fs'
import { parseIp } from '../base/ip-address.ts'
import { printable } from '../base/printable.ts'
import { classifyAddress } from '../base/special-addresses.ts'

export const RESOLV_CONF = '/etc/resolv.conf'

/** The resolvers that the door asks, and lines that name one which it cannot ask. */
export interface Resolvers {
  readonly asked: readonly string[]
  /** Printable sentences, each with the address as it stands in the file. */
  readonly skipped: readonly string[]
}

/** Of both kinds; libc itself takes three. */
const MAX_RESOLVERS = 8

/**
 * `nameserver` lines of resolv.conf(5); none: names cannot be resolved, and each connection says so. Node's resolver takes addresses
 * without a zone (it drops `%eth0`), and a link-local one without its interface leads nowhere; one that is no address makes it refuse them all.
 */
export function resolversOf(text: string): Resolvers {
  const asked: string[] = []
  const skipped: string[] = []
  for (const line of text.split('\n')) {
    const written = /^nameserver\s+(\S+)/.exec(line)?.[1]
    if (written === undefined) continue
    const bytes = parseIp(written.replace(/%.*/, ''))
    if (bytes === null) skipped.push(`${printable(written, 60)} is no address`)
    else if (bytes.length === 16 && classifyAddress(bytes).kind === 'link-local') skipped.push(`${printable(written, 60)} is link-local, and the door cannot say through which interface it is reached`)
    else asked.push(written.replace(/%.*/, ''))
  }
  return { asked: asked.slice(0, MAX_RESOLVERS), skipped: skipped.slice(0, MAX_RESOLVERS) }
}

/** Those of this host as they are now; a file that cannot be read names none. */
export function hostResolvers(): Resolvers {
  try {
    return resolversOf(readFileSync(RESOLV_CONF, 'utf8'))
  } catch {
    return { asked: [], skipped: [] }
  }
}
