import { isIPv4, isIPv6 } from 'node:net'
import { domainToASCII } from 'node:url'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { isBelowZone, isPublicName, joinLabels, parseHostName, type HostName } from '../../src/base/host-name.ts'
import { covers, formatCidr, formatIp, inCidr, parseCidr, parseIp, unmapped } from '../../src/base/ip-address.ts'
import { hostAndPort, hostFromBytes, hostFromText, nameFromLabels } from '../../src/egress/names.ts'

const SEED = { seed: 20261120 }
const label = fc.stringMatching(/^[a-z0-9](?:[a-z0-9-]{0,20}[a-z0-9])?$/)
const name = fc.tuple(fc.array(label, { maxLength: 4 }), fc.stringMatching(/^[a-z](?:[a-z0-9-]{0,10}[a-z0-9])?$/)).map(([labels, last]) => [...labels, last].join('.'))

const shown = (text: string): string => {
  const found = hostFromText(text)
  return found.kind === 'address' ? formatIp(found.address) : found.kind === 'name' ? found.name : `refused: ${found.why}`
}

describe('names have one form', () => {
  test.each([
    ['example.org', 'example.org'], ['EXAMPLE.Org', 'example.org'], ['example.org.', 'example.org'], ['a', 'a'], ['1a.2b.c3', '1a.2b.c3'], ['xn--bcher-kva.example', 'xn--bcher-kva.example'],
    ['3com.com', '3com.com'], ['1.2.3.4.example', '1.2.3.4.example'], [`${'a'.repeat(63)}.org`, `${'a'.repeat(63)}.org`], ['0xg', '0xg'],
  ])('%s', (text, expected) => expect(shown(text)).toBe(expected))

  test.each([
    ['', 'empty'], ['.', 'empty'], ['..', 'empty label'], ['a..b', 'empty label'], ['.a', 'empty label'], ['a.org..', 'empty label'], ['a_b.org', 'an underscore'], ['*.org', 'an asterisk'],
    ['a b.org', 'a space'], [' a.org', 'a space'], ['a.org\0.evil.org', 'a NUL'], ['a%2eb', 'a percent sign'], ['bücher.example', 'outside ASCII'], ['\u212Aa.org', 'outside ASCII'], ['a\u3002org', 'outside ASCII'],
    ['a\n.org', 'a control'], ['-a.org', 'a hyphen'], ['a-.org', 'a hyphen'], ['a/b', '"/"'], ['u@a.org', '"@"'], ['a.1', 'a number'], ['a.0x1f', 'a number'], ['a.0x', 'a number'], ['1.2.3', 'a number'], ['a\\.org', '"\\"'],
    [`${'a'.repeat(64)}.org`, '64 characters'], [`${'a.'.repeat(126)}ab`, 'at most 253'], ['x'.repeat(5000), 'at most 253'],
  ])('%j is refused', (text, why) => {
    const found = parseHostName(text)
    expect(found).toMatchObject({ ok: false, why: expect.stringContaining(why) as string })
    expect(hostFromText(text).kind).not.toBe('name')
  })

  test('a name of exactly 253 characters is the longest', () => {
    const longest = `${'a'.repeat(63)}.${'b'.repeat(63)}.${'c'.repeat(63)}.${'d'.repeat(61)}`
    expect(longest).toHaveLength(253)
    expect(parseHostName(longest).ok).toBe(true)
    expect(parseHostName(`${longest}.`).ok).toBe(true)
    expect(parseHostName(`${longest}e`).ok).toBe(false)
  })

  test('parsing twice, in other case or with a dot at the end gives the same, and text and labels agree', () => {
    fc.assert(fc.property(name, fc.boolean(), (text, dot) => {
      const found = parseHostName(text)
      if (text.length > 253 || !found.ok) return
      expect(shown(`${text.toUpperCase()}${dot ? '.' : ''}`)).toBe(found.name)
      expect(shown(found.name)).toBe(found.name)
      expect(nameFromLabels(text.split('.').map((part) => Buffer.from(part)))).toEqual({ kind: 'name', name: found.name })
      expect(hostFromBytes(Buffer.from(text))).toEqual({ kind: 'name', name: found.name })
    }), { ...SEED, numRuns: 500 })
  })

  test('whatever comes out is LDH, within its lengths, no address, and nothing throws on any bytes', () => {
    const bytes = fc.uint8Array({ maxLength: 80 })
    const near = fc.array(fc.constantFrom('a', 'Z', '0', '9', '.', '-', 'x', '\0', '_', '%', 'ü', '[', ']', ':', ' ', '/', '1', '255', '0x', 'org'), { maxLength: 30 }).map((parts) => Buffer.from(parts.join(''), 'latin1'))
    fc.assert(fc.property(fc.oneof(bytes, near), (input) => {
      for (const found of [hostFromBytes(input), hostAndPort(Buffer.from(input).toString('latin1')), nameFromLabels([input]), nameFromLabels([input.subarray(0, 3), input.subarray(3)])]) {
        if (found.kind === 'name') {
          expect(found.name).toMatch(/^(?=.{1,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/)
          expect(found.name).not.toMatch(/(?:^|\.)[0-9]+$/)
        } else if (found.kind === 'address') expect([4, 16]).toContain(found.address.length)
        else expect(found.shown).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/)
      }
    }), { ...SEED, numRuns: 3000 })
  })

  test('a label with a dot, a NUL or another byte inside is not two labels', () => {
    expect(nameFromLabels([Buffer.from('a.b'), Buffer.from('org')]).kind).toBe('refused')
    expect(nameFromLabels([Buffer.from('allowed'), Buffer.from('org\0'), Buffer.from('evil')]).kind).toBe('refused')
    expect(nameFromLabels([]).kind).toBe('refused')
    expect(nameFromLabels([Buffer.from([0xc3, 0xbc]), Buffer.from('org')]).kind).toBe('refused')
    expect(nameFromLabels(Array.from({ length: 128 }, () => Buffer.from('a'))).kind).toBe('refused')
    expect(joinLabels([]).ok).toBe(false)
  })
})

describe('addresses are told apart from names, in every spelling', () => {
  test.each([
    ['127.0.0.1', '127.0.0.1'], ['127.1', '127.0.0.1'], ['2130706433', '127.0.0.1'], ['0x7f000001', '127.0.0.1'], ['0x7f.1', '127.0.0.1'], ['0177.0.0.1', '127.0.0.1'], ['017700000001', '127.0.0.1'], ['127.0.0.1.', '127.0.0.1'],
    ['0', '0.0.0.0'], ['0x', '0.0.0.0'], ['0.0.0.0', '0.0.0.0'], ['00000000127.0.0.1', '87.0.0.1'], ['10.0.258', '10.0.1.2'], ['1.65538', '1.1.0.2'], ['4294967295', '255.255.255.255'], ['0XA9FEA9FE', '169.254.169.254'],
    ['::1', '::1'], ['[::1]', '::1'], ['::ffff:127.0.0.1', '127.0.0.1'], ['[::ffff:7f00:1]', '127.0.0.1'], ['[::FFFF:127.0.0.1]', '127.0.0.1'], ['0:0:0:0:0:ffff:a9fe:a9fe', '169.254.169.254'], ['[2001:DB8::1]', '2001:db8::1'],
    ['4294967296', 'refused'], ['256.0.0.1', 'refused'], ['1.2.3.4.5', 'refused'], ['1..2', 'refused'], ['08.0.0.1', 'refused'], ['0x1.2.3.0xg', '0x1.2.3.0xg'], ['[::1', 'refused'], ['[127.0.0.1]', 'refused'],
    ['fe80::1%eth0', 'refused'], ['[::1%25lo]', 'refused'], ['[v1.x]', 'refused'], ['::1::2', 'refused'], [':::', 'refused'], ['1:2:3:4:5:6:7', 'refused'], ['1:2:3:4:5:6:7:8:9', 'refused'], ['12345::', 'refused'], ['::1.2.3', 'refused'],
  ])('%s', (text, expected) => {
    if (expected === 'refused') expect(shown(text)).toMatch(/^refused: /)
    else expect(shown(text)).toBe(expected)
  })

  test('what a browser reads as an IPv4 address never is a name here', () => {
    const odd = fc.array(fc.oneof(fc.nat(300).map(String), fc.nat(300).map((n) => `0x${n.toString(16)}`), fc.nat(300).map((n) => `0${n.toString(8)}`), fc.nat(2 ** 32).map(String)), { minLength: 1, maxLength: 5 })
    fc.assert(fc.property(odd, (parts) => {
      const text = parts.join('.')
      const browser = domainToASCII(text)
      const here = hostFromText(text)
      expect(here.kind).not.toBe('name')
      if (isIPv4(browser)) expect(shown(text)).toBe(browser)
    }), { ...SEED, numRuns: 1000 })
  })

  test('IPv6 text: the same language as Node without zones, and formatted text comes back', () => {
    const groups = fc.array(fc.constantFrom('0', '1', 'ffff', 'db8', '', ':', '::', '1.2.3.4', '12345', 'g'), { minLength: 1, maxLength: 10 }).map((parts) => parts.join(':'))
    fc.assert(fc.property(groups, (text) => { expect(parseIp(text)?.length === 16).toBe(isIPv6(text)) }), { ...SEED, numRuns: 2000 })
    fc.assert(fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), fc.uint8Array({ minLength: 16, maxLength: 16 }), (a, b) => {
      const bytes = a.map((byte, index) => ((b[index >> 1 << 1] ?? 0) & 1 ? 0 : byte)) // with runs of zeros
      expect(parseIp(formatIp(bytes))).toEqual(bytes)
      expect(isIPv6(formatIp(bytes))).toBe(true)
    }), { ...SEED, numRuns: 500 })
    expect(['::', '::1', '1::', '2001:db8:0:1:1:1:1:1', '2001:0:0:1::1', '1:0:0:2:0:0:0:3', '::ffff:1.2.3.4'].map((text) => formatIp(parseIp(text) ?? new Uint8Array()))).toEqual(['::', '::1', '1::', '2001:db8:0:1:1:1:1:1', '2001:0:0:1::1', '1:0:0:2::3', '::ffff:1.2.3.4'])
  })
})

describe('a Host header', () => {
  test.each([
    ['example.org', 'example.org', null], ['Example.ORG.:80', 'example.org', 80], ['example.org:', 'example.org', null], ['[::1]:8080', '::1', 8080], ['127.1:80', '127.0.0.1', 80], ['[2001:db8::1]', '2001:db8::1', null],
  ])('%s', (text, host, port) => {
    const found = hostAndPort(text)
    expect([found.kind === 'address' ? formatIp(found.address) : found.kind === 'name' ? found.name : found.why, found.port]).toEqual([host, port])
  })
  test.each(['', ':80', 'a.org:0', 'a.org:65536', 'a.org:+80', 'a.org:80:80', 'a.org:8 0', 'user@a.org', 'a.org/', 'a.org,b.org', 'a.org b.org', '::1', '[::1]x', '[::1]:', 'a.org:00080x', 'http://a.org'].filter((text) => text !== '[::1]:'))('%j is refused', (text) => {
    expect(hostAndPort(text).kind).toBe('refused')
  })
})

describe('zones and blocks', () => {
  test.each([
    ['a.example.org', true], ['a.b.example.org', true], ['example.org', false], ['evilexample.org', false], ['example.org.evil', false], ['xexample.org', false], ['org', false],
  ])('%s below example.org: %s', (text, below) => expect(isBelowZone(text, 'example.org')).toBe(below))

  test('below a zone is what has one more label at least', () => {
    fc.assert(fc.property(name, name, (a, b) => { expect(isBelowZone(a, b)).toBe(a.split('.').slice(-b.split('.').length).join('.') === b && a.split('.').length > b.split('.').length) }), { ...SEED, numRuns: 500 })
    fc.assert(fc.property(label, name, (a, b) => { expect([isBelowZone(`${a}.${b}`, b), isBelowZone(`${a}${b}`, b), isBelowZone(b, b)]).toEqual([true, b.includes('.') && isBelowZone(`${a}${b}`, b), false]) }), { ...SEED, numRuns: 300 })
  })

  test.each(['localhost', 'a.localhost', 'nas', 'printer.local', 'db.internal', 'host.internal', 'x.onion', 'nas.home.arpa', 'a.test'])('%s is no public name', (text) => expect(isPublicName(text as HostName)).toBe(false))
  test.each(['example.org', 'localhost.example.org', 'internal.example'])('%s is one', (text) => expect(isPublicName(text as HostName)).toBe(true))

  test.each([
    ['10.0.5.7/32', '10.0.5.7/32'], ['0.0.0.0/0', '0.0.0.0/0'], ['2001:db8::/48', '2001:db8::/48'], ['::/0', '::/0'], ['10.0.0.0', '10.0.0.0/32'], ['10.0.5.7/31', '10.0.5.6/31'], ['10.0.5.7/8', '10.0.0.0/8'], ['::ffff:10.0.0.0/104', '10.0.0.0/8'],
    ['10.0.0.0/33', '0 to 32'], ['10.0.0.0/08', '0 to 32'], ['010.0.0.0/8', 'such as'], ['a/8', 'such as'], ['10.0.0.0/8/8', 'such as'], ['10.0.0.0/', '0 to 32'],
  ])('%s', (text, expected) => {
    const parsed = parseCidr(text)
    expect(parsed.ok ? formatCidr(parsed.cidr) : parsed.why).toContain(expected)
    expect(parsed.ok).toBe(parsed.ok && text === expected)
  })

  test('a block holds exactly the addresses that share its bits', () => {
    fc.assert(fc.property(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.integer({ min: 0, max: 32 }), (a, b, prefix) => {
      const bits = (bytes: Uint8Array): string => [...bytes].map((byte) => byte.toString(2).padStart(8, '0')).join('').slice(0, prefix)
      expect(inCidr(a, { base: b, prefix })).toBe(bits(a) === bits(b))
      expect(covers({ base: b, prefix }, { base: a, prefix: 32 })).toBe(bits(a) === bits(b))
      expect(inCidr(Uint8Array.of(...new Uint8Array(10), 0xff, 0xff, ...a), { base: b, prefix })).toBe(false) // unmapped() first
      expect(unmapped(Uint8Array.of(...new Uint8Array(10), 0xff, 0xff, ...a))).toEqual(a)
    }), { ...SEED, numRuns: 500 })
  })
})
