import { appendFileSync, chmodSync, constants, lstatSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import type { AuditEvent } from '../../src/audit/record.ts'
import { verifyLog } from '../../src/audit/verify/log.ts'
import { errnoError, faultyFs, gate, logPath, openLog, tempDir, type Faults } from './kit.ts'
import { loose } from './loose.ts'

const ACT: AuditEvent = loose({ type: 'admin.act', what: 'test' })
const UNAVAILABLE = expect.objectContaining({ code: 'AUDIT_UNAVAILABLE' })

/** Without what the log records of itself. */
function records(dir: string): { seq: number; type: string; plugin: string | null; mono_ms: number; data: Record<string, unknown> }[] {
  return readFileSync(logPath(dir), 'utf8').split('\n').slice(0, -1).map((line) => JSON.parse(line) as ReturnType<typeof records>[number])
    .filter(({ type }) => type !== 'log.created' && type !== 'seal')
}

describe('the file', () => {
  test('is made readable for its owner alone, in a directory of its own', async () => {
    const dir = join(tempDir(), 'audit')
    const log = await openLog({ dir })
    await log.append(ACT, 'launcher')
    expect([lstatSync(dir).mode & 0o777, lstatSync(logPath(dir)).mode & 0o777]).toEqual([0o700, 0o600])
  })

  test.each<[string, (dir: string) => void, RegExp]>([
    ['a directory that others may enter', (dir) => chmodSync(dir, 0o755), /mode 0755/],
    ['a file that others may read', (dir) => writeFileSync(logPath(dir), '', { mode: 0o644 }), /mode 0644/],
    ['a symbolic link in place of the file', (dir) => symlinkSync('/etc/hostname', logPath(dir)), /ELOOP/],
    ['a directory in place of the file', (dir) => mkdirSync(logPath(dir)), /EISDIR/],
  ])('%s is refused', async (_name, spoil, message) => {
    const dir = tempDir()
    spoil(dir)
    await expect(openLog({ dir })).rejects.toThrow(UNAVAILABLE)
    await expect(openLog({ dir })).rejects.toThrow(message)
  })

  test('a directory of another user is refused', async () => {
    const dir = tempDir()
    await expect(openLog({ dir, owner: 4_000_000 })).rejects.toThrow(/expected 4000000/)
  })

  test('an existing log is continued: seq, chain and clock', async () => {
    const dir = tempDir()
    for (const seq of [0, 1, 2]) {
      const log = await openLog({ dir, bootId: 'same', clock: { wallMs: () => 0, monoMs: () => 100 - seq } })
      expect(await log.append(ACT, 'operator')).toEqual({ seq: 1 + 2 * seq }) // each closed with a seal
      await log.close()
    }
    expect(await verifyLog(dir)).toMatchObject({ verdict: 'whole', records: 7 })
  })
})

describe('durability', () => {
  test('append resolves only after the write with O_DSYNC, and the others of its commit with it', async () => {
    const sync = gate()
    const done: string[] = []
    const faults: Faults = {}
    const log = await openLog({ dir: tempDir(), fs: faultyFs(faults) })
    let flags = 0
    faults.append = async (real, bytes) => {
      const taken = await real.append(bytes)
      flags = Number.parseInt(/^flags:\t(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${real.fd}`, 'utf8'))?.[1] ?? '', 8)
      await sync.opened
      return taken
    }
    const both = ['a', 'b'].map((name) => log.append(ACT, 'launcher').then(() => done.push(name)))
    await sleep(50)
    expect(done).toEqual([])
    expect(flags & constants.O_DSYNC).toBe(constants.O_DSYNC)
    sync.open()
    await Promise.all(both)
    expect(done).toEqual(['a', 'b'])
  })

  test('while one commit is on its way, what comes gathers into the next, however much, in order', async () => {
    const writes: number[] = []
    const dir = tempDir()
    const log = await openLog({ dir, fs: faultyFs({ append: (real, bytes) => (writes.push(Buffer.from(bytes).filter((b) => b === 10).length), real.append(bytes)) }) })
    const first = log.append(loose({ type: 'admin.act', i: 0 }), 'launcher')
    await nextTurn()
    await nextTurn() // its commit has begun
    const seqs = await Promise.all([first, ...Array.from({ length: 199 }, (_, i) => log.append(loose({ type: 'admin.act', i: i + 1 }), 'launcher'))])
    expect(seqs.map(({ seq }) => seq)).toEqual(Array.from({ length: 200 }, (_, i) => i + 1))
    expect(records(dir).map((r) => r.data['i'])).toEqual(Array.from({ length: 200 }, (_, i) => i))
    expect(writes).toEqual([1, 1, 199]) // the first record of the log stands alone
  })

  test('a record that nobody awaits is written within milliseconds all the same', async () => {
    const dir = tempDir()
    const log = await openLog({ dir })
    log.note(ACT, 'launcher')
    await expect.poll(() => records(dir).length, { timeout: 10_000, interval: 5 }).toBe(1)
  })

  test('close writes what is queued; later records are refused', async () => {
    const dir = tempDir()
    const log = await openLog({ dir })
    for (let i = 0; i < 300; i++) log.note(ACT, 'launcher')
    await log.close()
    expect(records(dir)).toHaveLength(300)
    await expect(log.append(ACT, 'launcher')).rejects.toThrow(UNAVAILABLE)
    expect(log.state().state).toBe('closed')
  })

  test('a write that the kernel takes in pieces is one record in the end', async () => {
    const dir = tempDir()
    const log = await openLog({ dir, fs: faultyFs({ append: (real, bytes) => real.append(bytes.subarray(0, 7)) }) })
    await log.append(ACT, 'launcher')
    expect(await verifyLog(dir)).toMatchObject({ verdict: 'whole', records: 2 })
  })

  test('a record that is not JSON of our kind is refused, and counted when nobody awaits it', async () => {
    const dir = tempDir()
    const log = await openLog({ dir })
    await expect(log.append(loose({ type: 'admin.act', load: 0.5 }), 'launcher')).rejects.toMatchObject({ code: 'AUDIT_BAD_EVENT' })
    expect(() => log.note({ type: 'nonsense' } as unknown as AuditEvent, 'gateway')).not.toThrow()
    await log.close()
    expect(records(dir).map((r) => [r.type, r.data['lost'], r.data['refused']])).toEqual([['gap', { '(unknown)': 1 }, { 'admin.act': 1 }]])
  })
})

describe('a disk that fails', () => {
  test.each([['took nothing', 0], ['took it all and could not sync it', 1]])('all that wait are refused with the errno of a write that %s, and a gap record comes first when it is back', async (_what, share) => {
    for (const errno of ['ENOSPC', 'EIO', 'EROFS']) {
      const dir = tempDir()
      const faults: Faults = {}
      const log = await openLog({ dir, fs: faultyFs(faults) })
      await log.append(ACT, 'launcher')
      faults.append = async (real, bytes) => {
        if (share > 0) await real.append(bytes)
        throw errnoError(errno)
      }
      log.note(loose({ type: 'plugin.exited', plugin: 'image' }), 'launcher')
      const results = await Promise.allSettled([1, 2, 3].map(() => log.append(ACT, 'operator')))
      for (const result of results) expect(result).toMatchObject({ status: 'rejected', reason: { code: 'AUDIT_UNAVAILABLE', message: expect.stringContaining(errno) } })
      expect(log.state()).toMatchObject({ state: 'lost', records: 2, unrecorded: 4, error: expect.stringContaining(errno) })
      delete faults.append
      expect(await log.append(ACT, 'launcher')).toEqual({ seq: 3 })
      expect(records(dir)[1]).toMatchObject({ type: 'gap', data: { reason: 'unavailable', lost: { 'plugin.exited': 1 }, refused: { 'admin.act': 3 } } })
      expect(log.state()).toMatchObject({ state: 'open', unrecorded: 0, error: null })
      await log.close()
      expect(await verifyLog(dir)).toMatchObject({ verdict: 'gap', records: 5, gapCount: 1 })
    }
  })

  test('what half a write left behind is cut off again before the next record', async () => {
    const dir = tempDir()
    const faults: Faults = {}
    const log = await openLog({ dir, fs: faultyFs(faults) })
    await log.append(ACT, 'launcher')
    let calls = 0
    faults.append = (real, bytes) => (calls++ === 0 ? real.append(bytes.subarray(0, 40)) : Promise.reject(errnoError('ENOSPC')))
    await expect(log.append(ACT, 'launcher')).rejects.toThrow(/ENOSPC/)
    expect(await verifyLog(dir)).toMatchObject({ verdict: 'whole', records: 2 })
    calls = 0
    faults.truncate = () => Promise.reject(errnoError('EIO'))
    await expect(log.append(ACT, 'launcher')).rejects.toThrow(/ENOSPC/)
    delete faults.append
    await expect(log.append(ACT, 'launcher')).rejects.toThrow(/EIO/)
    delete faults.truncate
    await log.append(ACT, 'launcher')
    expect(await verifyLog(dir)).toMatchObject({ verdict: 'gap', records: 4, gapCount: 1 })
  })

  test('losses of several failed commits add up until one gap record tells them all', async () => {
    const dir = tempDir()
    const faults: Faults = {}
    const log = await openLog({ dir, fs: faultyFs(faults) })
    faults.append = () => Promise.reject(errnoError('EIO'))
    for (let i = 0; i < 4; i++) await expect(log.append(ACT, 'operator')).rejects.toThrow(UNAVAILABLE)
    expect(log.state().unrecorded).toBe(4)
    delete faults.append
    await log.append(loose({ type: 'daemon.started' }), 'launcher')
    expect(records(dir).map((r) => [r.type, r.data['refused']])).toEqual([['gap', { 'admin.act': 4 }], ['daemon.started', undefined]])
  })

  test('whoever must stand still meanwhile is told once when it is lost, before anything else is tried, and once when it is back, by itself', async () => {
    const told: (string | null)[] = []
    const faults: Faults = {}
    const log = await openLog({ dir: tempDir(), mode: 'daemon', fs: faultyFs(faults), onLoss: (error) => told.push(error?.code ?? null) })
    faults.append = () => Promise.reject(errnoError('EIO'))
    faults.truncate = (real, size) => {
      expect(told).toEqual(['AUDIT_UNAVAILABLE'])
      return real.truncate(size)
    }
    for (let n = 0; n < 3; n++) await expect(log.append(ACT, 'operator')).rejects.toThrow(UNAVAILABLE)
    expect(told).toEqual(['AUDIT_UNAVAILABLE'])
    delete faults.append
    await expect.poll(() => log.state().state, { timeout: 20_000 }).toBe('open') // nobody asks it to record anything
    expect(told).toEqual(['AUDIT_UNAVAILABLE', null])
    await log.append(ACT, 'operator')
    expect(told).toHaveLength(2)
  })

  test('a caller that does not wait is never thrown at, and its losses are counted once', async () => {
    const dir = tempDir()
    const faults: Faults = {}
    const log = await openLog({ dir, fs: faultyFs(faults) })
    faults.append = () => Promise.reject(errnoError('EIO'))
    for (let i = 0; i < 100; i++) {
      expect(() => log.note(ACT, 'launcher')).not.toThrow()
      if (i === 50) await sleep(30)
    }
    await expect.poll(() => log.state().unrecorded, { timeout: 30_000 }).toBe(100) // what came while the last attempt fails would fail with it
    delete faults.append
    await log.append(loose({ type: 'daemon.started' }), 'launcher')
    expect(records(dir).map((r) => [r.type, r.data['lost']])).toEqual([['gap', { 'admin.act': 100 }], ['daemon.started', undefined]])
  })

  test('with the disk stuck the queue is bounded, and the launcher keeps its share when plugins have filled theirs', async () => {
    const sync = gate()
    const faults: Faults = {}
    const log = await openLog({ dir: tempDir(), budget: { burst: 1e9, perSecond: 1 }, fs: faultyFs(faults) })
    faults.append = async (real, bytes) => (await sync.opened, real.append(bytes))
    for (let i = 0; i < 20_000; i++) log.note({ type: 'health.changed', plugin: 'noisy', run: 'r', healthy: false, detail: '' }, 'gateway')
    expect(log.state().queued).toBe(12_288)
    const mine = log.append(ACT, 'launcher')
    await expect(log.append(loose({ type: 'plugin.start', plugin: 'noisy' }), 'launcher')).rejects.toThrow(UNAVAILABLE)
    sync.open()
    await mine
  })
})

describe('a file that changes underneath', () => {
  const path = (dir: string): string => logPath(dir)
  test.each<[string, (dir: string) => void, RegExp]>([
    ['deleted', (dir) => rmSync(path(dir)), /was deleted while in use/],
    ['moved away', (dir) => renameSync(path(dir), join(dir, 'old')), /was moved away/],
    ['replaced by another', (dir) => (renameSync(path(dir), join(dir, 'old')), writeFileSync(path(dir), readFileSync(join(dir, 'old')), { mode: 0o600 }), appendFileSync(path(dir), '{}\n')), /replaced/],
    ['truncated', (dir) => truncateSync(path(dir), 10), /10 bytes, expected/],
    ['written by someone else', (dir) => appendFileSync(path(dir), '{}\n'), /someone else/],
    ['made unreachable with its directory', (dir) => renameSync(dir, `${dir}-gone`), /was moved away/],
  ])('%s: noticed at the next commit, and nothing is acknowledged after it', async (_name, spoil, message) => {
    const dir = join(tempDir(), 'audit')
    const log = await openLog({ dir })
    await log.append(ACT, 'launcher')
    spoil(dir)
    await expect(log.append(ACT, 'launcher')).rejects.toThrow(message)
    await expect(log.append(ACT, 'launcher')).rejects.toThrow(UNAVAILABLE)
    expect(log.state()).toMatchObject({ state: 'lost', records: 2 })
  })

  test('put back unchanged, it goes on and tells the gap', async () => {
    const dir = tempDir()
    const log = await openLog({ dir })
    await log.append(ACT, 'launcher')
    renameSync(path(dir), join(dir, 'old'))
    await expect(log.append(ACT, 'launcher')).rejects.toThrow(UNAVAILABLE)
    renameSync(join(dir, 'old'), path(dir))
    expect(await log.append(ACT, 'launcher')).toEqual({ seq: 3 })
  })

  test('put back with another last record, it stays refused', async () => {
    const dir = tempDir()
    const log = await openLog({ dir })
    await log.append(ACT, 'launcher')
    const text = readFileSync(path(dir), 'utf8')
    rmSync(path(dir))
    await expect(log.append(ACT, 'launcher')).rejects.toThrow(UNAVAILABLE)
    writeFileSync(path(dir), text.replace('"test"', '"tesT"'), { mode: 0o600 })
    await expect(log.append(ACT, 'launcher')).rejects.toThrow(/does not end with the record/)
  })
})

describe('the record budget', () => {
  const noise: AuditEvent = { type: 'channel.call', plugin: 'noisy', run: 'r', method: 'm', outcome: 'ok', ms: 1 }

  test('a flood of one plugin is counted instead of recorded, its intents are refused, and nobody else notices', async () => {
    const dir = tempDir()
    const log = await openLog({ dir, coalesceMs: 30 })
    for (let i = 0; i < 5000; i++) log.note(noise, 'gateway')
    expect(log.state().overBudget).toEqual(['noisy'])
    await expect(log.append(loose({ type: 'plugin.start', plugin: 'noisy' }), 'launcher')).rejects.toMatchObject({ code: 'AUDIT_BUDGET' })
    const before = performance.now()
    await Promise.all([
      log.append(loose({ type: 'plugin.start', plugin: 'calm' }), 'launcher'),
      log.append(loose({ type: 'daemon.started' }), 'launcher'),
      log.append(loose({ type: 'admin.act', plugin: 'noisy' }), 'operator'),
    ])
    expect(performance.now() - before).toBeLessThan(10_000)
    await log.close()
    const all = records(dir)
    const recorded = all.filter((r) => r.type === 'channel.call').length
    expect(recorded).toBeGreaterThanOrEqual(200)
    expect(recorded).toBeLessThan(600)
    const gaps = all.filter((r) => r.type === 'gap')
    expect(gaps.every((g) => g.plugin === 'noisy' && g.data['reason'] === 'budget')).toBe(true)
    const counts = gaps.map((g) => g.data['coalesced'] as Record<string, number>)
    expect(counts.reduce((sum, c) => sum + (c['channel.call'] ?? 0), 0)).toBe(5000 - recorded)
    expect(counts.reduce((sum, c) => sum + (c['plugin.start'] ?? 0), 0)).toBe(1)
  })

  test('what was counted while the disk failed is told when it is back', async () => {
    const dir = tempDir()
    const faults: Faults = {}
    const log = await openLog({ dir, coalesceMs: 10, budget: { burst: 1, perSecond: 1 }, fs: faultyFs(faults) })
    await log.append(loose({ type: 'daemon.started' }), 'launcher')
    faults.append = () => Promise.reject(errnoError('ENOSPC'))
    await expect(log.append(ACT, 'launcher')).rejects.toThrow(UNAVAILABLE)
    for (let i = 0; i < 10; i++) log.note(noise, 'gateway')
    await sleep(50)
    delete faults.append
    await log.append(ACT, 'launcher')
    const told = (): unknown => records(dir).filter((r) => r.data['reason'] === 'budget').map((r) => r.data['coalesced'])
    await expect.poll(told).toEqual([{ 'channel.call': 9 }])
  })

  test('refills with time', async () => {
    let now = 0
    const log = await openLog({ dir: tempDir(), clock: { wallMs: () => now, monoMs: () => now }, budget: { burst: 2, perSecond: 1 } })
    const start: AuditEvent = loose({ type: 'plugin.start', plugin: 'p' })
    await log.append(start, 'launcher')
    await log.append(start, 'launcher')
    await expect(log.append(start, 'launcher')).rejects.toMatchObject({ code: 'AUDIT_BUDGET' })
    now = 1000
    await log.append(start, 'launcher')
    await expect(log.append(start, 'launcher')).rejects.toMatchObject({ code: 'AUDIT_BUDGET' })
  })

  test('a plugin cannot hide its violation behind its own noise', async () => {
    const dir = tempDir()
    const log = await openLog({ dir })
    for (let i = 0; i < 1000; i++) log.note(noise, 'gateway')
    log.note(loose({ type: 'isolation.violated', plugin: 'noisy', what: 'uid' }), 'launcher')
    await log.close()
    expect(records(dir).filter((r) => r.type === 'isolation.violated')).toHaveLength(1)
  })

  test('long records use it up sooner, and strangers share one', async () => {
    const dir = tempDir()
    const log = await openLog({ dir })
    for (let i = 0; i < 300; i++) {
      log.note(loose({ type: 'resources.snapshot', plugin: 'big', list: Array.from({ length: 10 }, () => 'x'.repeat(4000)) }), 'launcher')
      log.note({ type: 'access.denied', path: '/', client: `10.0.0.${i}`, reason: 'no', coalesced: 1 }, 'gateway')
    }
    await log.close()
    const count = (type: string): number => records(dir).filter((r) => r.type === type).length
    expect(count('resources.snapshot')).toBeLessThan(15)
    expect(count('access.denied')).toBeLessThan(600)
    expect(count('gap')).toBe(2)
  })
})
