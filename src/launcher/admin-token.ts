import { createHash, randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { link, open, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { CordonError } from '../errors.ts'

const TOKEN = /^[A-Za-z0-9_-]{43}\n$/

export interface AdminToken {
  /** Hex SHA-256 of the token's text: all that the gateway gets before a caller sends the token. */
  readonly sha256: string
  /** Made just now: tell the operator where it lies. */
  readonly created: boolean
  readonly path: string
}

/**
 * The one admin token, made at the first start: `<stateDir>/admin-token`, 256 random bits in base64url and a newline.
 * @throws CordonError TOKEN_REFUSED when the file is not ours alone or does not hold a token; never replaced silently
 */
export async function loadAdminToken(stateDir: string): Promise<AdminToken> {
  const path = join(stateDir, 'admin-token')
  await unlink(`${path}.new`).catch(ignoreAbsent) // a crash right after link(2) leaves a second name of the token
  const found = await readToken(path)
  if (found !== null) return { sha256: sha256(found), created: false, path }
  await createToken(path)
  const made = await readToken(path)
  if (made === null) throw new CordonError('TOKEN_REFUSED', `${path} vanished right after it was made`)
  return { sha256: sha256(made), created: true, path }
}

/** Complete and durable before it has its name, so a crash never leaves half a token under it; link(2) never replaces. */
async function createToken(path: string): Promise<void> {
  const draft = `${path}.new`
  const file = await open(draft, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600)
  try {
    await file.writeFile(`${randomBytes(32).toString('base64url')}\n`)
    await file.chmod(0o600) // whatever the umask was
    await file.sync()
  } finally {
    await file.close()
  }
  await link(draft, path)
  await unlink(draft)
  const directory = await open(join(path, '..'))
  await directory.sync().finally(() => directory.close())
}

async function readToken(path: string): Promise<string | null> {
  let file
  try {
    file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null
    throw new CordonError('TOKEN_REFUSED', `${path} cannot be opened, or is a link`, { cause: error })
  }
  try {
    const stat = await file.stat()
    if (!stat.isFile() || stat.uid !== process.geteuid?.() || (stat.mode & 0o7777) !== 0o600 || stat.nlink !== 1) {
      throw new CordonError('TOKEN_REFUSED', `${path} has mode ${(stat.mode & 0o7777).toString(8)}, uid ${stat.uid} and ${stat.nlink} links, expected a file of root with mode 600 and one`)
    }
    const { buffer, bytesRead } = await file.read(Buffer.alloc(100), 0, 100, 0)
    const text = buffer.toString('latin1', 0, bytesRead)
    if (!TOKEN.test(text)) throw new CordonError('TOKEN_REFUSED', `${path} does not hold a token (43 characters and a newline)`)
    return text.trimEnd()
  } finally {
    await file.close()
  }
}

function sha256(token: string): string {
  return createHash('sha256').update(token).digest('hex')
}

function ignoreAbsent(error: unknown): void {
  if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error
}
