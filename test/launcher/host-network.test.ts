import { expect, test } from 'vitest'
import { formatCidr } from '../../src/base/ip-address.ts'
import { hostNetwork, networkName, routesOfIpv6, routesOfTrie } from '../../src/launcher/host-network.ts'

const TRIE = `Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/31 1 0 0
        |-- 127.0.0.0
           /8 host LOCAL
     |-- 172.17.0.0
        /16 link UNICAST
     |-- 172.17.0.1
        /32 host LOCAL
     |-- 172.17.255.255
        /32 link BROADCAST
Local:
     |-- 203.0.113.0
        /24 host LOCAL
        /30 universe UNICAST
`

const texts = ({ local, link }: ReturnType<typeof routesOfTrie>): string[][] => [local.map(formatCidr), link.map(formatCidr)]

test('the kernel\'s tables say what the host answers for (addresses without a carrier, blocks, anycast), and what it reaches without a gateway', () => {
  expect(texts(routesOfTrie(TRIE))).toEqual([['127.0.0.0/8', '172.17.0.1/32', '203.0.113.0/24'], ['172.17.0.0/16']])
  const zero = '0'.repeat(32)
  const row = (address: string, prefix: string, flags: string): string => `${address} ${prefix} ${zero} 00 ${zero} 00000000 00000004 00000000 ${flags}     eth0`
  expect(texts(routesOfIpv6([
    row('20010db8000000000000000000000000', '40', '00000001'), row('20010db8000000000000000000000007', '80', '80200001'),
    row('20010db8000100000000000000000000', '30', '80200001'), row('20010db8000000000000000000000000', '80', '00200001'), row('20010db8000200000000000000000000', '80', '80300001'), 'junk', '',
    row('20010db8000300000000000000000000', '30', '00000003'),
  ].join('\n')))).toEqual([['2001:db8::7/128', '2001:db8:1::/48', '2001:db8:2::/128'], ['2001:db8::/64', '2001:db8::/128']])
})

test('a table that is not what it should be gives nothing, and never throws', () => {
  for (const text of ['', '\n\n', '|-- 999.1.1.1\n /32 host LOCAL', '/32 host LOCAL', '|-- 10.0.0.1\n   /33 host LOCAL']) expect(texts(routesOfTrie(text))).toEqual([[], []])
})

test('this machine has its addresses, without its loopback, and a name that changes with them and not with the resolvers', async () => {
  const found = await hostNetwork([8480])
  expect(found.hostAddresses.some((text) => text.startsWith('127.') || text === '::1')).toBe(false)
  expect(new Set(found.hostAddresses).size).toBe(found.hostAddresses.length)
  expect(networkName({ ...found, resolvers: [] })).toBe(networkName(found))
  expect(networkName({ ...found, hostAddresses: [...found.hostAddresses, '192.0.2.99'] })).not.toBe(networkName(found))
})
