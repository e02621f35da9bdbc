/** Name of the table inside each sealed namespace. */
export const NFT_TABLE = 'cordon'

/** Distinct destinations that one set remembers between two drains; an overflow shows as a difference to the counter. */
export const REFUSED_SET_SIZE = 1024

/**
 * How fast one plugin may come to the door, packets per second and at once. What is faster is dropped here, in the processor time of the
 * plugin that sends it and not in that of the door, which serves all plugins in turn: an opening waits for TCP to repeat it (a
 * second), a question goes unanswered. Connections: the door must carry 1,000 a second of one plugin, and takes about a quarter of a
 * core for them; their records fit into DOOR_BUDGET; at once no more than have a place or may wait for one. Questions: a second's worth above
 * what the door answers (egress/dns.ts), so that it sees and records that there were too many; at once no more than cost it a tenth of a second.
 */
const PACE = { tcp: { perSecond: 1100, burst: 512 }, udp: { perSecond: 1000, burst: 1000 } } as const

/** Counters of what came faster. */
export const TOO_FAST = { tcp: 'door_tcp_fast', udp: 'door_udp_fast' } as const

/** Ports from which IPv6 resolvers were asked lately; the door answers 500 questions a second at most, and at once. */
const ASKED_SET_SIZE = 4096
const ASKED_SECONDS = 5

/**
 * The second wall inside a sealed namespace. It already has no way out (only `lo`, every address local); this table refuses
 * each opening at once, so that programs fail fast, and counts it per destination. Stateless: `ct state` would let one
 * plugin fill the conntrack table. Order: the counter stands before the set, so that what the set cannot hold is still counted.
 *
 * Every address is the door's resolver. Its IPv4 answers come from the address that was asked, since the kernel takes a local route's
 * destination for the source of both packets; for IPv6 it takes ::1 (the only address that `lo` has), which programs do not accept,
 * and Node cannot name the source of a datagram (IPV6_PKTINFO). So the table remembers which address a port asked, and the answer gets it.
 */
export function renderSealedTable(ipv6: boolean): string {
  const families = ipv6 ? ['4', '6'] : ['4']
  const key = (protocol: string, family: string) =>
    `${family === '4' ? 'ip' : 'ip6'} daddr . ${protocol === 'other' ? 'meta l4proto' : `${protocol} dport`}`
  const type = (protocol: string, family: string) => `ipv${family}_addr . ${protocol === 'other' ? 'inet_proto' : 'inet_service'}`
  const match = (protocol: string, family: string) => `meta nfproto ipv${family}${protocol === 'other' ? '' : ` meta l4proto ${protocol}`}`
  const each = (line: (protocol: string, family: string) => string) => families.flatMap((f) => ['tcp', 'udp', 'other'].map((p) => line(p, f)))
  return [
    `table inet ${NFT_TABLE} {`,
    ...each((p, f) => `  counter ${p}${f} { }`),
    // Ports of the door, filled in when it opens; empty, it is shut.
    '  set door_tcp { type inet_service; }',
    '  set door_udp { type inet_service; }',
    ...each((p, f) => `  set ${p}${f} { type ${type(p, f)}; size ${REFUSED_SET_SIZE}; flags dynamic; }`),
    ...Object.values(TOO_FAST).map((counter) => `  counter ${counter} { }`),
    ...(ipv6 ? [`  map asked6 { type inet_service : ipv6_addr; size ${ASKED_SET_SIZE}; flags dynamic, timeout; timeout ${ASKED_SECONDS}s; }`] : []),
    '  chain out {',
    '    type filter hook output priority 0; policy drop;',
    '    oifname != "lo" drop',
    // First of all: what is too fast must cost nothing else, and 127.0.0.1 and ::1 lead to the door, too.
    ...(['tcp', 'udp'] as const).map((p) => `    ${p} dport @door_${p} ${p === 'tcp' ? 'tcp flags & (fin | syn | rst | ack) == syn ' : ''}limit rate over ${PACE[p].perSecond}/second burst ${PACE[p].burst} packets counter name "${TOO_FAST[p]}" drop`),
    ...(ipv6 ? ANSWER_FROM_ASKED : []),
    '    ip daddr 127.0.0.0/8 accept', // the plugin's own loopback
    '    ip6 daddr ::1 accept',
    '    tcp flags & (fin | syn | rst | ack) != syn accept', // only openings are decided; nothing leaves anyway
    '    icmp type destination-unreachable accept', // our own rejects
    '    icmpv6 type destination-unreachable accept',
    '    tcp dport @door_tcp accept',
    '    udp dport @door_udp accept',
    '    udp sport @door_udp accept', // its answers
    // Two rules, since a full set ends the rule that updates it: what it cannot hold must still be refused.
    ...each((p, f) => [
      `    ${match(p, f)} counter name "${p}${f}" update @${p}${f} { ${key(p, f)} counter }`,
      `    ${match(p, f)} reject with ${p === 'tcp' ? 'tcp reset' : 'icmpx type admin-prohibited'}`,
    ].join('\n')),
    '  }',
    '}',
    '',
  ].join('\n')
}

/** `update` would keep the address of an entry that is there already; a port below 1024 as a source is the door's alone. */
const ANSWER_FROM_ASKED = [
  '    meta nfproto ipv6 udp dport @door_udp delete @asked6 { udp sport : ip6 daddr }',
  '    meta nfproto ipv6 udp dport @door_udp ip6 daddr != ::1 add @asked6 { udp sport : ip6 daddr }',
  '    meta nfproto ipv6 udp sport @door_udp ip6 saddr set udp dport map @asked6',
]

/** `ip -batch` lines that make every address local, so that nothing is ever routed anywhere else. */
export function renderRoutes(ipv6: boolean): string {
  const lines = ['link set lo up', 'addr add 198.18.0.1/32 dev lo', 'route add local default dev lo']
  if (ipv6) lines.push('route add local ::/0 dev lo')
  return `${lines.join('\n')}\n`
}

/** nft commands that let the plugin reach the door's listeners. */
export function renderOpenPorts(tcp: readonly number[], udp: readonly number[]): string {
  const add = (set: string, ports: readonly number[]): string => (ports.length === 0 ? '' : `add element inet ${NFT_TABLE} ${set} { ${ports.join(', ')} }\n`)
  return add('door_tcp', tcp) + add('door_udp', udp)
}
