import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { PluginName, RunId } from '../../src/base/ids.ts'
import { parseIp } from '../../src/base/ip-address.ts'
import { attemptOf, type EgressRecord } from '../../src/egress/record.ts'
import { decideAgain, replay } from '../../src/egress/replay.ts'
import { suggest, unusedRules, type LearningPeriod } from '../../src/egress/suggest.ts'
import { parsePolicy } from '../../src/policy/parse.ts'
import { egressOf } from './kit.ts'

const NOW = Date.parse('2026-11-20T12:00:00Z')
const HOST = { hostAddresses: [{ base: parseIp('192.168.1.5') ?? new Uint8Array(4), prefix: 32 }], onLink: [], ownPorts: [8480] }
const base = { plugin: 'demo' as PluginName, run: '0123456789abcdef' as RunId, connection: 1, dialled: '198.18.0.5', rule: null, sni: null }

let clock = 0
const at = (): { time: string } => ({ time: new Date(NOW - 86_400_000 + 60_000 * clock++).toISOString() })
type Opened = EgressRecord & { type: 'egress.opened' }
const opened = (name: string | null, address: string, port = 443, more: Partial<Opened> = {}): EgressRecord => ({ ...base, ...at(), type: 'egress.opened', name, dialled: name === null ? address : base.dialled, address, port, sni: port === 443 ? name : null, ech: false, alpn: [], code: 'allowed', ms: 3, ...more })
const closed = (name: string | null, address: string, bytesOut: number, bytesIn: number, port = 443): EgressRecord => ({ ...base, ...at(), type: 'egress.closed', name, dialled: name === null ? address : base.dialled, address, port, bytesOut, bytesIn, ms: 9, by: 'plugin', code: null, requests: 0 })
const refused = (name: string | null, code: string, addresses: string[] = [], port = 443, more: Partial<EgressRecord & { type: 'egress.refused' }> = {}): EgressRecord => ({ ...base, ...at(), type: 'egress.refused', name, dialled: name === null ? addresses[0] ?? '' : base.dialled, port, addresses, host: null, code, say: '', ms: 0, coalesced: 0, ...more })
const asked = (name: string, code: string, coalesced = 0): EgressRecord => ({ ...at(), type: 'dns.refused', plugin: base.plugin, run: base.run, name, query: 'A', code, say: '', coalesced })

describe('what would have happened under other rules', () => {
  const records = [
    opened('api.example.com', '93.184.215.14'), opened('api.example.com', '93.184.215.14'), opened('old.example.com', '93.184.215.14'), opened(null, '10.0.5.7', 5432), closed('api.example.com', '93.184.215.14', 1, 1),
    asked('new.example.com', 'name-not-allowed', 4), asked('evil.com', 'name-not-allowed'), refused('db.example.com', 'address-private', ['10.0.0.9'], 5432), refused('meta.example.com', 'address-metadata', ['169.254.169.254']),
    refused('late.example.com', 'connect-timeout', ['93.184.215.14']), refused('api.example.com', 'sni-mismatch', [], 443, { sni: 'evil.com' }), refused('mail.example.com', 'tls-required', ['93.184.215.14'], 465),
  ]
  const rules = egressOf(`
    - { host: api.example.com, ports: [443], reason: x }
    - { host: new.example.com, ports: [443], reason: x }
    - { host: db.example.com, ports: [5432], private: true, tls: off, reason: x }
    - { host: meta.example.com, ports: [443], private: true, reason: x }
    - { host: mail.example.com, ports: [465], reason: x }
    - { cidr: 10.0.5.7/32, ports: [5432], private: true, reason: x }`)

  test('says what is newly refused, what is newly allowed, how often, and how certain that is', () => {
    const found = replay(records, rules, () => HOST, NOW)
    expect(found.newlyRefused.map(({ what, times, then, now }) => [what, times, then, now])).toEqual([['old.example.com:443', 1, 'allowed', 'name-not-allowed']])
    expect(found.newlyAllowed.map(({ what, times, then, certain }) => [what, times, then, certain])).toEqual([
      ['new.example.com', 5, 'name-not-allowed', false], ['db.example.com:5432', 1, 'address-private', true], ['mail.example.com:465', 1, 'tls-required', true],
    ])
    expect([found.attempts, found.undecided]).toEqual([15, 1])
  })

  test('a flood of which only the number is known is not taken for tries of the one that stands for it', () => {
    const flood = { ...asked('new.example.com', 'name-not-allowed', 40), others: 40 } as EgressRecord
    const found = replay([flood], rules, () => HOST, NOW)
    expect(found.newlyAllowed.map(({ what, times }) => [what, times])).toEqual([['new.example.com', 1]])
    expect([found.attempts, found.undecided]).toEqual([41, 40])
  })

  test('under the very rules nothing changes; with none at all everything that was allowed is refused', () => {
    const few = records.filter((record) => record.type !== 'egress.refused' && !('name' in record && record.name === 'old.example.com') && record.type !== 'dns.refused')
    expect(replay(few, rules, () => HOST, NOW)).toMatchObject({ newlyRefused: [], newlyAllowed: [] })
    const none = replay(records, { mode: 'enforce', until: null, allow: [] }, () => HOST, NOW)
    expect(none.newlyRefused.reduce((sum, { times }) => sum + times, 0)).toBe(4)
    expect(none.newlyAllowed).toEqual([])
  })

  test('the end of a rule is compared with now, not with the time of the record', () => {
    const ending = egressOf('\n    - { host: api.example.com, ports: [443], until: 2026-11-19, reason: x }')
    expect(replay(records.slice(0, 1), ending, () => HOST, NOW).newlyRefused).toMatchObject([{ now: 'rule-expired' }])
  })

  test('a rule that asks for TLS now is told apart from what is known', () => {
    const strict = egressOf('\n    - { host: a.com, ports: [8080], tls: require, reason: x }')
    expect(replay([opened('a.com', '93.184.215.14', 8080)], strict, () => HOST, NOW).newlyRefused).toMatchObject([{ now: 'tls-required', certain: false }])
    expect(replay([opened('a.com', '93.184.215.14', 8080, { sni: 'a.com', ech: true })], strict, () => HOST, NOW).newlyRefused).toMatchObject([{ now: 'ech-refused', certain: true }])
  })

  test('any record is decided without throwing, and the order of records does not matter', () => {
    const text = fc.oneof(fc.constantFrom('api.example.com', 'new.example.com', 'bad\0name', ''), fc.string({ unit: 'binary', maxLength: 20 }))
    const address = fc.oneof(fc.constantFrom('10.0.5.7', '::1', '169.254.169.254', '93.184.215.14', 'x'), fc.string({ maxLength: 8 }))
    const code = fc.constantFrom('allowed', 'name-not-allowed', 'sni-mismatch', 'tls-malformed', 'idle', 'unheard-of')
    const any = fc.tuple(fc.nat(2), fc.option(text), address, fc.nat(65_535), code).map(([kind, name, ip, port, why]) => (kind === 0 ? opened(name, ip, port) : kind === 1 ? refused(name, why, [ip], port) : asked(name ?? '', why)))
    fc.assert(fc.property(fc.array(any, { maxLength: 12 }), (list) => {
      expect(replay(list.toReversed(), rules, () => HOST, NOW)).toEqual(replay(list, rules, () => HOST, NOW))
      for (const record of list) if (record.type !== 'egress.closed') expect(['allow', 'refuse']).toContain(decideAgain(attemptOf(record), false, rules, HOST, NOW).verdict)
    }), { seed: 20261120, numRuns: 300 })
  })
})

describe('what learning suggests', () => {
  clock = 0
  const egress = egressOf(`
    - { host: used.example.com, ports: [443, 80], until: 2027-01-01, reason: its API }
    - { host: never.example.com, ports: [443], reason: an old idea }
    - { host: public, ports: [443], tls: off, reason: "crawls: all" }`, '  mode: learn\n  until: 2026-11-20\n')
  const records = [
    opened('used.example.com', '93.184.215.14'), closed('used.example.com', '93.184.215.14', 1000, 3 * 2 ** 20),
    ...Array.from({ length: 3 }, () => opened('cdn.example.net', '93.184.215.15')), closed('cdn.example.net', '93.184.215.15', 2048, 10), opened('cdn.example.net', '93.184.215.15', 8443, { ech: true }),
    opened('db.example.net', '10.0.0.9', 5432), opened(null, '10.0.5.7', 5432), opened(null, '2606:4700::1', 443), asked('refused.example.net', 'learning-not-public'),
  ]
  const period: LearningPeriod = {
    plugin: 'demo', from: '2026-11-19T12:00:00Z', to: '2026-11-20T12:00:00Z', restarts: 1, records, egress,
    refused: { uses: [{ what: 'git.lan:22', code: 'address-private', say: 'git.lan: 10.0.0.7 is private', count: 3, first: '2026-11-19T13:00:00.5Z', last: '2026-11-19T14:00:00Z' }], more: 4 },
    events: [{ event: 'deployment.succeeded', seen: 2 }, { event: 'deployment.failed', seen: 0 }],
    rights: [{ field: 'api.grants', value: 'projects_read', uses: 0 }, { field: 'api.grants', value: 'events_read', uses: 4 }, { field: 'read', value: '/srv/www', uses: null }],
    limits: [{ field: 'MemoryMax', limit: 256 * 2 ** 20, peak: 100 * 2 ** 20 }, { field: 'TasksMax', limit: 16, peak: 8 }, { field: 'EgressMax', limit: null, peak: 3048 }],
  }

  test('a diff with counts, times and bytes, its coverage, and what was never used', async () => {
    await expect(suggest(period)).toMatchFileSnapshot('golden/suggest.txt')
  })

  test('what it adds is a policy that passes the check and would have let all of it through', () => {
    const lines = suggest(period).split('\n').filter((line) => /^[ +] {4}- /.test(line)).map((line) => ` ${line.slice(1)}`)
    const text = `plugin: demo\nexecutable: { path: /opt/demo }\negress:\n  mode: enforce\n  allow:\n${lines.join('\n')}\n`
    expect(() => parsePolicy(text, 'demo.yaml')).not.toThrow()
    const rules = egressOf(`\n${lines.join('\n')}`)
    expect(replay(records, rules, () => HOST, NOW).newlyRefused).toEqual([])
    const plain = suggest({ ...period, egress: egressOf(' []'), records: [opened('plain.example.net', '93.184.215.15', 443, { sni: null })] })
    expect(plain).toContain('{ host: plain.example.net, ports: [443], tls: off,')
  })

  test('nothing seen suggests nothing, and says so', () => {
    const text = suggest({ ...period, records: [], rights: [], limits: [], events: [] })
    expect(text).toContain('0 connections')
    expect(text.split('\n').filter((line) => line.startsWith('+ '))).toEqual(['+  mode: enforce'])
    expect(text.match(/never used in this period/g)).toHaveLength(3)
  })

  test('hostile text stays on its line, and a flood of names stays readable', () => {
    const flood = Array.from({ length: 200 }, (_, index) => opened(`h${index}.zone.example`, '93.184.215.15'))
    const text = suggest({ ...period, records: [...flood, opened('x\n+    - { host: evil.com }', '93.184.215.15')], rights: [{ field: 'read', value: '/a\n+ b', uses: 0 }] })
    expect(text).not.toContain('evil.com')
    expect(text).toContain('/a\\x0a+ b')
    expect(text.split('\n').length).toBeLessThan(100)
    expect(text).toContain('more destinations are left out')
    expect(text).toContain('200 names directly below zone.example')
  })

  test('rules that no record used are told', () => {
    expect(unusedRules(egress, records).map(({ match, ports }) => [match.kind, ports])).toEqual([['host', [80]], ['host', [443]]])
  })
})
