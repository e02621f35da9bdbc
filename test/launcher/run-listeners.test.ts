import { expect, test } from 'vitest'
import type { Egress } from '../../src/base/egress-rule.ts'
import { newRunId, type PluginName } from '../../src/base/ids.ts'
import type { SealedNetwork } from '../../src/launcher/network.ts'
import { RunListeners } from '../../src/launcher/run-listeners.ts'
import type { Policy } from '../../src/policy/policy.ts'

const NOTHING: Egress = { allow: [], deny: [], mode: 'enforce', until: null } as Partial<Egress> as Egress
const ports = (...wanted: number[]): Egress => ({ ...NOTHING, allow: [{ host: 'api.example.org', ports: wanted }] }) as unknown as Egress
const LIMITS = { EgressMax: null, MaxConnections: 64 } as Partial<Policy['limits']> as Policy['limits']

/** @param held ports that the plugin holds itself @param slow what the door waits for */
function world(open: readonly number[] | null, held: readonly number[] = [], slow: Promise<void> = Promise.resolve()) {
  const said: unknown[] = []
  const listeners = new RunListeners({
    run: newRunId(), plugin: 'one' as PluginName, network: {} as SealedNetwork, doorHelper: 4711,
    gated: { expectListeners: (expected) => said.push(expected?.tcp ?? null) },
    doors: {
      open: async () => { said.push('open'); await slow },
      swap: async (_run, _egress, fresh) => { said.push(`swap ${fresh.join()}`); await slow; return { closed: 2, held } },
      close: async (_run, why) => { said.push(`close ${why ?? ''}`) },
    },
  }, open)
  return { listeners, said }
}

test('a run without a door gets none as long as its rules need none, and one with all its listeners when they do', async () => {
  const { listeners, said } = world(null)
  expect([await listeners.retune(NOTHING, LIMITS), listeners.isOpen, said]).toEqual([null, false, []])
  expect(await listeners.retune(ports(443), LIMITS)).toEqual({ closed: 0, held: [] })
  expect([listeners.isOpen, said]).toEqual([true, ['open', [53, 443]]])
})

test('other rules open what is missing, keep what is there, and do not expect a port that the plugin holds itself', async () => {
  const { listeners, said } = world([53, 443], [8080])
  expect(await listeners.retune(ports(8443, 8080), LIMITS)).toEqual({ closed: 2, held: [8080] })
  expect(said).toEqual(['swap 8080,8443', [53, 443, 8443]])
})

test.each([['being opened', null], ['being given other rules', [53]]] as const)('a quarantine while the door is %s shuts it for good', async (_when, before) => {
  const { promise, resolve } = Promise.withResolvers<void>()
  const { listeners, said } = world(before, [], promise)
  const tuned = listeners.retune(ports(443), LIMITS)
  await listeners.shut()
  expect([listeners.isOpen, said.slice(1)]).toEqual([false, [null, 'close quarantined']])
  resolve()
  expect([await tuned, listeners.isOpen, said.slice(3)]).toEqual([null, false, ['close quarantined']])
})
