import { statSync } from 'node:fs'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { canRun } from '../kernel/require.ts'
import { TestHost, TREE } from './host.ts'
import { onTerminal, type OnTerminal } from './on-terminal.ts'

const ENV = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' }
const QUESTION = /Apply this to mine\? \[y\/N\] $/
const ANYBODY = ['/usr/bin/setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups'] as const

describe.skipIf(!canRun('/usr/bin/python3'))('cordon policy apply', () => {
  const host = new TestHost(9)
  const command = [`${TREE}/deploy/cordon`, 'policy', 'apply', 'mine', '--config', host.configFile]
  let port = 10_000

  beforeAll(async () => {
    host.plugin('mine', {}, 'does-as-told')
    await host.start()
    await host.settled(['mine'], ['running'])
  })
  afterAll(() => host.close())

  /** Another file each time; what differs is one port. */
  function edit(): number {
    port += 1
    host.policy('mine', { executable: { path: `${host.pluginsDir}/mine` }, egress: { allow: [{ host: 'api.example.org', ports: [port], reason: 'the test' }] } })
    return port
  }
  async function inForce(): Promise<number[]> {
    const { rules } = (await host.cli(['egress', 'mine', '--json'])).json() as { rules: { allow: { ports: number[] }[] } }
    return rules.allow.flatMap(({ ports }) => ports)
  }
  const applied = (): number => host.records().filter(({ type, data }) => type === 'admin.act' && data['act'] === 'apply').length
  async function asked(argv: readonly string[] = command): Promise<OnTerminal> {
    const terminal = onTerminal(argv, ENV)
    await terminal.shows(QUESTION)
    return terminal
  }

  describe('on a terminal', () => {
    let wanted = 0
    let before: number[] = []
    let acts = 0
    beforeEach(async () => {
      before = await inForce()
      acts = applied()
      wanted = edit()
    })

    test.each([['a no', 'n\n'], ['nothing', '\n'], ['another word', 'yess\n'], ['the end of input', '\u0004'], ['Ctrl-C', '\u0003']])('shows what would change, asks, and changes nothing on %s', async (_what, answer) => {
      const terminal = await asked()
      expect(terminal.shown().replace(/\s+/g, ' ')).toContain(`may reach: api.example.org on port ${wanted}; TLS`)
      terminal.type(answer)
      expect(await terminal.ended, terminal.shown()).not.toBe(0)
      expect([await inForce(), applied()]).toEqual([before, acts])
    })

    test.each(['y\n', 'YES\n'])('applies what it showed on %j, without a restart', async (answer) => {
      const { run } = await host.plugin1('mine')
      const terminal = await asked()
      terminal.type(answer)
      expect(await terminal.ended, terminal.shown()).toBe(0)
      expect(await inForce()).toEqual([wanted])
      const { policyDigest, run: after } = await host.plugin1('mine')
      expect(after).toBe(run)
      expect(terminal.shown()).toContain(`applied: policy ${policyDigest?.slice(0, 12) ?? ''}`)
      expect(host.records().findLast(({ type }) => type === 'admin.act')).toMatchObject({ policy: policyDigest, data: { act: 'apply' } })
    })

    test('refuses a file that is another one than it showed, and then shows that one', async () => {
      const terminal = await asked()
      const other = edit()
      terminal.type('y\n')
      expect(await terminal.ended, terminal.shown()).toBe(75)
      expect(terminal.shown()).toContain('EGRESS_DIGEST')
      expect([await inForce(), applied()]).toEqual([before, acts])
      const again = await asked()
      expect(again.shown().replace(/\s+/g, ' ')).toContain(`on port ${other};`)
      again.type('y\n')
      expect(await again.ended).toBe(0)
      expect(await inForce()).toEqual([other])
    })

    test.each([
      ['an answer that no person typed', `echo y | "$@"`],
      ['a question that no person sees', '"$@" 2>/dev/null'],
    ])('asks nobody where there is %s', async (_what, script) => {
      const terminal = onTerminal(['/bin/sh', '-c', script, 'sh', ...command], ENV)
      expect(await terminal.ended, terminal.shown()).toBe(64)
      expect([await inForce(), applied()]).toEqual([before, acts])
    })
  })

  test('without a terminal needs --yes', async () => {
    const wanted = edit()
    const refused = await host.cli(['policy', 'apply', 'mine'])
    expect([refused.status, refused.stderr.includes('give --yes'), await inForce()]).toEqual([64, true, [expect.not.toSatisfy((one: number) => one === wanted)]])
    expect((await host.cli(['policy', 'apply', 'mine', '--yes'])).status).toBe(0)
    expect(await inForce()).toEqual([wanted])
  })

  test('and whatever else widens what a plugin may reach is root\'s alone', async () => {
    const before = await inForce()
    edit()
    const socket = statSync(`${host.runDir}/control.sock`)
    expect([socket.mode & 0o777, socket.uid]).toEqual([0o600, 0])
    for (const args of [['allow', 'mine', 'other.example.org:443', '--for', '1h', '--reason', 'x'], ['learn', 'mine', '--for', '1h'], ['policy', 'apply', 'mine', '--yes']]) {
      const { status, stderr } = await host.cli(args, { prefix: ANYBODY })
      expect([status, stderr], args.join(' ')).toEqual([77, expect.stringMatching(/^error: [A-Z_]+ /)])
      // Nor over HTTP, with the token of the administrator.
      for (const path of ['/api/x/plugins/mine', '/api/x/plugins', '/api']) {
        for (const method of ['POST', 'PUT', 'PATCH']) expect((await host.http(`${path}/${args[0] ?? ''}`, { method, body: '{}' })).status, path).toBeGreaterThanOrEqual(400)
      }
    }
    expect((await host.http('/api/x/plugins/mine/status')).status).toBe(200) // which that token may ask
    expect(await inForce()).toEqual(before)
    expect((await host.plugin1('mine')).learning).toBe(null)
    // The control: the same by root.
    expect((await host.cli(['allow', 'mine', 'other.example.org:4443', '--for', '1h', '--reason', 'x'])).status).toBe(0)
    expect(await inForce()).toEqual([...before, 4443])
    expect((await host.cli(['learn', 'mine', '--for', '1h'])).status).toBe(0)
    expect((await host.plugin1('mine')).learning).not.toBe(null)
  })
})
