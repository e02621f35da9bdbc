import { describe, expect, test } from 'vitest'
import type { PluginName } from '../../src/base/ids.ts'
import { fitToFrame } from '../../src/launcher/status-frame.ts'
import { encodeMessage } from '../../src/wire/frame.ts'
import type { PluginStatus } from '../../src/wire/requests.ts'

const statuses = (count: number, reason: string | null): PluginStatus[] =>
  Array.from({ length: count }, (_, n) => ({
    name: `plugin-${n}` as PluginName, state: 'failed', reason, run: null, since: '2026-11-20T10:00:00.000Z', restarts: 3, policyDigest: 'd'.repeat(64), executableSha256: 'e'.repeat(64), generation: '2', version: '1.0.0', unenforced: [], learning: null, door: 'shut', temporary: 0,
  }))

describe('the list of plugins', () => {
  test('is sent as it is when it fits', () => {
    const few = statuses(20, 'a reason')
    expect(fitToFrame(few)).toEqual(few)
  })

  test.each([[100, '\\x1b'.repeat(1000)], [400, 'x'.repeat(4000)], [300, null]])('%i plugins with long reasons still fit one frame, each with a part of its reason', (count, reason) => {
    const fitted = fitToFrame(statuses(count, reason))
    expect(() => encodeMessage({ type: 'plugins', plugins: fitted })).not.toThrow()
    expect(fitted.length).toBe(count)
    for (const { reason: shown } of fitted) {
      if (reason === null) expect(shown).toBeNull()
      else expect(shown).toMatch(/^.{30,}…$/)
    }
  })
})
