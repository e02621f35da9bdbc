import { expect, test } from 'vitest'
import type { PluginName } from '../../src/base/ids.ts'
import { recordedPolicy, type RecordedRun } from '../../src/cli/recorded-policy.ts'
import { Learned } from '../../src/cli/learned.ts'
import { replay } from '../../src/egress/replay.ts'
import { parsePolicy } from '../../src/policy/parse.ts'
import { resolvePolicy } from '../../src/policy/resolve.ts'
import { closed, opened, refused, type At } from './log-kit.ts'

const NOW = Date.parse('2026-11-20T12:00:00Z')
const run = (events: readonly At[], more: Partial<RecordedRun> = {}): RecordedRun => {
  const learned = new Learned([])
  for (const { event, ms } of events) {
    const { type, plugin = null, run: id = null, ...data } = event as unknown as Record<string, unknown> & { type: string; plugin?: string; run?: string }
    learned.add({ time: new Date(ms).toISOString(), type, plugin, run: id, data })
  }
  return { plugin: 'check' as PluginName, executable: '/usr/bin/python3', command: ['python3', 'check.py'], from: '2026-11-20T11:59:00Z', to: '2026-11-20T12:00:00Z', status: 0, read: ['/srv/www'], env: { LOG: 'a "b"' }, learned, ...more }
}
const compiled = (text: string) => resolvePolicy(parsePolicy(text, 'check.yaml'), [])

test('a recording is a policy that passes the check and would have let the same run through', () => {
  const recorded = run([opened(NOW, 'api.example.org'), closed(NOW, 'api.example.org', 2048), opened(NOW, 'mail.example.org', 465)])
  const policy = compiled(recordedPolicy(recorded))
  expect(policy).toMatchObject({ plugin: 'check', executable: { path: '/usr/bin/python3', sha256: null }, read: [{ path: '/srv/www' }], env: { LOG: 'a "b"' }, limits: { EgressMax: 2 ** 20 }, egress: { mode: 'enforce' } })
  expect(policy.egress.allow.map(({ match, ports }) => [match.kind === 'host' && match.name, ports])).toEqual([['api.example.org', [443]], ['mail.example.org', [465]]])
  expect(replay(recorded.learned.records, policy.egress, () => ({ hostAddresses: [], onLink: [], ownPorts: [] }), NOW).newlyRefused).toEqual([])
})

test('a call by a name that every object has is a call like any other', () => {
  const learned = new Learned([])
  for (const method of ['constructor', 'toString', '__proto__', { toString: 1 }, 'list_projects']) learned.add({ time: '2026-11-20T11:59:30.000Z', type: 'channel.call', plugin: 'check', run: null, data: { method } })
  learned.add({ time: '2026-11-20T11:59:31.000Z', type: 'http.request', plugin: 'check', run: null, data: { path: { toString: 1 } } })
  expect(recordedPolicy(run([], { learned }))).not.toMatch(/constructor|toString|__proto__/)
})

test('what a run was refused stands there as a comment', () => {
  const text = recordedPolicy(run([opened(NOW, 'api.example.org'), refused(NOW, 'git.lan', 22, 'address-private', 'git.lan: 10.0.0.7 is private\n  - { host: public }', 0)]))
  expect(text).toMatch(/^# {2}refused 1×, 2026-11-20T12:00:00Z to 2026-11-20T12:00:00Z: git\.lan:22 \(address-private\) git\.lan: 10\.0\.0\.7 is private/m)
  expect(compiled(text).egress.allow).toHaveLength(1)
})

test('a run that reached nothing is given nothing, and a hostile argument stays in its comment', () => {
  const text = recordedPolicy(run([], { command: ['sh', '-c', 'x\negress: { allow: [{ host: public, ports: [443], reason: evil }] }'], read: [], env: {} }))
  expect(compiled(text)).toMatchObject({ egress: { mode: 'enforce', allow: [] }, read: [], env: {} })
  expect(text).toContain('It reached nothing on the network')
})
