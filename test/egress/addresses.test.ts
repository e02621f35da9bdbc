import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { formatIp, parseCidr, parseIp, type Cidr, type IpBytes } from '../../src/base/ip-address.ts'
import { classifyAddress, METADATA_SERVICES, SPECIAL_BLOCKS } from '../../src/base/special-addresses.ts'
import { judgeAddress, type AddressRequest } from '../../src/egress/addresses.ts'
import { REASONS } from '../../src/egress/reasons.ts'

const ip = (text: string): IpBytes => {
  const bytes = parseIp(text)
  if (bytes === null) throw new TypeError(text)
  return bytes
}
const block = (text: string): Cidr => {
  const parsed = parseCidr(text)
  if (!parsed.ok) throw new TypeError(parsed.why)
  return parsed.cidr
}
const PLAIN: AddressRequest = { port: 443, private: false, hostInternal: false, hostAddresses: ['198.51.99.7/32', '2a00:1450::7/128', '192.168.1.5/32', '203.1.77.0/24'].map(block), onLink: [block('198.51.99.0/24'), block('192.168.1.0/24')], ownPorts: [8480] }
const code = (text: string, change: Partial<AddressRequest> = {}): string => {
  const judged = judgeAddress(ip(text), { ...PLAIN, ...change })
  return 'refused' in judged ? judged.refused : 'allowed'
}

describe('every address is for something', () => {
  test.each([
    ['8.8.8.8', 'allowed', 'allowed'], ['2606:4700::1111', 'allowed', 'allowed'], ['::ffff:8.8.8.8', 'allowed', 'allowed'], ['192.0.0.9', 'allowed', 'allowed'], ['192.31.196.1', 'allowed', 'allowed'], ['2001:4:112::1', 'allowed', 'allowed'], ['172.32.0.1', 'allowed', 'allowed'], ['172.15.0.1', 'allowed', 'allowed'], ['100.63.0.1', 'allowed', 'allowed'], ['100.128.0.1', 'allowed', 'allowed'], ['2001:200::1', 'allowed', 'allowed'],
    ['10.0.0.1', 'address-private', 'allowed'], ['172.16.0.1', 'address-private', 'allowed'], ['172.31.255.255', 'address-private', 'allowed'], ['192.168.0.1', 'address-private', 'allowed'], ['::ffff:10.0.0.1', 'address-private', 'allowed'],
    ['100.64.0.1', 'address-shared', 'allowed'], ['100.127.255.255', 'address-shared', 'allowed'], ['fd12::1', 'address-unique-local', 'allowed'], ['fc00::1', 'address-unique-local', 'allowed'], ['198.51.99.8', 'address-on-link', 'allowed'],
    ['0.0.0.0', 'address-unspecified', ''], ['0.1.2.3', 'address-unspecified', ''], ['::', 'address-unspecified', ''], ['::ffff:0.0.0.0', 'address-unspecified', ''],
    ['127.0.0.1', 'address-loopback', ''], ['127.255.0.9', 'address-loopback', ''], ['::1', 'address-loopback', ''], ['::ffff:127.0.0.1', 'address-loopback', ''],
    ['169.254.1.1', 'address-link-local', ''], ['fe80::1', 'address-link-local', ''], ['febf::1', 'address-link-local', ''],
    ['169.254.169.254', 'address-metadata', ''], ['::ffff:169.254.169.254', 'address-metadata', ''], ['fd00:ec2::254', 'address-metadata', ''], ['100.100.100.200', 'address-metadata', ''], ['168.63.129.16', 'address-metadata', ''], ['100.100.100.100', 'address-metadata', ''], ['fd20:ce::254', 'address-metadata', ''],
    ['224.0.0.1', 'address-multicast', ''], ['239.255.255.250', 'address-multicast', ''], ['ff02::1', 'address-multicast', ''], ['255.255.255.255', 'address-broadcast', ''],
    ['192.0.2.1', 'address-documentation', ''], ['203.0.113.9', 'address-documentation', ''], ['2001:db8::1', 'address-documentation', ''], ['3fff::1', 'address-documentation', ''], ['198.18.0.1', 'address-benchmarking', ''], ['198.19.255.255', 'address-benchmarking', ''], ['2001:2::1', 'address-benchmarking', ''],
    ['240.0.0.1', 'address-reserved', ''], ['192.0.0.1', 'address-reserved', ''], ['192.0.0.170', 'address-reserved', ''], ['100::1', 'address-reserved', ''], ['100:0:0:1::1', 'address-reserved', ''], ['2001:10::1', 'address-reserved', ''], ['5f00::1', 'address-reserved', ''], ['fec0::1', 'address-reserved', ''], ['4000::1', 'address-reserved', ''], ['1::1', 'address-reserved', ''], ['64:ff9b:2::1', 'address-reserved', ''],
    ['64:ff9b::8.8.8.8', 'allowed', 'allowed'], ['64:ff9b::10.0.0.1', 'address-translated', ''], ['64:ff9b::169.254.169.254', 'address-translated', ''], ['64:ff9b::127.0.0.1', 'address-translated', ''], ['64:ff9b:1::8.8.8.8', 'address-translated', ''],
    ['2002:7f00:1::1', 'address-translated', ''], ['2002:808:808::1', 'address-translated', ''], ['2001:0:4136:e378:8000:63bf:f5ff:fffe', 'address-translated', ''], ['::7f00:1', 'address-translated', ''], ['::8.8.8.8', 'address-translated', ''], ['192.88.99.1', 'address-translated', ''],
    ['2a00:1450::5efe:10.0.0.1', 'address-translated', ''], ['2a00:1450::200:5efe:8.8.8.8', 'address-translated', ''], ['fe80::5efe:169.254.169.254', 'address-translated', ''], ['fd00::5efe:10.0.0.1', 'address-translated', ''],
  ])('%s: %s, and with private: true %s', (text, plain, lifted) => {
    expect(code(text)).toBe(plain)
    expect(code(text, { private: true })).toBe(lifted === '' ? plain : lifted)
  })

  test('each row decides for its first and last address, unless a longer row does', () => {
    for (const row of [...SPECIAL_BLOCKS, ...METADATA_SERVICES]) {
      expect(row.source).toMatch(/\S/)
      expect(row.global).toBe(row.kind === 'global')
      const { base, prefix } = block(row.block)
      const last = base.map((byte, index) => byte | (0xff >> Math.min(8, Math.max(0, prefix - 8 * index))))
      for (const address of [base, last]) expect(Number(classifyAddress(address).row.block.split('/')[1])).toBeGreaterThanOrEqual(prefix)
    }
    expect(new Set(SPECIAL_BLOCKS.map((row) => row.block)).size).toBe(SPECIAL_BLOCKS.length)
  })

  test('an address and its IPv4-mapped spelling are judged alike, what is allowed is what was asked for, and codes are of the list', () => {
    fc.assert(fc.property(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.boolean(), (four, lift) => {
      const mapped = Uint8Array.of(...new Uint8Array(10), 0xff, 0xff, ...four)
      const judged = judgeAddress(four, { ...PLAIN, private: lift })
      expect(judgeAddress(mapped, { ...PLAIN, private: lift })).toEqual(judged)
      if ('allowed' in judged) expect(judged.address).toEqual(four)
      else expect(REASONS).toHaveProperty(judged.refused)
      // Behind a translator nothing more is reached than directly, and private never.
      const nat64 = judgeAddress(Uint8Array.of(0, 0x64, 0xff, 0x9b, ...new Uint8Array(8), ...four), { ...PLAIN, private: lift, onLink: [], hostAddresses: [] })
      expect('allowed' in nat64).toBe(classifyAddress(four).kind === 'global')
      for (const hidden of [[0x20, 2, ...four, ...new Uint8Array(10)], [...new Uint8Array(12), ...four], [0x20, 1, 0, 0, ...new Uint8Array(8), ...four]]) {
        expect('refused' in judgeAddress(Uint8Array.from(hidden), { ...PLAIN, private: true })).toBe(true)
      }
    }), { seed: 20261120, numRuns: 1000 })
  })

  test('private: true opens nothing that is not private, of any sixteen bytes', () => {
    fc.assert(fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (bytes) => {
      const kind = classifyAddress(bytes).kind
      expect('allowed' in judgeAddress(bytes, { ...PLAIN, private: true })).toBe(['global', 'private', 'shared', 'unique-local'].includes(kind))
    }), { seed: 20261120, numRuns: 1000 })
  })

  test('other lengths are a defect of the caller', () => {
    for (const length of [0, 3, 5, 15, 17]) expect(() => classifyAddress(new Uint8Array(length))).toThrow(TypeError)
  })
})

describe('this host', () => {
  test.each(['198.51.99.7', '::ffff:198.51.99.7', '2a00:1450::7', '192.168.1.5', '203.1.77.9'])('%s is the host, whatever the rule says', (text) => {
    expect(code(text)).toBe('address-host')
    expect(code(text, { private: true })).toBe('address-host')
    expect(code(text, { port: 8480, private: true })).toBe('own-port')
  })
  test('nor is it reached through a translator, and a neighbour only with private: true', () => {
    expect([code('64:ff9b::198.51.99.7', { private: true }), code('64:ff9b::198.51.99.8'), code('64:ff9b::198.51.98.8')]).toEqual(['address-host', 'address-on-link', 'allowed'])
  })
  test('host.internal is the loopback and nothing else, without Cordon\'s own ports', () => {
    expect(code('127.0.0.1', { hostInternal: true })).toBe('allowed')
    expect(code('::1', { hostInternal: true })).toBe('allowed')
    expect(code('127.0.0.1', { hostInternal: true, port: 8480 })).toBe('own-port')
    for (const other of ['8.8.8.8', '10.0.0.1', '0.0.0.0', '::', '169.254.169.254', '192.168.1.5', '::7f00:1']) expect(code(other, { hostInternal: true })).toBe('address-host')
  })
})

test.each([
  ['100.64.1.2', '100.64.1.2: 100.64.0.0/10 is Tailscale or carrier NAT: add private: true'],
  ['10.1.2.3', '10.1.2.3 is private (10.0.0.0/8, your own network): add private: true'],
  ['169.254.169.254', '169.254.169.254 is the metadata service (AWS, Azure, Google, DigitalOcean, Hetzner, Oracle, OpenStack); nothing opens it'],
  ['2002:a00:1::1', '2002:a00:1::1 hides 10.0.0.1, which is Private-Use, behind 6to4; nothing opens it'],
  ['0.0.0.0', '0.0.0.0 would be this host itself; a DNS filter (Pi-hole, AdGuard) answers so for names that it blocks'],
  ['198.51.99.8', '198.51.99.8 is a direct neighbour of this host (198.51.99.0/24): add private: true'],
])('%s is refused in words', (text, sentence) => {
  expect(judgeAddress(ip(text), PLAIN)).toMatchObject({ say: sentence })
})

test('a Teredo address shows the IPv4 address that it hides', () => {
  const { embedded } = classifyAddress(ip('2001:0:4136:e378:8000:63bf:f5ff:fffe'))
  expect(embedded?.how).toBe('Teredo')
  expect(embedded === null ? '' : formatIp(embedded.inside.address)).toBe('10.0.0.1')
})

test('every reason is a code in one form and a sentence', () => {
  for (const [reason, sentence] of Object.entries(REASONS)) {
    expect(reason).toMatch(/^[a-z0-9]+(?:-[a-z0-9]+)*$/)
    expect(reason.length).toBeLessThanOrEqual(40)
    expect(sentence).toMatch(/^[A-Z].{20,}\.$/)
  }
})
