import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { explainAt } from '../../src/cli/explain-at.ts'
import { DEFAULT_HOST_CONFIG } from '../../src/policy/load-host-config.ts'
import { writeSegments, type Made } from '../history/kit.ts'
import { archived, POLICY, WIDER } from '../report/incident.ts'

const NOW = Date.parse('2026-11-20T12:00:00Z')
const at = (day: number, hour = 0): number => Date.parse(`2026-11-${String(day).padStart(2, '0')}T00:00:00Z`) + hour * 3_600_000
let stateDir: string
let first: string
let second: string
beforeAll(() => {
  stateDir = mkdtempSync(join(tmpdir(), 'cordon-explain-'))
  first = archived(stateDir, 'indexnow', POLICY)
  second = archived(stateDir, 'indexnow', WIDER)
  const who = 'root (loginuid 1000, SUDO_USER alice)'
  const loaded = (ms: number, digest: string, previous: string | null): Made => ({ type: 'policy.loaded', plugin: 'indexnow', ms, data: { policy_digest: digest, file: '/etc/cordon/policies/indexnow.yaml', previous } })
  writeSegments(stateDir, [
    { type: 'daemon.started', ms: at(1), data: {} }, loaded(at(1) + 500, first, null),
    { type: 'egress.applied', plugin: 'indexnow', ms: at(2), data: { act: 'allow', destination: 'api.example.com:443', until: '2026-11-03T00:00:00Z', reason: 'trial', who } },
    { type: 'egress.applied', plugin: 'indexnow', ms: at(2, 1), data: { act: 'learn', until: '2026-11-02T06:00:00Z', who } },
    { type: 'egress.applied', plugin: 'indexnow', ms: at(2, 2), data: { act: 'learn ended', until: '', who } },
    { type: 'admin.act', plugin: 'indexnow', ms: at(5), data: { act: 'apply', who } }, loaded(at(5) + 20, second, first),
    { type: 'policy.loaded', plugin: 'other', ms: at(6), data: { policy_digest: 'f'.repeat(64), file: 'x', previous: null } },
    { type: 'daemon.started', ms: at(7), data: {} }, loaded(at(7) + 20, second, second),
    { type: 'admin.act', ms: at(9), data: { act: 'reload', who: 'SIGHUP' } }, { type: 'policy.removed', plugin: 'indexnow', ms: at(9) + 30, data: {} },
    loaded(at(10), '1'.repeat(64), null),
  ])
})
afterAll(() => rmSync(stateDir, { recursive: true, force: true }))

async function told(args: readonly string[], json = false): Promise<string> {
  const lines: string[] = []
  const io = { out: (line: string) => lines.push(line), err: () => undefined, json, color: false }
  expect(await explainAt(args, io, { config: { ...DEFAULT_HOST_CONFIG, stateDir }, signal: AbortSignal.timeout(100_000) }, NOW)).toBe(0)
  return lines.join('\n')
}

const oneLine = (text: string): string => text.replace(/\s+/g, ' ')

test('says which policy held then, what it allowed, when and by whom it came and went', async () => {
  const text = await told(['indexnow', '--at', '2026-11-04'])
  expect(text).toContain(`Policy ${first}\ncame at 2026-11-01T00:00:00Z, brought by the start of the daemon, which read it\nfrom its file`)
  expect(text).toContain(`went at 2026-11-05T00:00:00Z: policy ${second.slice(0, 12)} took its place, by root`)
  expect(text).toContain('api.indexnow.org')
  expect(text).not.toMatch(/example\.net|Changed from the terminal/)
  for (const line of text.split('\n')) expect(line.length, line).toBeLessThanOrEqual(80)
  const later = JSON.parse(await told(['indexnow', '--at', '2026-11-08'], true)) as { digest: string; from: string; to: string; broughtBy: string; endedBy: string; policy: { plugin: string } }
  expect(later).toMatchObject({ digest: second, from: '2026-11-05T00:00:00Z', to: '2026-11-09T00:00:00Z', broughtBy: 'root (loginuid 1000, SUDO_USER alice) (cordon policy apply)', endedBy: 'its file was removed, by SIGHUP (cordon reload)', policy: { plugin: 'indexnow' } })
})

test('what the terminal had changed is told as long as it held', async () => {
  expect(oneLine(await told(['indexnow', '--at', '2026-11-02T01:30:00Z']))).toMatch(/allow api\.example\.com:443 since 2026-11-02T00:00:00Z until 2026-11-03T00:00:00Z.*LEARNING, NOT PROTECTED since/)
  const after = await told(['indexnow', '--at', '2026-11-02T12:00:00Z'])
  expect(after).toMatch(/allow api\.example\.com:443/)
  expect(after).not.toMatch(/LEARNING/)
  expect(await told(['indexnow', '--at', '2026-11-03T12:00:00Z'])).not.toMatch(/api\.example\.com/)
})

test('a policy that is not in the archive is named by its digest', async () => {
  expect(oneLine(await told(['indexnow']))).toMatch(/is in force still.*only its digest is known/)
})

test.each([[['indexnow', '--at', '2026-10-01'], /first on record came at 2026-11-01/], [['indexnow', '--at', '2026-11-09T12:00:00Z'], /last one ended at 2026-11-09/], [['nobody'], /names none at all/]])('%j: there was none, and that is said', async (args, message) => {
  await expect(told(args)).rejects.toMatchObject({ code: 'POLICY_NONE_THEN', message: expect.stringMatching(message) as string })
})

test.each([[[]], [['a', 'b']], [['A B']], [['indexnow', '--at', 'x']], [['indexnow', '--at', '2027-01-01']]])('%j is refused', async (args) => {
  await expect(told(args)).rejects.toMatchObject({ code: 'USAGE_BAD_OPTION' })
})
