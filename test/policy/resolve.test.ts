import { expect, test } from 'vitest'
import { parsePolicy, parsePreset } from '../../src/policy/parse.ts'
import { PolicyError } from '../../src/policy/problem.ts'
import { resolvePolicy } from '../../src/policy/resolve.ts'

const FIRST = 'plugin: demo\nexecutable: { path: /opt/demo }\n'
const resolve = (own: string, ...presets: string[]) => resolvePolicy(parsePolicy(own, 'demo.yaml'), presets.map((text, index) => parsePreset(text, `preset${index}.yaml`)))

test('a policy that names nothing but its program grants nothing, within safe limits', () => {
  expect(resolve(FIRST)).toEqual({
    plugin: 'demo', preset: null, executable: { path: '/opt/demo', entry: null, sha256: null }, runtime: [], read: [], sockets: [], env: {}, egress: { mode: 'enforce', until: null, allow: [] }, tripwires: 'off',
    limits: {
      MemoryMax: 268_435_456, MemoryHigh: null, CPUQuota: 100, CPUWeight: 100, IOWeight: null, IOReadBandwidthMax: null, IOWriteBandwidthMax: null,
      TasksMax: 64, LimitNOFILE: 1024, TmpMax: 67_108_864, EgressMax: null, MaxConnections: 256,
    },
    api: { grants: [], legacy: 'deny' }, http: { publicPaths: [] }, onAuditLoss: 'continue',
    restart: { on: 'failure', backoffMinMs: 1000, backoffMaxMs: 60_000, startLimit: { count: 5, windowMs: 600_000 } },
    unenforced: [],
  })
})

test('single values: own, then nearest preset, then default; lists are added up', () => {
  const policy = resolve(
    `${FIRST}extends: near\nlimits: { TasksMax: 10 }\nread: [{ path: /srv/a, reason: own }]\nenv: { A: own }\napi: { grants: [ai_generate] }\n`,
    'extends: far\nlimits: { TasksMax: 20, CPUQuota: 20% }\nread: [{ path: /srv/a, reason: near }, { path: /srv/b, reason: near }]\nenv: { A: near, B: near }\n',
    'limits: { TasksMax: 30, CPUQuota: 30%, MemoryMax: 1G }\napi: { grants: [projects_read], legacy: grant }\nrestart: { on: always }\n',
  )
  expect(policy.preset).toBe('near')
  expect(policy.limits).toMatchObject({ TasksMax: 10, CPUQuota: 20, MemoryMax: 2 ** 30 })
  expect(policy.read).toEqual([{ path: '/srv/a', reason: 'own' }, { path: '/srv/b', reason: 'near' }])
  expect(policy.env).toEqual({ A: 'own', B: 'near' })
  expect(policy.api).toEqual({ grants: ['ai_generate', 'projects_read'], legacy: 'grant' })
  expect(policy.restart.on).toBe('always')
})

test('a limit that only together with the preset makes no sense is refused, with the line of the policy', () => {
  try {
    resolve(`${FIRST}extends: big\nlimits:\n  MemoryMax: 64M\n`, 'limits: { TmpMax: 128M }')
    expect.unreachable()
  } catch (error) {
    expect(error).toBeInstanceOf(PolicyError)
    expect((error as PolicyError).problems).toMatchObject([{ code: 'POLICY_CONFLICT', line: 5, message: expect.stringContaining('(with the preset "big")') as string }])
  }
})

test.each([['true', 'record'], ['false', 'off'], ['record', 'record'], ['quarantine', 'quarantine']])('tripwires: %s is %s', (written, resolved) => {
  expect(resolve(`${FIRST}tripwires: ${written}\n`).tripwires).toBe(resolved)
})

test('/tmp takes at most a quarter of a small memory', () => {
  expect(resolve(`${FIRST}limits: { MemoryMax: 16M }\n`).limits.TmpMax).toBe(4 * 2 ** 20)
})

test('a resolved policy cannot be changed, at any depth', () => {
  const walk = (value: unknown): void => {
    if (typeof value !== 'object' || value === null) return
    expect(Object.isFrozen(value)).toBe(true)
    Object.values(value).forEach(walk)
  }
  walk(resolve(`${FIRST}read: [{ path: /srv/a, reason: own }]\nenv: { A: own }\n`))
})
