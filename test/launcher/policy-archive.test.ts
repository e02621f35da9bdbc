import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { InForce } from '../../src/launcher/in-force.ts'
import { archivedPolicy, archivePolicy } from '../../src/launcher/policy-archive.ts'
import { difference } from '../../src/plan/difference.ts'
import { policyDigest } from '../../src/policy/load.ts'
import { parsePolicy } from '../../src/policy/parse.ts'
import type { Policy } from '../../src/policy/policy.ts'
import { resolvePolicy } from '../../src/policy/resolve.ts'

const policy = resolvePolicy(parsePolicy('plugin: demo\nexecutable: { path: /opt/demo }\n', 'demo.yaml'), [])
const digest = policyDigest(policy)
let dir = ''
beforeEach(() => { dir = mkdtempSync('/tmp/cordon-archive-') })
afterEach(() => { rmSync(dir, { recursive: true, force: true }) })

test('a policy is found again by its digest, for root alone, and is written once', () => {
  const said: string[] = []
  archivePolicy(dir, { digest, policy }, (line) => said.push(line))
  expect(archivedPolicy(dir, digest)).toEqual(policy)
  const file = `${dir}/policies/${digest}.json`
  expect([statSync(file).mode & 0o777, statSync(`${dir}/policies`).mode & 0o777]).toEqual([0o600, 0o700])
  const { ino } = statSync(file)
  archivePolicy(dir, { digest, policy }, (line) => said.push(line))
  expect(statSync(file).ino).toBe(ino)
  expect([readdirSync(`${dir}/policies`), said]).toEqual([[`${digest}.json`], []])
})

test('a policy that an earlier version wrote means what it meant then: later fields are as if nobody had set them', () => {
  const { onAuditLoss: _loss, tripwires: _wires, ...rest } = policy
  const { EgressMax: _egress, ...limits } = policy.limits
  const older = { ...rest, limits } as unknown as Policy
  archivePolicy(dir, { digest: policyDigest(older), policy: older }, () => undefined)
  const found = archivedPolicy(dir, policyDigest(older))
  expect(found).toEqual(policy)
  if (found === null) throw new Error('it was archived')
  expect(difference(found, { ...policy, onAuditLoss: 'stop' }).map(({ field }) => field)).toEqual(['on_audit_loss'])
})

test('what does not have that digest is not believed', () => {
  archivePolicy(dir, { digest, policy }, () => undefined)
  const file = `${dir}/policies/${digest}.json`
  writeFileSync(file, readFileSync(file, 'utf8').replace('demo', 'evil'))
  expect(archivedPolicy(dir, digest)).toBeNull()
  expect(archivedPolicy(dir, '0'.repeat(64))).toBeNull()
  writeFileSync(file, '{')
  expect(archivedPolicy(dir, digest)).toBeNull()
  expect(archivedPolicy(dir, '../../../etc/passwd')).toBeNull()
})

test('an archive that cannot be written is told and stops nothing', () => {
  const said: string[] = []
  mkdirSync(`${dir}/policies/${digest}.json.new`, { recursive: true })
  archivePolicy(dir, { digest, policy }, (line) => said.push(line))
  expect(said).toEqual([expect.stringContaining('could not be archived: EISDIR')])
})

test('which policy was in force last is known to the next daemon, and never taken from a file that is not ours', () => {
  const said: string[] = []
  const first = new InForce(dir, (line) => said.push(line))
  expect(first.of('demo')).toBeNull()
  first.set('demo', digest)
  first.set('gone', digest)
  first.set('gone', null)
  const next = new InForce(dir, (line) => said.push(line))
  expect([next.of('demo'), next.of('gone'), said]).toEqual([digest, null, []])
  writeFileSync(`${dir}/policies/in-force.json`, '{"demo":"../../etc/passwd"}')
  expect(new InForce(dir, (line) => said.push(line)).of('demo')).toBeNull()
})
