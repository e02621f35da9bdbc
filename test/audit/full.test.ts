import { statSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { examine } from './examine.ts'
import { errnoError, faultyFs, openLog, tempDir, type Faults } from './kit.ts'
import { loose } from './loose.ts'

const ACT = loose({ type: 'admin.act' })

test('on a full disk the last words stand in the log, in room that was kept for them; it is back only when that room is', async () => {
  const dir = tempDir()
  const faults: Faults = {}
  const log = await openLog({ dir, mode: 'daemon', fs: faultyFs(faults) })
  await log.append(ACT, 'operator')
  expect(statSync(join(dir, 'reserve')).size).toBe(32_768)
  let full = true
  // The disk takes a record only where the reserve has gone.
  const room = (): boolean => !full || statSync(join(dir, 'reserve'), { throwIfNoEntry: false }) === undefined
  faults.append = (real, bytes) => (room() ? real.append(bytes) : Promise.reject(errnoError('ENOSPC')))
  faults.rename = () => (full ? Promise.reject(errnoError('ENOSPC')) : Promise.resolve())
  for (let i = 0; i < 3; i++) await expect(log.append(ACT, 'operator')).rejects.toMatchObject({ code: 'AUDIT_UNAVAILABLE', message: expect.stringContaining('ENOSPC') as string })
  await expect.poll(() => examine(dir).records.filter(({ type }) => type === 'log.full').map(({ data }) => data)).toEqual([{ errno: 'ENOSPC' }])
  expect(log.state().state).toBe('lost')
  full = false
  await log.append(ACT, 'operator')
  expect(statSync(join(dir, 'reserve')).size).toBe(32_768)
  await log.close()
  const { problems, records } = examine(dir)
  expect(problems).toEqual([])
  expect(records.filter(({ type }) => type === 'log.full' || type === 'gap').map(({ type, data }) => [type, data['refused']])).toEqual([['log.full', undefined], ['gap', { 'admin.act': 3 }]])
})

test('a disk that never had room for the reserve is written all the same', async () => {
  const dir = tempDir()
  let made = 0
  const log = await openLog({ dir, mode: 'daemon', fs: { ...faultyFs({}), rename: async (from, to) => {
    if (to.endsWith('/reserve')) {
      made += 1
      throw errnoError('ENOSPC')
    }
    await faultyFs({}).rename(from, to)
  } } })
  await log.append(ACT, 'operator')
  await log.close()
  expect(made).toBe(1)
  expect(examine(dir).problems).toEqual([])
})
