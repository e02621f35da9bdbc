import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, onTestFinished, test } from 'vitest'
import { serveControl } from '../../src/launcher/control-server.ts'
import { holderOf, peerOf, type Who } from '../../src/launcher/peer.ts'
import { encodeMessage } from '../../src/wire/frame.ts'

const children: ChildProcess[] = []
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
})

/** A process of its own that connects, says something, and stays. */
function connector(path: string, env: Readonly<Record<string, string>>, says: Buffer = Buffer.of(0)): ChildProcess {
  const program = 'const s = require("net").connect(process.argv[1]); s.write(Buffer.from(process.argv[2], "hex")); s.on("error", () => {}); setTimeout(() => {}, 60000)'
  const child = spawn(process.execPath, ['-e', program, path, says.toString('hex')], { env, stdio: 'ignore' })
  children.push(child)
  return child
}

function socketPath(): string {
  const dir = mkdtempSync(join(tmpdir(), 'cordon-peer-'))
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }))
  return join(dir, 'a b 12 * 34 users:(("x",pid=1,fd=2))') // names in the list are anybody's
}

async function accepted(env: Readonly<Record<string, string>>): Promise<{ socket: Socket; child: ChildProcess }> {
  const path = socketPath()
  const server = createServer()
  server.listen(path)
  await once(server, 'listening')
  const child = connector(path, env)
  const [socket] = (await once(server, 'connection')) as [Socket]
  socket.on('error', () => undefined)
  onTestFinished(() => {
    socket.destroy()
    server.close()
  })
  return { socket, child }
}

const ME = process.getuid?.() === 0 ? 'root' : `uid ${process.getuid?.() ?? 0}`

describe('who is at the other end of a Unix socket', () => {
  test('is told by the kernel: the user and the login of that process, and the SUDO_USER that it was started with', async () => {
    const { socket } = await accepted({ SUDO_USER: 'alice' })
    const who = await peerOf(socket)
    expect(who).toEqual({ who: expect.stringMatching(new RegExp(`^${ME} \\((?:loginuid \\d+, )?SUDO_USER alice\\)$`)) as string, who_verified: true })
  })

  test('is nobody once it has left', async () => {
    const { socket, child } = await accepted({})
    child.kill('SIGKILL')
    await once(child, 'exit')
    expect(await peerOf(socket)).toBeNull()
  })

  test('is nobody where the list cannot be had', async () => {
    const { socket } = await accepted({})
    expect(await peerOf(socket, () => Promise.reject(new Error('no such program')))).toBeNull()
    expect(await peerOf(socket)).not.toBeNull() // the control
  })

  test('what a caller says of itself does not matter: the record gets what the kernel says', async () => {
    const path = socketPath()
    const found = Promise.withResolvers<Who | null>()
    const server = await serveControl(path, async (_request, peer) => {
      found.resolve(await peer())
      return null
    })
    onTestFinished(() => void server.close())
    connector(path, { SUDO_USER: 'mallory' }, encodeMessage({ type: 'reload', who: 'root (loginuid 1, SUDO_USER alice)' }))
    expect((await found.promise)?.who).toMatch(/SUDO_USER mallory/)
  })
})

describe('the list of sockets', () => {
  const row = (mine: number, peer: number, users: string, name = '*'): string => `u_str 0      0      ${name} ${mine} * ${peer} users:(${users})                \n`
  const ours = row(11, 10, '("launcher",pid=5,fd=24)', '/run/cordon/control.sock')

  test('names the one process that holds the other end', () => {
    expect(holderOf(row(1, 2, '("x",pid=1,fd=1)') + row(10, 11, '("node",pid=77,fd=21)') + ours, '11')).toEqual({ pid: 77, fd: 21, inode: '10' })
  })

  test.each([
    ['nobody holds it any more', ours],
    ['two sockets claim to be its other end', row(10, 11, '("node",pid=77,fd=21)') + row(12, 11, '("liar",pid=78,fd=3)') + ours],
    ['it is shared by two processes', row(10, 11, '("node",pid=77,fd=21),("child",pid=78,fd=21)') + ours],
    ['its holders are not shown', 'u_str 0 0 * 10 * 11 \n' + ours],
    ['numbers are too long', row(10, 11, `("node",pid=${'7'.repeat(30)},fd=21)`) + ours],
    ['it is empty', ''],
  ])('names nobody where %s', (_what, list) => {
    expect(holderOf(list, '11')).toBeNull()
  })

  test('whatever stands in it, nobody is named by chance', () => {
    let seed = 1
    const random = (n: number): number => (seed = (seed * 48_271) % 2_147_483_647) % n
    const pieces = ['u_str', ' ', ' ', '11', '10', '*', 'users:(("', '",pid=', ',fd=', ')', '\n', '7', '\0', '\u{10ffff}']
    for (let round = 0; round < 5000; round++) {
      const found = holderOf(Array.from({ length: random(60) }, () => pieces[random(pieces.length)] ?? '').join(''), '11')
      if (found !== null) expect(Number.isSafeInteger(found.pid) && Number.isSafeInteger(found.fd)).toBe(true)
    }
  })
})
