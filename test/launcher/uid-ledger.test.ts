import { chmod, link, mkdtemp, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { PluginName } from '../../src/base/ids.ts'
import { CordonError } from '../../src/errors.ts'
import { appendRecord, parseLedger, readLedger } from '../../src/launcher/uid-ledger.ts'

const line = (uid: number, name: string | null, extra: object = {}) => `${JSON.stringify({ v: 1, uid, name, at: '2026-01-01T00:00:00.000Z', nonce: '0123456789abcdef', ...extra })}\n`
const corrupt = expect.objectContaining({ code: 'USERS_CORRUPT' })
const a = 'alpha' as PluginName

let dir: string
let path: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'cordon-ledger-'))
  path = join(dir, 'uids.jsonl')
})
afterEach(() => rm(dir, { recursive: true, force: true }))

describe('the uid ledger', () => {
  test('gives a number to the first line that names it; a later one has lost', () => {
    const ledger = parseLedger(line(5000, 'alpha') + line(5000, 'beta') + line(5001, 'beta') + line(5002, 'alpha'))
    expect(ledger.byName.get('alpha')?.uid).toBe(5000)
    expect(ledger.byName.get('beta')?.uid).toBe(5001)
    expect(ledger.highest).toBe(5002)
  })

  test('accepts half a record at the very end, whatever its length', () => {
    const half = line(5001, 'beta')
    for (let cut = 0; cut < half.length; cut++) {
      const ledger = parseLedger(line(5000, 'alpha') + half.slice(0, cut))
      expect([ledger.highest, ledger.remnant]).toEqual([5000, cut])
    }
  })

  test('goes on after half a record, and still reads as a whole', async () => {
    await writeFile(path, `${line(5000, 'alpha')}{"v":1,"uid":50`, { mode: 0o600 })
    const { remnant } = await readLedger(path)
    expect(await appendRecord(path, 5001, null, remnant)).toMatchObject({ won: true })
    expect(await appendRecord(path, 5002, null, (await readLedger(path)).remnant)).toMatchObject({ won: true })
    expect((await readLedger(path)).highest).toBe(5002)
  })

  test.each([
    ['a line that is not JSON', `${line(5000, 'alpha')}garbage\n${line(5001, 'b')}`],
    ['a cut line in the middle that nobody accounts for', `{"v":1,"uid":50\n${line(5001, 'b')}`],
    ['a remnant of another length', `{"v":1,"uid":50\n${line(5001, 'b', { remnant: 3 })}`],
    ['a remnant that is not there', line(5001, 'b', { remnant: 3 })],
    ['a cut line at the end with a newline', `${line(5000, 'alpha')}{"v":1,"uid":50\n`],
    ['a tail that is no record', `${line(5000, 'alpha')}xyz`],
    ['zeros after a crash of the disk', `${line(5000, 'alpha')}\0\0\0\0`],
    ['an unknown field', line(5000, 'alpha', { evil: 1 })],
    ['uid 0', line(0, 'alpha')],
    ['a uid that wraps', line(4294967296, 'alpha')],
    ['a name that is none', line(5000, '../etc')],
    ['an empty line', `\n\n${line(5000, 'alpha')}`],
  ])('is refused with %s', (_what, text) => {
    expect(() => parseLedger(text)).toThrow(corrupt)
  })

  test('never crashes and never forgets a whole line, whatever is changed in it', () => {
    const text = line(5000, 'alpha') + line(5001, 'beta') + line(5002, null)
    fc.assert(
      fc.property(fc.nat(text.length - 1), fc.string({ maxLength: 5, unit: 'binary' }), (at, patch) => {
        const changed = text.slice(0, at) + patch + text.slice(at + patch.length)
        try {
          expect(parseLedger(changed).byUid.size).toBeGreaterThanOrEqual(2)
        } catch (error) {
          if (!(error instanceof CordonError)) throw error
          expect(error.code).toBe('USERS_CORRUPT')
        }
      }),
      { seed: 4711, numRuns: 2000 },
    )
  })

  test('is refused as a link, a hard link or readable by others', async () => {
    await writeFile(join(dir, 'real'), line(5000, 'alpha'), { mode: 0o600 })
    await symlink('real', path)
    await expect(readLedger(path)).rejects.toThrow(corrupt)
    await rm(path)
    await link(join(dir, 'real'), path)
    await expect(readLedger(path)).rejects.toThrow(corrupt)
    await rm(join(dir, 'real'))
    expect((await readLedger(path)).highest).toBe(5000)
    await chmod(path, 0o644)
    await expect(readLedger(path)).rejects.toThrow(corrupt)
    await chmod(path, 0o600)
    await truncate(path, 17 * 1024 * 1024)
    await expect(readLedger(path)).rejects.toThrow(corrupt)
  })

  test('says who won when two append the same number', async () => {
    expect((await appendRecord(path, 5000, a, 0)).won).toBe(true)
    expect((await appendRecord(path, 5000, 'beta' as PluginName, 0)).won).toBe(false)
    expect((await appendRecord(path, 5001, a, 0)).won).toBe(false)
    expect((await readFile(path, 'utf8')).split('\n')).toHaveLength(4)
  })
})
