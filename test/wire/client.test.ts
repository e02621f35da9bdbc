import { duplexPair, type Duplex } from 'node:stream'
import { describe, expect, it } from 'vitest'
import type { PluginName, RunId } from '../../src/base/ids.ts'
import type { CordonError } from '../../src/errors.ts'
import { LauncherClient, type LauncherMessage } from '../../src/wire/client.ts'
import { encodeData, encodeMessage, FrameReader, type Frame } from '../../src/wire/frame.ts'

const RUN = '00000000000000aa' as RunId

function conversation(askMs = 1000) {
  const [ours, theirs] = duplexPair()
  const messages: LauncherMessage[] = []
  const data: [number, string][] = []
  const closed = Promise.withResolvers<CordonError>()
  const client = new LauncherClient(ours, { message: (m) => void messages.push(m), data: (stream, bytes) => void data.push([stream, bytes.toString()]), closed: closed.resolve }, askMs)
  const heard: Frame[] = []
  theirs.pipe(new FrameReader()).on('data', (frame: Frame) => heard.push(frame))
  return { client, launcher: theirs as Duplex, messages, data, closed: closed.promise, heard }
}

const settle = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 10))

describe('LauncherClient', () => {
  it('matches answers by id, whatever their order', async () => {
    const { client, launcher, heard } = conversation()
    const first = client.ask({ type: 'takeSocket', run: RUN })
    const second = client.ask({ type: 'act', act: 'stop', plugin: 'sample' as PluginName, who: 'test' })
    await settle()
    expect(heard).toMatchObject([{ value: { type: 'takeSocket', id: 1, run: RUN } }, { value: { type: 'act', id: 2 } }])
    launcher.write(encodeMessage({ type: 'answer', id: 2, ok: 'two' }))
    launcher.write(encodeMessage({ type: 'answer', id: 1, error: { code: 'HANDSHAKE_SOCKET', message: 'no socket', hint: '' } }))
    expect(await second).toBe('two')
    await expect(first).rejects.toMatchObject({ code: 'HANDSHAKE_SOCKET', message: 'no socket' })
  })

  it('turns an error code that it does not know into WIRE_REFUSED', async () => {
    const { client, launcher } = conversation()
    const asked = client.ask({ type: 'takeSocket', run: RUN })
    launcher.write(encodeMessage({ type: 'answer', id: 1, error: { code: 'constructor', message: 'm', hint: '' } }))
    await expect(asked).rejects.toMatchObject({ code: 'WIRE_REFUSED', message: 'm' })
  })

  it('gives an answer up in time, and takes it quietly when it comes after all', async () => {
    const { client, launcher, messages } = conversation(20)
    await expect(client.ask({ type: 'takeSocket', run: RUN })).rejects.toMatchObject({ code: 'WIRE_TIMEOUT' })
    launcher.write(encodeMessage({ type: 'answer', id: 1, ok: 1 }))
    launcher.write(encodeMessage({ type: 'shutdown' }))
    await settle()
    expect(messages).toEqual([{ type: 'shutdown' }])
  })

  it('passes data and messages on in order', async () => {
    const { launcher, messages, data } = conversation()
    launcher.write(Buffer.concat([encodeData(7, Buffer.from('a')), encodeMessage({ type: 'stdoutEnd', run: RUN }), encodeData(7, Buffer.from('b'))]))
    await settle()
    expect(data).toEqual([[7, 'a'], [7, 'b']])
    expect(messages).toEqual([{ type: 'stdoutEnd', run: RUN }])
  })

  it.each<[string, Buffer]>([
    ['an unknown type', encodeMessage({ type: 'evil' })],
    ['a field too many', encodeMessage({ type: 'stdoutEnd', run: RUN, path: '/' })],
    ['a run id of another form', encodeMessage({ type: 'stdoutEnd', run: '../x' })],
    ['a message that is no object', encodeMessage([1])],
    ['an answer to nothing', encodeMessage({ type: 'answer', id: 1, ok: 1 })],
    ['an answer to zero', encodeMessage({ type: 'answer', id: 0, ok: 1 })],
    ['an unknown kind of frame', Buffer.from([0, 0, 0, 1, 9])],
    ['an endless frame', Buffer.from([0xff, 0xff, 0xff, 0xff, 0])],
  ])('ends the conversation, and with it every question, at %s', async (_, bytes) => {
    const { client, launcher, closed, messages } = conversation()
    launcher.write(bytes)
    expect((await closed).code).toBe('WIRE_MALFORMED')
    await expect(client.ask({ type: 'takeSocket', run: RUN })).rejects.toMatchObject({ code: 'WIRE_MALFORMED' })
    expect(messages).toEqual([])
  })

  it('rejects open questions when the launcher goes', async () => {
    const { client, launcher, closed } = conversation()
    const asked = client.ask({ type: 'takeSocket', run: RUN })
    launcher.end()
    expect((await closed).code).toBe('WIRE_CLOSED')
    await expect(asked).rejects.toMatchObject({ code: 'WIRE_CLOSED' })
  })

  it('refuses to send what does not fit the table', () => {
    const { client } = conversation()
    expect(() => client.say({ type: 'serving', port: 0 })).toThrowError(expect.objectContaining({ code: 'WIRE_MALFORMED' }) as Error)
  })
})
