import { existsSync, readFileSync, statSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { canRun } from '../kernel/require.ts'
import { TestHost } from './host.ts'

describe.skipIf(!canRun())('after something happened', () => {
  const host = new TestHost(16)
  beforeAll(async () => {
    host.plugin('good', { env: { SOME_KEY: 'a-value-of-env' }, limits: { MemoryMax: '64M', CPUQuota: '100%', TasksMax: 32, TmpMax: '4M' } }, 'good-gen2')
    await host.start()
    await host.settled(['good'], ['running'])
    await host.cli(['restart', 'good'])
    await host.settled(['good'], ['running'])
    await host.cli(['disable', 'good'])
  })
  afterAll(() => host.close())

  test('audit query finds it while the daemon runs, and says nothing else', async () => {
    const { status, stdout, stderr } = await host.cli(['audit', 'query', '--plugin', 'good', '--type', 'plugin.*', '--json'])
    expect(status).toBe(0)
    expect(stderr).toBe('') // no warning of Node's either
    const types = stdout.trimEnd().split('\n').map((line) => (JSON.parse(line) as { type: string }).type)
    expect(types.filter((type) => type === 'plugin.start')).toHaveLength(2)
    expect(types).toContain('plugin.disabled')
    expect(statSync(`${host.stateDir}/audit-index`).mode & 0o777).toBe(0o700)
    const table = await host.cli(['audit', 'query', '--outcome', 'ok', '-n', '5'])
    expect(table.stdout.split('\n').every((line) => line.length <= 80)).toBe(true)
  })

  test('audit report tells it on one page, with the verdict of audit verify first', async () => {
    const { status, stderr } = await host.cli(['audit', 'report', '--plugin', 'good', '--out', `${host.dir}/report.html`])
    expect(status, stderr).toBe(0)
    const page = readFileSync(`${host.dir}/report.html`, 'utf8')
    expect(page).toMatch(/<div class="verdict whole"><p>The log is whole/)
    expect(page).toMatch(/Restart, asked by root/)
    expect(page).toContain('SOME_KEY')
    expect(page).not.toContain('a-value-of-env')
    expect(page).not.toMatch(/NaN|Infinity|undefined/)
  })

  test('explain --at tells what was allowed then', async () => {
    const { status, stdout } = await host.cli(['explain', 'good'])
    expect(status).toBe(0)
    expect(stdout).toMatch(/brought by the start of the daemon[\s\S]*is in force still[\s\S]*Memory: at most 64M/)
    const before = await host.cli(['explain', 'good', '--at', '30d'])
    expect(before.status).toBe(66)
    expect(before.stderr).toMatch(/POLICY_NONE_THEN/)
    expect(existsSync(`${host.stateDir}/policies`)).toBe(true)
  })
})
