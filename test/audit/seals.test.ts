import { existsSync, lstatSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import type { AuditEvent } from '../../src/audit/record.ts'
import type { CordonError } from '../../src/errors.ts'
import { examine } from './examine.ts'
import { errnoError, faultyFs, openLog, tempDir, type Faults } from './kit.ts'
import { loose } from './loose.ts'

const ACT: AuditEvent = loose({ type: 'admin.act', what: 'test' })

const keysOf = (dir: string): string[] => readdirSync(`${dir}-keys`).sort()

describe('sealing', () => {
  test('a daemon creates the log, tells that it opened it, seals that, and seals again when it closes', async () => {
    const dir = tempDir()
    for (let round = 0; round < 2; round++) {
      const log = await openLog({ dir, mode: 'daemon' })
      await log.append(ACT, 'launcher')
      await log.close()
    }
    const { problems, records, seals } = examine(dir)
    expect(problems).toEqual([])
    expect(records.map(({ type }) => type)).toEqual(['log.created', 'log.opened', 'seal', 'admin.act', 'seal', 'log.opened', 'seal', 'admin.act', 'seal'])
    expect(seals.map(({ data }) => data['why'])).toEqual(['open', 'close', 'open', 'close'])
  })

  test('the key of the next epoch alone lies there, readable for its owner alone, and the older ones are gone', async () => {
    const dir = tempDir()
    const log = await openLog({ dir, mode: 'daemon' })
    await log.seal()
    await log.close()
    expect(keysOf(dir)).toEqual(['epoch-3.key', 'log.key', 'salt'])
    for (const name of keysOf(dir)) expect([lstatSync(join(`${dir}-keys`, name)).mode & 0o777, lstatSync(join(`${dir}-keys`, name)).size]).toEqual([0o600, 32])
    expect(lstatSync(`${dir}-keys`).mode & 0o777).toBe(0o700)
  })

  test('an idle log is sealed again and again, told as what it is', async () => {
    const dir = tempDir()
    const log = await openLog({ dir, mode: 'daemon', sealIntervalS: 1 })
    await expect.poll(() => examine(dir).seals.length, { timeout: 30_000 }).toBeGreaterThan(3)
    await log.close()
    const { problems, seals } = examine(dir)
    expect(problems).toEqual([])
    expect(new Set(seals.slice(1, -1).map(({ data }) => data['why']))).toEqual(new Set(['interval']))
  })

  test('so many records are sealed without waiting for the clock', async () => {
    const dir = tempDir()
    const log = await openLog({ dir, sealRecords: 100 })
    for (let i = 0; i < 1000; i++) await log.append(ACT, 'operator')
    await log.close()
    const { problems, seals } = examine(dir)
    expect(problems).toEqual([])
    expect(seals.map(({ data }) => data['why'])).toEqual([...Array.from({ length: seals.length - 1 }, () => 'count'), 'close'])
    expect(seals.length).toBeGreaterThanOrEqual(10)
  })

  test('who asks for a seal gets one that covers all that was recorded before', async () => {
    const dir = tempDir()
    const log = await openLog({ dir })
    const { seq } = await log.append(ACT, 'operator')
    await log.seal()
    expect(Number(examine(dir).seals.at(-1)?.data['size'])).toBeGreaterThan(seq)
    expect(log.state().unsealed).toBe(0)
  })

  test('a short session that wrote nothing leaves nothing', async () => {
    const dir = tempDir()
    await (await openLog({ dir })).close()
    const before = readFileSync(join(dir, 'records/0000000000000000.jsonl'))
    await (await openLog({ dir })).close()
    expect(readFileSync(join(dir, 'records/0000000000000000.jsonl')).equals(before)).toBe(true)
  })

  test('records of other times may wait while a seal is made: the clock within the log never falls', async () => {
    const dir = tempDir()
    let now = 0
    const log = await openLog({ dir, mode: 'daemon', sealRecords: 50, clock: { wallMs: () => now, monoMs: () => now++ } })
    await Promise.all(Array.from({ length: 3000 }, () => log.append(ACT, 'operator')))
    await log.close()
    expect(examine(dir).problems).toEqual([])
  })
})

describe('keys', () => {
  test('a log whose key is gone or another one is not gone on with', async () => {
    const dir = tempDir()
    await (await openLog({ dir })).close()
    const key = join(`${dir}-keys`, 'epoch-1.key')
    const seed = readFileSync(key)
    rmSync(key)
    await expect(openLog({ dir })).rejects.toMatchObject({ code: 'AUDIT_KEYS', message: expect.stringContaining('does not exist') as string })
    writeFileSync(key, Buffer.alloc(32, 1), { mode: 0o600 })
    await expect(openLog({ dir })).rejects.toMatchObject({ code: 'AUDIT_KEYS', message: expect.stringContaining('is not the key') as string })
    writeFileSync(key, seed)
    await (await openLog({ dir })).append(ACT, 'operator')
  })

  test('keys without their log begin no new one', async () => {
    const dir = join(tempDir(), 'audit')
    await (await openLog({ dir })).close()
    rmSync(dir, { recursive: true })
    await expect(openLog({ dir })).rejects.toMatchObject({ code: 'AUDIT_KEYS' })
    rmSync(`${dir}-keys`, { recursive: true })
    await (await openLog({ dir })).append(ACT, 'operator')
  })

  test('a key that is deleted or replaced in use is noticed at the next commit; it is put back, and the gap is told', async () => {
    const dir = tempDir()
    const log = await openLog({ dir, mode: 'daemon' })
    const key = join(`${dir}-keys`, 'epoch-1.key')
    for (const spoil of [() => rmSync(key), () => (rmSync(key), writeFileSync(key, Buffer.alloc(32), { mode: 0o600 }))]) {
      spoil()
      await expect(log.append(ACT, 'operator')).rejects.toMatchObject({ code: 'AUDIT_UNAVAILABLE', message: expect.stringMatching(/epoch-1\.key was (deleted|replaced) while in use/) as string })
      await log.append(ACT, 'operator')
    }
    await log.close()
    const { problems, records } = examine(dir)
    expect(problems).toEqual([])
    expect(records.filter(({ type }) => type === 'gap').map(({ data }) => data['reason'])).toEqual(['unavailable', 'unavailable'])
  })
})

describe('a disk that fails while it seals', () => {
  test.each(['rename', 'append', 'datasync', 'unlink'] as const)('%s: the log is lost until it works again, and every seal still follows the one before', async (call) => {
    const dir = tempDir()
    const faults: Faults = {}
    const log = await openLog({ dir, fs: faultyFs(faults) })
    await log.append(ACT, 'operator')
    faults[call] = (): Promise<never> => Promise.reject(errnoError('EIO'))
    await log.seal().catch(() => undefined) // what follows a seal fails without it, and shows at a later act
    await expect.poll(() => log.append(ACT, 'operator').then(() => 'recorded', (error: CordonError) => error.code)).toBe('AUDIT_UNAVAILABLE')
    expect(log.state().state).toBe('lost')
    delete faults[call]
    await log.append(ACT, 'operator')
    await log.seal()
    await log.close()
    expect(examine(dir).problems).toEqual([])
    expect(keysOf(dir).filter((name) => name.startsWith('epoch'))).toHaveLength(1)
  })

  test('a log that is lost while nobody writes tries again by itself', async () => {
    const dir = tempDir()
    const faults: Faults = {}
    const log = await openLog({ dir, mode: 'daemon', sealIntervalS: 1, fs: faultyFs(faults) })
    faults.append = () => Promise.reject(errnoError('EIO'))
    await expect.poll(() => log.state().state, { timeout: 30_000 }).toBe('lost')
    delete faults.append
    await expect.poll(() => log.state().state, { timeout: 30_000 }).toBe('open')
    await sleep(10)
    await log.close()
    expect(examine(dir).problems).toEqual([])
  })
})

describe('what a checkpoint needs', () => {
  test.each<[string, (dir: string) => void]>([
    ['the checkpoint', (dir) => rmSync(join(dir, 'checkpoint'))],
    ['the newest tile', (dir) => rmSync(join(dir, 'tile/0/001.p'), { recursive: true })],
    ['all tiles', (dir) => rmSync(join(dir, 'tile'), { recursive: true })],
    ['the bytes of a tile', (dir) => writeFileSync(join(dir, 'tile/1/000.p/1'), Buffer.alloc(32))],
    ['the text of the checkpoint', (dir) => writeFileSync(join(dir, 'checkpoint'), 'nonsense')],
  ])('%s can be lost: it is made anew from the records', async (_name, lose) => {
    const dir = tempDir()
    const log = await openLog({ dir })
    await Promise.all(Array.from({ length: 400 }, () => log.append(ACT, 'operator')))
    await log.close()
    lose(dir)
    const again = await openLog({ dir })
    await again.append(ACT, 'operator')
    await again.close()
    expect(existsSync(join(dir, 'checkpoint'))).toBe(true)
    expect(examine(dir).problems).toEqual([])
  })

  test('old partial tiles go when a wider one is there', async () => {
    const dir = tempDir()
    const log = await openLog({ dir })
    for (let i = 0; i < 300; i += 50) {
      await Promise.all(Array.from({ length: 50 }, () => log.append(ACT, 'operator')))
      await log.seal()
    }
    await log.close()
    expect(readdirSync(join(dir, 'tile/0')).sort()).toEqual(['000', '001.p'])
    expect(readdirSync(join(dir, 'tile/0/001.p'))).toHaveLength(1)
    expect(readdirSync(join(dir, 'tile/1'))).toEqual(['000.p'])
  })
})
