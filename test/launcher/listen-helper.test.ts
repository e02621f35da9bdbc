import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { connect, createServer, Server, type AddressInfo } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'

const children: ChildProcess[] = []
afterEach(() => children.splice(0).forEach((child) => child.kill('SIGKILL')))

function helper(host: string, port: string, channel: boolean) {
  const child = spawn(process.execPath, ['src/launcher/listen-helper.ts', host, port], { stdio: channel ? ['ignore', 'ignore', 'pipe', 'ipc'] : ['ignore', 'ignore', 'pipe'] })
  children.push(child)
  let stderr = ''
  child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  return { child, ended: once(child, 'close').then(([status]) => ({ status: status as number, stderr })) }
}

describe('the listen helper', () => {
  test('hands over a listening socket, waits to hear that it was taken, and ends', async () => {
    const { child, ended } = helper('127.0.0.1', '0', true)
    const [message, server] = (await once(child, 'message')) as [unknown, Server]
    expect(message).toEqual({ listener: 'http' })
    server.on('connection', (socket) => socket.end('served here'))
    child.send({ other: 1 })
    child.send({ taken: true })
    expect(await ended).toEqual({ status: 0, stderr: '' })
    const client = connect((server.address() as AddressInfo).port, '127.0.0.1')
    expect(String((await once(client, 'data'))[0])).toBe('served here')
    server.close()
  })

  test('says which address is in use', async () => {
    const taken = createServer().listen(0, '127.0.0.1')
    await once(taken, 'listening')
    const port = (taken.address() as AddressInfo).port
    expect(await helper('127.0.0.1', String(port), true).ended).toEqual({ status: 71, stderr: `{"errno":"EADDRINUSE","host":"127.0.0.1","port":${port}}\n` })
    taken.close()
  })

  test.each([
    ['a name instead of an address', 'localhost', '0', true],
    ['a port that is none', '127.0.0.1', '70000', true],
    ['no channel', '127.0.0.1', '0', false],
  ])('is refused %s', async (_what, host, port, channel) => {
    expect(await helper(host, port, channel).ended).toMatchObject({ status: 71, stderr: expect.stringContaining('EINVAL') })
  })

  test('ends when the gateway is gone', async () => {
    const { child } = helper('127.0.0.1', '0', true)
    const [, server] = (await once(child, 'message')) as [unknown, Server]
    const exited = once(child, 'exit') // after disconnect() Node emits no 'close'
    child.disconnect()
    expect(await exited).toEqual([71, null])
    server.close()
  })
})
