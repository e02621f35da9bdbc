import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { REASONS } from '../../src/egress/reasons.ts'
import { TestHost, TREE } from './host.ts'

/**
 * The door end to end: a daemon that lives in a network namespace of its own ("the host"), wired to another one ("the internet") where a
 * resolver, web servers and traps say what arrived. Nothing leaves this machine.
 */
const HOST = `cordon-e2e-${process.pid}-host`
const INTERNET = `cordon-e2e-${process.pid}-inet`
const WEB = '10.77.0.10'
const DNS = '10.77.0.53'
const ip = (...args: string[]): string => execFileSync('/usr/sbin/ip', args, { encoding: 'utf8' })
/** nsenter and not `ip netns exec`, which hides /sys/fs/cgroup. */
const ENTER = ['/usr/bin/nsenter', `--net=/run/netns/${HOST}`] as const
const inHost = (...command: string[]): string => execFileSync(ENTER[0], [ENTER[1], ...command], { encoding: 'utf8', timeout: 90_000 })

describe('the door', () => {
  const host = new TestHost(6)
  const certs = mkdtempSync('/var/lib/cordon-e2e-certs-')
  const prefix = [...ENTER, '/usr/bin/unshare', '--mount', '/bin/sh', '-c', 'mount --bind "$0" /etc/resolv.conf && exec "$@"', `${certs}/resolv.conf`]
  let internet: ChildProcess
  const arrived: { what: string; detail: string }[] = []

  beforeAll(async () => {
    ip('netns', 'add', HOST)
    ip('netns', 'add', INTERNET)
    ip('link', 'add', 'veth0', 'netns', HOST, 'type', 'veth', 'peer', 'name', 'veth0', 'netns', INTERNET)
    for (const [ns, addresses] of [[HOST, ['10.77.0.1/24']], [INTERNET, ['10.77.0.2/24', `${WEB}/24`, `${DNS}/24`, '192.0.2.10/32', '198.51.100.10/32', '169.254.169.254/32']]] as const) {
      ip('-n', ns, 'link', 'set', 'lo', 'up')
      for (const address of addresses) ip('-n', ns, 'address', 'add', address, 'dev', 'veth0')
      ip('-n', ns, 'link', 'set', 'veth0', 'up')
    }
    ip('-n', HOST, 'route', 'add', 'default', 'via', '10.77.0.2')
    writeFileSync(`${certs}/resolv.conf`, `nameserver fe80::53%veth0\nnameserver ${DNS}\n`)
    execFileSync('/usr/bin/openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', `${certs}/key.pem`, '-out', `${certs}/cert.pem`, '-days', '2', '-subj', '/CN=good.example', '-addext', 'subjectAltName=DNS:good.example,DNS:later.example,DNS:learned.example'], { stdio: 'ignore' })
    internet = spawn('/usr/sbin/ip', ['netns', 'exec', INTERNET, process.execPath, `${TREE}/test/e2e/internet.ts`, WEB, DNS, `${certs}/cert.pem`, `${certs}/key.pem`], { stdio: ['ignore', 'pipe', 'inherit'] })
    let text = ''
    internet.stdout?.setEncoding('utf8').on('data', (more: string) => {
      const lines = (text + more).split('\n')
      text = lines.pop() ?? ''
      arrived.push(...lines.map((line) => JSON.parse(line) as { what: string; detail: string }))
    })
    while (!arrived.some(({ what }) => what === 'ready')) await sleep(50)
    host.plugin('does-as-told', { restart: { on: 'always', backoff: '200ms..1s', start_limit: '9 in 10m' }, egress: { allow: [{ host: 'good.example', ports: [443, 80], private: true, reason: 'the test' }, { host: 'rebound.example', ports: [443], private: true, reason: 'the test' }] } })
    host.plugin('sealed', {}, 'good-gen2') // it has no door
    await host.start({ prefix })
    await host.settled(['does-as-told', 'sealed'], ['running'])
  })

  afterAll(async () => {
    await host.close()
    internet.kill('SIGKILL')
    for (const ns of [HOST, INTERNET]) ip('netns', 'del', ns)
    rmSync(certs, { recursive: true })
  })

  /** A shell command as the plugin. */
  function told(command: string): { status: number; out: string } {
    const answer = inHost('/usr/bin/curl', '-sS', '-X', 'POST', '--data-binary', command, '-H', `authorization: Bearer ${host.token()}`, `http://127.0.0.1:${host.port}/api/x/does-as-told/do`)
    return JSON.parse(answer) as { status: number; out: string }
  }
  /** A connection of the plugin that stays open; resolves when it ends. */
  const hold = (url: string): Promise<unknown> => new Promise((resolve) => {
    spawn(ENTER[0], [ENTER[1], '/usr/bin/curl', '-sS', '-X', 'POST', '--data-binary', `curl -ksSN ${url}`, '-H', `authorization: Bearer ${host.token()}`, `http://127.0.0.1:${host.port}/api/x/does-as-told/do`], { stdio: 'ignore' }).once('exit', resolve)
  })
  const seen = (): string[] => arrived.map(({ what, detail }) => `${what} ${detail}`)
  const run = async (): Promise<string | null> => (await host.plugin1('does-as-told')).run

  test('lets unmodified programs reach an allowed name, and nothing but that name is asked for outside', async () => {
    arrived.length = 0
    expect(told('curl -ksS https://good.example/curl; curl -sS http://good.example/plain')).toEqual({ status: 0, out: 'over tls\nin plain\n' })
    expect(told(`python3 -c 'import ssl,urllib.request as u; print(u.urlopen("https://good.example/python", context=ssl._create_unverified_context()).read().decode(), end="")'`)).toEqual({ status: 0, out: 'over tls\n' })
    await expect.poll(seen).toEqual(expect.arrayContaining(['https good.example/curl', 'http good.example/plain', 'https good.example/python']))
    expect(seen().filter((one) => one.startsWith('dns') && !one.endsWith(' good.example'))).toEqual([])
  })

  test('answers a resolver of any address in both families, itself', () => {
    arrived.length = 0
    const ask = `import socket, struct
name = b"".join(bytes([len(l)]) + l for l in (b"good", b"example")) + bytes(1)
for family, server in ((socket.AF_INET, "8.8.8.8"), (socket.AF_INET6, "2001:db8::53"), (socket.AF_INET6, "::1")):
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        q = struct.pack(">HHHHHH", 7, 256, 1, 0, 0, 0) + name + struct.pack(">HH", 1, 1)
        s = socket.socket(family, kind); s.settimeout(40); s.connect((server, 53))
        s.send(q if kind == socket.SOCK_DGRAM else struct.pack(">H", len(q)) + q)
        print(socket.inet_ntoa(s.recv(512)[-4:]).rsplit(".", 1)[0])`
    expect(told(`python3 -c '${ask}'`)).toEqual({ status: 0, out: '198.18.1\n'.repeat(6) })
    expect(seen()).toEqual([])
  })

  test.each([
    ['another name', 'curl -ksS -m 30 https://other.example/', 6],
    ['a name below an allowed one', 'curl -ksS -m 30 https://deeper.good.example/', 6],
    ['data in a name', 'curl -ksS -m 30 https://c2VjcmV0.tunnel.example/', 6],
    ['another port of an allowed name', 'curl -sS -m 30 http://good.example:9999/', 7],
    ['a literal address', 'curl -ksS -m 30 https://192.0.2.10/', 35],
    ['the address of an allowed name', `curl -ksS -m 30 https://${WEB}/`, 35],
    ['another name behind an allowed address (SNI)', 'curl -ksS -m 30 --connect-to other.example:443:good.example:443 https://other.example/', 35],
    ['another name behind an allowed address (Host)', 'curl -sS -m 30 -f -H "Host: other.example" http://good.example/', 22],
    ['the metadata service', 'curl -sS -m 30 http://169.254.169.254/', 52],
    ['the metadata service behind an allowed name', 'curl -ksS -m 30 https://rebound.example/', 35],
    ['a resolver of its own choice', `python3 -c 'import socket; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.settimeout(2); s.sendto(b"x"*30,("198.51.100.10",4444))'`, 1],
    ['a service of the host', 'curl -sS -m 30 http://10.77.0.1:22/', 7],
  ])('does not let it reach %s', async (_, command, status) => {
    arrived.length = 0
    const { status: found, out } = told(command)
    await sleep(100)
    expect(seen().filter((one) => one !== 'dns A rebound.example' && one !== 'dns AAAA rebound.example')).toEqual([])
    expect(found === 0, out).toBe(false)
    expect([status, 35, 52, 56, 7, 22].includes(found), `status ${found}: ${out}`).toBe(true)
  })

  test('has all of it on record, with the reason', async () => {
    const of = (type: string) => host.records().filter((record) => record.type === type).map(({ data }) => data)
    await expect.poll(() => of('egress.opened')).toEqual(expect.arrayContaining([expect.objectContaining({ name: 'good.example', port: 443, address: WEB, sni: 'good.example' })]))
    await expect.poll(() => of('egress.closed').some((data) => Number(data.bytesIn) > 0 && data.name === 'good.example')).toBe(true)
    await expect.poll(() => of('dns.refused').map((data) => data.name)).toEqual(expect.arrayContaining(['other.example', 'deeper.good.example', 'c2VjcmV0.tunnel.example'.toLowerCase()]))
    for (const { code } of [...of('egress.refused'), ...of('dns.refused')]) expect(Object.keys(REASONS)).toContain(code)
    expect((await host.cli(['audit', 'verify'])).status).toBe(0)
  })

  test('changes without a restart: allow for a while, deny, and the file itself', async () => {
    const before = await run()
    expect(told('curl -ksS -m 30 https://later.example/').status).not.toBe(0)
    expect((await host.cli(['allow', 'does-as-told', 'later.example:443', '--for', '1h', '--private', '--reason', 'the test'])).status).toBe(0)
    expect(told('curl -ksS -m 30 https://later.example/').out).toBe('over tls\n')
    await host.recorded(({ type, data }) => type === 'egress.closed' && data['name'] === 'later.example') // of that one
    const from = host.records().length
    const cut = hold('https://later.example/slow')
    await host.recorded(({ seq, type, data }) => seq >= from && type === 'egress.opened' && data['name'] === 'later.example')
    expect((await host.cli(['deny', 'does-as-told', 'later.example:443'])).stdout).toMatch(/1 open connection/)
    await cut // or this would wait for a minute
    expect(told('curl -ksS -m 30 https://later.example/').status).not.toBe(0)
    host.plugin('does-as-told', { restart: { on: 'always', backoff: '200ms..1s', start_limit: '9 in 10m' }, egress: { allow: [{ host: 'later.example', ports: [443], private: true, reason: 'the test' }] } })
    expect((await host.cli(['reload'])).status).toBe(0)
    expect(told('curl -ksS -m 30 https://good.example/').status).not.toBe(0)
    expect(await run()).toBe(before)
  })

  test('ends an open connection when its rule ends, and no other, and that is on record', async () => {
    const before = await run()
    const rule = (name: string, until?: string): Record<string, unknown> => ({ host: name, ports: [443], private: true, reason: 'the test', ...(until === undefined ? {} : { until }) })
    const apply = async (...allow: readonly Record<string, unknown>[]): Promise<void> => {
      host.plugin('does-as-told', { restart: { on: 'always', backoff: '200ms..1s', start_limit: '9 in 10m' }, egress: { allow } })
      expect((await host.cli(['reload'])).status).toBe(0)
    }
    // As long as it takes to open two connections meanwhile.
    let [until, since] = [0, 0]
    let held: Promise<unknown>[] = []
    const opened = (): boolean => ['later.example', 'good.example'].every((name) => host.records().some(({ type, run: of, seq, data }) => type === 'egress.opened' && of === before && seq >= since && data['name'] === name))
    for (let seconds = 6; !opened() || since === 0; seconds *= 2) {
      expect(seconds).toBeLessThan(100)
      await apply() // ends those of a try that was too slow
      await Promise.all(held)
      since = host.records().length
      until = Math.ceil(Date.now() / 1000 + seconds) * 1000
      await apply(rule('good.example'), rule('later.example', new Date(until).toISOString().replace('.000', '')))
      held = ['later.example', 'good.example'].map((name) => hold(`https://${name}/slow`))
      await expect.poll(() => opened() || Date.now() > until, { timeout: 150_000 }).toBe(true)
    }
    const closed = await host.recorded(({ type, seq, data }) => seq >= since && type === 'egress.closed' && data['code'] === 'rule-expired')
    expect(closed).toMatchObject({ run: before, data: { name: 'later.example', by: 'door' } })
    expect(Date.parse(closed.time)).toBeGreaterThanOrEqual(until)
    expect(Date.parse(closed.time)).toBeLessThan(until + 20_000)
    expect(told('curl -ksS -m 30 https://later.example/').status).not.toBe(0)
    expect((await host.cli(['deny', 'does-as-told', 'good.example:443'])).stdout).toMatch(/1 open connection/) // the control
    await Promise.all(held)
    await apply(rule('later.example'))
    expect(await run()).toBe(before)
  })

  test('leaves out a resolver that it cannot ask, and says so', () => {
    expect(host.log).toContain('a resolver of /etc/resolv.conf is not asked: fe80::53%veth0 is link-local')
  })

  test('comes back with its plugin when it is killed, and that is on record; a plugin without one does not notice', async () => {
    const before = await run()
    const sealed = (await host.plugin1('sealed')).run
    const since = host.records().length
    void hold('https://later.example/slow')
    await host.recorded(({ type, run: of, seq, data }) => type === 'egress.opened' && of === before && seq >= since && data['name'] === 'later.example')
    await sleep(500) // a look-up could still be on its way
    execFileSync('/usr/bin/pkill', ['-KILL', '-u', String(host.firstUid + 4)])
    await expect.poll(async () => [(await run()) === before, (await host.plugin1('does-as-told')).state], { timeout: 60_000 }).toEqual([false, 'running'])
    expect(await run()).not.toBe(before)
    expect(told('curl -ksS -m 30 https://later.example/').out).toBe('over tls\n')
    await host.recorded((record) => record.type === 'door.ended')
    const of = (type: string): string[] => host.records().filter((record) => record.type === type && record.run === before).map(({ data }) => String(data['connection'])).sort()
    await expect.poll(() => of('egress.closed')).toEqual(of('egress.opened'))
    expect(host.records().filter(({ type, run: of, data }) => type === 'egress.closed' && of === before && data['code'] === 'door-ended')).toHaveLength(1)
    expect(await host.plugin1('sealed')).toMatchObject({ state: 'running', run: sealed })
  })

  test('has a definite end on record of what was open when the daemon was killed, once it is started again', async () => {
    const before = await run()
    const sealed = (await host.plugin1('sealed')).run
    const since = host.records().length
    const held = hold('https://later.example/slow')
    await host.recorded(({ type, run: of, seq, data }) => type === 'egress.opened' && of === before && seq >= since && data['name'] === 'later.example')
    await host.kill9()
    await held
    await host.start({ prefix })
    const lost = await host.recorded(({ type }) => type === 'daemon.lost', 30_000)
    expect(lost.data).toMatchObject({ more_runs: 0, connections: 1, told: 1, whole: true })
    expect(lost.data['runs']).toEqual(expect.arrayContaining([{ plugin: 'does-as-told', run: before }, { plugin: 'sealed', run: sealed }]))
    expect(lost.data['runs']).toHaveLength(2)
    const of = (type: string): string[] => host.records().filter((record) => record.type === type && record.run === before).map(({ data }) => String(data['connection'])).sort()
    expect(of('egress.closed')).toEqual(of('egress.opened'))
    expect(host.records().find(({ type, data }) => type === 'egress.closed' && data['code'] === 'daemon-ended')).toMatchObject({ run: before, data: { name: 'later.example', by: 'door' } })
    expect((await host.cli(['audit', 'verify'])).status).toBe(0)
    await host.settled(['does-as-told'], ['running'])
    expect(host.records().filter(({ type }) => type === 'daemon.lost')).toHaveLength(1)
  })
})
