import { expect, test } from 'vitest'
import { explain } from '../../src/plan/explain.ts'
import { parsePolicy } from '../../src/policy/parse.ts'
import { resolvePolicy } from '../../src/policy/resolve.ts'

const policy = (text: string) => resolvePolicy(parsePolicy(text, 'demo.yaml'), [])
const FIRST = 'plugin: demo\nexecutable: { path: /opt/demo }\n'
const FULL = `plugin: demo
executable: { path: /opt/demo, entry: bin/demo, sha256: "${'0a'.repeat(32)}" }
runtime: [{ path: /opt/node, reason: runs the program }]
limits: { MemoryMax: 1G, MemoryHigh: 900M, CPUQuota: 150%, IOWeight: 50, IOReadBandwidthMax: 10M, TasksMax: 40, TmpMax: 32M }
read: [{ path: /srv/www, reason: the site that it checks }]
sockets: [{ path: /run/postgresql/.s.PGSQL.5432, reason: its database }]
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
    'limits: { IOWriteBandwidthMax: 1M }', 'limits: { TasksMax: 17 }', 'limits: { LimitNOFILE: 17 }', 'limits: { TmpMax: 17M }', 'read: [{ path: /srv, reason: x }]', 'sockets: [{ path: /srv/s, reason: x }]',
    'runtime: [{ path: /opt/x, reason: x }]', 'env: { A: b }', 'api: { grants: [ai_generate] }', 'http: { public_paths: [/x] }', 'restart: { on: never }', 'restart: { on: always }',
    'restart: { backoff: 2s..60s }', 'restart: { start_limit: 17 in 1h }', 'unenforced: [CPUWeight]',
  ]
  const plain = explain(policy(FIRST)).join('\n')
  for (const change of changes) expect(explain(policy(`${FIRST}${change}\n`)).join('\n'), change).not.toBe(plain)
})
