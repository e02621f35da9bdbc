/**
 * The relay in a process of its own: `egress-relay.ts bare|door UPSTREAM_PORT`; prints the port that it listens on.
 * `bare` is two pipes and nothing else; `door` is a whole connection of the door: rules, TLS hello, judged address, record.
 */
import { connect, createServer, type AddressInfo } from 'node:net'
import { DayBudget } from '../../src/egress/day-budget.ts'
import { dial } from '../../src/egress/dial.ts'
import { Relay, RELAY_LIMITS } from '../../src/egress/relay.ts'
import { rule, rules } from '../egress/relay-kit.ts'

const [mode, upstream] = [process.argv[2], Number(process.argv[3])]
const egress = rules(rule(1, { kind: 'host', name: 'example.org' }, [443], { private: true }))
const budget = new DayBudget(null, { day: '2026-01-01', bytes: 0 }, Date.now())
let connections = 0

const server = createServer({ allowHalfOpen: true, pauseOnConnect: mode === 'door', noDelay: true }, (client) => {
  client.on('error', () => {})
  if (mode === 'bare') {
    const peer = connect({ port: upstream, host: '127.0.0.1', allowHalfOpen: true, noDelay: true })
    peer.on('error', () => client.destroy())
    client.on('close', () => peer.destroy())
    client.pipe(peer)
    peer.pipe(client)
    return
  }
  void new Relay(++connections, client, { address: '198.18.1.0', port: 443 }, {
    egress: () => egress,
    host: () => ({ hostAddresses: [], onLink: [], ownPorts: [] }),
    nameOf: () => 'example.org',
    resolve: async () => ({ addresses: ['10.0.0.1'] }), // resolved already; judged, then the loopback is dialled in its place
    dial: async ([address = ''], _port, signal) => {
      const dialled = await dial(['127.0.0.1'], upstream, signal)
      return 'failed' in dialled ? dialled : { ...dialled, address }
    },
    budget,
    opened: () => new Promise((resolve) => { setImmediate(resolve) }),
    closed: () => {},
    refused: (event) => process.stderr.write(`${event.code}\n`),
    now: Date.now,
    ticks: () => performance.now(),
    limits: RELAY_LIMITS,
    scan: () => null,
  }).serve()
})
server.listen(0, '127.0.0.1', 511, () => console.log((server.address() as AddressInfo).port))
