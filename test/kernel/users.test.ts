import { execFileSync } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { PluginName } from '../../src/base/ids.ts'
import { createUsers, userNameOf } from '../../src/launcher/users.ts'

/** Apart from the default range, whose numbers an installed Cordon may have given out. */
const RANGE = { first: 1_881_900_000, count: 60_000 }
const long = 'temps-deployment-pulse-plugin-of-the-test' as PluginName
const short = 'a' as PluginName

let dir: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'cordon-users-'))
})
afterEach(async () => {
  await createUsers(dir, RANGE).removeUsers([long, short])
  await rm(dir, { recursive: true, force: true })
})

function getent(database: string, key: string | number): string {
  try {
    return execFileSync('/usr/bin/getent', [database, String(key)], { encoding: 'utf8' }).trim()
  } catch {
    return ''
  }
}

describe('OS users', () => {
  test('are made once with name, number and GECOS, and are found again', async () => {
    const users = createUsers(dir, RANGE)
    const [user, again, other] = await Promise.all([users.allocateUser(long), users.allocateUser(long), users.allocateUser(short)])
    expect(user).toEqual({ uid: RANGE.first + 16, gid: RANGE.first + 16, userName: userNameOf(long, RANGE.first) })
    expect(user.userName).toMatch(/^cordon-p-temps-deploym-[0-9a-f]{8}$/)
    expect(user.userName.length).toBe(31)
    expect(again).toEqual(user)
    expect(other.uid).toBe(RANGE.first + 17)
    expect(getent('passwd', user.uid)).toBe(`${user.userName}:x:${user.uid}:${user.gid}:Cordon plugin ${long}:/nonexistent:/usr/sbin/nologin`)
    expect(getent('group', user.gid)).toBe(`${user.userName}:x:${user.gid}:`)
    expect(execFileSync('/usr/bin/getent', ['shadow', user.userName], { encoding: 'utf8' })).toMatch(/^[^:]+:!/)
    expect(await createUsers(dir, RANGE).allocateUser(long)).toEqual(user)
  })

  test('keep their number after removal, and nobody else gets it', async () => {
    const users = createUsers(dir, RANGE)
    const user = await users.allocateUser(short)
    await users.removeUsers([short])
    expect(getent('passwd', user.uid) + getent('group', user.gid)).toBe('')
    expect((await users.allocateEphemeral()).uid).toBe(user.uid + 1)
    expect(getent('passwd', user.uid + 1)).toBe('')
    expect(await users.allocateUser(short)).toEqual(user)
    expect((await readFile(join(dir, 'uids.jsonl'), 'utf8')).trim().split('\n')).toHaveLength(2)
  })

  test('are completed when a crash left only the group', async () => {
    execFileSync('/usr/sbin/groupadd', ['--system', '--gid', String(RANGE.first + 16), userNameOf(short, RANGE.first)])
    await createUsers(dir, RANGE).allocateUser(short)
    expect(getent('passwd', userNameOf(short, RANGE.first))).toContain('nologin')
  })

  test('are refused when the number or the name means something else on this host', async () => {
    // root's uid cannot be in a range, so the foreign account is one of ours under another name
    await createUsers(dir, RANGE).allocateUser(short)
    const elsewhere = await mkdtemp(join(tmpdir(), 'cordon-users-'))
    const taken = userNameOf(long, RANGE.first)
    execFileSync('/usr/sbin/groupadd', ['--system', '--gid', String(RANGE.first + 50), taken])
    try {
      await expect(createUsers(elsewhere, RANGE).allocateUser(long)).rejects.toThrow(expect.objectContaining({ code: 'USERS_CONFLICT', message: expect.stringContaining(userNameOf(short, RANGE.first)) }))
      await expect(createUsers(dir, RANGE).allocateUser(long)).rejects.toThrow(expect.objectContaining({ code: 'USERS_CONFLICT', message: expect.stringContaining(taken) }))
    } finally {
      execFileSync('/usr/sbin/groupdel', [taken])
      await rm(elsewhere, { recursive: true, force: true })
    }
  })

  test('of two hosts on one machine do not meet: the same plugin name is another user in another range', async () => {
    const other = createUsers(await mkdtemp(join(dir, 'other-')), { first: RANGE.first - 1000, count: 100 })
    const [here, there] = [await createUsers(dir, RANGE).allocateUser(short), await other.allocateUser(short)]
    await other.removeUsers([short])
    expect(there.uid).not.toBe(here.uid)
    expect(there.userName).not.toBe(here.userName)
  })

  test('end with the range, and a moved range is refused', async () => {
    const users = createUsers(dir, { first: RANGE.first, count: 18 })
    expect([(await users.allocateEphemeral()).uid, (await users.allocateEphemeral()).uid]).toEqual([RANGE.first + 16, RANGE.first + 17])
    await expect(users.allocateEphemeral()).rejects.toThrow(expect.objectContaining({ code: 'USERS_EXHAUSTED' }))
    await rm(join(dir, 'uids.jsonl'))
    await createUsers(dir, RANGE).allocateUser(short)
    await expect(createUsers(dir, { first: RANGE.first + 1000, count: 100 }).allocateUser(short)).rejects.toThrow(expect.objectContaining({ code: 'USERS_RANGE' }))
    for (const bad of [{ first: 0, count: 100 }, { first: 2_147_483_000, count: 60_000 }, { first: 100_000, count: 16 }]) expect(() => createUsers(dir, bad)).toThrow('uids')
  })

  test('are not made from a corrupt ledger', async () => {
    await writeFile(join(dir, 'uids.jsonl'), 'garbage\n', { mode: 0o600 })
    await expect(createUsers(dir, RANGE).allocateUser(short)).rejects.toThrow(expect.objectContaining({ code: 'USERS_CORRUPT' }))
    expect(getent('passwd', userNameOf(short, RANGE.first))).toBe('')
    await rm(join(dir, 'uids.jsonl'))
  })

  test('two processes that ask at once get different numbers', async () => {
    const [a, b] = [createUsers(dir, RANGE), createUsers(dir, RANGE)]
    const got = await Promise.all([0, 1, 2, 3].flatMap(() => [a.allocateEphemeral(), b.allocateEphemeral()]))
    expect(new Set(got.map((one) => one.uid)).size).toBe(8)
  })
})
