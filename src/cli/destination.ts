import { matchText, type EgressMatch } from '../base/egress-rule.ts'
import { formatIp, parseIp } from '../base/ip-address.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { compileMatch } from '../policy/egress.ts'

export interface Destination {
  /** In the one spelling that rules and records use: a name, `*.zone`, `public`, `host.internal`, `10.0.5.7/32`. */
  readonly text: string
  readonly kind: EgressMatch['kind']
  /** null: none was written. */
  readonly port: number | null
}

/**
 * `NAME:PORT`, `*.ZONE:PORT`, `host.internal:PORT`, `10.0.5.0/24:5432`, `[fd00::]/64:443`; an address alone is a block of one.
 * @throws CordonError EGRESS_BAD_DESTINATION
 */
export function parseDestination(written: string): Destination {
  const refuse = (why: string): CordonError => new CordonError('EGRESS_BAD_DESTINATION', `"${printable(written, 100)}": ${why}`)
  const [, where = '', digits] = /^(.*?)(?::([0-9]{1,5}))?$/s.exec(written) ?? []
  const port = digits === undefined ? null : Number(digits)
  if (port !== null && !(port >= 1 && port <= 65_535)) throw refuse('expected a port from 1 to 65535')
  if (port === 53) throw refuse('port 53 is refused: names are answered by Cordon itself, and nothing may be asked past it')
  const block = blockText(where)
  if (where.includes(':') && block === null) throw refuse('expected an IPv6 address in brackets, as in [fd00::7]:443 or [fd00::]/64:443')
  const match = compileMatch(block === null ? { host: where } : { cidr: block })
  if ('why' in match) throw refuse(match.why)
  return { text: matchText(match), kind: match.kind, port }
}

function blockText(where: string): string | null {
  const [, inner, outer = '', length] = /^(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?:\/([0-9]{1,3}))?$/.exec(where) ?? []
  const text = inner ?? outer
  const bytes = parseIp(text)
  if (bytes === null || (inner === undefined) !== (bytes.length === 4)) return null
  return `${length === undefined ? formatIp(bytes) : text}/${length ?? bytes.length * 8}`
}
