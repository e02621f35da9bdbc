import { spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { canRun } from '../kernel/require.ts'
import { TestHost, TREE } from './host.ts'

describe.skipIf(!canRun('/usr/sbin/runc'))('one log has one writer', () => {
  const host = new TestHost(28)
  const runs = `${host.stateDir}/runs`

  beforeAll(async () => {
    await host.start()
  })

  afterAll(() => host.close())

  const cordon = (command: string, ...args: string[]) => spawn(`${TREE}/deploy/cordon`, [command, '--config', host.configFile, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  const launch = (...command: string[]) => cordon('run', '--', ...command)
  async function result(child: ReturnType<typeof launch>): Promise<{ status: number | null; out: string; err: string }> {
    let [out, err] = ['', '']
    child.stdout.setEncoding('utf8').on('data', (text: string) => { out += text })
    child.stderr.setEncoding('utf8').on('data', (text: string) => { err += text })
    return { status: await new Promise((done) => child.once('close', done)), out, err }
  }

  test('beside a daemon every cordon run has its records in the one log, marked as its own, and keeps none itself', async () => {
    const several = await Promise.all(['a', 'b', 'c'].map((word) => result(launch('/bin/sh', '-c', `echo ${word}; exit 3`))))
    expect(several.map(({ status, out }) => [status, out])).toEqual([[3, 'a\n'], [3, 'b\n'], [3, 'c\n']])
    const of = host.records().filter(({ origin }) => origin === 'run')
    const ids = [...new Set(of.map((record) => record.run))]
    expect(ids).toHaveLength(3)
    for (const id of ids) {
      const types = of.filter((record) => record.run === id).map(({ type }) => type)
      expect(types.slice(0, 2)).toEqual(['run.started', 'isolation.attested'])
      expect(types.at(-1)).toBe('run.ended')
      expect(types.filter((type) => type === 'run.ended')).toHaveLength(1)
    }
    expect(JSON.stringify(of.find(({ type }) => type === 'run.started')?.data['arguments'])).toMatch(/^\S*hmac-sha256:[0-9a-f]{64}\S*$/)
    expect(existsSync(runs)).toBe(false)
    expect((await host.cli(['audit', 'verify'])).status).toBe(0)
  })

  test('what its door says stands there too, tied to its run', async () => {
    const sealed = await result(cordon('run', '--allow', 'host.internal:9', '--', '/bin/sh', '-c', 'getent hosts not-allowed.example; true'))
    expect([sealed.status, sealed.err]).toEqual([0, ''])
    const refused = await host.recorded(({ type }) => type === 'dns.refused')
    expect(refused).toMatchObject({ origin: 'run', plugin: 'run', run: expect.any(String) as string })
    const door = host.records().find((record) => record.type === 'door.started' && record.origin === 'run')
    expect(door?.data['of']).toBe(refused.run)
    expect(door?.run).not.toBe(refused.run)
  })

  test('when the daemon dies meanwhile the program goes on to its end; what has to be recorded first is refused until one is back', async () => {
    const child = launch('/bin/sh', '-c', 'echo up; sleep 600')
    const up = new Promise((done) => child.stdout.once('data', done))
    const ended = result(child)
    const over = host.records().filter(({ type }) => type === 'run.ended').map(({ run }) => run)
    const { run: id } = await host.recorded(({ type, origin, run, data }) => type === 'isolation.attested' && origin === 'run' && data['subject'] === undefined && !over.includes(run))
    await up
    await host.kill9()
    child.kill('SIGTERM')
    expect((await ended).status).toBe(143) // to stop never waits
    expect(host.records().some((record) => record.type === 'run.ended' && record.run === id)).toBe(false)

    const alone = await result(launch('/bin/echo', 'alone'))
    expect([alone.status, alone.out, alone.err]).toEqual([0, 'alone\n', ''])
    expect(readdirSync(runs)).toHaveLength(1)
    expect(host.records().every((record) => record.run !== readdirSync(runs)[0])).toBe(true)
  })

  test('of several daemons that start at once on one state directory one serves, and a lock of one that was killed holds nobody up', async () => {
    const others = [1, 2, 3].map(() => cordon('serve'))
    const ends = others.map(async (child) => ({ child, ...(await result(child)) }))
    const lost = [await Promise.race(ends)]
    lost.push(await Promise.race(ends.filter((_, at) => others[at] !== lost[0]?.child)))
    for (const { status, err } of lost) expect([status, err]).toEqual([75, expect.stringMatching(/^error: HOST_BUSY another daemon holds /)])
    const [first] = others.filter((child) => !lost.some((one) => one.child === child))
    await expect.poll(() => existsSync(`${host.runDir}/port`)).toBe(true)
    expect((await result(launch('/bin/true'))).status).toBe(0)
    first?.kill('SIGKILL')
    await ends[others.findIndex((child) => child === first)]
    await host.start()
    expect((await host.cli(['audit', 'verify'])).status).not.toBe(2)
    expect((await result(launch('/bin/true'))).status).toBe(0)
  })

  test('where a daemon holds the lock and takes no records, nothing is started', async () => {
    expect(await host.stop()).toBe(0)
    const holder = spawn('/usr/bin/flock', [`${host.stateDir}/lock`, '/bin/sh', '-c', 'echo held; exec sleep 60'], { stdio: ['ignore', 'pipe', 'ignore'] })
    await new Promise((done) => holder.stdout.once('data', done))
    const before = readdirSync(runs)
    const answer = await result(launch('/bin/echo', 'unseen'))
    const pid = readFileSync(`/proc/${holder.pid}/task/${holder.pid}/children`, 'utf8').trim()
    process.kill(Number(pid), 'SIGKILL') // flock waits for it
    expect(answer).toMatchObject({ status: 74, out: '', err: expect.stringMatching(/^error: AUDIT_UNAVAILABLE a daemon holds .*lock and takes no records/) as string })
    expect(readdirSync(runs)).toEqual(before)
    expect(host.leftovers()).toEqual([])
  })
})
