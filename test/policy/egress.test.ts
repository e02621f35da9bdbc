import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { explain } from '../../src/plan/explain.ts'
import { lintEnded } from '../../src/policy/lint-egress.ts'
import { lintResolved, type AskResolver } from '../../src/policy/lint-resolved.ts'
import { parsePolicy, parsePreset } from '../../src/policy/parse.ts'
import { PolicyError } from '../../src/policy/problem.ts'
import { isPublicSuffix } from '../../src/policy/public-suffixes.ts'
import { resolvePolicy } from '../../src/policy/resolve.ts'
import { SHARED_NAMES, sharedName } from '../../src/policy/shared-names.ts'
import { parseUntil } from '../../src/policy/units.ts'

const FIRST = 'plugin: demo\nexecutable: { path: /opt/demo }\n'
const withRules = (...rules: string[]): string => `${FIRST}egress:\n  allow:\n${rules.map((rule) => `    - { ${rule} }\n`).join('')}`
const problems = (text: string): string[] => {
  try {
    parsePolicy(text, 'demo.yaml')
    return []
  } catch (error) {
    if (!(error instanceof PolicyError)) throw error
    return error.problems.map((one) => `${one.line}:${one.column} ${one.code} ${one.message} | ${one.hint}`)
  }
}
const resolve = (own: string, ...presets: string[]) => resolvePolicy(parsePolicy(own, 'demo.yaml'), presets.map((text, index) => parsePreset(text, `preset${index}.yaml`)))
const rule = (fields: string) => `${fields}, ports: [443], reason: x`

describe('what cannot hold is refused, with its place', () => {
  test.each([
    [rule('host: 10.0.0.1'), /^5:15 POLICY_BAD_VALUE .*taken for an address \| .*cidr/], [rule('host: "[::1]"'), /5:15 POLICY_BAD_VALUE .*\| .*cidr/], [rule('host: "2001:db8::1"'), /5:15 POLICY_BAD_VALUE .*\| .*cidr/], [rule('host: "0x7f.1"'), /taken for an address/],
    [rule('host: "*"'), /host: public/], [rule('host: "a.*.org"'), /at the beginning/], [rule('host: "*a.org"'), /at the beginning/], [rule('host: "*.*.org"'), /at the beginning/], [rule('host: "*."'), /empty/],
    [rule('host: https://api.example.org/x'), /not a URL \| .*api\.example\.org/], [rule('host: "a.org:443"'), /without a port/], [rule('host: a_b.org'), /underscore/], [rule('host: bücher.example'), /xn--/], [rule('host: localhost'), /host\.internal/], [rule('host: "*.localhost"'), /host\.internal/],
    [rule('cidr: 10.0.0.1'), /10\.0\.0\.1\/32/], [rule('cidr: 10.0.0.1/8, private: true'), /10\.0\.0\.0\/8/], [rule('cidr: 0.0.0.0/8'), /nothing opens/], [rule('cidr: 127.0.0.1/32, private: true'), /nothing opens.*\| .*host\.internal/],
    [rule('cidr: 169.254.169.254/32, private: true'), /5:15 POLICY_CONFLICT .*metadata.*nothing opens/], [rule('cidr: fd00:ec2::254/128, private: true'), /metadata.*nothing opens/], [rule('cidr: 224.0.0.0/4'), /nothing opens/], [rule('cidr: 2002::/16'), /nothing opens/], [rule('cidr: 10.0.0.0/8'), /only `private: true` opens \| Add `private: true`/], [rule('cidr: 100.64.0.0/10'), /only `private: true`/], [rule('cidr: fd12::/64'), /only `private: true`/],
    ['ports: [443], reason: x', /5:7 POLICY_MISSING_FIELD .*names no destination/], [rule('host: a.org, cidr: 8.8.8.8/32'), /POLICY_CONFLICT .*Make two rules/], [rule('cidr: 8.8.8.8/32, tls: require'), /POLICY_CONFLICT .*no name/], [rule('cidr: 8.8.8.8/32, ech: true'), /POLICY_CONFLICT/],
    [rule('host: public, private: true'), /POLICY_CONFLICT .*global addresses only/], [rule('host: host.internal, private: true'), /POLICY_CONFLICT/], [rule('host: a.org, tls: off, ech: true'), /POLICY_CONFLICT/],
    ['host: a.org, ports: [53], reason: x', /answered by Cordon/], ['host: a.org, ports: [0], reason: x', /POLICY_OUT_OF_BOUNDS/], ['host: a.org, ports: [65536], reason: x', /POLICY_OUT_OF_BOUNDS/], ['host: a.org, ports: [], reason: x', /POLICY_OUT_OF_BOUNDS/], ['host: a.org, ports: [443, 443], reason: x', /twice/], ['host: a.org, ports: 443, reason: x', /expected a list/], ['host: a.org, reason: x', /"egress.allow\[0\].ports" is missing/],
    ['host: a.org, ports: [443]', /POLICY_MISSING_FIELD "egress.allow\[0\].reason"/], ['host: a.org, ports: [443], reason: " "', /say why/], [rule('host: a.org, until: tomorrow'), /such as 2026-12-31/], [rule('host: a.org, until: 2026-04-31'), /no such day/], [rule('host: a.org, prot: tcp'), /POLICY_UNKNOWN_FIELD/],
  ])('%s', (fields, expected) => {
    const found = problems(withRules(fields))
    expect(found).toHaveLength(1)
    expect(found[0]).toMatch(expected)
  })

  test.each([
    ['mode: learn', /without an end/], ['until: 2026-12-31', /only learning ends/], ['mode: enforce, until: 2026-12-31', /only learning ends/], ['mode: learning', /one of enforce, learn/], ['mode: learn, until: never', /such as 2026-12-31/],
  ])('egress: { %s }', (fields, expected) => {
    expect(problems(`${FIRST}egress: { ${fields} }\n`)).toEqual([expect.stringMatching(expected)])
  })

  test('all problems of all rules at once, and the same destination twice is one', () => {
    expect(problems(withRules(rule('host: a..org'), rule('host: b.org'), rule('host: B.org.'), 'cidr: 1.2.3.4/33, ports: [53], reason: x')).map((one) => one.split(' ').slice(0, 2).join(' '))).toEqual(['5:15 POLICY_BAD_VALUE', '7:7 POLICY_CONFLICT', '8:15 POLICY_BAD_VALUE', '8:35 POLICY_CONFLICT'])
    expect(problems(withRules(rule('host: b.org'), rule('host: B.org.')))).toEqual([expect.stringMatching(/^6:7 POLICY_CONFLICT .*same destination and ports as allow\[0\]/)])
  })

  test('more ports than the door listens on are refused, in one file and together with a preset', () => {
    const many = (from: number, count: number): string => Array.from({ length: count }, (_, index) => from + index).join(', ')
    const rules = (from: number): string => `egress:\n  allow:\n    - { host: a${from}.org, ports: [${many(from, 32)}], reason: x }\n    - { host: b.org, ports: [${many(from + 32, 32)}], reason: x }\n`
    expect(problems(`${FIRST}${rules(1000)}`)).toEqual([])
    expect(problems(`${FIRST}${rules(1000)}    - { host: c.org, ports: [443], reason: x }\n`)).toEqual([expect.stringMatching(/65 different ports/)])
    expect(() => resolve(`${FIRST}extends: p\n${rules(1000)}`, rules(2000))).toThrow(/128 different ports together/)
  })
})

test('any shape of values is a policy or a list of problems, never a crash, and what is accepted compiles and explains itself', () => {
  const scalar = fc.constantFrom<unknown>(null, true, 0, 53, 443, -1, 1.5, '', 'public', 'host.internal', 'a.org', '*.a.org', '*', '10.0.0.0/8', '8.8.8.8/32', '::/0', '2026-12-31', 'off', 'x', [], {}, [443], [443, '80'])
  const fields = fc.dictionary(fc.constantFrom('host', 'cidr', 'ports', 'private', 'tls', 'ech', 'until', 'reason', 'other'), scalar)
  const good = fc.record({ host: fc.constantFrom('public', 'a.org', '*.a.org'), ports: fc.constantFrom([443], [80, 443]), reason: fc.constant('x') })
  const egress = fc.oneof(scalar, fc.dictionary(fc.constantFrom('mode', 'until', 'allow'), fc.oneof(scalar, fc.constantFrom('learn', 'enforce'), fc.array(fc.oneof(fields, scalar, good), { maxLength: 4 }))))
  let accepted = 0
  fc.assert(fc.property(egress, (value) => {
    const text = `${FIRST}egress: ${JSON.stringify(value)}\n`
    if (problems(text).length > 0) return
    accepted += 1
    expect(explain(resolve(text)).length).toBeGreaterThan(5)
  }), { seed: 20261120, numRuns: 1500 })
  expect(accepted).toBeGreaterThan(20)
})

describe('compiled rules leave nothing open', () => {
  test('the example of the design', () => {
    const { egress, limits, tripwires } = resolve(`${withRules('host: api.indexnow.org, ports: [443], reason: a', 'host: "*.Bing.com", ports: [443], reason: b, until: 2026-12-31', 'host: public, ports: [443], reason: c', 'cidr: 10.0.5.7/32, ports: [5432], private: true, reason: d')}limits: { EgressMax: 200M/day }\ntripwires: true\n`)
    const base = { private: false, ech: false, until: null }
    expect(egress).toEqual({ mode: 'enforce', until: null, allow: [
      { ...base, id: 1, match: { kind: 'host', name: 'api.indexnow.org' }, ports: [443], tls: 'require', reason: 'a' },
      { ...base, id: 2, match: { kind: 'wildcard', zone: 'bing.com' }, ports: [443], tls: 'require', until: '2027-01-01T00:00:00Z', reason: 'b' },
      { ...base, id: 3, match: { kind: 'public' }, ports: [443], tls: 'require', reason: 'c' },
      { ...base, id: 4, match: { kind: 'cidr', base: '10.0.5.7', prefix: 32, family: 4 }, ports: [5432], private: true, tls: 'off', reason: 'd' },
    ] })
    expect([limits.EgressMax, tripwires]).toEqual([200 * 2 ** 20, 'record'])
  })

  test('a line with 443 and other ports is two rules, unless it says tls itself', () => {
    const { allow } = resolve(withRules('host: a.org, ports: [8443, 443, 80], reason: x', 'host: b.org, ports: [443, 80], tls: auto, reason: x', 'host: host.internal, ports: [8080], reason: x')).egress
    expect(allow.map(({ id, ports, tls, match }) => [id, ports, tls, match.kind])).toEqual([[1, [443], 'require', 'host'], [2, [80, 8443], 'auto', 'host'], [3, [80, 443], 'auto', 'host'], [4, [8080], 'auto', 'host.internal']])
  })

  test('rules of presets are added, the nearer of two equal ones holds, and the mode comes with its end', () => {
    const { egress } = resolve(`${withRules('host: a.org, ports: [443], reason: own')}`.replace('plugin: demo', 'plugin: demo\nextends: near'),
      'egress: { mode: learn, until: 2026-12-31, allow: [{ host: A.org., ports: [443], private: true, reason: near }, { host: b.org, ports: [443], reason: near }] }\n', 'egress: { mode: enforce }\n')
    expect(egress.allow.map(({ id, reason, private: lift }) => [id, reason, lift])).toEqual([[1, 'own', false], [2, 'near', false]])
    expect([egress.mode, egress.until]).toEqual(['learn', '2027-01-01T00:00:00Z'])
  })

  test('a day still holds to its end, an instant is itself', () => {
    expect(['2026-12-31', '2028-02-29', '2026-12-31T18:00:00Z'].map(parseUntil)).toEqual(['2027-01-01T00:00:00Z', '2028-03-01T00:00:00Z', '2026-12-31T18:00:00Z'])
    for (const wrong of ['2026-02-29', '2026-13-01', '2026-1-1', '2026-12-31T24:00:00Z', '2026-12-31T10:00:00+02:00', '2026-12-31 10:00', '']) expect(() => parseUntil(wrong), wrong).toThrow()
  })
})

describe('what is allowed and its author should know', () => {
  const warnings = (...rules: string[]): string[] => parsePolicy(withRules(...rules), 'demo.yaml').warnings.filter((one) => one.message.includes('egress')).map((one) => `${one.line} ${one.message}`)

  test('a plain rule is no matter', () => expect(warnings(rule('host: api.example.com'), rule('cidr: 10.0.5.7/32, private: true'))).toEqual([]))

  test.each([
    [rule('host: "*.co.uk"'), /anybody can register.*not the whole Public Suffix List/], [rule('host: "*.com"'), /anybody can register/], [rule('host: "*.example.com"'), /chooses? labels below example\.com/], [rule('host: "*.example.com"'), /does not cover example\.com itself/],
    [rule('host: public'), /every public name/], ['host: public, ports: [443, 22, 25], reason: x', /port 22 to everybody: SSH/], ['host: public, ports: [443, 22, 25], reason: x', /port 25 to everybody: mail/], ['host: public, ports: [443, 9000], reason: x', /port 9000 to everybody/],
    [rule('host: user.github.io'), /github\.io: there strangers publish pages/], [rule('host: b.s3.eu-west-1.amazonaws.com'), /amazonaws\.com: there strangers have buckets/], [rule('host: d1.cloudfront.net'), /cloudfront\.net/], [rule('host: x.workers.dev'), /workers\.dev/], [rule('host: x.vercel.app'), /vercel\.app/], [rule('host: x.azurewebsites.net'), /azurewebsites/], [rule('host: x.herokuapp.com'), /herokuapp/], [rule('host: api.telegram.org'), /bots/], [rule('host: discord.com'), /web hooks/], [rule('host: pastebin.com'), /post text/], [rule('host: gist.github.com'), /gist\.github\.com/], [rule('host: "*.github.com"'), /leads to .*github/],
    [rule('host: nas, private: true'), /single label/], [rule('host: x.onion'), /RFC 6761/], [rule('host: metadata.google.internal'), /metadata service/], [rule('host: host.internal'), /loopback of the host/], [rule('host: a.com, tls: off'), /does not compare TLS names/], [rule('host: "*.a.com, private: true"').replace(', private: true"', '", private: true'), /your own network/], [rule('cidr: 8.0.0.0/8'), /2\^24 addresses/],
  ])('%s', (fields, expected) => {
    const found = warnings(fields)
    expect(found.some((one) => expected.test(one)), found.join('\n')).toBe(true)
    for (const one of found) expect(one).toMatch(/^5 "egress\.allow\[0\]" /)
  })

  test('overlaps: covered already, narrower with other rights, the same with other ports', () => {
    expect(warnings(rule('host: "*.example.com"'), rule('host: a.example.com'))).toContainEqual(expect.stringMatching(/^6 .*is covered by allow\[0\] \(\*\.example\.com\) already/))
    expect(warnings(rule('host: "*.example.com"'), rule('host: a.example.com, private: true'))).toContainEqual(expect.stringMatching(/^6 .*overlaps allow\[0\].*this one, decides/))
    expect(warnings('host: a.com, ports: [443, 80], reason: x', 'host: a.com, ports: [443], reason: y')).toContainEqual(expect.stringMatching(/first decides/))
    expect(warnings(rule('cidr: 8.8.8.0/24'), rule('cidr: 8.8.8.8/32'))).toContainEqual(expect.stringMatching(/^6 .*covered by allow\[0\] \(8\.8\.8\.0\/24\)/))
    expect(warnings(rule('host: "*.example.com"'), rule('host: example.com')).join()).not.toContain('does not cover')
    expect(warnings(rule('host: "*.example.com"'), rule('host: notexample.com')).join()).not.toContain('overlaps')
  })

  test('learning says what it is', () => {
    expect(parsePolicy(`${FIRST}egress: { mode: learn, until: 2026-12-31 }\n`, 'demo.yaml').warnings.map((one) => one.message)).toContainEqual(expect.stringMatching(/LEARNING, NOT PROTECTED/))
  })

  test('what has ended is said, once for a line of two rules', () => {
    const { egress } = resolve(`${FIRST}egress: { mode: learn, until: 2026-11-18, allow: [{ host: a.com, ports: [443, 80], until: 2026-11-18, reason: x }, { host: b.com, ports: [443], reason: x }] }\n`)
    expect(lintEnded(egress, Date.parse('2026-11-19T00:00:00Z'))).toEqual(['the rule for a.com ended at 2026-11-19T00:00:00Z and opens nothing', 'learning ended at 2026-11-19T00:00:00Z: only the rules hold'])
    expect(lintEnded(egress, Date.parse('2026-11-18T23:59:59Z'))).toEqual([])
  })

  test('the tables hold canonical names, and a zone is found from below, from above for a wildcard', () => {
    for (const { zone, why } of SHARED_NAMES) {
      expect(zone).toMatch(/^[a-z0-9-]+(?:\.[a-z0-9-]+)+$/)
      expect(why.length).toBeGreaterThan(10)
    }
    expect(new Set(SHARED_NAMES.map(({ zone }) => zone)).size).toBe(SHARED_NAMES.length)
    expect([sharedName('a.b.github.io', false)?.zone, sharedName('github.io', false)?.zone, sharedName('notgithub.io', false), sharedName('telegram.example', false), sharedName('windows.net', true)?.zone, sharedName('windows.net', false)]).toEqual(['github.io', 'github.io', null, null, 'blob.core.windows.net', null])
    expect(['com', 'co.uk', 'com.au', 'example.com', 'example.co.uk', 'uk.co'].map(isPublicSuffix)).toEqual([true, true, true, false, false, false])
  })
})

describe('names as this host resolves them', () => {
  const answers: Readonly<Record<string, string[]>> = { 'ok.com': ['93.184.215.14', '2606:2800::1'], 'blocked.com': ['0.0.0.0', '::'], 'own.com': ['192.168.1.9'], 'loop.com': ['127.0.0.1'], 'meta.com': ['169.254.169.254'], 'empty.com': [], 'odd.com': ['not\x1ban address'] }
  const ask: AskResolver = async (name) => {
    const found = answers[name]
    if (found === undefined) throw new Error('ESERVFAIL')
    return found
  }
  const lint = (rules: string[], resolver = ask, ms?: number) => lintResolved(resolve(withRules(...rules)).egress, resolver, ms)

  test.each([
    ['host: ok.com', null], ['host: blocked.com', /0\.0\.0\.0 on this host today: a DNS filter/], ['host: own.com', /192\.168\.1\.9.*private.*add private: true/], ['host: own.com, private: true', null], ['host: loop.com', /127\.0\.0\.1.*host\.internal/], ['host: meta.com, private: true', /no rule can open it/],
    ['host: empty.com', /no address/], ['host: odd.com', /not\\x1ban address/], ['host: broken.com', /could not be resolved.*ESERVFAIL/], ['host: "*.blocked.com"', null], ['host: public', null],
  ])('%s', async (fields, expected) => {
    const found = await lint([rule(fields)])
    if (expected === null) expect(found).toEqual([])
    else expect(found[0]).toMatch(expected)
  })

  test('a resolver that never answers is waited for no longer than the limit, and is told to stop', async () => {
    let stopped = 0
    const silent: AskResolver = (_name, signal) => new Promise(() => signal.addEventListener('abort', () => { stopped += 1 }))
    const before = performance.now()
    expect(await lint([rule('host: a.com'), rule('host: b.com')], silent, 40)).toEqual([expect.stringMatching(/a\.com.*no answer within/), expect.stringMatching(/b\.com.*no answer within/)])
    expect(performance.now() - before).toBeLessThan(10_000)
    expect(stopped).toBe(2)
  })
})
