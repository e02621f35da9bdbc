import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, rmSync, statSync } from 'node:fs'
import { createServer, type AddressInfo, type Server } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { canRun } from '../kernel/require.ts'
import { counters } from './counting.ts'
import { fill } from './fill.ts'
import { TestHost, type CliResult } from './host.ts'

const RESTART = { on: 'always', backoff: '200ms..1s', start_limit: '9 in 10m' } as const

describe.skipIf(!canRun('/usr/sbin/runc'))('quarantine', () => {
  const host = new TestHost(13)
  const service: Server = createServer()
  /** Connections that came through the door, and those that ended. */
  let [came, went] = [0, 0]
  let heard = ''

  beforeAll(async () => {
    // A small disk of its own for the whole state, so that a full one is no more than a file away.
    rmSync(host.stateDir, { recursive: true })
    mkdirSync(host.stateDir, { mode: 0o755 })
    execFileSync('/usr/bin/mount', ['-t', 'tmpfs', '-o', 'size=64m,mode=755', 'cordon-e2e-state', host.stateDir])
    mkdirSync(host.pluginsDir, { mode: 0o755 })
    service.on('connection', (socket) => {
      came++
      socket.on('error', () => {}).on('close', () => { went++ }).on('data', (bytes) => { heard += bytes.toString('latin1') })
      socket.write('hello')
    }).listen(0, '127.0.0.1')
    await new Promise((done) => service.once('listening', done))
    policyOfBad()
    host.plugin('full', { restart: RESTART }, 'does-as-told')
    host.plugin('bystander', { restart: RESTART }, 'good-gen2')
    host.plugin('stubborn', {}, 'ignores-signals')
    host.install('nobody', 'good-gen2')
    const egress = { allow: [{ host: 'host.internal', ports: [(service.address() as AddressInfo).port], reason: 'the test' }] }
    host.plugin('trapped', { restart: RESTART, tripwires: 'quarantine', egress }, 'does-as-told')
    host.plugin('watched', { restart: RESTART, tripwires: true }, 'does-as-told')
    await host.start()
    await host.settled(['bad', 'full', 'bystander', 'stubborn', 'trapped', 'watched'], ['running'])
  })

  afterAll(async () => {
    service.close()
    await host.stop()
    const left = host.leftovers().filter((line) => !line.startsWith(`mount ${host.stateDir} `)) // the tmpfs is this test's
    execFileSync('/usr/bin/umount', [host.stateDir])
    host.destroy()
    expect(left).toEqual([])
  })

  function policyOfBad(reason = 'the test'): void {
    host.plugin('bad', { restart: RESTART, egress: { allow: [{ host: 'host.internal', ports: [(service.address() as AddressInfo).port], reason }] } }, 'does-as-told')
  }
  const { told, counts, standsStill } = counters(host)
  const state = async (name: string): Promise<string> => (await host.plugin1(name)).state

  function refused(answer: CliResult, code: string, status: number): void {
    expect(answer).toMatchObject({ status, stderr: expect.stringContaining(`error: ${code} `) as string })
  }

  test('a plugin stands still at once: its processes, its connections, its page; another one does not notice', async () => {
    await counts('bad')
    expect(await told('bad', `(exec python3 -c "import socket,time
s=socket.create_connection(('host.internal',${(service.address() as AddressInfo).port}))
s.recv(5)
time.sleep(600)") >/dev/null 2>&1 &`)).toMatchObject({ status: 200 })
    await expect.poll(() => came).toBe(1)
    const underWay = told('bad', 'sleep 50')
    await sleep(300)
    expect([went, (await host.plugin1('bad')).door]).toEqual([0, 'open'])
    const { run } = await host.plugin1('bad')

    const answer = await host.cli(['quarantine', 'bad', '--reason', 'it counts'], { env: { SUDO_USER: 'alice' } })
    expect(answer).toMatchObject({ status: 0, stderr: '', stdout: expect.stringContaining('bad is quarantined: its processes are frozen, its door is shut') as string })
    await standsStill('bad')
    expect(host.processesOf('bad').length).toBeGreaterThan(2)
    await expect.poll(() => went).toBe(1)
    expect(problem(await underWay)).toEqual(SHUT_IN)
    expect(problem(await host.http('/api/x/bad/'))).toEqual(SHUT_IN)
    expect((await host.http('/api/x/bad/', { token: null })).status).toBe(401)
    expect((await host.http('/api/x/bystander/')).text).toBe('ok')

    const { status: _, ...shown } = { ...(await host.plugin1('bad')), status: 0 }
    expect(shown).toMatchObject({ state: 'quarantined', run, door: 'shut', reason: expect.stringMatching(/^it counts; by root .*SUDO_USER alice\) since \d{4}-.*Z$/) as string })
    expect((await host.cli(['list'])).stdout).toMatch(/bad +quarantined +1\.0\.0 +it counts; by root/)
    expect(await host.cli(['why', 'bad'])).toMatchObject({ status: 1, stdout: expect.stringMatching(/WRONG {2}it is in quarantine: it counts; by root .*\nfix: .*cordon release bad/) as string })
    const { data, origin } = await host.recorded((record) => record.type === 'plugin.quarantined' && record.plugin === 'bad')
    expect({ origin, ...data }).toMatchObject({ origin: 'operator', held: 'frozen', reason: 'it counts', who: expect.stringContaining('SUDO_USER alice') as string, who_verified: true })
    const again = await host.cli(['quarantine', 'bad'])
    expect([again.status, again.stdout.replaceAll(/\s+/g, ' ')]).toEqual([0, expect.stringContaining('bad is quarantined already: it counts; by root')])
  })

  test('nothing but a release lifts it: no start, restart, enable, reload or policy, and not the gateway', async () => {
    refused(await host.cli(['start', 'bad']), 'LAUNCH_QUARANTINED', 77)
    refused(await host.cli(['restart', 'bad']), 'LAUNCH_QUARANTINED', 77)
    expect((await host.cli(['enable', 'bad'])).status).toBe(0)
    policyOfBad('another reason')
    expect((await host.cli(['policy', 'apply', 'bad', '--yes'])).status).toBe(0)
    host.plugin('bad', { restart: RESTART, env: { OTHER: 'yes' } }, 'does-as-told') // this one would restart it
    expect((await host.cli(['reload'])).stdout).toContain('changed: bad')
    for (const act of ['start', 'stop', 'restart', 'disable']) expect((await host.http(`/api/x/plugins/bad/${act}`, { method: 'POST' })).status).toBe(409)
    expect((await host.http('/api/x/plugins/bad/release', { method: 'POST' })).status).toBe(404)
    expect((await host.http('/api/x/plugins/bad/quarantine', { method: 'POST', token: 'wrong' })).status).toBe(401)
    expect(await state('bad')).toBe('quarantined')
    await standsStill('bad')
    expect(host.processesOf('bad').length).toBeGreaterThan(2)
  })

  test('an unknown plugin, and one that waits, has a clear answer; through the host API it is as quick', async () => {
    refused(await host.cli(['quarantine', 'unknown']), 'LAUNCH_UNKNOWN_PLUGIN', 66)
    refused(await host.cli(['release', 'bystander', '--reason', 'why not']), 'LAUNCH_STATE', 75)
    refused(await host.cli(['release', 'bad']), 'USAGE_BAD_OPTION', 64)
    expect((await host.plugin1('nobody')).state).toBe('waiting')
    expect((await host.http('/api/x/plugins/nobody/quarantine', { method: 'POST' })).text).toContain('"state":"quarantined"')
    const { data, origin } = await host.recorded((record) => record.type === 'plugin.quarantined' && record.plugin === 'nobody')
    expect({ origin, ...data }).toMatchObject({ origin: 'gateway', held: 'not-running', who: expect.stringContaining('admin token from') as string })
    expect((await host.cli(['release', 'nobody', '--reason', 'no harm'])).stdout).toContain('nobody is released and waiting')
  })

  test('it does not wait for a stop that is at work: what was on its way out is killed', async () => {
    const stopping = host.cli(['stop', 'stubborn'])
    // Over HTTP, which is quick: the stop ends by itself after six seconds.
    await expect.poll(async () => (await host.http('/api/x/plugins/stubborn/status')).text, { interval: 20 }).toContain('"state":"stopping"')
    expect((await host.http('/api/x/plugins/stubborn/quarantine', { method: 'POST' })).status).toBe(200)
    expect((await host.recorded((record) => record.type === 'plugin.quarantined' && record.plugin === 'stubborn')).data).toMatchObject({ held: 'killed' })
    expect([host.processesOf('stubborn'), await state('stubborn')]).toEqual([[], 'quarantined'])
    expect((await stopping).status).toBe(0)
    expect(await state('stubborn')).toBe('quarantined')
    expect((await host.cli(['release', 'stubborn', '--reason', 'it was being stopped'])).stdout).toContain('stubborn is released and stopped')
  })

  test('a plugin that touches its decoy is on record as critical, and in quarantine where its policy says so', async () => {
    const lookUp = 'getent hosts "$(echo "$BACKUP_URL" | cut -d/ -f3)"; echo done'
    expect((await told('watched', lookUp)).text).toContain('done')
    expect((await host.recorded((record) => record.type === 'tripwire.touched' && record.plugin === 'watched')).data).toMatchObject({ severity: 'critical', decoy: 'name', where: 'look-up', say: expect.stringMatching(/^it asked for the decoy name backup-[0-9a-f]{10}\.internal$/) as string })
    expect(await state('watched')).toBe('running')

    const { port } = service.address() as AddressInfo
    const uses = `curl -sS -m 40 -H "Authorization: Bearer $BACKUP_TOKEN" http://host.internal:${port}/`
    for (const [command, touched, say] of [[lookUp, { decoy: 'name', where: 'look-up' }, 'it asked for the decoy name backup-'], [uses, { decoy: 'secret', where: 'connection' }, `it sent the decoy secret to host.internal:${port}`]] as const) {
      expect(await told('trapped', 'echo "$BACKUP_TOKEN"')).toMatchObject({ status: 200, text: expect.stringContaining('bk_') as string }) // to have it is no touch
      expect(problem(await told('trapped', `${command}; sleep 50`))).toEqual(SHUT_IN)
      expect(await host.plugin1('trapped')).toMatchObject({ state: 'quarantined', reason: expect.stringContaining(`${say}`) as string })
      expect((await host.recorded((record) => record.type === 'tripwire.touched' && record.plugin === 'trapped' && record.data['where'] === touched.where)).data).toMatchObject(touched)
      expect((await host.recorded((record) => record.type === 'plugin.quarantined' && record.plugin === 'trapped' && String(record.data['reason']).startsWith(say)))).toMatchObject({ origin: 'door', data: { who: 'its tripwire', held: 'frozen' } })
      expect(host.processesOf('trapped').length).toBeGreaterThan(2)
      expect((await host.cli(['release', 'trapped', '--reason', 'the next touch'])).stdout).toBe('trapped is released and running\n')
    }
    expect(heard).not.toContain('bk_') // its connection may open, and nothing of the secret passes
  })

  test('on a disk that is full, so that nothing can be recorded, it is as quick and outlives the daemon all the same; a release is refused', async () => {
    await counts('full')
    fill(`${host.stateDir}/ballast`)
    try {
      await expect.poll(async () => (await host.cli(['restart', 'bystander'])).status, { timeout: 60_000 }).toBe(69) // the log is lost
      // Shorter records may still fit into its last block, and what was written anew may have freed one.
      for (let n = 0; n < 20; n++) await host.http('/api/x/plugins/bystander/nothing', { method: 'POST' })
      fill(`${host.stateDir}/ballast`)
      expect(await host.cli(['quarantine', 'full', '--reason', 'even so'])).toMatchObject({ status: 0, stdout: expect.stringContaining('its processes are frozen') as string })
      await standsStill('full')
      refused(await host.cli(['release', 'full', '--reason', 'nobody would know '.repeat(11)]), 'AUDIT_UNAVAILABLE', 74)
      expect(await state('full')).toBe('quarantined')
      expect(readdirSync(`${host.stateDir}/quarantine`)).toEqual(expect.arrayContaining(['bad', 'full']))
    } finally {
      rmSync(`${host.stateDir}/ballast`)
    }
  })

  test('it outlives a stop and a kill -9 of the launcher, and a policy that is taken away; nothing is left frozen', async () => {
    const { reason } = await host.plugin1('bad')
    expect(statSync(`${host.stateDir}/quarantine`).mode & 0o777).toBe(0o700)
    expect(await host.stop()).toBe(0)
    expect(host.processesOf('bad')).toEqual([])
    await host.start()
    expect(await host.plugin1('bad')).toMatchObject({ state: 'quarantined', reason, run: null })
    await host.settled(['bystander'], ['running'])
    expect((await host.cli(['quarantine', 'bystander'])).status).toBe(0)
    rmSync(`${host.policiesDir}/full.yaml`)
    rmSync(`${host.pluginsDir}/full`)
    await host.kill9()
    await host.start()
    expect((await host.settled(['bad', 'full', 'bystander'], ['quarantined'])).length).toBe(3)
    expect(['bad', 'full', 'bystander'].flatMap((name) => host.processesOf(name))).toEqual([])
    expect(problem(await host.http('/api/x/bystander/'))).toEqual(SHUT_IN)
  })

  test('a release is on record first and brings it back', async () => {
    expect(await host.cli(['release', 'bad', '--reason', 'looked at'])).toMatchObject({ status: 0, stdout: 'bad is released and running\n' })
    await counts('bad')
    const { data } = await host.recorded((record) => record.type === 'plugin.released' && record.plugin === 'bad')
    expect(data).toMatchObject({ reason: 'looked at', who: expect.stringContaining('root') as string })
    expect((await host.cli(['quarantine', 'bad'])).status).toBe(0)
    const frozen = host.processesOf('bad')
    expect(frozen.length).toBeGreaterThan(2)
    expect((await host.cli(['release', 'bad', '--reason', 'again'])).stdout).toBe('bad is released and running\n')
    expect(host.processesOf('bad').filter((pid) => frozen.includes(pid))).toEqual([])
    expect((await host.cli(['quarantine', 'bad'])).stdout).toContain('its processes are frozen')
    expect((await host.cli(['stop', 'bad'])).status).toBe(0)
    expect([await state('bad'), host.processesOf('bad')]).toEqual(['quarantined', []])
    expect((await host.cli(['release', 'full', '--reason', 'its policy is gone'])).stdout).toContain('full is released and waiting')
    expect((await host.cli(['audit', 'verify'])).status).not.toBe(2)
  })
})

const SHUT_IN = { status: 503, type: 'urn:cordon:problem:plugin-quarantined', code: 'PROXY_QUARANTINED' }

function problem({ status, text }: { status: number; text: string }): unknown {
  const { type, code } = JSON.parse(text) as { type: string; code: string }
  return { status, type, code }
}
