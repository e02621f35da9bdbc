import type { IncomingMessage } from 'node:http'
import { BlockList, isIPv6 } from 'node:net'
import { printableWithin } from '../base/printable.ts'

/** The operator's word in cordon.yaml: who stands at these addresses has logged people in, and says in this header whom. */
export interface ForwardedUser {
  readonly header: string
  /** Literal addresses. */
  readonly from: readonly string[]
}

/** What a record can take of a name. */
const MAX_NAME = 64

/**
 * The user that a reverse proxy names, for the record alone: it opens nothing, since credentials are Cordon's own.
 * @param setting null: nobody is believed
 * @returns reads it off a request: `, forwarded user NAME`, or nothing, also where the header comes from anybody else
 */
export function forwardedUser(setting: ForwardedUser | null): (req: IncomingMessage) => string {
  if (setting === null) return () => ''
  const trusted = new BlockList()
  for (const address of setting.from) trusted.addAddress(address, isIPv6(address) ? 'ipv6' : 'ipv4')
  const header = setting.header.toLowerCase()
  return (req) => {
    const address = req.socket.remoteAddress ?? ''
    const names = req.headersDistinct[header] ?? []
    if (address === '' || names.length === 0 || !trusted.check(address, isIPv6(address) ? 'ipv6' : 'ipv4')) return ''
    // A proxy that adds its line below the caller's own leaves two: neither is to be believed.
    return names.length > 1 ? ', forwarded user named more than once' : `, forwarded user ${printableWithin(names[0] ?? '', MAX_NAME)}`
  }
}
