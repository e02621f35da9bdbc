import { describe, expect, test } from 'vitest'
import { CordonError, toSafeError } from '../../src/errors.ts'
import { cordon, fakeHost, pluginStatus } from './fake-daemon.ts'

const host = fakeHost('quarantine')
const { daemon } = host

const held = (more: object = {}) => () => ({ ok: { plugin: pluginStatus('mine', { state: 'quarantined', reason: 'odd; by root since 2026-11-20T12:00:00.000Z' }), already: false, held: 'frozen', confirmed: true, durable: true, ...more } })
const flat = (text: string): string => text.replace(/\s+/g, ' ')

describe('quarantine', () => {
  test('names what became of the processes, and the one way out', async () => {
    const asked = await daemon(held())
    const { status, out, err } = await cordon(host.config, 'quarantine', 'mine', '--reason', ' odd look-ups ')
    expect([status, err, flat(out)]).toEqual([0, '', 'mine is quarantined: its processes are frozen, its door is shut, its page answers 503. Release it: cordon release mine --reason TEXT'])
    for (const line of out.split('\n')) expect(line.length).toBeLessThanOrEqual(80)
    expect(asked).toEqual([{ type: 'quarantine', plugin: 'mine', reason: 'odd look-ups', who: expect.stringMatching(/^root/) as string }])
  })

  test.each([[{ held: 'not-running' }, 'it did not run'], [{ held: 'killed' }, 'its processes were killed'], [{ already: true }, 'mine is quarantined already: odd; by root since']])('says it in words: %j', async (more, words) => {
    const asked = await daemon(held(more))
    expect(flat((await cordon(host.config, 'quarantine', 'mine')).out)).toContain(words)
    expect(asked).toMatchObject([{ reason: null }])
  })

  test('that is not on disk yet, or not confirmed by the kernel, is a warning; the first has a status of its own', async () => {
    await daemon(held({ durable: false, confirmed: false }))
    const { status, err } = await cordon(host.config, 'quarantine', 'mine')
    expect([status, err]).toEqual([74, expect.stringMatching(/has not confirmed.*\nwarning: this could not be written to disk yet/s)])
    expect(JSON.parse((await cordon(host.config, 'quarantine', 'mine', '--json')).out)).toMatchObject({ held: 'frozen', durable: false, plugin: { state: 'quarantined' } })
  })

  test.each([[[]], [['mine', 'other']], [['-x']], [['mine', '--reason', '']], [['mine', '--reason', 'x'.repeat(201)]], [['mine', '--reason', 'a\nb']], [['No Name']]])('asks nothing of the daemon for %j', async (args) => {
    const asked = await daemon(held())
    expect((await cordon(host.config, 'quarantine', ...args)).status).toBe(64)
    expect(asked).toEqual([])
  })
})

describe('release', () => {
  test('needs a reason, and tells what came of it', async () => {
    const asked = await daemon(() => ({ ok: { plugin: pluginStatus('mine', { state: 'failed', reason: 'exit 3' }) } }))
    expect((await cordon(host.config, 'release', 'mine')).status).toBe(64)
    expect(asked).toEqual([])
    expect(await cordon(host.config, 'release', 'mine', '--reason', 'false alarm')).toEqual({ status: 0, out: 'mine is released and failed (exit 3)', err: '' })
    expect(asked).toEqual([{ type: 'release', plugin: 'mine', reason: 'false alarm', who: expect.stringMatching(/^root/) as string }])
  })

  test('that cannot be put on record says so and ends with 74', async () => {
    await daemon(() => ({ error: toSafeError(new CordonError('AUDIT_UNAVAILABLE', 'ENOSPC')) }))
    expect(await cordon(host.config, 'release', 'mine', '--reason', 'x')).toMatchObject({ status: 74, err: expect.stringContaining('AUDIT_UNAVAILABLE') as string })
  })
})
