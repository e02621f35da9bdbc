import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { canRun } from '../kernel/require.ts'
import { counters } from './counting.ts'
import { fill } from './fill.ts'
import { TestHost } from './host.ts'

describe.skipIf(!canRun('/usr/sbin/runc'))('while the audit log cannot be written', () => {
  const host = new TestHost(27)
  const disk = `${host.stateDir}/audit`

  beforeAll(async () => {
    // The log alone lies on this disk: whatever else is open for writing would forbid to remount it.
    mkdirSync(disk, { mode: 0o700 })
    execFileSync('/usr/bin/mount', ['-t', 'tmpfs', '-o', 'size=8m,mode=700', 'cordon-e2e-audit', disk])
    for (const name of ['pauses', 'shut-in', 'ended']) host.plugin(name, { on_audit_loss: 'pause' }, 'does-as-told')
    host.plugin('stops', { on_audit_loss: 'stop' }, 'does-as-told')
    host.plugin('goes-on', {}, 'does-as-told')
    await host.start()
    await host.settled(['pauses', 'shut-in', 'ended', 'stops', 'goes-on'], ['running'])
  })

  afterAll(async () => {
    await host.stop()
    const left = host.leftovers().filter((line) => !line.startsWith(`mount ${disk} `))
    execFileSync('/usr/bin/umount', [disk])
    host.destroy()
    expect(left).toEqual([])
  })

  const { told, counted, counts, standsStill } = counters(host)
  const remount = (options: string): unknown => execFileSync('/usr/bin/mount', ['-o', `remount,${options}`, disk])

  /** Until the log notices; what is requested is to be on record. */
  async function loseLog(): Promise<void> {
    fill(`${disk}/ballast`)
    await expect.poll(async () => {
      await host.http('/api/x/goes-on/nothing', { method: 'POST' })
      return (await host.plugin1('pauses')).state
    }, { timeout: 60_000 }).toBe('paused')
  }

  test('on a full disk a plugin is frozen, stopped or runs on as its policy says, and all is as before when there is room', async () => {
    const { run } = await host.plugin1('pauses')
    for (const name of ['pauses', 'goes-on']) await counts(name)
    await loseLog()

    await standsStill('pauses')
    expect(await host.plugin1('pauses')).toMatchObject({ state: 'paused', run, reason: expect.stringMatching(/^the audit log cannot be written: .*ENOSPC/) as string })
    const answer = await host.http('/api/x/pauses/')
    expect([answer.status, JSON.parse(answer.text)]).toEqual([503, expect.objectContaining({ code: 'PROXY_PAUSED', title: 'Plugin Paused', detail: expect.stringContaining('the audit log cannot be written') as string })])
    expect(await host.cli(['why', 'pauses'])).toMatchObject({ status: 1, stdout: expect.stringMatching(/WRONG {2}the audit log cannot be written, so it stands still/) as string })
    expect((await host.cli(['status', 'pauses'])).stdout).toMatch(/^pauses paused\n {2}reason +the audit log cannot be\s+written/)
    await expect.poll(async () => (await host.plugin1('stops')).state).toBe('backoff')
    expect([host.processesOf('stops'), (await host.plugin1('stops')).reason]).toEqual([[], expect.stringMatching(/^the audit log cannot be written: .*; it starts when it can$/)])
    const before = counted('goes-on')
    await expect.poll(() => counted('goes-on')).toBeGreaterThan(before)
    expect((await told('goes-on', 'echo alive')).text).toContain('alive')
    expect((await host.cli(['restart', 'goes-on'])).status).toBe(69)

    rmSync(`${disk}/ballast`)
    await host.settled(['pauses', 'stops'], ['running']) // nobody has to do anything
    expect((await host.plugin1('pauses')).run).toBe(run)
    const there = counted('pauses')
    await expect.poll(() => counted('pauses')).toBeGreaterThan(there)
    expect((await told('pauses', 'echo alive')).text).toContain('alive')
    const resumed = await host.recorded((record) => record.type === 'plugin.resumed' && record.plugin === 'pauses')
    expect(resumed).toMatchObject({ run, data: { since: expect.stringMatching(/^\d{4}-/) as string, reason: expect.stringContaining('ENOSPC') as string } })
    const gap = await host.recorded((record) => record.type === 'gap' && record.data['reason'] === 'unavailable' && Object.hasOwn(record.data['lost'] ?? {}, 'plugin.stop'))
    expect(gap.seq).toBeLessThan(resumed.seq)
    expect((await host.cli(['audit', 'verify'])).status).toBe(4)
  })

  test('on a disk that is read-only it is the same; what is stopped or shut in meanwhile does not run on', async () => {
    await host.settled(['shut-in', 'ended'], ['running'])
    await counts('shut-in')
    const from = host.records().length
    await loseLog()
    await host.settled(['shut-in', 'ended'], ['paused'])
    // A lost log has no file open for writing, which alone lets a disk be remounted by hand. There is room on it from here on.
    remount('ro,size=16m')
    await expect.poll(async () => (await host.cli(['why', 'goes-on'])).stdout).toMatch(/EROFS/)
    expect((await host.cli(['quarantine', 'shut-in'])).stdout).toContain('its processes are frozen')
    const took = async (...args: string[]): Promise<number> => {
      const began = performance.now()
      expect((await host.cli(args)).status).toBe(0)
      return performance.now() - began
    }
    // Killed: it would have to run for its farewell, which it gets five seconds for. A command as such takes its time as well.
    const usual = await took('status')
    expect(await took('stop', 'ended') - usual).toBeLessThan(4500)
    expect(host.processesOf('ended')).toEqual([])

    remount('rw')
    await host.settled(['pauses'], ['running'])
    expect((await host.plugin1('shut-in')).state).toBe('quarantined')
    await standsStill('shut-in')
    expect((await host.plugin1('ended')).state).toBe('stopped')
    expect(host.records().slice(from).filter(({ type }) => type === 'plugin.resumed').map(({ plugin }) => plugin)).toEqual(['pauses'])
    rmSync(`${disk}/ballast`)
    expect((await host.cli(['release', 'shut-in', '--reason', 'the disk is well'])).stdout).toContain('shut-in is released and running')
    expect((await host.cli(['audit', 'verify'])).status).toBe(4)
  })
})
