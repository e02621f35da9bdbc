import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import type { Duplex } from 'node:stream'
import { build } from 'esbuild'
import { afterEach, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { lendListener } from '../../src/launcher/listen.ts'
import { canRun } from '../kernel/require.ts'

const HELPER_UID = 1_881_040_001
const LISTEN = { host: '127.0.0.1', port: 0 }
const children: ChildProcess[] = []
afterEach(() => children.splice(0).forEach((child) => child.kill('SIGKILL')))

/** Stands where the gateway stands, with the other end of the lent pair as fd 3. */
function peer(program: string, args: readonly string[]): { child: ChildProcess; lent: Duplex } {
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit', 'pipe'], env: { NODE_CHANNEL_FD: '3', NODE_CHANNEL_SERIALIZATION_MODE: 'json' } })
  children.push(child)
  const lent = child.stdio[3] as Duplex & { readonly _handle: { readStop(): number } }
  lent.on('error', () => {})
  lent.pause()
  lent._handle.readStop()
  onTestFinished(() => void lent.destroy())
  return { child, lent }
}

const hostile = (bytes: Buffer, descriptors = 0): string[] => ['-c', `
import os, socket, sys
peer = socket.socket(fileno=3); peer.setblocking(False)
null = os.open('/dev/null', os.O_RDONLY)
data = bytes.fromhex(sys.argv[1])
try:
    peer.send(data)
    for n in range(${descriptors}): socket.send_fds(peer, [b'{"a":1}\\n'], [null])
except OSError: pass
sys.stdout.write('sent'); sys.stdout.flush()
peer.setblocking(True)
try:
    while peer.recv(65536): pass
except OSError: pass
`, bytes.toString('hex')]

describe.skipIf(!canRun('/usr/bin/setpriv', '/usr/bin/python3'))('the pair that the launcher lends', () => {
  let script: string
  beforeAll(async () => {
    const dir = mkdtempSync(join(tmpdir(), 'cordon-listen-'))
    script = join(dir, 'listen.cjs')
    await build({ entryPoints: [resolve(import.meta.dirname, '../../src/launcher/listen-helper.ts')], outfile: script, bundle: true, platform: 'node', format: 'cjs', target: 'node24', logLevel: 'error' })
    return () => rmSync(dir, { recursive: true })
  })

  test('carries a listening socket to a gateway that takes it', async () => {
    const { child, lent } = peer(process.execPath, ['-e', `process.on('message', (m, server) => { server.on('connection', (s) => s.end('mine')); process.send({ taken: true }); process.stdout.write(String(server.address().port)) })`])
    await lendListener(lent, script, HELPER_UID, LISTEN)
    const [port] = (await once(child.stdout ?? child, 'data')) as [Buffer]
    expect(String((await once(connect(Number(String(port)), '127.0.0.1'), 'data'))[0])).toBe('mine')
  })

  test.each<[string, string[]]>([
    ['garbage', hostile(Buffer.from('\u0000\u00ff}{no json\n', 'latin1'))],
    ['an acknowledgement that belongs to nothing', hostile(Buffer.from('{"cmd":"NODE_HANDLE_NACK"}\n{"cmd":"NODE_SOCKET_NOTIFY_CLOSE","key":"x"}\n'))],
    ['a thousand descriptors', hostile(Buffer.from('{"a":1}\n'), 1000)],
  ])('%s before the helper comes: an error at worst, never the launcher\'s trouble', async (_what, program) => {
    const before = readdirSync('/proc/self/fd').length
    const { child, lent } = peer('/usr/bin/python3', program)
    await once(child.stdout ?? child, 'data')
    const outcome = lendListener(lent, script, HELPER_UID, LISTEN).then(() => 'taken', (error: unknown) => (error as { code: string }).code)
    expect(await outcome).toBe('LISTEN_FAILED')
    lent.destroy()
    await expect.poll(() => readdirSync('/proc/self/fd').length - before).toBeLessThanOrEqual(2)
  })

  test('a gateway that says taken without taking is served by nobody, and harms nobody else', async () => {
    const { child, lent } = peer('/usr/bin/python3', hostile(Buffer.from('{"taken":true}\n')))
    await once(child.stdout ?? child, 'data')
    await lendListener(lent, script, HELPER_UID, LISTEN)
  })
})
