import { createHash } from 'node:crypto'
import { chmod, link, mkdtemp, readFile, readdir, rename, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { loadAdminToken } from '../../src/launcher/admin-token.ts'

let dir: string
let path: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'cordon-token-'))
  path = join(dir, 'admin-token')
})
afterEach(() => rm(dir, { recursive: true, force: true }))
const refused = expect.objectContaining({ code: 'TOKEN_REFUSED' })

describe('the admin token', () => {
  test('is made once, for root alone, and only its hash is given out', async () => {
    await writeFile(`${path}.new`, 'left by a crash')
    const first = await loadAdminToken(dir)
    const token = (await readFile(path, 'utf8')).trim()
    expect(first).toEqual({ sha256: createHash('sha256').update(token).digest('hex'), created: true, path })
    expect((await stat(path)).mode & 0o777).toBe(0o600)
    expect(await loadAdminToken(dir)).toEqual({ ...first, created: false })
    await link(path, `${path}.new`) // a crash between giving the name and taking the draft's away
    expect(await loadAdminToken(dir)).toEqual({ ...first, created: false })
    expect(await readdir(dir)).toEqual(['admin-token'])
  })

  test('is refused when others may read it, and accepted again when not', async () => {
    await loadAdminToken(dir)
    await chmod(path, 0o640)
    await expect(loadAdminToken(dir)).rejects.toThrow(refused)
    await chmod(path, 0o600)
    await loadAdminToken(dir)
  })

  test('is refused as a link, a hard link or with another content', async () => {
    await loadAdminToken(dir)
    await rename(path, join(dir, 'moved'))
    await symlink('moved', path)
    await expect(loadAdminToken(dir)).rejects.toThrow(refused)
    await rm(path)
    await link(join(dir, 'moved'), path)
    await expect(loadAdminToken(dir)).rejects.toThrow(refused)
    for (const content of ['', 'short\n', `${'a'.repeat(43)}`, `${'a'.repeat(43)}\nmore`]) {
      await rm(path)
      await writeFile(path, content, { mode: 0o600 })
      await expect(loadAdminToken(dir)).rejects.toThrow(refused)
    }
  })
})
