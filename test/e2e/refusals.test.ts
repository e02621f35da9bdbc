import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { canRun } from '../kernel/require.ts'
import { TestHost, type AuditRecord } from './host.ts'

const able = canRun('/usr/sbin/runc')

describe.skipIf(!able)('a host that cannot begin says why, with a code, and leaves nothing', () => {
  const host = new TestHost(3)
  const asNobody = { prefix: ['/usr/bin/setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups', '--'] }
  afterAll(() => host.close())

  async function refused(code: string, status: number, prefix: readonly string[] = []): Promise<void> {
    const from = host.log.length
    const end = await host.spawn({ prefix })
    host.daemon = null
    expect({ status: end.status, log: host.log.slice(from) }).toMatchObject({ status, log: expect.stringMatching(new RegExp(`^error: ${code} .+\\nhint:  \\S.+$`, 'm')) as string })
    expect(host.leftovers().filter((line) => !line.startsWith(`mount ${host.stateDir}/audit `))).toEqual([]) // that one is a test's own
  }

  test.each([['serve'], ['status'], ['start', 'x'], ['run', '/bin/true']])('without root: %s ends with 77 and says so', async (...args) => {
    mkdirSync(host.runDir, { mode: 0o700, recursive: true })
    const answer = await host.cli(args, asNobody)
    expect(answer.stderr).toMatch(/^error: (HOST_NOT_ROOT|CONTROL_NOT_ROOT) .+\nhint: {2}\S/)
    expect(answer.status).toBe(77)
  })

  test('with neither crun nor runc', () =>
    refused('HOST_RUNTIME', 69, ['/usr/bin/unshare', '--mount', '--', '/bin/sh', '-euc', 'for p in /usr/bin/crun /usr/local/bin/crun /usr/bin/runc /usr/sbin/runc /usr/local/sbin/runc; do [ ! -e "$p" ] || mount --bind /dev/null "$(readlink -f "$p")"; done; exec "$@"', 'hide']))

  test('with a runtime.path that leads nowhere', async () => {
    host.configure({ runtime: { kind: 'runc', path: '/nonexistent/runc' } })
    await refused('HOST_RUNTIME', 69)
    host.configure({})
  })

  test('with its port taken', async () => {
    const taken = createServer().listen(0, '127.0.0.1')
    await new Promise((done) => taken.once('listening', done))
    const { port } = taken.address() as AddressInfo
    host.configure({ listen: `127.0.0.1:${port}` })
    await refused('LISTEN_FAILED', 69)
    taken.close()
    host.configure({})
  })

  test('with an audit directory that cannot be written', async () => {
    mkdirSync(`${host.stateDir}/audit`, { recursive: true, mode: 0o700 })
    execFileSync('/usr/bin/mount', ['-t', 'tmpfs', '-o', 'ro,mode=700', 'cordon-e2e-ro', `${host.stateDir}/audit`])
    try {
      await refused('AUDIT_UNAVAILABLE', 74)
    } finally {
      execFileSync('/usr/bin/umount', [`${host.stateDir}/audit`])
    }
  })

  test('beside another daemon on the same state; the other goes on', async () => {
    host.plugin('one', {}, 'good-gen2')
    await host.start()
    await host.settled(['one'], ['running'])
    const second = await host.cli(['serve'])
    expect(second).toMatchObject({ status: 75, stderr: expect.stringMatching(/^error: HOST_BUSY .+\nhint: {2}\S/) as string })
    expect((await host.http('/api/x/one/')).text).toBe('ok')
    expect(await host.stop()).toBe(0)
    expect(host.leftovers()).toEqual([])
  })

  test('with a state directory that was never cleaned of a daemon that died: it simply starts', async () => {
    await host.start()
    await host.kill9()
    await host.start()
    await host.settled(['one'], ['running'])
    expect(await host.stop()).toBe(0)
    expect(host.leftovers()).toEqual([])
  })
})

describe.skipIf(!able)('when the audit log is lost', () => {
  const host = new TestHost(4)
  const audit = `${host.stateDir}/audit`

  beforeAll(async () => {
    mkdirSync(audit, { recursive: true, mode: 0o700 })
    execFileSync('/usr/bin/mount', ['-t', 'tmpfs', '-o', 'size=2m,mode=700', 'cordon-e2e-audit', audit])
    for (const name of ['runs', 'stops', 'waits']) host.plugin(name, {}, 'good-gen2')
    host.plugin('retries', { restart: { on: 'failure', backoff: '1s..1s', start_limit: '2 in 10m' } }, 'good-gen2')
    await host.start()
    await host.settled(['runs', 'stops', 'waits', 'retries'], ['running'])
    expect((await host.cli(['stop', 'waits', 'retries'])).status).toBe(0)
  })
  afterAll(async () => {
    await host.stop()
    const left = host.leftovers().filter((line) => !line.startsWith('mount')) // the tmpfs is this test's
    execFileSync('/usr/bin/umount', [audit])
    host.destroy()
    expect(left).toEqual([])
  })

  const ways = {
    'its disk is full': { lose: () => fillUp(), mend: () => rmSync(`${audit}/ballast`), errno: 'ENOSPC' },
    // A file that is open for writing keeps its file system writable, so it is lost to a full disk first.
    'its disk is read-only': {
      lose: async () => { await fillUp(); execFileSync('/usr/bin/mount', ['-o', 'remount,ro', audit]) },
      mend: () => { execFileSync('/usr/bin/mount', ['-o', 'remount,rw', audit]); rmSync(`${audit}/ballast`) },
      errno: 'EROFS',
    },
  } as const

  /** Also the rest of the log's own last page. */
  async function fillUp(): Promise<void> {
    fill(`${audit}/ballast`)
    await expect.poll(async () => {
      const before = host.records().length
      await host.cli(['reload']) // its record follows the answer
      return [(await host.cli(['why', 'waits'])).stdout.includes('the audit log cannot be written'), host.records().length - before]
    }, { timeout: 120_000 }).toEqual([true, 0])
  }

  test.each(['its disk is full', 'its disk is read-only'] as const)('%s: nothing starts, what runs goes on, stopping waits for nothing, and it recovers by itself', async (way) => {
    const { lose, mend, errno } = ways[way]
    await lose()
    const before = host.records().length
    try {
      const refused = await host.cli(['start', 'waits'])
      expect(refused.status).not.toBe(0)
      expect(refused.stderr).toContain('AUDIT_UNAVAILABLE')
      expect(refused.stderr).toContain(errno)
      expect(host.processesOf('waits')).toEqual([])
      expect(await host.cli(['why', 'waits'])).toMatchObject({ status: 1, stdout: expect.stringContaining('the audit log cannot be written') as string })
      await host.cli(['start', 'retries'])
      expect((await host.http('/api/x/runs/')).text).toBe('ok')
      const from = Date.now()
      expect((await host.cli(['stop', 'stops'])).status).toBe(0)
      expect(Date.now() - from).toBeLessThan(20_000)
      expect(host.processesOf('stops')).toEqual([])
      expect(host.records().slice(before).map((record) => record.type).filter((type) => type !== 'admin.act' && type !== 'gap')).toEqual([]) // a short one may still fit
    } finally {
      mend()
    }
    // It was not to blame: it starts by itself as soon as its intent can be recorded, however often it tried.
    await host.settled(['retries'], ['running'])
    expect((await host.cli(['start', 'waits', 'stops'])).status).toBe(0)
    const gaps = (): AuditRecord[] => host.records().filter((record) => record.seq >= before && record.type === 'gap' && record.data['reason'] === 'unavailable')
    const sum = (field: string, type: string): number => gaps().reduce((all, { data }) => all + ((data[field] as Record<string, number> | undefined)?.[type] ?? 0), 0) // a short one may still have fitted, too
    await expect.poll(() => [sum('lost', 'plugin.stop'), sum('lost', 'plugin.exited'), sum('refused', 'plugin.start') > 0]).toEqual([1, 1, true])
    for (const { data } of gaps()) expect(String(data['detail'])).toMatch(/ENOSPC|EROFS/)
    expect(await host.cli(['audit', 'verify'])).toMatchObject({ status: 4, stdout: expect.stringContaining('not everything was recorded') as string })
    expect((await host.cli(['stop', 'waits', 'retries'])).status).toBe(0)
  })
})

/** Until the file system takes not one byte more. */
function fill(path: string): void {
  for (const size of [1 << 16, 4096, 1]) {
    try {
      for (;;) writeFileSync(path, Buffer.alloc(size), { flag: 'a' })
    } catch {
      // full for this size; a smaller piece may still fit
    }
  }
}
