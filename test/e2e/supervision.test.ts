import { chmodSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { canRun } from '../kernel/require.ts'
import { TestHost, type AuditRecord } from './host.ts'

/** Never get ready, and are given up after 30 s. */
const SLOW = ['a-slow-1', 'a-slow-2', 'a-slow-3', 'a-slow-4']

/** Stands where the runtime stands, and notes for each run whether its intent was in the log before it. */
const WITNESS = (dir: string, log: string): string => `#!/bin/sh
case " $* " in
  *" run "*)
    for id; do :; done
    if grep -q '"run":"'"$id"'".*"type":"plugin.start"\\|"type":"plugin.start".*"run":"'"$id"'"' ${log}; then echo "$id" >>${dir}/intended; else echo "$id" >>${dir}/unannounced; fi
    ;;
esac
exec /usr/sbin/runc "$@"
`

describe.skipIf(!canRun('/usr/sbin/runc'))('supervision', () => {
  const host = new TestHost(1)
  const witness = `${host.dir}/witness`

  const recordsOf = (plugin: string, type: string): AuditRecord[] => host.records().filter((record) => record.plugin === plugin && record.type === type)
  const runOf = async (plugin: string): Promise<string | null> => (await host.plugin1(plugin)).run
  /** Never two runs at a time: each start is followed by its exit, and each of the two names the same run. */
  const expectOneAtATime = (plugin: string): void => {
    const steps = host.records().filter((record) => record.plugin === plugin && (record.type === 'plugin.started' || record.type === 'plugin.exited'))
    for (const [at, step] of steps.entries()) {
      expect(step.type).toBe(at % 2 === 0 ? 'plugin.started' : 'plugin.exited')
      if (at % 2 === 1) expect(step.run).toBe(steps[at - 1]?.run)
    }
  }

  beforeAll(async () => {
    writeFileSync(witness, WITNESS(host.dir, `${host.stateDir}/audit/records/*.jsonl`))
    chmodSync(witness, 0o755)
    host.configure({ runtime: { kind: 'runc', path: witness } })
    for (const name of ['steady', 'changes', 'acted-on', 'switched', 'killed']) host.plugin(name, {}, 'good-gen2')
    host.plugin('tells-signals')
    host.plugin('stubborn', {}, 'ignores-signals')
    host.plugin('crashes', { restart: { on: 'failure', backoff: '1s..2s', start_limit: '2 in 10m' } }, 'exits-at-once')
    host.plugin('waits-long', { restart: { on: 'failure', backoff: '10m..10m', start_limit: '9 in 10m' } }, 'exits-at-once')
    for (const name of SLOW) host.plugin(name, {}, 'never-ready')
    await host.start()
  })
  afterAll(() => host.close())

  test('four plugins that never get ready do not hold up the others', async () => {
    const others = ['steady', 'changes', 'acted-on', 'switched', 'killed', 'tells-signals', 'stubborn']
    await host.settled(others, ['running'])
    const all = host.records()
    const given = all.findIndex(({ type, plugin }) => type === 'plugin.failed' && SLOW.includes(plugin ?? '')) // up, after half a minute
    for (const name of SLOW) expect(all.some(({ type, plugin }) => type === 'plugin.started' && plugin === name), name).toBe(true)
    expect(others.filter((name) => !all.slice(0, given === -1 ? all.length : given).some(({ type, plugin }) => type === 'plugin.running' && plugin === name))).toEqual([])
  })

  test('a stop ends a plugin that is still starting, at once', async () => {
    const from = host.records().length
    const asked = Promise.all(SLOW.map((name) => host.cli(['restart', name]))) // with all of its half minute before it
    for (const name of SLOW) await host.recorded(({ seq, type, plugin }) => seq >= from && type === 'plugin.started' && plugin === name)
    const before = Date.now()
    expect((await host.cli(['stop', ...SLOW])).status).toBe(0)
    expect(Date.now() - before).toBeLessThan(20_000)
    await asked
    expect((await host.settled(SLOW, ['stopped'])).length).toBe(4)
    expect(host.records().slice(from).filter(({ type, plugin }) => type === 'plugin.failed' && SLOW.includes(plugin ?? ''))).toEqual([]) // not waited out
    const start = host.cli(['start', 'a-slow-1'])
    await host.recorded(({ type, seq, plugin, data }) => seq >= from && type === 'admin.act' && plugin === 'a-slow-1' && data['act'] === 'start') // two commands at once come in any order
    expect((await host.cli(['stop', 'a-slow-1'])).status).toBe(0)
    expect((await start).status).not.toBe(0)
    expect((await host.plugin1('a-slow-1')).state).toBe('stopped')
    expect(host.processesOf('a-slow-1')).toEqual([])
  })

  test('the end of a plugin is noticed at once, with its reason', async () => {
    const [run] = [await runOf('killed')]
    const program = host.processesOf('killed').find((pid) => readFileSync(`/proc/${pid}/comm`, 'utf8') === 'killed\n' || readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith('/usr/bin/python3'))
    if (program === undefined) throw new Error('no process of the plugin')
    process.kill(program, 'SIGKILL')
    const exited = await host.recorded((record) => record.type === 'plugin.exited' && record.run === run, 10_000)
    expect(exited.data['reason']).toContain('exit 137 or SIGKILL')
    expect(await host.plugin1('killed')).toMatchObject({ state: 'failed', reason: expect.stringContaining('SIGKILL') as string })
  })

  test('a crash loop waits longer each time, ends at the start limit, and a start by hand begins anew', async () => {
    const [status] = await host.settled(['crashes'], ['failed'])
    expect(status?.reason).toMatch(/^start-limit: 2 starts within 600 s; last: .*exit 3.*last on stderr: /)
    expect(await host.cli(['why', 'crashes'])).toMatchObject({ status: 1, stdout: expect.stringMatching(/fix: {3}cordon logs crashes; when it is mended: cordon start crashes/) as string })
    expect((await host.cli(['start', 'crashes'])).stderr).toMatch(/LAUNCH_FAILED .*exit 3/)
    expect((await host.cli(['stop', 'crashes'])).status).toBe(0)
    expect((await host.plugin1('crashes')).state).toBe('stopped')
    // In a backoff that outlasts this test: by hand it does not wait.
    await host.settled(['waits-long'], ['backoff'])
    const starts = recordsOf('waits-long', 'plugin.start').length
    expect((await host.cli(['start', 'waits-long'])).stderr).toMatch(/LAUNCH_FAILED .*exit 3/)
    expect(recordsOf('waits-long', 'plugin.start').length).toBe(starts + 3)
    expect((await host.plugin1('waits-long')).state).toBe('backoff')
    expect((await host.cli(['start', 'waits-long'])).stderr).toMatch(/LAUNCH_FAILED/)
    expect(recordsOf('waits-long', 'plugin.start').length).toBe(starts + 6)
    expect((await host.cli(['stop', 'waits-long'])).status).toBe(0)
  })

  test('a stop says SIGINT, then SIGTERM, and who stopped it', async () => {
    const run = await runOf('tells-signals')
    const before = Date.now()
    expect((await host.cli(['stop', 'tells-signals'], { env: { SUDO_USER: 'alice\u001b[2J' } })).status).toBe(0)
    expect(Date.now() - before).toBeGreaterThanOrEqual(5000)
    expect((await host.cli(['logs', 'tells-signals'])).stdout).toBe('got SIGINT\ngot SIGTERM\n')
    expect((await host.recorded((record) => record.type === 'plugin.exited' && record.run === run)).data).toMatchObject({ status: 0 })
    const act = recordsOf('tells-signals', 'admin.act').at(-1)
    expect(act).toMatchObject({ origin: 'operator', data: { act: 'stop', who: expect.stringMatching(/^root \((loginuid \d+, )?SUDO_USER alice\\x1b\[2J\)$/) as string, who_verified: true } })
    expect((await host.plugin1('tells-signals')).reason).toMatch(/^stopped by root/)
  })

  test('several acts at once on one plugin happen one after the other', async () => {
    const acts = [['restart'], ['restart'], ['stop'], ['restart'], ['start'], ['restart']].map(([act = '']) => host.cli([act, 'acted-on']))
    await Promise.all(acts)
    await host.cli(['start', 'acted-on'])
    await host.settled(['acted-on'], ['running'])
    expectOneAtATime('acted-on')
    expect((await host.http('/api/x/acted-on/')).text).toBe('ok')
    expect(new Set(host.processesOf('acted-on').map((pid) => readFileSync(`/proc/${pid}/cgroup`, 'utf8'))).size).toBe(1)
  })

  test('a start that comes during a stop follows it', async () => {
    const stop = host.cli(['stop', 'stubborn'])
    await host.recorded(({ type, plugin }) => type === 'plugin.stop' && plugin === 'stubborn') // which takes six seconds
    const [stopped, started] = await Promise.all([stop, host.cli(['start', 'stubborn'])])
    expect([stopped.status, started.status]).toEqual([0, 0])
    expect((await host.plugin1('stubborn')).state).toBe('running')
    expectOneAtATime('stubborn')
  })

  test('reload restarts what changed and nothing else', async () => {
    const [steady, changes] = [await runOf('steady'), await runOf('changes')]
    host.plugin('changes', { env: { SOMETHING: 'new' } }, 'good-gen2')
    host.policy('broken', { executable: { path: 'relative' } })
    const reload = await host.cli(['reload'])
    expect(reload).toMatchObject({ status: 65, stdout: 'changed: changes\n', stderr: expect.stringContaining('broken.yaml') as string })
    await host.settled(['changes'], ['running'])
    expect(await runOf('steady')).toBe(steady)
    expect(await runOf('changes')).not.toBe(changes)
    rmSync(`${host.policiesDir}/broken.yaml`)
    expect(await host.cli(['reload'])).toMatchObject({ status: 0, stdout: 'nothing changed\n' })
  })

  test('a reload while it starts, twice at once, and acts beside it leave one run under the new policy', async () => {
    host.plugin('changes', { env: { SOMETHING: 'newer' } }, 'good-gen2')
    const restart = host.cli(['restart', 'changes'])
    await sleep(100)
    await Promise.all([host.cli(['reload']), host.cli(['reload']), host.cli(['restart', 'changes']), restart])
    await host.settled(['changes'], ['running', 'stopped'])
    await host.cli(['start', 'changes'])
    const [status] = await host.settled(['changes'], ['running'])
    expectOneAtATime('changes')
    expect(recordsOf('changes', 'policy.loaded').at(-1)?.data['previous']).not.toBe(status?.policyDigest)
    expect(recordsOf('changes', 'policy.loaded').filter((record) => JSON.stringify(record).includes(status?.policyDigest ?? '?')).length).toBe(1)
    expect(new Set(host.processesOf('changes').map((pid) => readFileSync(`/proc/${pid}/cgroup`, 'utf8'))).size).toBe(1)
  })

  test('a plugin without its policy is stopped and waits; without its program it is gone', async () => {
    rmSync(`${host.policiesDir}/killed.yaml`)
    rmSync(`${host.policiesDir}/changes.yaml`)
    rmSync(`${host.pluginsDir}/changes`)
    expect((await host.cli(['reload'])).stdout).toMatch(/changed: .*changes/)
    const { plugins } = await host.status()
    expect(plugins.some((plugin) => plugin.name === 'changes')).toBe(false)
    expect(plugins.find((plugin) => plugin.name === 'killed')).toMatchObject({ state: 'waiting', policyDigest: null })
    expect(await host.cli(['why', 'killed'])).toMatchObject({ status: 1, stdout: expect.stringMatching(/no policy.*fix: {3}cordon policy init killed/s) as string })
    expect((await host.cli(['start', 'killed'])).stderr).toContain('LAUNCH_NO_POLICY')
    expect(host.processesOf('changes')).toEqual([])
    expect(recordsOf('changes', 'policy.removed').length).toBe(1)
  })

  test('disabled stays disabled: through stop and restart by the HTTP API, and through a restart of the host', async () => {
    expect((await host.cli(['disable', 'switched'])).stdout).toMatch(/^switched is disabled/)
    for (const act of ['stop', 'start', 'restart']) await host.http(`/api/x/plugins/switched/${act}`, { method: 'POST' })
    expect((await host.plugin1('switched')).state).toBe('disabled')
    expect((await host.cli(['start', 'switched'])).stderr).toContain('LAUNCH_STATE')
    expect((await host.http('/api/x/plugins/switched/enable', { method: 'POST' })).status).toBe(404)
    await host.cli(['reload'])
    expect(await host.stop()).toBe(0)
    expect(host.leftovers()).toEqual([])
    await host.start()
    await host.settled(['steady'], ['running'])
    expect((await host.plugin1('switched')).state).toBe('disabled')
    expect(host.processesOf('switched')).toEqual([])
    expect((await host.cli(['enable', 'switched'])).stdout).toMatch(/^switched is stopped/)
    expect((await host.cli(['start', 'switched'])).status).toBe(0)
    expect((await host.http('/api/x/switched/')).text).toBe('ok')
  })

  test('what the HTTP API asked for is recorded as the gateway\'s', async () => {
    expect((await host.http('/api/x/plugins/reload', { method: 'POST' })).status).toBeLessThan(300)
    const before = await runOf('steady')
    host.plugin('steady', { env: { SOMETHING: 'more' } }, 'good-gen2')
    const reload = await host.http('/api/x/plugins/reload', { method: 'POST' })
    expect([reload.status, JSON.parse(reload.text)]).toMatchObject([207, { failures: [{ plugin: 'steady', reason: expect.stringContaining('POLICY_WIDENS') as string }] }])
    expect(await runOf('steady')).toBe(before)
    expect((await host.cli(['reload'])).stdout).toContain('steady') // a terminal may
    await host.settled(['steady'], ['running'])
    await host.recorded((record) => record.type === 'admin.act' && record.origin === 'gateway' && record.data['act'] === 'reload')
    const acts = host.records().filter((record) => record.type === 'admin.act' && record.origin === 'gateway').map((record) => record.data['act'])
    expect(acts).toEqual(expect.arrayContaining(['stop', 'start', 'restart', 'reload']))
  })

  test('when the gateway is killed, plugins are stopped in order and all begins again, on record', async () => {
    await host.settled(['steady', 'switched', 'stubborn', 'acted-on', 'tells-signals'], ['running'])
    const [run, before] = [await runOf('steady'), host.records().length]
    process.kill(await gatewayPid(host), 'SIGKILL')
    await host.recorded((record) => record.seq >= before && record.type === 'gateway.started')
    await host.settled(['steady', 'switched', 'stubborn', 'acted-on', 'tells-signals'], ['running'])
    expect((await host.status()).port).toBe(host.port) // also where the configuration names none
    expect(await runOf('steady')).not.toBe(run)
    expect((await host.http('/api/x/steady/')).text).toBe('ok')
    const after = host.records().slice(before)
    expect(after.find((record) => record.type === 'gateway.ended')?.data['reason']).toMatch(/closed the connection|SIGKILL/)
    expect(after.find((record) => record.type === 'plugin.stop' && record.run === run)?.data['reason']).toBe('the gateway ended')
    expect(after.find((record) => record.type === 'plugin.exited' && record.run === run)?.data).toMatchObject({ status: 0 }) // SIGINT was enough
    expect((await host.plugin1('steady')).restarts).toBe(0)
  })

  test('a plugin whose start meets the gateway\'s death is started again, not left without a reader', async () => {
    const sockets = descriptors(host, /^socket:/).length
    for (let n = 0; n < 3; n++) {
      const restart = host.cli(['restart', 'steady'])
      await sleep(350 + 120 * n)
      process.kill(await gatewayPid(host), 'SIGKILL')
      await restart
      await host.settled(['steady', 'switched'], ['running'])
    }
    expectOneAtATime('steady')
    // It was killed four times in a row by now, and is in no hurry any more.
    const moments = host.records().filter((record) => record.type === 'gateway.ended' || record.type === 'gateway.started').slice(-2)
    expect(moments.map((record) => record.type)).toEqual(['gateway.ended', 'gateway.started'])
    expect(Date.parse(moments[1]?.time ?? '') - Date.parse(moments[0]?.time ?? '')).toBeGreaterThanOrEqual(2000)
    await expect.poll(() => descriptors(host, /^socket:/).length).toBeLessThanOrEqual(sockets + 1) // a command that asks just now has one
  })

  test('of runs that are over the launcher holds no descriptor, also of those that ended before anything was written to them', async () => {
    expect((await host.cli(['start', 'crashes'])).status).toBe(69)
    expect((await host.cli(['stop', 'crashes'])).status).toBe(0)
    await expect.poll(() => descriptors(host, / \(deleted\)$/)).toEqual([])
  })

  test('a program without a policy runs under the default one, where the host says so', async () => {
    expect(await host.stop()).toBe(0)
    host.configure({ runtime: { kind: 'runc', path: witness }, unknown: 'run-default' })
    await host.start()
    const [status] = await host.settled(['killed'], ['running'])
    expect(status?.policyDigest).toMatch(/^[0-9a-f]{64}$/)
    expect(recordsOf('killed', 'plugin.found').at(-1)?.data).toMatchObject({ policy: 'default' })
  })

  test('the host stops cleanly while its gateway is being started again', async () => {
    process.kill(await gatewayPid(host), 'SIGKILL')
    await sleep(100)
    expect(await host.stop()).toBe(0)
    expect(host.leftovers()).toEqual([])
    expect(await host.cli(['audit', 'verify'])).toMatchObject({ status: 0, stdout: expect.stringContaining('The log is whole') as string })
  })

  test('no program was started before its intent was durable', () => {
    const lines = (name: string): Set<string> => new Set(readFileSync(`${host.dir}/${name}`, 'utf8').trim().split('\n'))
    const [intended, unannounced] = [lines('intended'), lines('unannounced')]
    const gateways = new Set(host.records().filter((record) => record.type === 'isolation.attested' && record.data['subject'] === 'gateway').map((record) => record.run))
    for (const run of unannounced) expect(gateways.has(run)).toBe(true)
    const started = host.records().filter((record) => record.type === 'plugin.started').map((record) => record.run)
    expect(started.length).toBeGreaterThan(20)
    for (const run of started) expect(intended.has(run ?? '')).toBe(true)
    // Every step of each run, in this order.
    for (const run of started) {
      const steps = host.records().filter((record) => record.run === run).map((record) => record.type)
      expect(steps.filter((type) => ['plugin.start', 'isolation.attested', 'plugin.started', 'plugin.exited'].includes(type))).toEqual(['plugin.start', 'isolation.attested', 'plugin.started', 'plugin.exited'])
    }
  })
})

/** Of the launcher: what its open descriptors lead to. */
function descriptors(host: TestHost, kind: RegExp): string[] {
  const dir = `/proc/${host.daemon?.pid ?? -1}/fd`
  return readdirSync(dir).flatMap((fd) => {
    try {
      return [readlinkSync(`${dir}/${fd}`)]
    } catch {
      return [] // closed meanwhile
    }
  }).filter((target) => kind.test(target))
}

/** It may just be coming back from an earlier end. */
async function gatewayPid(host: TestHost): Promise<number> {
  await expect.poll(() => host.processesOf('_gateway')).not.toHaveLength(0)
  return host.processesOf('_gateway')[0] ?? -1
}
