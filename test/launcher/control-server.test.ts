import { once } from 'node:events'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { CordonError } from '../../src/errors.ts'
import { serveControl } from '../../src/launcher/control-server.ts'
import { encodeData, encodeMessage, FrameReader, type Frame } from '../../src/wire/frame.ts'
import type { FromOperator } from '../../src/wire/requests.ts'

async function server(answer: (request: FromOperator) => Promise<unknown> = async (request) => ({ heard: request })) {
  const dir = mkdtempSync(join(tmpdir(), 'cordon-control-'))
  const path = join(dir, 'control.sock')
  const control = await serveControl(path, answer)
  onTestFinished(() => {
    control.close()
    rmSync(dir, { recursive: true, force: true })
  })
  return { path, control }
}

async function ask(path: string, bytes: Buffer): Promise<{ frames: unknown[]; socket: Socket }> {
  const socket = connect(path)
  const reader = new FrameReader()
  const frames: unknown[] = []
  reader.on('data', (frame: Frame) => frames.push(frame.kind === 'message' ? frame.value : frame))
  reader.on('error', () => {})
  socket.on('error', () => {})
  socket.pipe(reader)
  socket.write(bytes)
  await once(socket, 'close')
  return { frames, socket }
}

describe('the control socket', () => {
  test('is for its owner alone, also where one lies from before', async () => {
    const { path } = await server()
    expect(statSync(path).mode & 0o777).toBe(0o600)
    const again = await serveControl(path, async () => null)
    again.close()
    const dir = mkdtempSync(join(tmpdir(), 'cordon-control-'))
    onTestFinished(() => rmSync(dir, { recursive: true }))
    writeFileSync(join(dir, 'control.sock'), 'not a socket')
    const over = await serveControl(join(dir, 'control.sock'), async () => null)
    expect(statSync(join(dir, 'control.sock')).isSocket()).toBe(true)
    over.close()
  })

  test('answers one request and closes', async () => {
    const { path } = await server()
    const request = { type: 'act', act: 'stop', plugin: 'sample', who: 'root' }
    expect((await ask(path, Buffer.concat([encodeMessage(request), encodeMessage(request)]))).frames).toEqual([{ ok: { heard: request } }])
  })

  test.each<[string, Buffer, RegExp]>([
    ['an unknown request', encodeMessage({ type: 'exec' }), /not in the table/],
    ['an act without who asks', encodeMessage({ type: 'act', act: 'stop', plugin: 'sample' }), /not in the table/],
    ['a name that is a path', encodeMessage({ type: 'why', plugin: '../x' }), /not in the table/],
    ['data', encodeData(1, Buffer.from('x')), /not in the table/],
    ['no frame', Buffer.from([0xff, 0xff, 0xff, 0xff, 0]), /are accepted/],
    ['no JSON', Buffer.from([0, 0, 0, 3, 0, 0x7b, 0x7b]), /JSON/],
  ])('%s is refused with a code', async (_what, bytes, message) => {
    const { path } = await server()
    expect((await ask(path, bytes)).frames).toEqual([{ error: { code: 'CONTROL_BROKEN', message: expect.stringMatching(message) as string, hint: expect.any(String) as string } }])
  })

  test('an error keeps its code; an unexpected one shows nothing of itself; an answer too long is an error', async () => {
    const errors = [new CordonError('LAUNCH_STATE', 'not now'), new Error('/root/secret')]
    const { path } = await server(async (request) => {
      if (request.type === 'status') return 'x'.repeat(300 * 1024)
      throw errors.shift() ?? new Error('none')
    })
    const reload = encodeMessage({ type: 'reload', who: 'root' })
    expect((await ask(path, reload)).frames).toMatchObject([{ error: { code: 'LAUNCH_STATE', message: 'not now' } }])
    const unexpected = JSON.stringify((await ask(path, reload)).frames)
    expect(unexpected).toContain('INTERNAL_BUG')
    expect(unexpected).not.toContain('secret')
    expect((await ask(path, encodeMessage({ type: 'status' }))).frames).toMatchObject([{ error: { code: 'CONTROL_BROKEN' } }])
  })

  test('a caller who leaves in the middle is nobody\'s trouble', async () => {
    const { promise, resolve } = Promise.withResolvers<undefined>()
    const { path } = await server(() => promise)
    const socket = connect(path)
    socket.write(encodeMessage({ type: 'status' }))
    await once(socket, 'connect')
    socket.destroy()
    resolve(undefined)
    const second = await ask(path, encodeMessage({ type: 'status' }))
    expect(second.frames).toEqual([{ ok: null }])
  })
})
