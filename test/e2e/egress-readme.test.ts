import { appendFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { canRun } from '../kernel/require.ts'
import { TestHost } from './host.ts'
import { PretendInternet, TEST_ADDRESS } from './internet-kit.ts'
import { onTerminal } from './on-terminal.ts'
import { ownEtc, README_ENV, typed } from './readme-machine.ts'
import { compare, walkOf, type Step } from './readme-walk.ts'

const WALK = walkOf('walk')

const API = 'api.example.org'
const TELEMETRY = 'telemetry.example.net'
const GIT = 'git.home.example.org'
const ADDRESS: Readonly<Record<string, string>> = { [API]: '93.184.215.14', [TELEMETRY]: '93.184.215.15', [GIT]: '192.168.7.7' }
/** A run's resources are looked at every 10 s, its programs with them. */
const SAMPLED_MS = 120_000

describe.skipIf(!canRun('/usr/bin/curl', '/usr/bin/python3'))('the walk of the README from "deny all" to an enforced policy', () => {
  const host = new TestHost(8)
  const net = new PretendInternet('walk')

  beforeAll(async () => {
    const { etc, mounts } = ownEtc(host)
    const executable = host.install('mine', 'does-as-told')
    await net.start({ zone: Object.fromEntries(Object.entries(ADDRESS).map(([name, address]) => [name, { A: [address] }])), ports: [80], mounts })
    expect((await run(`cordon policy init mine --executable ${executable}`)).status).toBe(0)
    appendFileSync(`${etc}/cordon/policies/mine.yaml`, 'api:\n  grants: [projects_read]\n') // which it will not use
    await host.start({ prefix: [...net.enter] })
    await host.settled(['mine'], ['running'])
  })
  afterAll(async () => {
    try {
      await host.close()
    } finally {
      net.close()
    }
  })

  const run = (commands: string): Promise<{ status: number; out: string }> => typed(net, commands)
  const ask = (command: string): string => `curl -sS --interface ${TEST_ADDRESS} -X POST --data-binary '${command}' -H 'authorization: Bearer ${host.token()}' http://127.0.0.1:${host.port}/api/x/mine/do`
  /** Its usual work. @returns which names answered */
  async function works(): Promise<string[]> {
    const names = [API, TELEMETRY, GIT]
    const { out } = await run(ask(names.map((name) => `curl -ksS -m 30 https://${name}/ >/dev/null && echo reached ${name};`).join(' ')))
    return names.filter((name) => out.includes(`reached ${name}`))
  }
  /** Names that were reached, by the packets that arrived. */
  async function arrived(): Promise<string[]> {
    const opened = (await net.seen()).flatMap((line) => /^wire tcp (.*):443 opens$/.exec(line)?.[1] ?? [])
    net.forget()
    return Object.keys(ADDRESS).filter((name) => opened.includes(ADDRESS[name] ?? ''))
  }
  function step(at: number): Step {
    const found = WALK[at]
    if (found === undefined) throw new Error(`the README has no step ${at}`)
    return found
  }
  /** Run the commands of a step and find each line that the README shows, in order. */
  async function follow(at: number): Promise<string> {
    const { commands, prints } = step(at)
    const { out } = await run(commands)
    compare(out, prints)
    return out
  }
  const data = (type: string) => host.records().filter((record) => record.type === type && record.plugin === 'mine').map((record) => record.data)

  test('is there, and every step says what it prints', () => {
    expect(WALK.map(({ commands }) => commands.split('\n')[0])).toEqual(['cordon egress mine', 'cordon learn mine --for 24h', 'cordon policy suggest mine', 'cordon egress mine', 'cat >>/etc/cordon/policies/mine.yaml <<\'END\'', 'cordon policy apply mine', 'cordon egress mine'])
    expect(WALK.filter(({ prints }) => prints.length === 0)).toEqual([])
  })

  test('begins where nothing is let out', async () => {
    expect([await works(), await arrived()]).toEqual([[], []])
    await follow(0)
  })

  test('learning lets public names through and nothing private, and is called LEARNING, NOT PROTECTED everywhere', async () => {
    const { commands, prints } = step(1)
    const [learn = '', ...rest] = commands.split('\n')
    const { out: said } = await run(learn)
    expect([await works(), await arrived()]).toEqual([[API, TELEMETRY], [API, TELEMETRY]])
    // The plugin's resources are on record once it has run for a while.
    const { run: sampled } = await host.plugin1('mine')
    await host.recorded(({ type, run: of }) => type === 'programs.seen' && of === sampled, SAMPLED_MS)
    const { out } = await run(rest.join('\n'))
    compare(said + out, prints)
    await host.settled(['mine'], ['running'])
    expect([await works(), await arrived()]).toEqual([[API, TELEMETRY], [API, TELEMETRY]])
    for (const command of ['status mine', 'list', 'egress mine', 'audit tail -n 200']) expect((await run(`cordon ${command}`)).out, command).toContain('LEARNING, NOT PROTECTED')
    expect(data('egress.applied')).toMatchObject([{ act: 'learn', state: 'LEARNING, NOT PROTECTED' }])
    expect(data('egress.opened').map(({ name, code }) => [name, code])).toEqual([[API, 'learning'], [TELEMETRY, 'learning'], [API, 'learning'], [TELEMETRY, 'learning']])
    await host.recorded(({ type }) => type === 'resources.snapshot')
  })

  test('suggest prints a difference with evidence behind each line, limits of twice the peak, rights that nothing used, and its coverage', async () => {
    await expect.poll(() => data('egress.closed').length).toBeGreaterThanOrEqual(4)
    const out = await follow(2)
    const sent = data('egress.closed').filter(({ name }) => name === API).reduce((sum, { bytesOut }) => sum + Number(bytesOut), 0)
    expect(sent).toBeGreaterThan(100)
    const line = out.split('\n').find((one) => one.includes(API)) ?? ''
    expect(line).toContain(`# 2×, `)
    expect(line).toContain(`, ${(sent / 1024).toFixed(1).replace(/\.0$/, '')}K out, `)
    const peak = Math.max(...data('resources.snapshot').map((one) => Math.max(Number(one['memory_peak_bytes']), Number((one['memory_bytes'] as { max: number }).max))))
    expect(out).toMatch(new RegExp(`^\\+ {2}MemoryMax: ${Math.max(16, Math.ceil(2 * peak / 2 ** 20))}M {2}# twice the peak of `, 'm'))
    expect(out.split('\n').filter((one) => one.includes(GIT) && !one.startsWith('#'))).toEqual([]) // it was never reached
  })

  test('replay says what the file would have refused of what happened, and allowed of what was refused; nothing changes yet', async () => {
    await follow(3)
    await follow(4)
    expect([await works(), await arrived()]).toEqual([[API, TELEMETRY], [API, TELEMETRY]])
  })

  test('apply shows, asks, and closes at once what the file forbids; learning ends, and the plugin runs on', async () => {
    const before = (await host.plugin1('mine')).run
    const held = run(ask(`curl -ksSN -m 300 https://${TELEMETRY}/slow; echo ended with $?`))
    await expect.poll(async () => (await run('cordon egress mine')).out).toContain('OPEN TO')
    const { commands, prints } = step(5)
    const terminal = onTerminal([...net.enter, '/bin/bash', '-c', commands], README_ENV)
    await terminal.shows(/Apply this to mine\? \[y\/N\] $/)
    terminal.type('y\n')
    expect(await terminal.ended, terminal.shown()).toBe(0)
    compare(terminal.shown(), prints)
    expect((await held).out).toMatch(/begun.*ended with (?!0)/)
    expect((await host.plugin1('mine'))).toMatchObject({ run: before, learning: null })
    await arrived()
    expect([await works(), await arrived()]).toEqual([[API, GIT], [API, GIT]])
  })

  test('ends with an enforced policy, and what it refuses on record', async () => {
    await follow(6)
    await host.recorded(({ type, data: { name, code } }) => type === 'dns.refused' && name === TELEMETRY && code === 'name-not-allowed')
    expect((await run('cordon audit verify')).status).toBe(0)
  })

  test('learning that is left alone ends by closing', async () => {
    // As long as it takes to open a connection meanwhile.
    for (let seconds = 4, held = ''; !held.includes('begun'); seconds *= 2) {
      expect(seconds, held).toBeLessThan(60)
      expect((await run(`cordon learn mine --for ${seconds}s`)).status).toBe(0)
      held = (await run(ask(`curl -ksSN -m 300 https://${TELEMETRY}/slow; echo ended with $?`))).out
      if (held.includes('begun')) expect(held).toMatch(/begun.*ended with (?!0)/) // or this would last five minutes
    }
    expect(await host.recorded(({ type, data: { name, code } }) => type === 'egress.closed' && name === TELEMETRY && code === 'learning-ended')).toBeDefined()
    expect((await run('cordon list; cordon status mine')).out).not.toContain('LEARNING')
    await arrived()
    expect([await works(), await arrived()]).toEqual([[API, GIT], [API, GIT]])
  })
})
