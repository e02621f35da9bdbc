import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Egress } from '../../src/base/egress-rule.ts'
import { parseHostName, type HostName } from '../../src/base/host-name.ts'
import { parseIp } from '../../src/base/ip-address.ts'
import { REASONS } from '../../src/egress/reasons.ts'
import { decideAddress, decideHello, decideName, decideQuery, type Hello, type Permit } from '../../src/egress/rules.ts'
import { egressOf } from './kit.ts'

const NOW = Date.parse('2026-11-20T12:00:00Z')
const name = (text: string): HostName => {
  const found = parseHostName(text)
  if (!found.ok) throw new TypeError(text)
  return found.name
}
const RULES = egressOf(`
    - { host: api.example.org, ports: [443, 8443], reason: a }
    - { host: "*.example.org", ports: [443], reason: b }
    - { host: "*.deep.example.org", ports: [443], private: true, reason: c }
    - { host: old.example.net, ports: [443], until: 2026-11-19, reason: d }
    - { host: today.example.net, ports: [443], until: 2026-11-20, reason: e }
    - { host: host.internal, ports: [8080], reason: f }
    - { cidr: 10.0.5.0/24, ports: [5432], private: true, reason: g }
    - { cidr: 10.0.5.7/32, ports: [5432, 6432], private: true, reason: h }
    - { cidr: 2606:4700::/32, ports: [443], until: 2026-11-19, reason: i }`)
const brief = (egress: Egress, host: string, port: number, now = NOW): string => {
  const found = decideName(egress, name(host), port, now)
  return `${found.code}${found.verdict === 'allow' ? ` ${egress.allow.find((rule) => rule.id === found.rule)?.reason ?? '-'} ${found.permit.tls}` : ''}`
}

describe('a name and a port', () => {
  test.each([
    ['api.example.org', 443, 'allowed a require'], ['api.example.org', 8443, 'allowed a auto'], ['API.Example.ORG.', 443, 'allowed a require'], ['api.example.org', 80, 'port-not-allowed'],
    ['www.example.org', 443, 'allowed b require'], ['a.b.example.org', 443, 'allowed b require'], ['x.deep.example.org', 443, 'allowed c require'], ['deep.example.org', 443, 'allowed b require'],
    ['example.org', 443, 'apex-not-covered'], ['evilexample.org', 443, 'name-not-allowed'], ['api.example.org.evil.com', 443, 'name-not-allowed'], ['org', 443, 'name-not-allowed'],
    ['old.example.net', 443, 'rule-expired'], ['today.example.net', 443, 'allowed e require'], ['host.internal', 8080, 'allowed f auto'], ['host.internal', 443, 'port-not-allowed'], ['x.host.internal', 8080, 'name-not-allowed'],
  ])('%s:%s %s', (host, port, expected) => expect(brief(RULES, host, port)).toBe(expected))

  test('the sentence says what to do', () => {
    expect(decideName(RULES, name('example.org'), 443, NOW).say).toBe('*.example.org covers what is below example.org, not example.org itself: add { host: example.org, ports: [443] }')
    expect(decideName(RULES, name('api.example.org'), 25, NOW).say).toBe('api.example.org is allowed on ports 443, 8443, not on 25')
    expect(decideName(RULES, name('old.example.net'), 443, NOW).say).toBe('the rule for old.example.net (old.example.net) ended at 2026-11-20T00:00:00Z')
  })

  test('a rule ends at its instant, and one whose end cannot be read has ended', () => {
    const end = Date.parse('2026-11-21T00:00:00Z')
    expect([brief(RULES, 'today.example.net', 443, end - 1), brief(RULES, 'today.example.net', 443, end)]).toEqual(['allowed e require', 'rule-expired'])
    const broken = { ...RULES, allow: RULES.allow.map((rule) => ({ ...rule, until: 'soon' })) }
    expect(brief(broken, 'api.example.org', 443)).toBe('rule-expired')
    expect(brief({ mode: 'learn', until: 'soon', allow: [] }, 'a.org', 443)).toBe('name-not-allowed')
    expect(brief({ mode: 'learn', until: null, allow: [] }, 'a.org', 443)).toBe('name-not-allowed')
  })

  test('public is every public name, after every narrower rule; host.internal and private names are none', () => {
    const egress = egressOf('\n    - { host: public, ports: [443], reason: p }\n    - { host: "*.example.org", ports: [443], reason: w, tls: off }')
    expect(['x.example.org', 'a.com', 'nas', 'x.local', 'host.internal', 'localhost'].map((host) => brief(egress, host, 443))).toEqual(['allowed w off', 'allowed p require', 'name-not-allowed', 'name-not-allowed', 'name-not-allowed', 'name-not-allowed'])
    expect(brief(egressOf('\n    - { host: "*.internal", ports: [443], reason: w }'), 'host.internal', 443)).toBe('name-not-allowed')
  })

  test('a wildcard matches whole labels below its zone only, whatever the names', () => {
    const label = fc.stringMatching(/^[a-z][a-z0-9]{0,5}$/)
    fc.assert(fc.property(fc.array(label, { minLength: 2, maxLength: 3 }), fc.array(label, { maxLength: 3 }), (zone, more) => {
      const egress: Egress = { mode: 'enforce', until: null, allow: [{ id: 1, match: { kind: 'wildcard', zone: zone.join('.') }, ports: [443], private: false, tls: 'require', ech: false, until: null, reason: 'w' }] }
      expect(decideName(egress, name([...more, ...zone].join('.')), 443, NOW).verdict).toBe(more.length > 0 ? 'allow' : 'refuse')
      expect(decideName(egress, name(`x${zone.join('.')}`), 443, NOW).verdict).toBe('refuse')
      expect(decideName(egress, name([...zone, ...more, 'evil'].join('.')), 443, NOW).verdict).toBe('refuse')
    }), { seed: 20261120, numRuns: 300 })
  })

  test('no empty list allows anything, and adding a rule refuses nothing that was allowed', () => {
    const host = fc.constantFrom('api.example.org', 'www.example.org', 'example.org', 'a.com', 'host.internal', 'old.example.net', 'nas')
    fc.assert(fc.property(fc.subarray([...RULES.allow]), host, fc.constantFrom(80, 443, 8080, 8443), (some, text, port) => {
      expect(decideName({ mode: 'enforce', until: null, allow: [] }, name(text), port, NOW).verdict).toBe('refuse')
      const few = decideName({ ...RULES, allow: some }, name(text), port, NOW)
      const all = decideName(RULES, name(text), port, NOW)
      if (few.verdict === 'allow') expect(all.verdict).toBe('allow')
      for (const one of [few, all]) expect(REASONS).toHaveProperty(one.code)
      // What may be dialled has an answer in the DNS, or nobody could dial it.
      if (all.verdict === 'allow') expect(decideQuery(RULES, name(text), NOW).verdict).toBe('allow')
    }), { seed: 20261120, numRuns: 500 })
  })
})

test('a question is answered for what some rule names now, at whatever port', () => {
  const codes = ['api.example.org', 'a.b.example.org', 'example.org', 'old.example.net', 'today.example.net', 'host.internal', 'evil.com', '10.0.5.7.evil.com'].map((host) => decideQuery(RULES, name(host), NOW).code)
  expect(codes).toEqual(['allowed', 'allowed', 'apex-not-covered', 'rule-expired', 'allowed', 'allowed', 'name-not-allowed', 'name-not-allowed'])
})

describe('learning', () => {
  const LEARN: Egress = { ...RULES, mode: 'learn', until: '2026-11-21T00:00:00Z' }
  test.each([['any.com', 'learning - require'], ['api.example.org', 'allowed a require'], ['nas', 'learning-not-public'], ['db.internal', 'learning-not-public'], ['localhost', 'learning-not-public'], ['metadata.google.internal', 'learning-not-public'], ['host.internal', 'learning-not-public']])('%s: %s', (host, expected) => {
    expect(brief(LEARN, host, 443)).toBe(expected)
  })
  test('opens nothing private, no literal address, and ends by closing', () => {
    const found = decideName(LEARN, name('any.com'), 443, NOW)
    expect(found).toMatchObject({ verdict: 'allow', rule: null, permit: { private: false, hostInternal: false, ech: false } })
    expect(decideAddress(LEARN, parseIp('8.8.8.8') ?? new Uint8Array(4), 443, NOW).code).toBe('literal-not-allowed')
    expect(brief(LEARN, 'any.com', 443, Date.parse('2026-11-21T00:00:00Z'))).toBe('name-not-allowed')
    expect(decideQuery(LEARN, name('any.com'), Date.parse('2026-11-21T00:00:00Z')).code).toBe('name-not-allowed')
    expect(decideQuery(LEARN, name('any.com'), NOW).code).toBe('learning')
  })
})

test.each([
  ['10.0.5.9', 5432, 'allowed g'], ['10.0.5.7', 5432, 'allowed h'], ['::ffff:10.0.5.7', 6432, 'allowed h'], ['10.0.5.9', 6432, 'port-not-allowed'], ['10.0.6.1', 5432, 'literal-not-allowed'], ['2606:4700::1', 443, 'rule-expired'], ['8.8.8.8', 443, 'literal-not-allowed'],
])('a literal address needs a cidr rule: %s:%s %s', (text, port, expected) => {
  for (const egress of [RULES, { ...RULES, allow: [...RULES.allow, ...egressOf('\n    - { host: public, ports: [443, 5432, 6432], reason: p }').allow] }]) {
    const found = decideAddress(egress, parseIp(text) ?? new Uint8Array(4), port, NOW)
    expect(`${found.code}${found.verdict === 'allow' ? ` ${egress.allow.find((rule) => rule.id === found.rule)?.reason ?? ''}` : ''}`).toBe(expected)
    if (found.verdict === 'allow') expect(found.permit).toEqual({ private: true, hostInternal: false, tls: 'off', ech: false })
  }
})

describe('the first bytes', () => {
  const permit = (tls: Permit['tls'], ech = false): Permit => ({ private: false, hostInternal: false, tls, ech })
  const ours = name('api.example.org')
  const hello = (sni: string | null, ech = false): Hello => ({ kind: 'hello', sni, ech })
  const code = (given: Permit, what: Hello): string => {
    const found = decideHello(given, ours, what)
    return found.verdict === 'allow' ? 'allow' : found.code
  }
  test.each<[string, Hello, string, string]>([
    ['its own name', hello('api.example.org'), 'allow', 'allow'], ['another name', hello('evil.com'), 'sni-mismatch', 'sni-mismatch'], ['a name below', hello('x.api.example.org'), 'sni-mismatch', 'sni-mismatch'],
    ['no name', hello(null), 'sni-missing', 'sni-missing'], ['ECH with its own name', hello('api.example.org', true), 'ech-refused', 'ech-refused'], ['ECH with another', hello('evil.com', true), 'sni-mismatch', 'sni-mismatch'],
    ['no TLS', { kind: 'not-tls' }, 'tls-required', 'allow'], ['silence', { kind: 'silent' }, 'tls-timeout', 'allow'], ['broken TLS', { kind: 'refused', code: 'tls-malformed' }, 'tls-malformed', 'tls-malformed'], ['two names', { kind: 'refused', code: 'sni-several' }, 'sni-several', 'sni-several'],
  ])('%s', (_title, what, require, auto) => {
    expect([code(permit('require'), what), code(permit('auto'), what), code(permit('off'), what)]).toEqual([require, auto, 'allow'])
  })
  test('ech: true accepts the encrypted part, never another name', () => {
    expect(code(permit('require', true), hello('api.example.org', true))).toBe('allow')
    expect(code(permit('require', true), hello('cloudflare-ech.com', true))).toBe('sni-mismatch')
  })
})
