import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { canRun } from '../kernel/require.ts'
import { commandOf, TestHost } from './host.ts'

const SEED = 20261120
const ROUNDS = 12
const PLUGINS = ['one', 'two'] as const
const VICTIMS = ['launcher', 'gateway', 'runtime', 'init'] as const

describe.skipIf(!canRun('/usr/sbin/runc'))(`kill -9 at any moment (seed ${SEED})`, () => {
  const host = new TestHost(2)
  const random = lcg(SEED)

  beforeAll(() => {
    for (const name of PLUGINS) host.plugin(name, { restart: { on: 'always', backoff: '1s..1s', start_limit: '50 in 10m' } }, 'good-gen2')
  })
  afterAll(() => host.close())

  test.each(Array.from({ length: ROUNDS }, (_, n) => ({ round: n + 1, victim: VICTIMS[n % VICTIMS.length] ?? 'launcher', afterMs: Math.floor(random() * 2200) })))(
    'round $round: $victim after $afterMs ms; nothing outlives the launcher, and the next start takes away what is left',
    async ({ victim, afterMs }) => {
      const ended = host.spawn()
      await sleep(afterMs)
      const pid = find(host, victim)
      if (pid !== null) kill(pid)
      if (victim !== 'launcher') {
        await sleep(Math.floor(random() * 600))
        await host.kill9()
      }
      await ended
      // Death is chained: what has run a single instruction of ours or of a plugin is gone without anybody's help.
      await expect.poll(() => host.leftovers().filter((line) => line.startsWith('process') && !line.includes('runc init')), { timeout: 20_000 }).toEqual([])
      await host.start()
      await host.settled(PLUGINS, ['running'])
      for (const name of PLUGINS) expect((await host.http(`/api/x/${name}/`)).text).toBe('ok')
      expect(host.leftovers().filter((line) => line.includes('runc init'))).toEqual([])
      if (random() < 0.5) {
        // From a running state too, and without a stop.
        const running = find(host, victim)
        if (running === null) throw new Error(`no ${victim}`)
        kill(running)
        if (victim !== 'launcher') await host.settled(PLUGINS, ['running'])
        await host.kill9()
      } else {
        expect(await host.stop()).toBe(0)
        expect(host.leftovers()).toEqual([])
      }
    },
  )

  test('the runtime killed under a running plugin is noticed, and the plugin starts again', async () => {
    await host.start()
    const [before] = await host.settled(['one'], ['running'])
    const runtime = runtimeOf(host, 'one')
    if (runtime === null) throw new Error('no runtime')
    kill(runtime)
    const exited = await host.recorded((record) => record.type === 'plugin.exited' && record.run === before?.run)
    expect(exited.data['reason']).toContain('the runtime was killed')
    await host.settled(['one'], ['running'])
    expect((await host.plugin1('one')).run).not.toBe(before?.run)
    expect(new Set(host.processesOf('one').map((pid) => readFileSync(`/proc/${pid}/cgroup`, 'utf8'))).size).toBe(1)
  })

  test('after all of it the log verifies, and what it lacks it names', async () => {
    expect(await host.stop()).toBe(0)
    expect(host.leftovers()).toEqual([])
    const verify = await host.cli(['audit', 'verify', '--json'])
    expect(['whole', 'gap']).toContain((verify.json() as { verdict: string }).verdict)
    for (const gap of host.records().filter((record) => record.type === 'gap')) expect(gap.data['reason']).toBe('torn-line')
    expect(host.records().some((record) => record.type === 'daemon.cleaned')).toBe(true)
    expect(readdirSync(`${host.stateDir}/store`).filter((name) => name.startsWith('tmp-'))).toEqual([])
  })
})

function find(host: TestHost, victim: (typeof VICTIMS)[number]): number | null {
  switch (victim) {
    case 'launcher': return host.daemon?.pid ?? null
    case 'gateway': return host.processesOf('_gateway')[0] ?? null
    case 'runtime': return runtimeOf(host, 'one')
    case 'init': return host.processesOf('one').find((pid) => commandOf(pid).startsWith('/.cordon/')) ?? null
    default: return victim satisfies never
  }
}

/** `runc run`, which stands outside the plugin's cgroup, by the run in its arguments. */
function runtimeOf(host: TestHost, plugin: string): number | null {
  const inside = host.processesOf(plugin)[0]
  const run = inside === undefined ? null : (/\/([0-9a-f]{16})$/m.exec(readFileSync(`/proc/${inside}/cgroup`, 'utf8'))?.[1] ?? null)
  if (run === null) return null
  for (const name of readdirSync('/proc')) {
    const command = /^\d+$/.test(name) ? commandOf(Number(name)) : ''
    if (/^\/usr\/s?bin\/runc /.test(command) && command.includes(run)) return Number(name)
  }
  return null
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // it has just ended by itself: also a moment to start from
  }
}

/** Numerical Recipes' linear congruential generator: the same moments in every run. */
function lcg(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}
