import { expect, test } from 'vitest'
import type { PluginName, RunId } from '../../src/base/ids.ts'
import { UnendedConnections } from '../../src/launcher/unended-connections.ts'
import { DOOR_EVENTS, type DoorEvent } from '../../src/wire/door.ts'

const about = { plugin: 'demo' as PluginName, run: '0123456789abcdef' as RunId, name: 'example.org', dialled: '198.18.1.0', port: 443, rule: 1, sni: 'example.org', address: '93.184.215.14' }
const opened = (connection: number): DoorEvent => ({ type: 'egress.opened', ...about, connection, ech: false, alpn: [], code: 'allowed', ms: 1 })
const closed = (connection: number): DoorEvent => ({ type: 'egress.closed', ...about, connection, bytesOut: 1, bytesIn: 1, ms: 1, by: 'peer', code: null, requests: 0 })

test('what is open when the door ends has its end told, once, and nothing else has', () => {
  let now = 0
  const unended = new UnendedConnections(() => now)
  for (const event of [opened(1), opened(2), closed(1), closed(7)]) unended.see(event)
  now = 250
  const told: DoorEvent[] = []
  unended.tell((event) => told.push(DOOR_EVENTS.parse(event)))
  unended.tell((event) => told.push(event))
  unended.see(opened(3)) // whose record was on its way to the disk
  expect(told).toMatchObject([{ connection: 2 }, { connection: 3, code: 'door-ended', ms: 0 }])
  expect(told.slice(0, 1)).toEqual([{ type: 'egress.closed', ...about, connection: 2, bytesOut: 0, bytesIn: 0, ms: 250, by: 'door', code: 'door-ended', requests: 0 }])
})
