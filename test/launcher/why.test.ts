import { describe, expect, test } from 'vitest'
import type { PluginName } from '../../src/base/ids.ts'
import { explainWhy, type WhyFacts } from '../../src/launcher/why.ts'
import { PLUGIN_STATES, type PluginState, type PluginStatus } from '../../src/wire/requests.ts'

const status = (state: PluginState, reason: string | null = null): PluginStatus => ({
  name: 'sample' as PluginName, state, reason, run: null, since: '', restarts: 0, policyDigest: null, executableSha256: null, generation: null, version: '1.0.0', unenforced: [], learning: null, door: 'shut', temporary: 0,
})
const facts = (changes: Partial<WhyFacts> = {}): WhyFacts => ({
  name: 'sample', status: status('running'), refused: null, policiesDir: '/etc/cordon/policies', gatewayPort: 8480, gatewayReason: null, auditError: null, refusals: [], recordsRefusedCalls: true, ...changes,
})
const last = (changes: Partial<WhyFacts>) => explainWhy(facts(changes)).steps.at(-1)

describe('why', () => {
  test('a running plugin has every step behind it and nothing to mend', () => {
    const { steps } = explainWhy(facts())
    expect(steps.every((step) => step.ok && step.fix === null)).toBe(true)
    expect(steps.map((step) => step.text)).toEqual(['it has a valid policy', 'it is enabled', 'the audit log takes records', 'the gateway serves on port 8480', 'it runs (version 1.0.0)'])
  })

  test('a plugin that runs and was refused destinations is told which, the latest first, and never past the size of an answer', () => {
    const refusals = ['a.example', 'b.example', 'c.example', 'd.example'].map((what) => ({ what: `${what}:443`, code: 'name-not-allowed', say: 'no rule names it', count: 2 }))
    expect(last({ refusals })).toEqual({
      ok: false, text: 'it runs, and its door refused d.example:443 (2×): no rule names it | c.example:443 (2×): no rule names it | b.example:443 (2×): no rule names it | and 1 more',
      fix: expect.stringContaining('cordon policy apply sample') as string,
    })
    expect(last({ refusals: refusals.map((one) => ({ ...one, what: 'x'.repeat(320), say: 's'.repeat(2000) })) })?.text.length).toBeLessThanOrEqual(4000)
    expect(explainWhy(facts({ refusals, status: status('stopped') })).steps.filter((one) => !one.ok)).toHaveLength(1)
  })

  test('a decoy that was touched is never proposed as a rule', () => {
    const refusals = [{ what: 'decoy.example', code: 'tripwire', say: 'a decoy', count: 1 }, { what: 'a.example', code: 'name-not-allowed', say: 'no rule', count: 1 }]
    expect(last({ refusals })?.fix).toMatch(/treat it as hostile\. cordon quarantine sample/)
  })

  test('quarantine comes before everything else that may be wrong, with since when, by whom and why', () => {
    const { steps } = explainWhy(facts({ status: status('quarantined', 'odd look-ups; by root since 2026-11-20T12:00:00.000Z'), refused: { message: 'm', hint: 'h' }, gatewayPort: null }))
    expect(steps).toEqual([{ ok: false, text: 'it is in quarantine: odd look-ups; by root since 2026-11-20T12:00:00.000Z', fix: expect.stringContaining('cordon release sample --reason') as string }])
  })

  test('learning is said also where nothing is wrong', () => {
    const { steps } = explainWhy(facts({ status: { ...status('running'), learning: '2026-11-21T00:00:00Z' } }))
    expect(steps.at(-1)).toEqual({ ok: true, text: 'LEARNING, NOT PROTECTED until 2026-11-21T00:00:00Z', fix: null })
  })

  test.each<[string, Partial<WhyFacts>, RegExp, RegExp]>([
    ['a refused policy comes before all else', { refused: { message: 'x.yaml:1:2 bad', hint: 'Mend it.' }, status: null, auditError: 'ENOSPC' }, /refused: x\.yaml:1:2 bad/, /Mend it\. Then: cordon reload/],
    ['an unknown name', { status: null }, /there is no plugin "sample"/, /cordon policy init sample/],
    ['no policy', { status: status('waiting') }, /no policy in \/etc\/cordon\/policies/, /cordon policy init sample && cordon reload/],
    ['disabled', { status: status('disabled') }, /it is disabled/, /cordon enable sample && cordon start sample/],
    ['a lost log', { status: status('failed'), auditError: 'ENOSPC' }, /audit log cannot be written.*ENOSPC/, /Make room/],
    ['paused', { status: status('paused'), auditError: 'ENOSPC' }, /audit log cannot be written, so it stands still, as its policy says: ENOSPC/, /Make room/],
    ['no gateway', { gatewayPort: null, gatewayReason: 'oom-kill' }, /gateway does not serve: oom-kill/, /journalctl/],
    ['stopped', { status: status('stopped', 'stopped by root') }, /it is stopped: stopped by root/, /cordon start sample/],
    ['oom', { status: status('failed', 'oom-kill: it wanted more') }, /oom-kill/, /MemoryMax/],
    ['a pin', { status: status('failed', 'STORE_PIN_MISMATCH: x') }, /STORE_PIN/, /sha256/],
    ['a file', { status: status('failed', 'STORE_ABSENT: x') }, /STORE_ABSENT/, /executable\.path/],
    ['a name', { status: status('failed', 'HANDSHAKE_NAME: x') }, /HANDSHAKE_NAME/, /Name policy file/],
    ['a wall that cannot be', { status: status('failed', 'PLAN_UNENFORCEABLE: x') }, /PLAN_/, /unenforced:/],
    ['a crash loop', { status: status('failed', 'start-limit: 3 starts') }, /start-limit/, /cordon logs sample; when it is mended: cordon start sample/],
    ['anything else', { status: status('backoff', 'exit 3') }, /waits for its next start: exit 3/, /cordon logs sample/],
  ])('%s', (_what, changes, text, fix) => {
    const step = last(changes)
    expect(step).toMatchObject({ ok: false, text: expect.stringMatching(text) as string, fix: expect.stringMatching(fix) as string })
    expect(explainWhy(facts(changes)).steps.filter((one) => !one.ok).length).toBe(1)
  })

  test.each(PLUGIN_STATES.filter((state) => state !== 'running'))('state %s is never called well, and has a line that mends it', (state) => {
    expect(last({ status: status(state, 'some reason') })).toMatchObject({ ok: false, fix: expect.stringMatching(/\S/) as string })
  })

  test('walls that are missing on purpose are told although all is well', () => {
    expect(last({ status: { ...status('running'), unenforced: ['MemoryHigh'] } })).toMatchObject({ ok: true, text: expect.stringContaining('WITHOUT these walls, as its policy says: MemoryHigh') as string })
  })

  test('that refused system calls are not recorded is told of a plugin that runs', () => {
    expect(last({ recordsRefusedCalls: false })).toMatchObject({ ok: true, text: expect.stringContaining('not recorded') as string })
    expect(explainWhy(facts({ status: null, recordsRefusedCalls: false })).steps.some((step) => step.text.includes('not recorded'))).toBe(false)
  })
})
