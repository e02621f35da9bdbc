import { mkdtempSync, readdirSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openSocketDispatcher, type SocketIdentity } from '../../src/proxy/dispatcher.ts'

let dir = ''
const servers: Server[] = []

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'dispatcher-'))
})
afterEach(() => {
  for (const server of servers.splice(0)) server.close()
  rmSync(dir, { recursive: true, force: true })
})

async function listen(path: string, text: string): Promise<SocketIdentity> {
  const server = createServer((_req, res) => void res.end(text))
  servers.push(server)
  await new Promise<void>((resolve) => server.listen(path, resolve))
  return identity(path)
}

function identity(path: string): SocketIdentity {
  const stat = statSync(path, { bigint: true })
  return { dev: String(stat.dev), ino: String(stat.ino), uid: Number(stat.uid) }
}

function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length
}

describe('the socket that was taken over', () => {
  test('is reached through its descriptor, also after another took its path', async () => {
    const path = join(dir, 'p.sock')
    const first = await listen(path, 'first')
    const opened = openSocketDispatcher(path, first)
    renameSync(path, join(dir, 'moved.sock'))
    await listen(path, 'second')
    const reply = await opened.dispatcher.request({ origin: 'http://localhost', path: '/', method: 'GET' })
    expect(await reply.body.text()).toBe('first')
    await opened.close()
  })
  test('its descriptor path serves others, until it is closed', async () => {
    const path = join(dir, 'p.sock')
    const opened = openSocketDispatcher(path, await listen(path, 'x'))
    const socket = connect(opened.fdPath)
    await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject))
    socket.destroy()
    const before = openDescriptors()
    await opened.close()
    await opened.close()
    expect(openDescriptors()).toBe(before - 1)
    await expect(opened.dispatcher.request({ origin: 'http://localhost', path: '/', method: 'GET' })).rejects.toThrow()
  })
  test.each([
    ['a link to it', (path: string) => { renameSync(path, `${path}.real`); symlinkSync(`${path}.real`, path) }],
    ['a plain file', (path: string) => { rmSync(path); writeFileSync(path, '') }],
    ['nothing', (path: string) => rmSync(path)],
  ])('%s in its place is refused, and no descriptor stays open', async (_what, swap) => {
    const path = join(dir, 'p.sock')
    const was = await listen(path, 'x')
    const before = openDescriptors()
    swap(path)
    expect(() => openSocketDispatcher(path, was)).toThrowError(expect.objectContaining({ code: 'PROXY_SOCKET_REFUSED' }))
    expect(openDescriptors()).toBe(before)
  })
  test.each([['dev', { dev: '0' }], ['ino', { ino: '1' }], ['uid', { uid: 4_000_000 }]])('another %s is refused', async (_field, other) => {
    const path = join(dir, 'p.sock')
    const was = await listen(path, 'x')
    expect(() => openSocketDispatcher(path, { ...was, ...other })).toThrowError(expect.objectContaining({ code: 'PROXY_SOCKET_REFUSED' }))
  })
})
