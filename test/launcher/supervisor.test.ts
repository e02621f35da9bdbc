import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, onTestFinished, test } from 'vitest'
import type { AuditEvent, AuditSink } from '../../src/audit/record.ts'
import { newRunId, type PluginName } from '../../src/base/ids.ts'
import { CordonError } from '../../src/errors.ts'
import { NO_OVERLAY } from '../../src/policy/overlay.ts'
import { PluginRun, type RunDeps } from '../../src/launcher/plugin-run.ts'
import type { StoredExecutable } from '../../src/launcher/store.ts'
import { Supervisor, type SupervisorDeps } from '../../src/launcher/supervisor.ts'
import { loadPolicy, type LoadedPolicy } from '../../src/policy/load.ts'
import { DEFAULT_HOST_CONFIG } from '../../src/policy/load-host-config.ts'
import type { PluginState } from '../../src/wire/requests.ts'

const NAME = 'sample' as PluginName
const unavailable = new CordonError('AUDIT_UNAVAILABLE', 'audit.jsonl: ENOSPC')

interface Fake {
  readonly supervisor: Supervisor
  /** Types of the records that were awaited, then of those that were not. */
  readonly appended: string[]
  readonly noted: AuditEvent[]
  readonly states: PluginState[]
}

/** A supervisor whose host ends where the log begins: nothing is ever started. */
function fake(options: { policy?: boolean; state?: PluginState; append?: () => Promise<{ seq: number }>; gatewayReady?: SupervisorDeps['gatewayReady']; auditReady?: SupervisorDeps['auditReady']; restart?: string; onAuditLoss?: string } = {}): Fake {
  const dir = mkdtempSync(join(tmpdir(), 'cordon-supervisor-'))
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }))
  writeFileSync(`${dir}/program`, '#!/bin/sh\n')
  chmodSync(`${dir}/program`, 0o755)
  writeFileSync(`${dir}/sample.yaml`, `plugin: sample\nexecutable: { path: ${dir}/program }\nrestart: ${options.restart ?? '{ on: failure, backoff: 1s..1s, start_limit: 2 in 10m }'}\non_audit_loss: ${options.onAuditLoss ?? 'continue'}\n`)
  const policy: LoadedPolicy | null = options.policy === false ? null : loadPolicy(`${dir}/sample.yaml`, { presetsDir: resolve(import.meta.dirname, '../../policies'), own: DEFAULT_HOST_CONFIG, ownership: 'reported' })
  const appended: string[] = []
  const noted: AuditEvent[] = []
  const states: PluginState[] = []
  const audit: AuditSink = {
    append: (event) => {
      appended.push(event.type)
      return (options.append ?? (() => Promise.reject(unavailable)))()
    },
    note: (event) => void noted.push(event),
  }
  const supervisor = new Supervisor(NAME, policy, options.state ?? 'stopped', null, {
    host: { config: { ...DEFAULT_HOST_CONFIG, stateDir: dir } } as SupervisorDeps['host'],
    audit, memory: new Map(), generations: { recall: () => null, remember: () => {} },
    gateway: { say: () => {}, data: () => {}, forget: () => {} },
    overlay: () => NO_OVERLAY, doors: { open: async () => {}, close: async () => {}, swap: async () => ({ closed: 0, held: [] }) }, gatewayReady: options.gatewayReady ?? (() => Promise.resolve()), auditReady: options.auditReady ?? (() => Promise.resolve()),
    onChange: () => { states.push(supervisor.state) },
    log: (message) => { throw new Error(message) },
  })
  return { supervisor, appended, noted, states }
}

const untilAborted: SupervisorDeps['gatewayReady'] = (signal) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(new CordonError('LAUNCH_STATE', 'stopped')), { once: true }))

describe('what an operator may ask of a plugin', () => {
  test.each<[PluginState, boolean, string]>([['waiting', false, 'LAUNCH_NO_POLICY'], ['disabled', true, 'LAUNCH_STATE']])('one that is %s neither starts nor restarts, and a stop leaves it so', async (state, policy, code) => {
    const { supervisor } = fake({ state, policy })
    await expect(supervisor.start()).rejects.toMatchObject({ code })
    await expect(supervisor.restart('x')).rejects.toMatchObject({ code })
    await supervisor.stop('by somebody')
    expect(supervisor.state).toBe(state)
    await expect(supervisor.start()).rejects.toMatchObject({ code })
  })

  test.each([[true, 'stopped'], [false, 'waiting']] as const)('with a policy: %s, enabling what was disabled makes it %s', async (policy, state) => {
    const { supervisor } = fake({ policy, state: policy ? 'stopped' : 'waiting' })
    await supervisor.stop('disabled by x', 'disabled')
    expect(supervisor.state).toBe('disabled')
    await supervisor.enable()
    expect(supervisor.state).toBe(state)
  })

  test('one that was replaced starts nothing any more, also where the start was asked for before', async () => {
    const { supervisor, appended } = fake({ gatewayReady: untilAborted })
    await supervisor.start()
    const [retired, late] = [supervisor.retire('replaced'), supervisor.start()]
    await expect(late).rejects.toMatchObject({ code: 'LAUNCH_STATE' })
    await retired
    expect([supervisor.state, appended.length]).toEqual(['stopped', 0])
  })

  test('acts follow each other in the order in which they came', async () => {
    const { supervisor } = fake({ gatewayReady: untilAborted })
    await Promise.all([supervisor.start(), supervisor.stop('1'), supervisor.start(), supervisor.restart('2'), supervisor.stop('3'), supervisor.start()])
    await expect.poll(() => supervisor.state).toBe('starting')
    await Promise.all([supervisor.restart('4'), supervisor.restart('5'), supervisor.stop('6')])
    expect(supervisor.status()).toMatchObject({ state: 'stopped', reason: '6' })
  })
})

describe('a lost audit log', () => {
  test.each(['pause', 'stop'])('one with %s that only starts is given up and waits for the log; a stop ends that wait, and a start by hand is refused with the reason', async (onAuditLoss) => {
    const { supervisor, appended } = fake({ onAuditLoss, gatewayReady: untilAborted, auditReady: untilAborted, append: () => new Promise(() => {}) })
    supervisor.auditLost('ENOSPC') // it does not run: nothing to do
    expect(supervisor.state).toBe('stopped')
    const other = fake({ onAuditLoss, auditReady: untilAborted })
    await other.supervisor.start()
    await expect.poll(() => other.supervisor.state).toBe('backoff')
    other.supervisor.auditLost('ENOSPC')
    await expect.poll(() => other.supervisor.status().reason).toBe('the audit log cannot be written: ENOSPC; it starts when it can')
    const tried = other.appended.length
    await other.supervisor.start()
    await expect.poll(() => other.appended.length).toBe(tried + 1)
    await expect.poll(() => other.supervisor.status()).toMatchObject({ state: 'backoff', reason: expect.stringContaining('AUDIT_UNAVAILABLE') as string })
    await other.supervisor.stop('enough')
    expect([other.supervisor.state, appended]).toEqual(['stopped', []])
  })

  test('one that goes on is left alone', async () => {
    const { supervisor, states } = fake({ gatewayReady: untilAborted })
    await supervisor.start()
    await expect.poll(() => states).toEqual(['starting'])
    supervisor.auditLost('ENOSPC')
    await supervisor.auditBack()
    expect(states).toEqual(['starting'])
    await supervisor.retire('x')
  })
})

describe('quarantine', () => {
  const HELD = { since: '2026-11-20T12:00:00.000Z', who: 'root', reason: 'why' }

  test.each<[PluginState, boolean]>([['waiting', false], ['disabled', true], ['stopped', true], ['failed', true]])('of one that is %s holds at once; nothing starts it, and no act changes what is shown', async (state, policy) => {
    const { supervisor, appended, noted } = fake({ state, policy })
    expect(supervisor.hold(HELD).held).toBe('not-running')
    for (const act of [() => supervisor.start(), () => supervisor.restart('x')]) await expect(act()).rejects.toMatchObject({ code: 'LAUNCH_QUARANTINED' })
    await supervisor.stop('x')
    await supervisor.stop('x', 'disabled')
    await supervisor.enable()
    await supervisor.retune()
    await supervisor.interrupt('the gateway ended')
    expect(supervisor.status()).toMatchObject({ state: 'quarantined', reason: 'why; by root since 2026-11-20T12:00:00.000Z', since: HELD.since, run: null })
    expect([appended, noted]).toEqual([[], []])
  })

  test('ends a start that waits, also for the log, and overtakes an act that is at work', async () => {
    const { supervisor, appended } = fake({ append: () => new Promise(() => {}) })
    await supervisor.start()
    await expect.poll(() => appended).toEqual(['executable.stored'])
    const restarted = supervisor.restart('x')
    supervisor.hold(HELD)
    expect(supervisor.state).toBe('quarantined')
    await expect(restarted).rejects.toMatchObject({ code: 'LAUNCH_QUARANTINED' })
    expect(appended).toEqual(['executable.stored'])
  })

  test('one that is shut in again while it is being released stays in, and still knows whether it was wanted', async () => {
    const { supervisor } = fake({ gatewayReady: untilAborted })
    await supervisor.start()
    supervisor.hold(HELD)
    const released = supervisor.release(false)
    supervisor.hold({ ...HELD, reason: 'again' })
    await released
    expect(supervisor.status()).toMatchObject({ state: 'quarantined', reason: expect.stringContaining('again') as string })
    await supervisor.release(false)
    await expect.poll(() => supervisor.state).toBe('starting')
    await supervisor.retire('x')
  })

  test('released, it goes on as it was: started if it was wanted, else not', async () => {
    const wanted = fake({ gatewayReady: untilAborted })
    await wanted.supervisor.start()
    wanted.supervisor.hold(HELD)
    await wanted.supervisor.release(false)
    await expect.poll(() => wanted.supervisor.state).toBe('starting')
    await wanted.supervisor.retire('x')
    for (const [options, disabled, state] of [[{}, false, 'stopped'], [{}, true, 'disabled'], [{ policy: false, state: 'waiting' }, false, 'waiting']] as const) {
      const { supervisor } = fake(options)
      supervisor.hold(HELD)
      await supervisor.release(disabled)
      expect([supervisor.state, supervisor.quarantine]).toEqual([state, null])
    }
  })
})

describe('a log that takes no records', () => {
  test('a stop does not wait for it', async () => {
    const { supervisor, appended } = fake({ append: () => new Promise(() => {}) })
    await supervisor.start()
    await expect.poll(() => appended).toEqual(['executable.stored'])
    const stopped = supervisor.stop('by somebody').then(() => 'stopped')
    expect(await Promise.race([stopped, sleep(15_000, 'still waiting')])).toBe('stopped')
    expect(supervisor.state).toBe('stopped')
  })

  test('keeps it from starting, for as long as it lasts, and does not count against the start limit', async () => {
    const { supervisor, appended, states } = fake()
    await supervisor.start()
    for (let n = 1; n <= 4; n++) {
      await expect.poll(() => supervisor.state).toBe('backoff')
      expect(appended.length).toBe(n)
      expect(supervisor.status().reason).toMatch(/^AUDIT_UNAVAILABLE: audit\.jsonl: ENOSPC; next start in 1 s$/)
      await supervisor.start() // by hand it does not wait
      await expect.poll(() => appended.length).toBe(n + 1)
    }
    expect(states).not.toContain('failed')
    await supervisor.stop('x')
  })

  test('a plugin that may not be started again is failed, and says why', async () => {
    const { supervisor, noted } = fake({ restart: '{ on: never, backoff: 1s..1s, start_limit: 2 in 10m }' })
    await supervisor.start()
    await expect.poll(() => supervisor.state).toBe('failed')
    expect(supervisor.status().reason).toMatch(/^AUDIT_UNAVAILABLE/)
    expect(noted.some((event) => event.type === 'plugin.failed')).toBe(true)
  })
})

test('interrupted again and again, it starts at once the first time, then later and later, and a stop does not wait for that', async () => {
  let interrupt = async (): Promise<void> => {}
  const { supervisor, appended } = fake({ append: () => interrupt().then(() => Promise.reject(unavailable)) })
  interrupt = () => supervisor.interrupt('the door ended')
  await supervisor.start()
  await expect.poll(() => supervisor.state).toBe('backoff')
  expect(appended.length).toBe(2)
  await sleep(2500)
  expect(appended.length).toBeLessThanOrEqual(3)
  await supervisor.stop('x')
  expect(supervisor.status()).toMatchObject({ state: 'stopped', reason: 'x' })
})

describe('words of the gateway that fit no run', () => {
  test('find none: neither before the first one nor for an invented id', () => {
    const { supervisor, noted, states } = fake()
    expect(supervisor.runOf(newRunId())).toBe(null)
    expect([noted, states, supervisor.state]).toEqual([[], [], 'stopped'])
  })

  test('are passed over where they state, refused where they ask, in a run that is not released', () => {
    const { supervisor, noted, states } = fake()
    const policy = supervisor.policy
    if (policy === null) throw new Error('the fake has a policy')
    const owner = { requireWanted: () => {}, recorded: async () => {}, interrupted: () => false, onRunning: () => { throw new Error('running') }, onStopping: () => { throw new Error('stopping') } }
    const deps = { audit: { append: async () => ({ seq: 0 }), note: (event: AuditEvent) => void noted.push(event) } } as unknown as RunDeps
    const run = new PluginRun({ name: NAME, policy, egress: policy.policy.egress, stored: { sha256: '0' } as StoredExecutable, style: '2', uid: 1 }, deps, owner)
    run.running('2', '1.0.0')
    run.failed('X', 'm')
    expect(run.taken(1 << 20)).toBe(true)
    for (const ask of [() => run.releaseLaunchConfig(), () => run.takeSocket()]) expect(ask).toThrow(expect.objectContaining({ code: 'LAUNCH_STATE' }) as Error)
    expect([noted, states, run.id]).toEqual([[], [], null])
  })
})
