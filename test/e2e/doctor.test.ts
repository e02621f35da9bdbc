import { chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { canRun } from '../kernel/require.ts'
import { cordon, makeTestHost, type TestHost } from './command.ts'

interface Check {
  readonly name: string
  readonly state: 'ok' | 'warn' | 'FAIL' | 'untried'
  readonly found: string
  readonly mend: string | null
}

async function doctor(configFile: string, as?: number): Promise<{ status: number | undefined; of: (name: string) => Check | undefined; checks: Check[] }> {
  const { status, out, err } = await cordon(['doctor', '--json', '--config', configFile], as === undefined ? {} : { as })
  expect(out, err).not.toBe('')
  const { checks } = JSON.parse(out) as { checks: Check[] }
  return { status, checks, of: (name) => checks.find((check) => check.name === name) }
}

describe.skipIf(!canRun())('cordon doctor', () => {
  let host: TestHost
  beforeAll(() => void (host = makeTestHost(1_881_711_000)))
  afterAll(() => host.remove())

  test('starts a container, refuses a packet, and says that nothing fails', async () => {
    const { status, of, checks } = await doctor(host.configFile)
    expect(checks.filter(({ state }) => state === 'FAIL')).toEqual([])
    expect(status).toBe(0)
    expect(of('container')).toMatchObject({ state: 'ok', found: expect.stringMatching(/ran \/usr\/bin\/true behind all walls in \d+ ms; \d\d facts/) })
    expect(of('sealed network')).toMatchObject({ state: 'ok' })
    expect(of('linked /dev')?.found).toMatch(/linked \/dev/)
    expect(of('daemon')).toMatchObject({ state: 'warn', mend: expect.stringContaining('cordon serve') })
    expect(checks.filter(({ state }) => state === 'untried')).toEqual([])
  })

  test('speaks to people on lines of at most 80 columns', async () => {
    const { out } = await cordon(['doctor', '--config', host.configFile])
    expect(out.split('\n').filter((line) => line.length > 80)).toEqual([])
    expect(out).toMatch(/^Nothing fails; \d+ to know about\.$/m)
  })

  test('fails where a policy is refused, and names the way to mend it', async () => {
    const file = `${host.policiesDir}/bad.yaml`
    writeFileSync(file, 'plugin: bad\nnetwrok: none\n')
    const { status, of } = await doctor(host.configFile)
    writeFileSync(file, '')
    chmodSync(file, 0o666)
    const writable = await doctor(host.configFile)
    expect([status, of('policies')]).toEqual([69, expect.objectContaining({ state: 'FAIL', mend: 'cordon policy check' })])
    expect(writable.of('policies')).toMatchObject({ state: 'FAIL' })
    rmSync(file)
  })

  test('fails where another program holds the port', async () => {
    const holder = createServer()
    await new Promise<void>((done) => holder.listen(0, '127.0.0.1', done))
    onTestFinished(() => void holder.close())
    const other = makeTestHost(1_881_712_000, `listen: 127.0.0.1:${(holder.address() as AddressInfo).port}\n`)
    onTestFinished(() => other.remove())
    const { status, of } = await doctor(other.configFile)
    expect([status, of('port')]).toEqual([69, expect.objectContaining({ state: 'FAIL', mend: expect.stringContaining('listen:') })])
  })

  test.each([
    ['is not there', '/usr/bin/no-such-runc', 'runtime', 'mend the above first'],
    ['starts nothing', '/usr/bin/false', 'walls', null],
  ])('fails where the runtime %s', async (_what, path, name, walls) => {
    const other = makeTestHost(1_881_713_000, `listen: 127.0.0.1:0\nruntime: { kind: runc, path: ${path} }\n`)
    onTestFinished(() => other.remove())
    const { status, of } = await doctor(other.configFile)
    expect([status, of(name)]).toEqual([69, expect.objectContaining({ state: 'FAIL', found: expect.stringContaining(path) })])
    expect(of('walls')).toMatchObject({ state: 'FAIL', ...(walls === null ? {} : { mend: walls }) })
    expect(of('container')).toBeUndefined()
  })

  test('fails where the audit log was changed', async () => {
    mkdirSync(`${host.stateDir}/audit/records`, { recursive: true, mode: 0o700 })
    writeFileSync(`${host.stateDir}/audit/records/0000000000000000.jsonl`, '{"seq":0}\n', { mode: 0o600 })
    const { status, of } = await doctor(host.configFile)
    expect([status, of('audit log')]).toEqual([69, expect.objectContaining({ state: 'FAIL', mend: 'cordon audit verify' })])
  })

  test('without root says what it could not try', async () => {
    chmodSync(host.configFile.replace(/\/[^/]*$/, ''), 0o755)
    const { status, of } = await doctor(host.configFile, 65534)
    expect(status).toBe(69)
    expect(of('root')).toMatchObject({ state: 'FAIL' })
    expect(of('walls')).toMatchObject({ state: 'untried', mend: 'run it as root' })
    expect(of('programs')).toMatchObject({ state: 'ok' })
  })
})
