import { formatIp, formatCidr, inCidr, parseCidr, parseIp, type Cidr, type IpBytes } from '../base/ip-address.ts'
import { classifyAddress, type AddressClass, type AddressKind } from '../base/special-addresses.ts'
import type { ReasonCode } from './reasons.ts'

/** What is known of this host, as data: the launcher looks, the door only compares. */
export interface HostView {
  /** Every address that is the host's own, but the loopback, which is refused as what it is; mostly of full length. */
  readonly hostAddresses: readonly Cidr[]
  /** Prefixes that the host reaches without a gateway (`ip route`, scope link); never a default route. */
  readonly onLink: readonly Cidr[]
  /** Ports on which Cordon itself listens, on any address. */
  readonly ownPorts: readonly number[]
  /** Of the `host.network` record that has all this. */
  readonly name?: string
}

/** @returns null where a text is none: an address that cannot be read would be one that is not refused */
export function hostView({ hostAddresses, onLink, ownPorts }: { readonly hostAddresses: readonly string[]; readonly onLink: readonly string[]; readonly ownPorts: readonly number[] }): HostView | null {
  const blocks = (texts: readonly string[]): Cidr[] => texts.flatMap((text) => {
    const alone = parseIp(text)
    if (alone !== null) return [{ base: alone, prefix: alone.length * 8 }]
    const parsed = parseCidr(text)
    return parsed.ok ? [parsed.cidr] : []
  })
  const view = { hostAddresses: blocks(hostAddresses), onLink: blocks(onLink), ownPorts }
  return view.hostAddresses.length === hostAddresses.length && view.onLink.length === onLink.length ? view : null
}

export interface AddressRequest extends HostView {
  readonly port: number
  /** Of the rule. */
  readonly private: boolean
  /** The rule opens `host.internal`: the loopback of the host, and nothing but it. */
  readonly hostInternal: boolean
}

export type AddressVerdict =
  | { readonly allowed: true; readonly address: IpBytes }
  | { readonly refused: ReasonCode; readonly say: string }

/**
 * May this address be dialled? The answer holds for the very bytes: who dials must use `address`, and nothing resolved anew.
 * @param bytes 4 or 16, in whatever spelling; from a resolver, so attacker-controlled
 */
export function judgeAddress(bytes: IpBytes, request: AddressRequest): AddressVerdict {
  const found = classifyAddress(bytes)
  const { address, kind } = found
  if (request.hostInternal) {
    if (!isPlainLoopback(address)) return refuse('address-host', `${formatIp(address)} is not the loopback of this host, and host.internal means nothing else`)
    return request.ownPorts.includes(request.port) ? ownPort(request.port) : { allowed: true, address }
  }
  // A translator (NAT64) dials the address inside, so the host and its neighbours are looked for there too.
  const dialled = found.embedded === null ? [address] : [address, found.embedded.inside.address]
  if (request.hostAddresses.some((own) => dialled.some((one) => inCidr(one, own)))) {
    return request.ownPorts.includes(request.port)
      ? ownPort(request.port)
      : refuse('address-host', `${formatIp(address)} is this host itself: open one of its services with { host: host.internal, ports: [${request.port}] }`)
  }
  if (kind === 'private' || kind === 'shared' || kind === 'unique-local') {
    return request.private ? { allowed: true, address } : refuse(CODES[kind], sentence(found))
  }
  if (kind !== 'global') return refuse(CODES[kind], sentence(found))
  const neighbours = request.onLink.find((prefix) => dialled.some((one) => inCidr(one, prefix)))
  if (neighbours !== undefined && !request.private) {
    return refuse('address-on-link', `${formatIp(address)} is a direct neighbour of this host (${formatCidr(neighbours)}): add private: true`)
  }
  return { allowed: true, address }
}

/** Could `private: true` open it? Asked by lints and by `policy suggest`, which know nothing of the host. */
export function isLiftable(kind: AddressKind): boolean {
  return kind === 'private' || kind === 'shared' || kind === 'unique-local'
}

const CODES: Readonly<Record<Exclude<AddressKind, 'global'>, ReasonCode>> = {
  'private': 'address-private', 'shared': 'address-shared', 'unique-local': 'address-unique-local', 'unspecified': 'address-unspecified',
  'loopback': 'address-loopback', 'link-local': 'address-link-local', 'metadata': 'address-metadata', 'multicast': 'address-multicast',
  'broadcast': 'address-broadcast', 'translated': 'address-translated', 'documentation': 'address-documentation',
  'benchmarking': 'address-benchmarking', 'reserved': 'address-reserved',
}

function sentence({ address, kind, row, embedded }: AddressClass): string {
  const text = formatIp(address)
  switch (kind) {
    case 'global': return `${text} is a public address`
    case 'private': return `${text} is private (${row.block}, your own network): add private: true`
    case 'shared': return `${text}: ${row.block} is Tailscale or carrier NAT: add private: true`
    case 'unique-local': return `${text} is private (${row.block}, your own network or VPN): add private: true`
    case 'unspecified': return `${text} would be this host itself; a DNS filter (Pi-hole, AdGuard) answers so for names that it blocks`
    case 'loopback': return `${text} is the loopback of this host: open a service of the host with { host: host.internal }, or ask the DNS filter why it answers so`
    case 'metadata': return `${text} is the ${row.name} (${row.source}); nothing opens it`
    case 'link-local': return `${text} is link-local (${row.block}), where cloud metadata services live; nothing opens it`
    case 'multicast':
    case 'broadcast': return `${text} is ${kind} (${row.block}); nothing opens it`
    case 'translated': {
      if (embedded === null) return `${text} leads to another address (${row.name}, ${row.source}); nothing opens it`
      const inside = embedded.inside.kind === 'global' ? '' : `, which is ${embedded.inside.row.name}`
      return `${text} hides ${formatIp(embedded.inside.address)}${inside}, behind ${embedded.how}; nothing opens it`
    }
    case 'documentation': return `${text} is an example address (${row.block}, ${row.source}): the configuration holds a placeholder`
    case 'benchmarking': return `${text} is for laboratory tests (${row.block}, ${row.source}); nothing opens it`
    case 'reserved': return `${text} is ${row.block === '::/0' ? 'not handed out to anybody' : `reserved (${row.block}, ${row.name}, ${row.source})`}; nothing opens it`
    default: return kind satisfies never
  }
}

function isPlainLoopback(address: IpBytes): boolean {
  return address.length === 4 ? address[0] === 127 : address.every((byte, index) => byte === (index === 15 ? 1 : 0))
}

function ownPort(port: number): AddressVerdict {
  return refuse('own-port', `port ${port} of this host is Cordon's own; nothing opens it`)
}

function refuse(refused: ReasonCode, say: string): AddressVerdict {
  return { refused, say }
}
