import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { DnsServer } from '../../src/egress/dns-server.ts'
import { frameMessage } from '../../src/egress/dns-stream.ts'
import { RunDns, type DnsRefusal } from '../../src/egress/dns.ts'
import { REASONS } from '../../src/egress/reasons.ts'
import { SyntheticPool } from '../../src/egress/synthetic.ts'

const QUESTION = Buffer.concat([Buffer.from([0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]), Buffer.from('\x04evil\x07example\x00', 'latin1'), Buffer.from([0, 1, 0, 1])])
const MANY = 1500

function asked(refused: (refusal: DnsRefusal) => void = () => {}): RunDns {
  return new RunDns({
    pool: new SyntheticPool(10), now: () => 0, reason: (code) => REASONS[code], refused,
    judge: () => ({ allowed: false, code: 'name-not-allowed', say: 'no rule' }),
  })
}

test('a stream full of questions has all of them answered, and others have their turn in between', async () => {
  const dns = asked()
  const server = new DnsServer(dns, () => false)
  const listener = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => server.addStream(socket)).listen(0, '127.0.0.1')
  await once(listener, 'listening')
  let [turns, longest, over] = [0, 0, false]
  const turn = (before: number): void => {
    turns += dns.answered > before ? 1 : 0
    longest = Math.max(longest, dns.answered - before)
    if (!over) setImmediate(turn, dns.answered)
  }
  try {
    const plugin = connect((listener.address() as AddressInfo).port, '127.0.0.1')
    let bytes = 0
    plugin.on('data', (more) => { bytes += more.length })
    turn(0)
    plugin.write(Buffer.concat(Array.from({ length: MANY }, () => frameMessage(QUESTION))))
    while (bytes < MANY * (QUESTION.length + 2)) await once(plugin, 'data')
    plugin.end()
    await once(plugin, 'close')
    expect(dns.answered).toBe(MANY)
    expect(turns).toBeGreaterThan(MANY / 40)
    expect(longest).toBeLessThanOrEqual(40)
  } finally {
    over = true
    server.close()
    listener.close()
  }
})

test('a stream beyond the 32 that may be open, and one whose message is no question, end with a record that says so', async () => {
  const refused: DnsRefusal[] = []
  const server = new DnsServer(asked((refusal) => refused.push(refusal)), () => false)
  const listener = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => server.addStream(socket)).listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const { port } = listener.address() as AddressInfo
  const open = Array.from({ length: 32 }, () => connect(port, '127.0.0.1'))
  const over = (socket: Socket): Promise<void> => new Promise((resolve) => { socket.on('close', () => resolve()) })
  for (const socket of open) socket.on('error', () => {})
  try {
    await Promise.all(open.map((socket) => once(socket, 'connect')))
    await over(connect(port, '127.0.0.1').on('error', () => {}))
    expect(refused).toEqual([{ name: '', type: '', code: 'too-many-streams', say: REASONS['too-many-streams'] }])
    const [first] = open
    first?.write(Buffer.from([0xff, 0xff, 0]))
    if (first !== undefined) await over(first)
    expect(refused.slice(1)).toMatchObject([{ code: 'query-refused' }])
  } finally {
    server.close()
    listener.close()
  }
})

test('a datagram for which there is no room, and one that asks nothing, are counted and on record', async () => {
  const refused: string[] = []
  const dns = asked(({ code }) => refused.push(code))
  let room = false
  const server = new DnsServer(dns, (work) => {
    if (room) work()
    return room
  })
  const [socket, plugin] = [createSocket('udp4').bind(0, '127.0.0.1'), createSocket('udp4')]
  await once(socket, 'listening')
  server.addDatagrams(socket)
  try {
    plugin.send(QUESTION, socket.address().port, '127.0.0.1')
    while (refused.length < 1) await sleep(5)
    room = true
    plugin.send(Buffer.from('x'), socket.address().port, '127.0.0.1')
    while (refused.length < 2) await sleep(5)
    expect({ refused, dropped: dns.dropped }).toEqual({ refused: ['too-many-queries', 'query-refused'], dropped: 1 })
  } finally {
    server.close()
    plugin.close()
  }
})
