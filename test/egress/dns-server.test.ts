import { once } from 'node:events'
import { connect, createServer, type AddressInfo } from 'node:net'
import { expect, test } from 'vitest'
import { DnsServer } from '../../src/egress/dns-server.ts'
import { frameMessage } from '../../src/egress/dns-stream.ts'
import { RunDns } from '../../src/egress/dns.ts'
import { REASONS } from '../../src/egress/reasons.ts'
import { SyntheticPool } from '../../src/egress/synthetic.ts'

const QUESTION = Buffer.concat([Buffer.from([0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]), Buffer.from('\x04evil\x07example\x00', 'latin1'), Buffer.from([0, 1, 0, 1])])
const MANY = 1500

test('a stream full of questions has all of them answered, and others have their turn in between', async () => {
  const dns = new RunDns({
    pool: new SyntheticPool(10), now: () => 0, reason: (code) => REASONS[code], refused: () => {},
    judge: () => ({ allowed: false, code: 'name-not-allowed', say: 'no rule' }),
  })
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
