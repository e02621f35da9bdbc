import { describe, expect, test } from 'vitest'
import { difference } from '../../src/plan/difference.ts'
import { parsePolicy } from '../../src/policy/parse.ts'
import type { Policy } from '../../src/policy/policy.ts'
import { resolvePolicy } from '../../src/policy/resolve.ts'

const FIRST = 'plugin: demo\nexecutable: { path: /opt/demo }\n'
const policy = (text = ''): Policy => resolvePolicy(parsePolicy(FIRST + text, 'demo.yaml'), [])
const lines = (before: Policy, after: Policy): string[] => difference(before, after).map(({ sign, field, say }) => `${sign} ${field}: ${say}`)
const egress = (list: string): Policy => policy(`egress:\n  allow:\n${list}`)

describe('the difference of two policies', () => {
  test('of equal ones is empty, also where the files are written differently', () => {
    expect(difference(policy(), policy())).toEqual([])
    expect(lines(egress('    - { host: a.example.org, ports: [443, 8443], reason: x }\n'), egress('    - { host: A.example.org., ports: [8443, 443], reason: x }\n'))).toEqual([])
  })

  test.each<[string, Policy, Policy, string[]]>([
    ['a larger limit', policy('limits: { MemoryMax: 128M, TmpMax: 16M }\n'), policy('limits: { MemoryMax: 256M, TmpMax: 16M }\n'), ['+ limits.MemoryMax: 256M, before: 128M']],
    ['a smaller limit', policy('limits: { TasksMax: 64 }\n'), policy('limits: { TasksMax: 8 }\n'), ['- limits.TasksMax: 8, before: 64']],
    ['a limit that goes', policy('limits: { EgressMax: 200M/day }\n'), policy(), ['+ limits.EgressMax: no limit, before: 200M/day']],
    ['a file more', policy(), policy('read: [{ path: /srv/www, reason: the site }]\n'), ['+ read: may read /srv/www (the site)']],
    ['a file less, a reason changed', policy('read: [{ path: /srv/a, reason: x }, { path: /srv/b, reason: x }]\n'), policy('read: [{ path: /srv/a, reason: y }]\n'), ['~ read: /srv/a: the reason is "y", before: "x"', '- read: no longer: may read /srv/b']],
    ['a pin that goes', { ...policy(), executable: { path: '/opt/demo', entry: null, sha256: 'a'.repeat(64) } }, policy(), [`+ executable.sha256: none; whatever lies there runs, before: ${'a'.repeat(64)}`]],
    ['a permission', policy('api: { grants: [projects_read] }\n'), policy('api: { grants: [ai_generate] }\n'), ['+ api.grants: may ask the host for ai_generate', '- api.grants: no longer: may ask the host for projects_read']],
    ['a public path', policy(), policy('http: { public_paths: [/hooks] }\n'), ['+ http.public_paths: lets anybody without a login reach /hooks']],
    ['a secret-looking variable, of which only the name is told', policy('env: { A: one }\n'), policy('env: { A: two, B: three }\n'), ['~ env: sets A to another value', '~ env: sets B']],
    ['a missing wall', policy(), policy('unenforced: [MemoryHigh]\n'), ['+ unenforced: runs also where the host cannot enforce MemoryHigh']],
    ['decoys', policy(), policy('tripwires: true\n'), ['~ tripwires: a decoy name and a decoy secret are laid out; a touch is a critical record']],
    ['what a touch of a decoy causes', policy('tripwires: record\n'), policy('tripwires: quarantine\n'), ['~ tripwires: a decoy name and a decoy secret are laid out; a touch puts it in quarantine at once']],
    ['restarts', policy(), policy('restart: { on: never }\n'), ['~ restart: never, 1s..1m, 5 starts in 10m, before: failure, 1s..1m, 5 starts in 10m']],
  ])('%s', (_what, before, after, expected) => {
    expect(lines(before, after)).toEqual(expected)
    expect(difference(after, before).length).toBeGreaterThan(0)
  })

  test('of rules goes by destination and port, so that an edited line shows only what it changes', () => {
    const before = egress('    - { host: a.example.org, ports: [80, 443], reason: x }\n    - { host: gone.example.org, ports: [443], reason: x }\n')
    const after = egress('    - { host: a.example.org, ports: [443], reason: x }\n    - { host: a.example.org, ports: [80, 8443], private: true, reason: x }\n')
    expect(lines(before, after)).toEqual([
      expect.stringMatching(/^~ egress: may reach: a\.example\.org on port 80; .*private addresses too \(x\); before: may reach: a\.example\.org on port 80;/) as string,
      expect.stringMatching(/^\+ egress: may reach: a\.example\.org on port 8443/) as string,
      expect.stringMatching(/^- egress: no longer: may reach: gone\.example\.org on port 443/) as string,
    ])
  })

  test('says in capitals that the file would learn', () => {
    const after = policy('egress: { mode: learn, until: 2026-12-31 }\n')
    expect(lines(policy(), after)).toEqual(['+ egress.mode: LEARNING, NOT PROTECTED until 2027-01-01T00:00:00Z: every public name can be reached'])
    expect(lines(after, policy())).toEqual(['- egress.mode: no longer learning: only what is named can be reached'])
  })

  test('never passes two policies that differ for equal, whatever field it is', () => {
    const one = policy()
    for (const key of Object.keys(one) as (keyof Policy)[]) {
      const other = { ...one, [key]: typeof one[key] === 'boolean' ? !one[key] : typeof one[key] === 'object' && one[key] !== null && !Array.isArray(one[key]) ? { ...one[key], later: 1 } : Array.isArray(one[key]) ? [...one[key], { path: 'x', reason: 'y' }] : 'other' } as Policy
      expect(difference(one, other).length, key).toBeGreaterThan(0)
    }
  })
})
