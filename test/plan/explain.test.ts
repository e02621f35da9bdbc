import { expect, test } from 'vitest'
import { explain } from '../../src/plan/explain.ts'
import { parsePolicy } from '../../src/policy/parse.ts'
import { resolvePolicy } from '../../src/policy/resolve.ts'

const policy = (text: string) => resolvePolicy(parsePolicy(text, 'demo.yaml'), [])
const FIRST = 'plugin: demo\nexecutable: { path: /opt/demo }\n'
const FULL = `plugin: demo
executable: { path: /opt/demo, entry: bin/demo, sha256: "${'0a'.repeat(32)}" }
runtime: [{ path: /opt/node, reason: runs the program }]
limits: { MemoryMax: 1G, MemoryHigh: 900M, CPUQuota: 150%, IOWeight: 50, IOReadBandwidthMax: 10M, TasksMax: 40, TmpMax: 32M, EgressMax: 200M/day, MaxConnections: 64 }
read: [{ path: /srv/www, reason: the site that it checks }]
sockets: [{ path: /run/postgresql/.s.PGSQL.5432, reason: its database }]
egress:
  mode: learn
  until: 2026-12-31
  allow:
    - { host: api.indexnow.org, ports: [443, 8443], ech: true, reason: submits URLs }
    - { host: "*.bing.com", ports: [443], until: 2026-12-31, reason: submits URLs }
    - { host: public, ports: [443], reason: crawls }
    - { host: host.internal, ports: [8080], tls: off, reason: the host API }
    - { cidr: 10.0.5.7/32, ports: [5432], private: true, reason: its own database }
tripwires: true
env: { LOG_LEVEL: info }
api: { grants: [projects_read, events_read], legacy: grant }
http: { public_paths: [/hooks] }
restart: { on: always, backoff: 500ms..10m, start_limit: 3 in 1h }
unenforced: [MemoryHigh, IOWeight]
`

test('the smallest policy is explained with every built-in rule', async () => {
  await expect(`${explain(policy(FIRST)).join('\n')}\n`).toMatchFileSnapshot('golden/explain-smallest.txt')
})

test('a policy with every field is explained in full', async () => {
  await expect(`${explain(policy(FULL)).join('\n')}\n`).toMatchFileSnapshot('golden/explain-full.txt')
})

test('every choice of a policy shows: changing any one of them changes a sentence', () => {
  const changes = [
    'limits: { MemoryMax: 17M }', 'limits: { MemoryHigh: 20M }', 'limits: { CPUQuota: 17% }', 'limits: { CPUWeight: 17 }', 'limits: { IOWeight: 17 }', 'limits: { IOReadBandwidthMax: 1M }',
    'limits: { IOWriteBandwidthMax: 1M }', 'limits: { TasksMax: 17 }', 'limits: { LimitNOFILE: 17 }', 'limits: { TmpMax: 17M }', 'limits: { EgressMax: 17M/day }', 'limits: { MaxConnections: 17 }\negress: { allow: [{ host: a.org, ports: [443], reason: x }] }', 'tripwires: true', 'tripwires: quarantine', 'egress: { mode: learn, until: 2026-12-31 }', 'egress: { allow: [{ host: a.org, ports: [443], reason: x }] }', 'read: [{ path: /srv, reason: x }]', 'sockets: [{ path: /srv/s, reason: x }]',
    'runtime: [{ path: /opt/x, reason: x }]', 'env: { A: b }', 'api: { grants: [ai_generate] }', 'http: { public_paths: [/x] }', 'restart: { on: never }', 'restart: { on: always }',
    'restart: { backoff: 2s..60s }', 'restart: { start_limit: 17 in 1h }', 'unenforced: [CPUWeight]',
  ]
  const plain = explain(policy(FIRST)).join('\n')
  for (const change of changes) expect(explain(policy(`${FIRST}${change}\n`)).join('\n'), change).not.toBe(plain)
})

test('every choice of an egress rule shows', () => {
  const rule = 'host: a.org, ports: [8443], reason: x'
  const said = (fields: string): string => explain(policy(`${FIRST}egress: { allow: [{ ${fields} }] }\n`)).join('\n')
  const changes = ['host: b.org, ports: [8443], reason: x', 'host: "*.a.org", ports: [8443], reason: x', 'host: public, ports: [8443], reason: x', 'cidr: 8.8.8.8/32, ports: [8443], reason: x', 'host: a.org, ports: [8444], reason: x', 'host: a.org, ports: [8443], reason: y',
    `${rule}, private: true`, `${rule}, tls: require`, `${rule}, tls: off`, `${rule}, ech: true`, `${rule}, until: 2026-12-31`]
  expect(new Set([rule, ...changes].map(said)).size).toBe(changes.length + 1)
})
