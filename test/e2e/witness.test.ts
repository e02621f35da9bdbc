import { spawn, type ChildProcess } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { chownSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { canRun } from '../kernel/require.ts'
import { cordon } from './command.ts'
import { TestHost } from './host.ts'

const TREE = `${import.meta.dirname}/../..`
/** Of nobody on this machine. */
const WITNESS_UID = 1_881_998_001

/** A daemon with a witness beside it: two programs, two directories, two users, loopback between them. */
describe.skipIf(!canRun())('a daemon and its witness', () => {
  let host: TestHost
  let witness: ChildProcess | null = null
  let out = ''
  let key = ''
  const audit = (...args: string[]) => cordon(['audit', ...args, '--config', host.configFile])

  beforeAll(async () => {
    host = new TestHost(19)
    await host.start()
    await host.stop()
    const state = `${host.dir}/witness`
    mkdirSync(state, { mode: 0o700 })
    chownSync(state, WITNESS_UID, WITNESS_UID)
    const logKey = (await audit('push', '--log-key')).out.trim()
    witness = spawn(`${TREE}/deploy/cordon`, ['witness', '--state', state, '--log', logKey, '--listen', '127.0.0.1:0', '--name', 'w.example'], { stdio: ['ignore', 'pipe', 'pipe'] })
    for (const stream of [witness.stdout, witness.stderr]) stream?.on('data', (chunk: Buffer) => void (out += chunk.toString()))
    const until = Date.now() + 120_000
    while (!/witness url: \S+\n/.test(out) && witness.exitCode === null && Date.now() < until) await sleep(25)
    key = /key: (\S+)/.exec(out)?.[1] ?? `none: ${out}`
    host.configure({ audit: { witnesses: [{ name: 'cellar', url: /url: (\S+)/.exec(out)?.[1] ?? '', key }] } })
    await host.start()
  })
  afterAll(async () => {
    await host.stop()
    if (witness !== null && witness.exitCode === null) {
      witness.kill()
      await once(witness, 'exit')
    }
    await host.close()
  })

  test('the witness runs as the owner of its directory, without capabilities', () => {
    const status = readFileSync(`/proc/${witness?.pid}/status`, 'utf8')
    expect(/^Uid:\t(.*)$/m.exec(status)?.[1]).toBe(Array(4).fill(WITNESS_UID).join('\t'))
    expect(/^CapBnd:\t(.*)$/m.exec(status)?.[1]).toBe('0000000000000000')
    expect(statSync(`${host.dir}/witness/witness.key`).mode & 0o777).toBe(0o600)
  })

  test('is shown the newest checkpoint by the daemon itself, and verify and doctor say so', async () => {
    const file = `${host.stateDir}/audit/witnessed/cellar`
    const until = Date.now() + 240_000
    while (!existsSync(file) && Date.now() < until) await sleep(50)
    const { status, out: said } = await audit('verify', '--witness', key)
    expect(said).toMatch(/^last witnessed: \d+ records by w\.example at 20/m)
    expect(status).toBe(0)
    const doctor = JSON.parse((await cordon(['doctor', '--json', '--config', host.configFile])).out) as { checks: { name: string; state: string }[] }
    expect(doctor.checks.find(({ name }) => name === 'witness cellar')).toMatchObject({ state: 'ok' })
    await host.stop()
    expect((await audit('push', '--now')).out).toMatch(/^cellar: answered: \d+ records witnessed/)
  })

  test('a log that is put back to what it was verifies by itself; the witness refuses it, and what it remembers shows what is missing', async () => {
    const log = `${host.stateDir}/audit`
    cpSync(log, `${host.dir}/old`, { recursive: true })
    await host.start()
    await host.stop()
    expect((await audit('push', '--now')).status).toBe(0)
    rmSync(log, { recursive: true })
    cpSync(`${host.dir}/old`, log, { recursive: true })
    expect((await audit('verify')).status).toBe(0)
    const pushed = await audit('push', '--now')
    expect([pushed.status, pushed.out]).toEqual([2, expect.stringMatching(/^cellar: refused: .*put back to an older state, or cut/)])
    const origin = /log: (\S+),/.exec(out)?.[1] ?? ''
    const compared = await audit('verify', '--witness', key, '--with', `${host.dir}/witness/logs/${createHash('sha256').update(origin).digest('hex')}`)
    expect([compared.status, compared.out]).toEqual([2, expect.stringMatching(/TAMPERED[\s\S]*missing: records \d+ to \d+/)])
  })
})
