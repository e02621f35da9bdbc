import { createHash } from 'node:crypto'
import { closeSync, openSync, readFileSync, readSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { canonicalJson } from '../base/canonical-json.ts'
import { blockOf, formatCidr, formatIp, parseIp, type Cidr } from '../base/ip-address.ts'
import { classifyAddress } from '../base/special-addresses.ts'
import { CordonError } from '../errors.ts'
import { hostResolvers } from './resolvers.ts'
import { runProgram } from './run-program.ts'

/** What the door must know of the host's network to refuse it. All texts are canonical. */
export interface HostNetwork {
  readonly resolvers: readonly string[]
  /** Lines of resolv.conf that name a resolver which the door cannot ask, as sentences. */
  readonly skippedResolvers: readonly string[]
  /** Addresses and blocks (`203.0.113.0/24`) that this host answers for itself, without its loopback: what leads there is refused for that, with a reason that tells of DNS filters. */
  readonly hostAddresses: readonly string[]
  readonly onLink: readonly string[]
  readonly ownPorts: readonly number[]
}

/** Of each kind, as many as the door takes (wire/door.ts); all of them fit into one frame. */
const MAX_ADDRESSES = 2048
/** A router may hold a million routes; then `ip` is asked for the few that matter. */
const MAX_TABLE_BYTES = 1 << 20

/**
 * The host's network as it is now. The interfaces alone do not tell: Node leaves out those without a carrier (docker0 before its first container), and
 * a route of type `local` makes a whole block the host's own.
 * @param ownPorts on which Cordon listens
 * @throws CordonError LAUNCH_DOOR where there are more addresses than are compared: those left out would be reachable
 */
export async function hostNetwork(ownPorts: readonly number[]): Promise<HostNetwork> {
  const interfaces = Object.values(networkInterfaces()).flatMap((list) => list ?? []).flatMap(({ address, cidr }): Cidr[] => {
    const bytes = parseIp(address.replace(/%.*/, '')) // a link-local address may carry its zone
    return bytes === null ? [] : [{ base: bytes, prefix: Number(cidr?.split('/')[1] ?? bytes.length * 8) }]
  })
  const [four, six] = [await routesIpv4(), routesOfIpv6(tryRead('/proc/net/ipv6_route'))]
  const local = [...interfaces.map(({ base }) => ({ base, prefix: base.length * 8 })), ...four.local, ...six.local]
  const own = local.filter(({ base }) => classifyAddress(base).kind !== 'loopback').map((one) => (one.prefix === one.base.length * 8 ? formatIp(one.base) : formatCidr(one)))
  const found = { hostAddresses: [...new Set(own)].sort(), onLink: [...new Set([...interfaces.map(({ base, prefix }) => blockOf(base, prefix)), ...[...four.link, ...six.link].filter(isNeighbourhood)].map(formatCidr))].sort() }
  const most = Math.max(found.hostAddresses.length, found.onLink.length)
  if (most > MAX_ADDRESSES) throw new CordonError('LAUNCH_DOOR', `this host has ${most} addresses; at most ${MAX_ADDRESSES} are compared with what plugins dial`)
  const { asked, skipped } = hostResolvers()
  return { resolvers: asked, skippedResolvers: skipped, ...found, ownPorts }
}

/** By which decisions name what they compared with (`host.network` in the log); the resolvers decide nothing. */
export function networkName({ hostAddresses, onLink, ownPorts }: HostNetwork): string {
  return createHash('sha256').update(canonicalJson({ hostAddresses: [...hostAddresses], onLink: [...onLink], ownPorts: [...ownPorts] })).digest('hex').slice(0, 12)
}

/** Of all tables: what stays on this host, and what is reached without a gateway, such as a network behind a VPN interface. */
interface Routes { readonly local: readonly Cidr[]; readonly link: readonly Cidr[] }

/** A VPN that carries half the Internet without a gateway (0.0.0.0/1, or everything but private blocks) makes no neighbours of it. */
function isNeighbourhood({ base, prefix }: Cidr): boolean {
  return prefix >= (base.length === 4 ? 17 : 48)
}

async function routesIpv4(): Promise<Routes> {
  const table = readBounded('/proc/net/fib_trie')
  if (table !== null) return routesOfTrie(table)
  const ask = async (...which: string[]): Promise<Cidr[]> => {
    const routes = JSON.parse(await runProgram('/usr/bin/ip', ['-4', '-json', 'route', 'show', 'table', 'all', ...which])) as readonly { readonly dst: string }[]
    return routes.flatMap(({ dst }) => cidrOf(dst.split('/')[0] ?? '', Number(dst.split('/')[1] ?? 32)))
  }
  return { local: await ask('type', 'local'), link: await ask('type', 'unicast', 'scope', 'link') }
}

/** /proc/net/fib_trie: an address, below it each of its prefixes with scope and type (net/ipv4/fib_trie.c). */
export function routesOfTrie(text: string): Routes {
  let address = ''
  const [local, link]: [Cidr[], Cidr[]] = [[], []]
  for (const line of text.split('\n')) {
    address = /\|-- ([0-9.]+)/.exec(line)?.[1] ?? address
    const [, prefix = '', scope, type] = /^\s*\/([0-9]+) (\w+) (LOCAL|UNICAST)\b/.exec(line) ?? []
    if (type === 'LOCAL') local.push(...cidrOf(address, Number(prefix)))
    else if (type === 'UNICAST' && scope === 'link') link.push(...cidrOf(address, Number(prefix)))
  }
  return { local, link }
}

/** Of linux/ipv6_route.h and linux/route.h: LOCAL and ANYCAST stay here; what has a GATEWAY or is a REJECT leads to no neighbour. */
const RTF = { here: 0x8010_0000, notLink: 0x0000_0202 }

/** /proc/net/ipv6_route: destination and prefix in hexadecimal, flags in the ninth column. */
export function routesOfIpv6(text: string): Routes {
  const [local, link]: [Cidr[], Cidr[]] = [[], []]
  for (const line of text.split('\n')) {
    const [address = '', prefix = '', , , , , , , hex = '0'] = line.trim().split(/\s+/)
    if (!/^[0-9a-f]{32}$/.test(address)) continue
    const flags = Number.parseInt(hex, 16)
    const to = (flags & RTF.here) !== 0 ? local : (flags & RTF.notLink) === 0 ? link : null
    to?.push(...cidrOf(address.match(/.{4}/g)?.join(':') ?? '', Number.parseInt(prefix, 16)))
  }
  return { local, link }
}

function cidrOf(address: string, prefix: number): Cidr[] {
  const base = parseIp(address)
  return base === null || !Number.isInteger(prefix) || prefix > base.length * 8 ? [] : [{ base, prefix }]
}

function tryRead(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return '' // no such family
  }
}

/** @returns null where it is longer than MAX_TABLE_BYTES */
function readBounded(path: string): string | null {
  const buffer = Buffer.alloc(MAX_TABLE_BYTES)
  const fd = openSync(path, 'r')
  try {
    let size = 0
    for (;;) {
      const read = readSync(fd, buffer, size, buffer.length - size, null)
      if (read === 0) return buffer.toString('latin1', 0, size)
      size += read
      if (size === buffer.length) return null
    }
  } finally {
    closeSync(fd)
  }
}
