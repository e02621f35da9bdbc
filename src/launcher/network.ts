import { closeSync, existsSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { NFT_TABLE, REFUSED_SET_SIZE, TOO_FAST, renderOpenPorts, renderRoutes, renderSealedTable } from '../plan/nftables.ts'
import { runProgram } from './run-program.ts'

/** A network namespace kept alive by a bind mount in the launcher's own mount namespace: it vanishes with the launcher. */
export interface SealedNetwork {
  readonly path: string
  /** Inode of the namespace, as `/proc/PID/ns/net` shows it. */
  readonly inode: number
  readonly ipv6: boolean
}

/** Does this kernel have IPv6 at all (it does not with ipv6.disable=1)? */
export function hostHasIpv6(): boolean {
  return existsSync('/proc/net/if_inet6')
}

/** A namespace that exists, and the rest of its making. */
export interface StartedNetwork {
  readonly network: SealedNetwork
  /** Routes and table are in force. Nothing of a plugin may run in it before; rejects with CordonError LAUNCH_PROGRAM. */
  readonly sealed: Promise<void>
}

/** Make a sealed namespace: only `lo`, every address local, and the refusing nft table. As startSealedNetwork, and waits until it is sealed. */
export async function makeSealedNetwork(path: string, ipv6: boolean): Promise<SealedNetwork> {
  const { network, sealed } = await startSealedNetwork(path, ipv6)
  try {
    await sealed
    return network
  } catch (error) {
    await removeSealedNetwork(network)
    throw error
  }
}

/**
 * The namespace itself is made in a fifth of the time that its routes and rules take, and is all that an OCI runtime needs to begin. The
 * program that makes it is forked before this returns its promise.
 * @param path file to keep it at; must not exist
 * @returns once it exists. Whoever asked removes it, also where `sealed` rejects.
 * @throws CordonError LAUNCH_PROGRAM: then nothing of it is left
 */
export async function startSealedNetwork(path: string, ipv6: boolean): Promise<StartedNetwork> {
  const files = { routes: `${path}.routes`, nft: `${path}.nft` }
  closeSync(openSync(path, 'wx', 0o600))
  writeFileSync(files.routes, renderRoutes(ipv6), { mode: 0o600, flag: 'wx' })
  writeFileSync(files.nft, renderSealedTable(ipv6), { mode: 0o600, flag: 'wx' })
  const exists = Promise.withResolvers<void>()
  const sealed = runProgram('/usr/bin/unshare', [`--net=${path}`, '/bin/sh', '-euc', BUILD, 'cordon-network', files.routes, files.nft], { onOutput: exists.resolve })
    .finally(() => { for (const file of Object.values(files)) rmSync(file, { force: true }) }).then(() => {})
  sealed.catch(exists.reject)
  try {
    await exists.promise
    return { network: { path, inode: statSync(path).ino, ipv6 }, sealed }
  } catch (error) {
    await removeSealedNetwork({ path, inode: 0, ipv6 })
    throw error
  }
}

/**
 * What the kernel may hold for one direction of a connection between plugin and door (tcp(7), tcp_rmem; the least and the usual are its own).
 * Hosts allow 4 to 32 MiB, which 256 connections that nobody reads turn into all the memory that TCP has (tcp_mem), and then every
 * connection of the host stands still. Inside one machine this much is as fast.
 */
const TCP_BUFFER_BYTES = 262_144

// A host may disable IPv6 for new namespaces by sysctl; this one is sealed anyway and must count IPv6 attempts too.
// A unit with ProtectKernelTunables= sees a read-only /proc/sys, also that of a namespace of its own, and needs a /proc of its own for it.
// unshare(1) runs this once the namespace is kept at its path.
const BUILD = `
echo made
sysctls='cd /proc/sys/net && echo "4096 131072 ${TCP_BUFFER_BYTES}" > ipv4/tcp_rmem && echo "4096 16384 ${TCP_BUFFER_BYTES}" > ipv4/tcp_wmem && { [ ! -e ipv6/conf/all/disable_ipv6 ] || echo 0 > ipv6/conf/all/disable_ipv6; }'
(eval "$sysctls") 2>/dev/null || unshare --mount --propagation private /bin/sh -euc "mount -t proc proc /proc; $sysctls"
ip -batch "$1" & routes=$!
nft -f "$2"
wait $routes`

export async function removeSealedNetwork(network: SealedNetwork): Promise<void> {
  await runProgram('/usr/bin/umount', ['--lazy', '--quiet', network.path]).catch(() => '') // not mounted when unshare failed
  rmSync(network.path, { force: true })
}

/** Let the plugin reach the door's listeners; every other opening stays refused and counted. */
export async function openPorts(network: SealedNetwork, tcp: readonly number[], udp: readonly number[]): Promise<void> {
  await runProgram('/usr/bin/nsenter', [`--net=${network.path}`, '/usr/sbin/nft', '-f', '-'], { input: renderOpenPorts(tcp, udp) })
}

/** Attempts that the sealed namespace refused so far. */
export interface RefusedCounts {
  /** Packets per protocol and family as the counters saw them, `tcp4`, `udp6`, `other4`… */
  readonly totals: ReadonlyMap<string, number>
  /** Packets per destination, key `tcp4 192.0.2.1 443`. */
  readonly destinations: ReadonlyMap<string, number>
  /** Openings and questions that came to the door faster than one plugin may, and were dropped. */
  readonly tooFast: Readonly<Record<keyof typeof TOO_FAST, number>>
  /** A set is close to full: forget the destinations after reading them. */
  readonly nearlyFull: boolean
}

/**
 * Cheap first look, no program: did this namespace try to send anything since? /proc/PID/net/snmp counts every datagram
 * handed to IP before netfilter sees it.
 * @param processPath /proc/PID or /proc/self/fd/N of it
 */
export function outgoingDatagrams(processPath: string): number {
  const ip = readFileSync(`${processPath}/net/snmp`, 'utf8').split('\n').filter((line) => line.startsWith('Ip:'))
  const names = ip[0]?.split(' ') ?? []
  const values = ip[1]?.split(' ') ?? []
  const v4 = Number(values[names.indexOf('OutRequests')] ?? 0)
  let v6 = 0
  try {
    v6 = Number(/^Ip6OutRequests\s+(\d+)/m.exec(readFileSync(`${processPath}/net/snmp6`, 'utf8'))?.[1] ?? 0)
  } catch {
    // no snmp6 on a kernel without IPv6
  }
  return v4 + v6
}

/** Read counters and destinations of the table. The text comes from nft, not from the plugin. */
export async function readRefused(network: SealedNetwork): Promise<RefusedCounts> {
  const text = await runProgram('/usr/bin/nsenter', [`--net=${network.path}`, '/usr/sbin/nft', '-j', 'list', 'table', 'inet', NFT_TABLE])
  return parseRefused(JSON.parse(text) as NftListing)
}

/** Empty the sets of destinations; their counters start again at zero, the totals go on. */
export async function forgetDestinations(network: SealedNetwork): Promise<void> {
  const sets = ['tcp', 'udp', 'other'].flatMap((p) => (network.ipv6 ? [`${p}4`, `${p}6`] : [`${p}4`]))
  await runProgram('/usr/bin/nsenter', [`--net=${network.path}`, '/usr/sbin/nft', '-f', '-'], {
    input: sets.map((set) => `flush set inet ${NFT_TABLE} ${set}\n`).join(''),
  })
}

/** The part of libnftables-json(5) that we read. */
interface NftListing {
  readonly nftables: readonly {
    readonly counter?: { readonly name: string; readonly packets: number }
    readonly set?: { readonly name: string; readonly elem?: readonly (NftElement | number)[] }
  }[]
}
interface NftElement {
  readonly elem: { readonly val: { readonly concat: readonly (string | number)[] }; readonly counter: { readonly packets: number } }
}

export function parseRefused(listing: NftListing): RefusedCounts {
  const totals = new Map<string, number>()
  const destinations = new Map<string, number>()
  const tooFast = { tcp: 0, udp: 0 }
  let nearlyFull = false
  for (const { counter, set } of listing.nftables) {
    if (counter?.name === TOO_FAST.tcp) tooFast.tcp = counter.packets
    else if (counter?.name === TOO_FAST.udp) tooFast.udp = counter.packets
    else if (counter !== undefined) totals.set(counter.name, counter.packets)
    if (set?.elem === undefined || set.name.startsWith('door_')) continue // ports of the door, which let through and count nothing
    nearlyFull ||= set.elem.length > REFUSED_SET_SIZE / 2
    for (const one of set.elem) if (typeof one !== 'number') destinations.set(`${set.name} ${one.elem.val.concat.join(' ')}`, one.elem.counter.packets)
  }
  return { totals, destinations, tooFast, nearlyFull }
}
