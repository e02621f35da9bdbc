import { createHash } from 'node:crypto'
import { copyFileSync, existsSync, readdirSync, readFileSync, realpathSync, utimesSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { canRun } from '../kernel/require.ts'
import { TestHost, type AuditRecord } from './host.ts'

const HASHED = expect.stringMatching(/^hmac-sha256:[0-9a-f]{64}$/) as string

const NAMELESS = 'f'.repeat(64)

describe.skipIf(!canRun('/usr/bin/python3'))('what a host writes down', () => {
  const host = new TestHost(16)
  const policy = (memory: string): void => host.plugin('good-gen2', { env: { API_TOKEN: 'hunter2-hunter2' }, limits: { MemoryMax: memory, CPUQuota: '100%', TasksMax: 32, TmpMax: '4M' } })
  const stored = join(host.stateDir, 'store/sha256')
  const of = (type: string): AuditRecord[] => host.records().filter((record) => record.type === type && record.plugin === 'good-gen2')

  beforeAll(async () => {
    policy('64M')
    await host.start()
    await host.settled(['good-gen2'], ['running'])
  })
  afterAll(() => host.close())

  test('names of what a plugin was handed, and no value of it, anywhere in the log', async () => {
    expect(of('plugin.started').at(-1)?.data).toMatchObject({ secrets: ['auth_secret'], env: ['API_TOKEN'] })
    await host.http('/api/x/good-gen2/echo?token=hunter2-hunter2', { method: 'POST', body: 'hunter2-hunter2' })
    const seen = await host.recorded((record) => record.type === 'http.request' && record.plugin === 'good-gen2')
    expect(seen.data).toMatchObject({ method: 'POST', path: '/api/x/good-gen2/echo', query: HASHED, bytesIn: 15, client: '127.0.0.1', who: 'admin via token' })
    expect(JSON.stringify(host.records())).not.toContain('hunter2')
  })

  test('the processes of a run and the programs that they run, with their digests', async () => {
    await host.cli(['stop', 'good-gen2'])
    await host.cli(['start', 'good-gen2'])
    const run = of('plugin.started').at(-1)?.run
    const seen = await host.recorded((record) => record.type === 'programs.seen' && record.run === run, 120_000) // one sample; what else it found is told at the end of the run
    await host.cli(['stop', 'good-gen2'])
    const snapshot = await host.recorded((record) => record.type === 'resources.snapshot' && record.run === run)
    const python = realpathSync('/usr/bin/python3')
    expect(seen.data['programs']).toContainEqual({ path: python, sha256: createHash('sha256').update(readFileSync(python)).digest('hex'), bytes: readFileSync(python).length })
    expect(snapshot.data['processes']).toContainEqual({ name: expect.stringMatching(/python3|good-gen2/) as string, count: 1 })
  })

  test('what was changed in a policy, also while no daemon ran', async () => {
    await host.stop()
    policy('128M')
    const [named = ''] = readdirSync(stored)
    copyFileSync(join(stored, named), join(stored, NAMELESS))
    for (const name of [named, NAMELESS]) utimesSync(join(stored, name), 1e9, 1e9)
    await host.start()
    await host.settled(['good-gen2'], ['running'])
    const loaded = of('policy.loaded')
    expect(loaded).toHaveLength(2)
    expect(loaded[0]?.data).toMatchObject({ previous: null, changes: [] })
    expect(loaded[1]?.data).toMatchObject({ previous: loaded[0]?.data['policy_digest'], changes: [{ sign: '+', field: 'limits.MemoryMax' }], more_changes: 0 })
  })

  test('a program that no record names goes, and the one that a record names stays', async () => {
    const collected = await host.recorded((record) => record.type === 'store.collected')
    expect(collected.data).toEqual({ programs: [NAMELESS], policies: [] })
    await expect.poll(() => existsSync(join(stored, NAMELESS))).toBe(false)
    expect(readdirSync(stored)).toHaveLength(1)
    expect((await host.cli(['restart', 'good-gen2'])).status).toBe(0)
  })
})
