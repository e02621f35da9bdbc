import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { canRun } from './require.ts'
import { RUNC } from './runc.ts'
import { CORDON, eventually, WalledHost, type AuditRecord } from './walled.ts'

/** Builds the walls of every plugin but one as it was asked to. */
const WRAPPER = `#!/usr/bin/python3
import json, os, sys
if 'run' in sys.argv:
    path = sys.argv[sys.argv.index('--bundle') + 1] + '/config.json'
    with open(path) as file: c = json.load(file)
    if c['hostname'] == 'bent': del c['linux']['seccomp']
    with open(path, 'w') as file: json.dump(c, file)
os.execv('${RUNC}', ['runc', *sys.argv[1:]])
`

describe.skipIf(!canRun(RUNC, '/usr/bin/python3', '/usr/bin/perl'))('a daemon whose plugins have other walls than planned', () => {
  let host: WalledHost
  let daemon: ChildProcess
  let said = ''
  const of = (plugin: string, type: string): AuditRecord[] => host.audit().filter((record) => record.plugin === plugin && record.type === type)
  const list = (): string => execFileSync(CORDON, ['--config', host.config, 'list'], { encoding: 'utf8' })

  beforeAll(async () => {
    host = new WalledHost(1881507000, (dir) => `{ kind: runc, path: ${dir}/runtime }`)
    writeFileSync(`${host.dir}/runtime`, WRAPPER, { mode: 0o755 })
    for (const name of ['bent', 'honest']) {
      writeFileSync(`${host.dir}/policies/${name}.yaml`, `plugin: ${name}\nexecutable: { path: ${host.files}/hostile }\nenv: { CORDON_PLUGIN_NAME: ${name} }\nrestart: { on: always, backoff: 100ms..1s }\n`)
    }
    daemon = spawn(CORDON, ['--config', host.config, 'serve'], { stdio: ['ignore', 'pipe', 'pipe'], env: { PATH: '/usr/bin:/bin' } })
    for (const stream of [daemon.stdout, daemon.stderr]) stream?.on('data', (chunk: Buffer) => { said += String(chunk) })
    await eventually(() => [of('honest', 'plugin.running').length, said], ([running]) => running === 1)
  })
  afterAll(async () => {
    if (daemon.exitCode === null) {
      daemon.kill('SIGTERM')
      await once(daemon, 'exit')
    }
    const users = execFileSync('/usr/bin/getent', ['passwd'], { encoding: 'utf8' }).split('\n').map((line) => line.split(':')).filter(([, , uid]) => Number(uid) >= 1881507000 && Number(uid) < 1881507512)
    for (const [name = ''] of users) execFileSync('/usr/sbin/userdel', [name], { stdio: 'ignore' })
    host.remove()
  })

  test('the bent one never runs, is not tried again, and its record says what was missing; the other one runs', async () => {
    await eventually(() => of('bent', 'isolation.violated').length, (count) => count > 0)
    await new Promise((next) => setTimeout(next, 3000)) // restarts come after 100 ms
    expect(of('bent', 'isolation.violated').map(({ data }) => (data['differences'] as { what: string }[]).map((one) => one.what))).toEqual([['Seccomp', 'Seccomp_filters']])
    expect([of('bent', 'isolation.attested'), of('bent', 'plugin.started'), of('bent', 'plugin.running')]).toEqual([[], [], []])
    expect(of('honest', 'isolation.attested')).toHaveLength(1)
    expect(list()).toMatch(/bent\s+failed/)
    expect(list()).toMatch(/honest\s+running/)
  })

  test('a limit that is lifted while a plugin runs ends the plugin for good', async () => {
    const pid = await host.pidOf('/usr/bin/perl', '/plugin/honest', '--socket-path', '/run/plugin/plugin.sock', '--data-dir', '/data')
    const path = /^\d+:pids:(.*)$/m.exec(readFileSync(`/proc/${pid}/cgroup`, 'utf8'))?.[1] ?? ''
    writeFileSync(`/sys/fs/cgroup/pids${path}/pids.max`, 'max')
    const [violated] = await eventually(() => of('honest', 'isolation.violated'), (records) => records.length > 0)
    expect(violated?.data['differences']).toEqual([{ what: 'pids.max', expected: '64', found: 'max' }])
    await eventually(list, (text) => /honest\s+failed/.test(text))
    await new Promise((next) => setTimeout(next, 2000))
    expect(of('honest', 'plugin.running')).toHaveLength(1)
    expect(host.processes().filter((pid_) => readFileSync(`/proc/${pid_}/cmdline`, 'utf8').includes('/plugin/'))).toEqual([])
  })

  test('after it was stopped nothing of it is left', async () => {
    daemon.kill('SIGTERM')
    expect(await once(daemon, 'exit')).toEqual([0, null])
    expect(host.leftovers().filter((one) => one !== `${host.runDir}/lock`)).toEqual([])
  })
})
