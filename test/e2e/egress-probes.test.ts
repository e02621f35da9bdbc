import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { canRun } from '../kernel/require.ts'
import { GOOD, PROBES, REBOUND, ZONE } from './egress-probes.ts'
import { TestHost, TREE } from './host.ts'
import { PretendInternet } from './internet-kit.ts'

const KIT = readFileSync(`${TREE}/test/e2e/probe-kit.py`, 'utf8')
const rule = (host: string, ports: number[], more: object = {}): object => ({ host, ports, reason: 'the test', ...more })
/** Longer than the door keeps an answer of the DNS, and than it waits for a hello. */
const KEPT_MS = 5500
/** The door shows 64 refusals. */
const LOOK_EVERY = 25

/**
 * Each probe twice: on the plain machine, where it must arrive (or the row says why it cannot), and behind the walls, where nothing
 * but what the row allows may arrive on any protocol, as a sniffer on the other end of the wire and one on the loopback see it.
 */
describe.skipIf(!canRun('/usr/bin/python3'))('a hostile plugin', () => {
  const host = new TestHost(10)
  const net = new PretendInternet('probes')
  let port = 0
  let tried = 0
  let silent: Promise<string>

  beforeAll(async () => {
    await net.start({ zone: ZONE, ports: [80, 9000], neighbours: ['93.184.216.1/24', '93.184.216.7/24'] })
    const rebound = [...Object.entries(REBOUND).map(([name, { private: lifts = false }]) => [name, lifts] as const), ...['many', 'flips', 'truncated'].map((name) => [name, false] as const)]
    host.plugin('does-as-told', {
      restart: { on: 'always', backoff: '200ms..1s', start_limit: '9 in 10m' },
      egress: {
        allow: [
          rule('good.example', [80, 443, 9000]), rule('*.zone.example', [443]), { cidr: '93.184.217.0/30', ports: [9000], reason: 'the test' }, { cidr: '10.77.0.0/24', ports: [9000], private: true, reason: 'the test' },
          ...rebound.map(([name, lifts]) => rule(`${name}.rebound.example`, [9000, 9001], lifts ? { private: true } : {})),
        ],
      },
    })
    await host.start({ prefix: [...net.enter] })
    await host.settled(['does-as-told'], ['running'])
    port = host.port
    for (const destination of [`host.internal:${port}`, `10.77.0.0/24:${port}`]) {
      const { status, stderr } = await host.cli(['allow', 'does-as-told', destination, '--for', '1h', '--reason', 'the test', ...(destination.includes('/') ? ['--private'] : [])])
      expect(status, stderr).toBe(0)
    }
    await net.ask({ listen: 'cordon-e2e-probe' })
  })
  afterAll(async () => {
    try {
      await host.close()
    } finally {
      net.close()
    }
  })

  const filled = (text: string): string => text.replaceAll('PORT_OF_CORDON', String(port))
  const source = (probe: string, side: 'control' | 'walled'): string => `${KIT}\nSIDE, QUIET = '${side}', ${side === 'control' ? 0.1 : 5}\n${filled(probe)}\n`
  /** The same probe by the plugin. */
  async function walled(probe: string): Promise<string> {
    const answer = await net.ask({ post: `/usr/bin/python3 -SE - <<'END OF PROBE'\n${source(probe, 'walled')}print(result)\nEND OF PROBE`, port, token: host.token() })
    return (JSON.parse(answer) as { out: string }).out
  }
  async function arrivals(run: () => Promise<string>): Promise<{ said: string; seen: string[] }> {
    net.forget()
    const said = await run()
    return { said, seen: await net.seen() }
  }
  const matches = (seen: readonly string[], what: RegExp): string[] => {
    const exact = new RegExp(filled(what.source), what.flags)
    return seen.filter((one) => exact.test(one))
  }

  test('begins with a hello that never comes, which is left waiting', () => {
    silent = walled('result = tcp(\'good.example\', 443, quiet=30)')
  })

  test('that asks for what is allowed gets it, in any spelling of the name, and outside only the canonical one is asked for', async () => {
    for (const name of ['good.example', 'good.example.', 'GOOD.eXample']) {
      const { said, seen } = await arrivals(() => walled(`result = tcp('${name}', 9000, b'probe', end=True)`))
      expect([said, matches(seen, /^wire tcp 93\.184\.215\.10:9000 says probe$/)], said).toEqual([expect.stringContaining('ok'), [expect.any(String)]])
      expect(seen.filter((one) => one.startsWith('wire udp') && !/ (?:A|AAAA) good\.example$/.test(one))).toEqual([])
    }
    // A label of 63 octets and a name of 253 are names.
    const longest = [63, 63, 63, 48].map((size) => `b'${'a'.repeat(size)}'`).join(', ')
    for (const labels of [`b'${'a'.repeat(63)}'`, longest]) expect(await walled(`result = ask(question(name(${labels}, b'zone', b'example')))`)).toBe('rcode 0, 1 answers\n')
  })

  test.each(PROBES.map((probe) => [probe.title, probe] as const))('%s', async (_, { probe, arrives, may, code }) => {
    const outside = await arrivals(() => net.ask({ control: source(probe, 'control') }))
    if (arrives instanceof RegExp) expect(matches(outside.seen, arrives), `the control did not arrive: ${outside.said}; ${JSON.stringify(outside.seen)}`).not.toEqual([])
    else if (arrives === 'opened') expect(outside.said).toBe('opened')
    const inside = await arrivals(() => walled(probe))
    expect(inside.said).not.toContain('Traceback')
    if (arrives instanceof RegExp) expect(matches(inside.seen, arrives), `it arrived: ${inside.said}`).toEqual([])
    if (arrives === 'opened') expect(inside.said).not.toContain('opened')
    expect(inside.seen.filter((one) => may === undefined || !may.test(one)), inside.said).toEqual([])
    // A program that asks for what it may not have must hear so, and not go on with an answer.
    if (probe.includes('ask(') && code !== null) expect(inside.said).toMatch(/^rcode (?:1|3|4|5), 0 answers$/m)
    tried += 1
    if (tried % LOOK_EVERY === 0) await look()
  })

  test('gets names whose answer comes whole by TCP alone', async () => {
    const { said, seen } = await arrivals(() => walled(`result = tcp('truncated.rebound.example', 9000, b'probe', end=True)`))
    expect([said, matches(seen, /^wire tcp 93\.184\.215\.10:9000 says probe$/)]).toEqual([expect.stringContaining('ok'), [expect.any(String)]])
  })

  test('whose resolver answers otherwise from one question to the next reaches what was judged, later nothing, and keeps what is open', async () => {
    const name = 'flips.rebound.example'
    const live = walled(`s = socket.create_connection(('${name}', 9000)); s.sendall(b'live one'); s.recv(99); time.sleep(${KEPT_MS / 1000 + 1}); s.sendall(b'live two'); result = s.recv(99)`)
    await until(() => (net.arrived.some(({ what }) => what.endsWith('says live one')) ? null : 'it is not open'))
    const asks = matches(await net.seen(), /^wire udp/).filter((one) => one.endsWith(name)).sort()
    expect(asks).toEqual([`wire udp 10.77.0.53:53 A ${name}`, `wire udp 10.77.0.53:53 AAAA ${name}`])
    const first = await arrivals(() => walled(`result = tcp('${name}', 9000, b'one', end=True) + tcp('${name}', 9000, b'two', end=True)`))
    expect(matches(first.seen, /^wire tcp/).sort(), first.said).toEqual([`wire tcp ${GOOD}:9000 opens`, `wire tcp ${GOOD}:9000 opens`, `wire tcp ${GOOD}:9000 says one`, `wire tcp ${GOOD}:9000 says two`])
    expect(matches(first.seen, /^wire udp/)).toEqual([]) // the answer that was judged, and no other
    await sleep(KEPT_MS)
    const second = await arrivals(() => walled(`result = tcp('${name}', 9000, b'three')`))
    expect(matches(second.seen, /tcp/), second.said).toEqual([])
    await host.recorded(({ type, data }) => type === 'egress.refused' && data['name'] === name && data['code'] === 'address-metadata')
    expect(await live).toContain('ok')
    expect(matches(await net.seen(), / says live two$/)).toHaveLength(1)
  })

  test('loses what becomes an address of the machine itself, at an interface without a carrier too', async () => {
    const [address, neighbour] = ['93.184.217.1', '93.184.217.2']
    const open = (to: string): string => `result = tcp('${to}', 9000, b'probe', end=True)`
    const live = walled(`s = socket.create_connection(('${address}', 9000)); s.sendall(b'held one'); s.recv(99); s.settimeout(60); result = repr(s.recv(99))`)
    await until(() => (net.arrived.some(({ what }) => what.endsWith('says held one')) ? null : 'it is not open'))
    net.owns(`${address}/32`)
    expect(await live).toContain('Reset')
    await host.recorded(({ type, data }) => type === 'egress.closed' && data['dialled'] === address && data['code'] === 'address-host')
    const { seen } = await arrivals(() => walled(open(address)))
    expect(matches(seen, /tcp/)).toEqual([])
    await host.recorded(({ type, data }) => type === 'egress.refused' && data['dialled'] === address && data['code'] === 'address-host')
    expect(matches((await arrivals(() => walled(open(neighbour)))).seen, /^wire tcp 93\.184\.217\.2:9000 says probe$/)).toHaveLength(1)
    net.neighbours('93.184.217.0/30') // reached without a gateway from now on, so `private: true` would be asked for
    await host.recorded(({ type, data }) => type === 'host.network' && (data['on_link'] as string[]).includes('93.184.217.0/30'))
    const shut = (): boolean => host.records().some(({ type, data }) => type === 'egress.refused' && data['dialled'] === neighbour && data['code'] === 'address-on-link')
    for (let tries = 0; tries < 20 && !shut(); tries++) await walled(open(neighbour))
    expect(shut()).toBe(true)
    expect(host.records().filter(({ type, data }) => type === 'host.network' && (data['addresses'] as string[]).includes(address)).length).toBeGreaterThan(0)
  })

  test('that sends no hello is let go, and nothing was opened for it', async () => {
    expect(await silent).not.toContain('timed out')
    await host.recorded(({ type, data }) => type === 'egress.refused' && data['code'] === 'tls-timeout')
  })

  test('was refused each time with its reason, as often as it tried, and all of it is on record', async () => {
    await look()
    const expected = new Map<string, number>()
    for (const { code, what } of PROBES) if (code !== null && code !== 'attempted') raise(expected, key(code, what ?? '*'))
    expect([...expected].filter(([one, times]) => (refused.get(one) ?? 0) < times).map(([one, times]) => `${one}: ${refused.get(one) ?? 0} of ${times}`)).toEqual([])
    // Many different refusals at once are told together and counted: none is lost. Packets that the kernel refused are counted there.
    const all = [...refused].reduce((sum, [one, times]) => (one.endsWith(' *') ? sum + times : sum), 0)
    await until(() => (onRecord(['dns.refused', 'egress.refused']) >= all ? null : `${onRecord(['dns.refused', 'egress.refused'])} of ${all} refusals are on record`))
    await walled(`result = [ask(question(name(b'flood%d' % i, b'example'))) for i in range(80)][-1]`)
    await host.recorded(({ type, data }) => type === 'dns.refused' && data['code'] === 'name-not-allowed' && Number(data['others'] ?? 0) > 0, 60_000) // told every ten seconds
    const packets = PROBES.filter(({ code }) => code === 'attempted').map(({ what = '' }) => what)
    await until(() => {
      const found = host.records().flatMap(({ type, data }) => (type === 'egress.attempted' ? (data['attempts'] as { destination: string }[]).map(({ destination }) => destination) : []))
      const missing = packets.filter((what) => !found.some((one) => one === what || (what.startsWith(':') && one.endsWith(what))))
      return missing.length === 0 ? null : `not on record: ${missing.join(', ')}`
    })
    expect((await host.cli(['audit', 'verify'])).status).toBe(0)
  })

  const refused = new Map<string, number>()
  /** The door shows the latest refusals, each with its count; looked at often enough, none is missed. */
  async function look(): Promise<void> {
    const { stats } = (await host.cli(['egress', 'does-as-told', '--json'])).json() as { stats: { refused: { what: string; code: string; count: number }[] } }
    for (const { what, code, count } of stats.refused) {
      const before = refused.get(key(code, what)) ?? 0
      if (count <= before) continue
      refused.set(key(code, what), count)
      raise(refused, key(code, '*'), count - before)
    }
  }
  const onRecord = (types: readonly string[]): number => host.records().filter(({ type }) => types.includes(type)).reduce((sum, { data }) => sum + 1 + Number(data['coalesced'] ?? 0), 0)
  const key = (code: string, what: string): string => `${code} ${filled(what)}`
})

/** What repeats is counted together and written after a while. @param missing what is not as it should be yet */
async function until(missing: () => string | null): Promise<void> {
  const limit = Date.now() + 60_000
  for (;;) {
    const what = missing()
    if (what === null) return
    if (Date.now() > limit) throw new Error(what)
    await sleep(250)
  }
}

function raise(counts: Map<string, number>, what: string, by = 1): void {
  counts.set(what, (counts.get(what) ?? 0) + by)
}
