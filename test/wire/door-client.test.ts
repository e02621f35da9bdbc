import { Duplex } from 'node:stream'
import { expect, it } from 'vitest'
import type { PluginName, RunId } from '../../src/base/ids.ts'
import type { DoorEvent } from '../../src/wire/door.ts'
import { DoorClient } from '../../src/wire/door-client.ts'

/** A socket that counts how often it was given bytes. */
class Counted extends Duplex {
  calls = 0
  text = ''
  override _read(): void {}
  override _write(bytes: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this._writev([{ chunk: bytes }], done)
  }
  override _writev(parts: readonly { chunk: Buffer }[], done: () => void): void {
    this.calls += 1
    for (const { chunk } of parts) this.text += chunk.toString('latin1')
    done()
  }
}

const refused: DoorEvent = { type: 'dns.refused', plugin: 'noisy' as PluginName, run: '00000000000000aa' as RunId, name: 'evil.example', query: 'A', code: 'name-not-allowed', say: 'no', coalesced: 0 }

function conversation(): { socket: Counted; client: DoorClient } {
  const socket = new Counted()
  return { socket, client: new DoorClient(socket, { order: () => {}, closed: () => {} }) }
}

it('the records of one turn go to the launcher in one call, in order', async () => {
  const { socket, client } = conversation()
  for (const name of ['a.example', 'b.example', 'c.example']) client.note({ ...refused, name })
  expect(socket.calls).toBe(0)
  await new Promise((resolve) => setImmediate(resolve))
  expect(socket.calls).toBe(1)
  expect(socket.text.match(/[abc]\.example/g)).toEqual(['a.example', 'b.example', 'c.example'])
})

it('a door that leaves has said all that it had to say', () => {
  const { socket, client } = conversation()
  client.note(refused)
  client.flush()
  expect(socket.text).toContain('evil.example')
})
