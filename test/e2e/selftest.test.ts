import { existsSync, readdirSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { canRun } from '../kernel/require.ts'
import { CORDON, cordon, makeTestHost, type TestHost } from './command.ts'

interface Report {
  readonly held: boolean
  readonly tried: number
  readonly passed_outside: number
  readonly walls: readonly { name: string; held: boolean; tried: number; passed_outside: number }[]
  readonly attempts: readonly { wall: string; tried: string; result: string; verdict: string; reason?: string }[]
}

describe.skipIf(!canRun('/usr/bin/perl'))('cordon selftest', () => {
  let host: TestHost
  let report: Report
  beforeAll(async () => {
    host = makeTestHost(1_881_710_000)
    const { status, out, err } = await cordon(['selftest', '--json', '--config', host.configFile])
    expect(status, err).toBe(0)
    report = JSON.parse(out) as Report
  })
  afterAll(() => host.remove())

  test('holds every wall, and the control shows that the attempts can succeed', () => {
    expect(report.held).toBe(true)
    expect(report.walls.map(({ name }) => name).sort()).toEqual(['cpu', 'executable', 'files', 'memory', 'mounts', 'network', 'privilege', 'processes', 'seccomp', 'stdio', 'tasks', 'user'])
    expect(report.tried).toBeGreaterThan(200)
    expect(report.passed_outside).toBeGreaterThan(80)
    for (const name of ['user', 'memory', 'cpu', 'tasks', 'files', 'mounts', 'processes', 'privilege', 'seccomp', 'network', 'stdio']) {
      expect(report.walls.find((wall) => wall.name === name)?.passed_outside, name).toBeGreaterThan(0)
    }
  })

  test('makes the attempts that need a socket directory, a data directory and more forks than TasksMax', () => {
    const of = (tried: string) => report.attempts.find((attempt) => attempt.tried === tried)
    expect(of('fork until it fails')).toMatchObject({ result: 'EAGAIN', verdict: 'held' })
    expect(of('fill the host\'s memory through its socket directory')).toMatchObject({ result: 'ENOSPC', verdict: 'held' })
    expect(of('leave the disk quota by changing the project of a file')).toMatchObject({ verdict: 'held' })
  })

  test('speaks to people on lines of at most 80 columns', async () => {
    const { status, out } = await cordon(['selftest', '--config', host.configFile])
    expect(status).toBe(0)
    expect(out.split('\n').filter((line) => line.length > 80)).toEqual([])
    expect(out).toMatch(/^held {2}seccomp {5}\d+ attempts/m)
    expect(out).toMatch(/\n\d+ attempts behind the walls: every wall held\.\nControl: outside the walls \d+ of these succeed\.$/)
  })

  test('leaves nothing behind when it is stopped in the middle', async () => {
    const run = execa(CORDON, ['selftest', '--config', host.configFile], { reject: false, stdin: 'ignore', timeout: 240_000 })
    while (!existsSync(`${host.runDir}/run`)) await sleep(20)
    await sleep(300)
    run.kill('SIGINT')
    expect((await run).exitCode).toBe(130)
    expect(readdirSync(host.runDir)).toEqual([])
    expect((await execa('bash', ['test/leftovers.sh', 'list'])).stdout).not.toContain(`cgroup${host.runDir.replaceAll('/', '-')}`)
  })

  test('is refused to others than root', async () => {
    expect(await cordon(['selftest'], { as: 65534 })).toMatchObject({ status: 77, err: expect.stringContaining('HOST_NOT_ROOT') })
  })
})
