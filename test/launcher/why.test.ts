import { describe, expect, test } from 'vitest'
import type { PluginName } from '../../src/base/ids.ts'
import { explainWhy, type WhyFacts } from '../../src/launcher/why.ts'
import { PLUGIN_STATES, type PluginState, type PluginStatus } from '../../src/wire/requests.ts'

const status = (state: PluginState, reason: string | null = null): PluginStatus => ({
  name: 'sample' as PluginName, state, reason, run: null, since: '', restarts: 0, policyDigest: null, executableSha256: null, generation: null, version: '1.0.0', unenforced: [],
})
const facts = (changes: Partial<WhyFacts> = {}): WhyFacts => ({
  name: 'sample', status: status('running'), refused: null, policiesDir: '/etc/cordon/policies', gatewayPort: 8480, gatewayReason: null, auditError: null, ...changes,
})
const last = (changes: Partial<WhyFacts>) => explainWhy(facts(changes)).steps.at(-1)

describe('why', () => {
  test('a running plugin has every step behind it and nothing to mend', () => {
    const { steps } = explainWhy(facts())
    expect(steps.every((step) => step.ok && step.fix === null)).toBe(true)
    expect(steps.map((step) => step.text)).toEqual(['its policy file is valid', 'it has a policy', 'it is enabled', 'the audit log takes records', 'the gateway serves on port 8480', 'it runs (version 1.0.0)'])
  })

  test.each<[string, Partial<WhyFacts>, RegExp, RegExp]>([
    ['a refused policy comes before all else', { refused: { message: 'x.yaml:1:2 bad', hint: 'Mend it.' }, status: null, auditError: 'ENOSPC' }, /refused: x\.yaml:1:2 bad/, /Mend it\. Then: cordon reload/],
    ['an unknown name', { status: null }, /there is no plugin "sample"/, /cordon policy init sample/],
    ['no policy', { status: status('waiting') }, /no policy in \/etc\/cordon\/policies/, /cordon policy init sample && cordon reload/],
    ['disabled', { status: status('disabled') }, /it is disabled/, /cordon enable sample && cordon start sample/],
    ['a lost log', { status: status('failed'), auditError: 'ENOSPC' }, /audit log cannot be written.*ENOSPC/, /Make room/],
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
})
