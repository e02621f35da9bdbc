import { inCidr, parseCidr, unmapped, type Cidr, type IpBytes } from './ip-address.ts'

/**
 * What an address is for. `private`, `shared` and `unique-local` may be opened by a policy with `private: true`; of the
 * others only `global` may be dialled at all.
 */
export type AddressKind =
  | 'global' | 'private' | 'shared' | 'unique-local'
  | 'unspecified' | 'loopback' | 'link-local' | 'metadata' | 'multicast' | 'broadcast' | 'translated' | 'documentation' | 'benchmarking' | 'reserved'

export interface SpecialBlock {
  readonly block: string
  readonly name: string
  /** Where it is defined; for metadata services, who runs it. */
  readonly source: string
  /** "Globally Reachable" of the registry; "N/A" counts as false. */
  readonly global: boolean
  readonly kind: AddressKind
}

const row = (block: string, name: string, source: string, kind: AddressKind): SpecialBlock => ({ block, name, source, global: kind === 'global', kind })

/**
 * IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890 and RFC 8190; iana-ipv4-special-registry and
 * iana-ipv6-special-registry, each row as it stood in 2026), and below them what those registries leave to others:
 * multicast, site-local, and everything that is not yet handed out. The longest block that holds an address decides.
 */
export const SPECIAL_BLOCKS: readonly SpecialBlock[] = Object.freeze([
  row('0.0.0.0/8', '"This network"', 'RFC 791 section 3.2', 'unspecified'),
  row('0.0.0.0/32', '"This host on this network"', 'RFC 1122 section 3.2.1.3', 'unspecified'),
  row('10.0.0.0/8', 'Private-Use', 'RFC 1918', 'private'),
  row('100.64.0.0/10', 'Shared Address Space', 'RFC 6598', 'shared'),
  row('127.0.0.0/8', 'Loopback', 'RFC 1122 section 3.2.1.3', 'loopback'),
  row('169.254.0.0/16', 'Link Local', 'RFC 3927', 'link-local'),
  row('172.16.0.0/12', 'Private-Use', 'RFC 1918', 'private'),
  row('192.0.0.0/24', 'IETF Protocol Assignments', 'RFC 6890 section 2.1', 'reserved'),
  row('192.0.0.0/29', 'IPv4 Service Continuity Prefix', 'RFC 7335', 'reserved'),
  row('192.0.0.8/32', 'IPv4 dummy address', 'RFC 7600', 'reserved'),
  row('192.0.0.9/32', 'Port Control Protocol Anycast', 'RFC 7723', 'global'),
  row('192.0.0.10/32', 'Traversal Using Relays around NAT Anycast', 'RFC 8155', 'global'),
  row('192.0.0.170/32', 'NAT64/DNS64 Discovery', 'RFC 8880 and RFC 7050 section 2.2', 'reserved'),
  row('192.0.0.171/32', 'NAT64/DNS64 Discovery', 'RFC 8880 and RFC 7050 section 2.2', 'reserved'),
  row('192.0.2.0/24', 'Documentation (TEST-NET-1)', 'RFC 5737', 'documentation'),
  row('192.31.196.0/24', 'AS112-v4', 'RFC 7535', 'global'),
  row('192.52.193.0/24', 'AMT', 'RFC 7450', 'global'),
  row('192.88.99.0/24', 'Deprecated (6to4 Relay Anycast)', 'RFC 7526', 'translated'),
  row('192.168.0.0/16', 'Private-Use', 'RFC 1918', 'private'),
  row('192.175.48.0/24', 'Direct Delegation AS112 Service', 'RFC 7534', 'global'),
  row('198.18.0.0/15', 'Benchmarking', 'RFC 2544', 'benchmarking'),
  row('198.51.100.0/24', 'Documentation (TEST-NET-2)', 'RFC 5737', 'documentation'),
  row('203.0.113.0/24', 'Documentation (TEST-NET-3)', 'RFC 5737', 'documentation'),
  row('240.0.0.0/4', 'Reserved', 'RFC 1112 section 4', 'reserved'),
  row('255.255.255.255/32', 'Limited Broadcast', 'RFC 8190 and RFC 919 section 7', 'broadcast'),

  row('::1/128', 'Loopback Address', 'RFC 4291', 'loopback'),
  row('::/128', 'Unspecified Address', 'RFC 4291', 'unspecified'),
  // ::ffff:0:0/96 (IPv4-mapped, RFC 4291) never gets here: it is the IPv4 address inside.
  row('64:ff9b::/96', 'IPv4-IPv6 Translation', 'RFC 6052', 'global'), // only with a global address inside; see below
  row('64:ff9b:1::/48', 'IPv4-IPv6 Translation, local use', 'RFC 8215', 'translated'),
  row('100::/64', 'Discard-Only Address Block', 'RFC 6666', 'reserved'),
  row('100:0:0:1::/64', 'Dummy IPv6 Prefix', 'RFC 9780', 'reserved'),
  row('2001::/23', 'IETF Protocol Assignments', 'RFC 2928', 'reserved'),
  row('2001::/32', 'TEREDO', 'RFC 4380 and RFC 8190', 'translated'),
  row('2001:1::1/128', 'Port Control Protocol Anycast', 'RFC 7723', 'global'),
  row('2001:1::2/128', 'Traversal Using Relays around NAT Anycast', 'RFC 8155', 'global'),
  row('2001:1::3/128', 'DNS-SD Service Registration Protocol Anycast', 'RFC 9665', 'global'),
  row('2001:2::/48', 'Benchmarking', 'RFC 5180', 'benchmarking'),
  row('2001:3::/32', 'AMT', 'RFC 7450', 'global'),
  row('2001:4:112::/48', 'AS112-v6', 'RFC 7535', 'global'),
  row('2001:10::/28', 'Deprecated (previously ORCHID)', 'RFC 4843', 'reserved'),
  row('2001:20::/28', 'ORCHIDv2', 'RFC 7343', 'global'),
  row('2001:30::/28', 'Drone Remote ID Protocol Entity Tags', 'RFC 9374', 'global'),
  row('2001:db8::/32', 'Documentation', 'RFC 3849', 'documentation'),
  row('2002::/16', '6to4', 'RFC 3056', 'translated'),
  row('2620:4f:8000::/48', 'Direct Delegation AS112 Service', 'RFC 7534', 'global'),
  row('3fff::/20', 'Documentation', 'RFC 9637', 'documentation'),
  row('5f00::/16', 'Segment Routing (SRv6) SIDs', 'RFC 9602', 'reserved'),
  row('fc00::/7', 'Unique-Local', 'RFC 4193 and RFC 8190', 'unique-local'),
  row('fe80::/10', 'Link-Local Unicast', 'RFC 4291', 'link-local'),

  row('224.0.0.0/4', 'Multicast', 'RFC 5771', 'multicast'),
  row('::/96', 'Deprecated (IPv4-compatible)', 'RFC 4291 section 2.5.5.1', 'translated'),
  row('fec0::/10', 'Deprecated (site-local)', 'RFC 3879', 'reserved'),
  row('ff00::/8', 'Multicast', 'RFC 4291', 'multicast'),
  row('2000::/3', 'Global Unicast', 'RFC 4291 section 2.4', 'global'),
  row('0.0.0.0/0', 'Global Unicast', 'RFC 791', 'global'),
  row('::/0', 'Not assigned', 'RFC 4291 section 2.4', 'reserved'), // whatever is handed out later is refused until it stands above
])

/** Services that tell a machine its secrets, or command it; each lies in a block that `private: true` could lift, or in a global one. */
export const METADATA_SERVICES: readonly SpecialBlock[] = Object.freeze([
  row('169.254.169.254/32', 'metadata service', 'AWS, Azure, Google, DigitalOcean, Hetzner, Oracle, OpenStack', 'metadata'),
  row('169.254.169.253/32', 'resolver of the cloud', 'AWS', 'metadata'),
  row('169.254.170.2/32', 'credentials of the task', 'AWS ECS', 'metadata'),
  row('169.254.170.23/32', 'credentials of the pod', 'AWS EKS', 'metadata'),
  row('169.254.42.42/32', 'metadata service', 'Scaleway', 'metadata'),
  row('169.254.0.23/32', 'metadata service', 'Tencent Cloud', 'metadata'),
  row('100.100.100.200/32', 'metadata service', 'Alibaba Cloud', 'metadata'),
  row('100.96.0.96/32', 'metadata service', 'Volcano Engine', 'metadata'),
  row('100.100.100.100/32', 'resolver and web client of the Tailscale daemon on this host', 'Tailscale', 'metadata'),
  row('168.63.129.16/32', 'wire server', 'Azure', 'metadata'),
  row('192.0.0.192/32', 'metadata service', 'Oracle Cloud Classic', 'metadata'),
  row('fd00:ec2::/32', 'metadata, resolver and clock', 'AWS', 'metadata'),
  row('fd20:ce::254/128', 'metadata service', 'Google Cloud', 'metadata'),
  row('fd00:42::42/128', 'metadata service', 'Scaleway', 'metadata'),
  row('fd7a:115c:a1e0::53/128', 'resolver and web client of the Tailscale daemon on this host', 'Tailscale', 'metadata'),
])

export interface AddressClass {
  /** The address that is meant: IPv4-mapped becomes IPv4. */
  readonly address: IpBytes
  readonly kind: AddressKind
  readonly row: SpecialBlock
  /** An IPv4 address that a translator or tunnel would make of it; null where none is hidden. */
  readonly embedded: { readonly how: string; readonly inside: AddressClass } | null
}

interface CompiledRow { readonly cidr: Cidr; readonly row: SpecialBlock }

function compiled(rows: readonly SpecialBlock[]): readonly CompiledRow[] {
  return rows.map((one) => {
    const parsed = parseCidr(one.block)
    if (!parsed.ok) throw new TypeError(`${one.block}: ${parsed.why}`)
    return { cidr: parsed.cidr, row: one }
  }).sort((a, b) => b.cidr.prefix - a.cidr.prefix)
}

/** Longest first; a metadata service beats a block of any length. */
const TABLE: readonly CompiledRow[] = [...compiled(METADATA_SERVICES), ...compiled(SPECIAL_BLOCKS)]

/**
 * @param bytes 4 or 16
 * @throws TypeError for any other length, which is a defect of the caller
 */
export function classifyAddress(bytes: IpBytes): AddressClass {
  if (bytes.length !== 4 && bytes.length !== 16) throw new TypeError(`an address has 4 or 16 bytes, not ${bytes.length}`)
  const address = unmapped(bytes)
  const found = TABLE.find(({ cidr }) => inCidr(address, cidr))?.row
  if (found === undefined) throw new TypeError('the table ends in /0 of both families')
  const embedded = address.length === 16 ? embeddedIpv4(address, found) : null
  // What a translator would turn into something else is judged by what it becomes. Only the well-known NAT64 prefix may
  // be dialled (DNS64 networks need it), and only with a global address inside, as RFC 6052 section 3.1 has it.
  const kind = embedded !== null && !(found.block === '64:ff9b::/96' && embedded.inside.kind === 'global') && found.kind !== 'unspecified' && found.kind !== 'loopback'
    ? 'translated' : found.kind
  return { address, kind, row: found, embedded }
}

function embeddedIpv4(address: IpBytes, { block }: SpecialBlock): AddressClass['embedded'] {
  const at = (from: number): AddressClass => classifyAddress(address.slice(from, from + 4))
  switch (block) {
    case '64:ff9b::/96': return { how: 'NAT64', inside: at(12) }
    // RFC 8215 leaves the length to the operator; RFC 6052 section 2.2 puts the address behind a /48 in bytes 6, 7, 9, 10, behind a /96 at the end.
    case '64:ff9b:1::/48': return { how: 'local NAT64', inside: at(12) }
    case '2002::/16': return { how: '6to4', inside: at(2) }
    case '2001::/32': return { how: 'Teredo', inside: classifyAddress(address.slice(12).map((byte) => byte ^ 0xff)) } // RFC 4380 section 4: obfuscated
    case '::/96': return { how: 'IPv4-compatible', inside: at(12) }
    default: return isIsatap(address) ? { how: 'ISATAP', inside: at(12) } : null
  }
}

/** RFC 5214 section 6.1: interface identifier 0000:5efe or 0200:5efe, then the IPv4 address, behind any prefix. */
function isIsatap(address: IpBytes): boolean {
  return (address[8] === 0 || address[8] === 2) && address[9] === 0 && address[10] === 0x5e && address[11] === 0xfe
}
