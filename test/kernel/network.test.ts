import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { attemptsBetween, NOTHING_REFUSED } from '../../src/launcher/egress-watch.ts'
import { forgetDestinations, makeSealedNetwork, openPorts, outgoingDatagrams, readRefused, removeSealedNetwork, type SealedNetwork } from '../../src/launcher/network.ts'
import { Receiver } from './receiver.ts'
import { canRun } from './require.ts'
import { RUNC } from './runc.ts'
import { eventually, HOSTILE, WalledHost } from './walled.ts'

const SET_SIZE = 1024

describe.skipIf(!canRun('/usr/sbin/nft', '/usr/bin/python3', '/usr/bin/perl'))('a sealed network namespace', () => {
  let dir: string
  let network: SealedNetwork
  let dweller: ChildProcess
  const inside = async (file: string, ...args: readonly string[]): Promise<string> =>
    (await promisify(execFile)('/usr/bin/nsenter', [`--net=${network.path}`, '--', file, ...args], { env: { PATH: '/usr/sbin:/usr/bin', CORDON_PROBE_CONTROL: '1' } })).stdout
  const probe = async (...words: readonly string[]): Promise<string> => (JSON.parse(await inside('/usr/bin/perl', HOSTILE, ...words)) as { result: string }).result
  /** One datagram to each of so many addresses; how often each errno came back. */
  const scan = async (prefix: string, count: number): Promise<string> => (await inside('/usr/bin/python3', '-c', `
import errno, socket
from collections import Counter
seen = Counter()
s = socket.socket(socket.AF_INET6 if ':' in '${prefix}' else socket.AF_INET, socket.SOCK_DGRAM)
for i in range(${count}):
    to = '${prefix}%x' % i if ':' in '${prefix}' else '${prefix}%d.%d' % divmod(i, 256)
    try: s.sendto(b'x', (to, 53)); seen['OK'] += 1
    except OSError as e: seen[errno.errorcode[e.errno]] += 1
print(dict(seen))`)).trim()

  beforeEach(async () => {
    dir = mkdtempSync('/run/cordon-net-')
    network = await makeSealedNetwork(`${dir}/ns`, true)
    dweller = spawn('/usr/bin/nsenter', [`--net=${network.path}`, '/bin/sh', '-c', 'echo; exec sleep 600'], { stdio: ['ignore', 'pipe', 'ignore'] })
    if (dweller.stdout !== null) await once(dweller.stdout, 'data')
  })
  afterEach(async () => {
    dweller.kill('SIGKILL')
    await removeSealedNetwork(network)
    rmSync(dir, { recursive: true })
  })

  test('refuses every opening at once and counts it by destination', async () => {
    expect(await probe('tcp-connect', '192.0.2.1', '443')).toBe('ECONNREFUSED')
    expect(await probe('tcp-connect', '2001:db8::1', '443')).toBe('ECONNREFUSED')
    expect(await probe('udp-send', '192.0.2.2', '53')).not.toBe('OK')
    expect(await probe('udp-send', '2001:db8::2', '53')).not.toBe('OK')
    for (let i = 0; i < 2; i++) expect(await probe('tcp-connect', '192.0.2.3', '80')).toBe('ECONNREFUSED')
    const icmp = "import socket\nfor family, to, protocol, kind in ((socket.AF_INET, '192.0.2.4', 1, 8), (socket.AF_INET6, '2001:db8::4', 58, 128)):\n  s = socket.socket(family, socket.SOCK_RAW, protocol)\n  try: s.sendto(bytes((kind, 0, 0, 0, 0, 0, 0, 0)), (to, 0))\n  except OSError: pass"
    await inside('/usr/bin/python3', '-c', icmp)
    const { totals, destinations, nearlyFull } = await readRefused(network)
    expect(Object.fromEntries(destinations)).toEqual({
      'tcp4 192.0.2.1 443': 1, 'tcp4 192.0.2.3 80': 2, 'tcp6 2001:db8::1 443': 1, 'udp4 192.0.2.2 53': 1, 'udp6 2001:db8::2 53': 1,
      'other4 192.0.2.4 icmp': 1, 'other6 2001:db8::4 ipv6-icmp': 1,
    })
    expect(Object.fromEntries(totals)).toEqual({ tcp4: 3, tcp6: 1, udp4: 1, udp6: 1, other4: 1, other6: 1 })
    expect(nearlyFull).toBe(false)
    const { attempts, unnamed } = attemptsBetween(NOTHING_REFUSED, await readRefused(network))
    expect(unnamed).toBe(0)
    expect(attempts[0]).toEqual({ destination: 'tcp 192.0.2.3:80', count: 2 })
    expect(attempts.map((one) => one.destination)).toContain('tcp [2001:db8::1]:443')
  })

  test('lets a program talk to itself on its own loopback, and counts nothing', async () => {
    const server = spawn('/usr/bin/nsenter', [`--net=${network.path}`, '/usr/bin/python3', '-c', "import socket\ns = socket.create_server(('127.0.0.1', 8080))\nprint('ready', flush=True)\nwhile True: s.accept()[0].sendall(b'hello')"], { stdio: ['ignore', 'pipe', 'inherit'] })
    if (server.stdout !== null) await once(server.stdout, 'data')
    expect(await probe('tcp-connect', '127.0.0.1', '8080')).toBe('OK')
    server.kill('SIGKILL')
    expect((await readRefused(network)).destinations.size).toBe(0)
  })

  test('lets a resolver on the wildcard address answer from the address that was asked, in both families, and nobody else', async () => {
    await openPorts(network, [53], [53])
    const resolver = `
import select, socket
servers = []
for family in (socket.AF_INET, socket.AF_INET6):
    s = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind(('', 53)); servers.append(s)
print('ready', flush=True)
while True:
    for s in select.select(servers, [], [])[0]:
        question, asker = s.recvfrom(99); s.sendto(question, asker)`
    // One socket that asks several resolvers in turn, as musl does; one that is connected, as glibc and dig do; many at once, yet no more than
    // the resolver's socket holds while it waits for a CPU (net.core.rmem_default, 277 datagrams).
    const asks = `
import socket
six = ['2001:db8::53', '2001:db8::54', '::1', '2001:db8::53', '2620:fe::fe']
for family, addresses in ((socket.AF_INET6, six), (socket.AF_INET, ['8.8.8.8', '198.18.0.1', '127.0.0.1'])):
    one = socket.socket(family, socket.SOCK_DGRAM); one.settimeout(60)
    for a in addresses:
        one.sendto(a.encode(), (a, 53)); answer, source = one.recvfrom(99); assert (answer, source[:2]) == (a.encode(), (a, 53)), (a, answer, source)
    many = []
    for n in range(100):
        s = socket.socket(family, socket.SOCK_DGRAM); s.settimeout(60); s.connect((addresses[n % len(addresses)], 53)); s.send(b'%d' % n); many.append(s)
    for n, s in enumerate(many): assert s.recv(99) == b'%d' % n
print('answered')
try: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b'x', ('2001:db8::53', 54))
except PermissionError: print('no other port')`
    const server = spawn('/usr/bin/nsenter', [`--net=${network.path}`, '/usr/bin/python3', '-c', resolver], { stdio: ['ignore', 'pipe', 'inherit'] })
    try {
      if (server.stdout !== null) await once(server.stdout, 'data')
      expect(await inside('/usr/bin/python3', '-c', asks)).toBe('answered\nno other port\n')
    } finally {
      server.kill('SIGKILL')
    }
    expect([...(await readRefused(network)).destinations.keys()]).toEqual(['udp6 2001:db8::53 54'])
  })

  test('lets a program come to the door as fast as honest ones do, and no faster', async () => {
    await openPorts(network, [53, 443], [53])
    const press = async (questions: number, openings: number): Promise<string> => (await inside('/usr/bin/python3', '-c', `
import socket
held = 0
for family, server in ((socket.AF_INET, '198.18.0.1'), (socket.AF_INET6, '2001:db8::53')):
    u = socket.socket(family, socket.SOCK_DGRAM)
    for n in range(${questions} // 2):
        try: u.sendto(b'x', (server, 53))
        except PermissionError: held += 1
for n in range(${openings}):
    s = socket.socket(); s.setblocking(False); s.connect_ex(('198.18.1.0', 443)); s.close()
print(held)`)).trim()
    expect(await press(1000, 400)).toBe('0')
    expect((await readRefused(network)).tooFast).toEqual({ tcp: 0, udp: 0 })
    const held = Number(await press(40_000, 20_000))
    const { tooFast, destinations } = await readRefused(network)
    expect(tooFast.udp).toBe(held)
    expect(held).toBeGreaterThan(1000)
    expect(tooFast.tcp).toBeGreaterThan(100)
    expect(destinations.size).toBe(0)
  })

  test('names as many destinations as a set holds, counts all, refuses all; the rest shows as a number', async () => {
    expect(await scan('198.51.', SET_SIZE + 100)).toBe(`{'EPERM': ${SET_SIZE + 100}}`)
    const seen = await readRefused(network)
    expect([seen.destinations.size, seen.totals.get('udp4'), seen.nearlyFull]).toEqual([SET_SIZE, SET_SIZE + 100, true])
    expect(attemptsBetween(NOTHING_REFUSED, seen).unnamed).toBe(100)
  })

  test('after its destinations were forgotten it names new ones again, and its totals go on', async () => {
    await scan('2001:db8::', 900)
    const before = await readRefused(network)
    expect(before.nearlyFull).toBe(true)
    await forgetDestinations(network)
    await scan('2001:db8:1::', 700)
    const after = await readRefused(network)
    expect([after.destinations.size, after.totals.get('udp6')]).toEqual([700, 1600])
    expect(attemptsBetween({ ...before, destinations: new Map() }, after)).toMatchObject({ unnamed: 0, attempts: { length: 700 } })
  })

  test('shows in one file whether anything was tried at all', async () => {
    const proc = `/proc/${dweller.pid}`
    const quiet = outgoingDatagrams(proc)
    expect(outgoingDatagrams(proc)).toBe(quiet)
    for (const [verb, to] of [['tcp-connect', '192.0.2.1'], ['tcp-connect', '2001:db8::1'], ['udp-send', '192.0.2.1']] as const) {
      const before = outgoingDatagrams(proc)
      await probe(verb, to, '443')
      expect(outgoingDatagrams(proc)).toBeGreaterThan(before)
    }
  })

  test('leads nowhere even without its table: every address is its own', async () => {
    const receiver = await Receiver.start()
    try {
      await inside('/usr/sbin/nft', 'flush', 'ruleset')
      const targets = ['127.0.0.1', '::1', '192.0.2.2', '10.0.0.1', 'fd00::2']
      for (const target of targets) expect(await probe('tcp-connect', target, String(receiver.port))).toBe('ECONNREFUSED')
      for (const target of targets) await probe('udp-send', target, String(receiver.port))
      expect(await receiver.received()).toEqual([])
    } finally {
      await receiver.stop()
    }
  })
})

describe.skipIf(!canRun(RUNC, '/usr/bin/perl', '/usr/bin/python3'))('attempts of a real run', () => {
  let host: WalledHost
  beforeAll(() => void (host = new WalledHost(1881505000)))
  afterAll(() => host.remove())

  test('are on record within five seconds, while the program still runs, and what no set holds is a gap', async () => {
    const many = 'for (0 .. 3999) { send(S, "x", 0, pack_sockaddr_in(53, pack("C4", 203, 0, 112 + ($_ >> 8), $_ & 255))) }'
    const program = `use Socket; use Time::HiRes 'time'; $| = 1; socket(S, AF_INET, SOCK_DGRAM, 0); send(S, "x", 0, pack_sockaddr_in(53, inet_aton("192.0.2.9"))); print time, "\\n"; sleep 6; ${many} print time, "\\n"; sleep 600`
    const child = host.start(['/usr/bin/perl', '-e', program])
    const times: number[] = []
    child.stdout?.on('data', (chunk: Buffer) => times.push(Number(String(chunk))))
    const ended = once(child, 'exit')
    try {
      const records = () => host.runs().flatMap((run) => host.records(run))
      const attempted = () => records().filter(({ type }) => type === 'egress.attempted')
      await eventually(() => times.length, (count) => count === 1)
      const [first] = await eventually(attempted, (seen) => seen.length > 0)
      expect(first?.data['attempts']).toEqual([{ destination: 'udp 192.0.2.9:53', count: 1 }])
      expect(Date.parse(first?.time ?? '') - (times[0] ?? 0) * 1000).toBeLessThan(5000)
      await eventually(() => times.length, (count) => count === 2)
      const gap = await eventually(() => records().find(({ type }) => type === 'gap'), (seen) => seen !== undefined)
      expect(gap?.data).toMatchObject({ what: 'egress destinations' })
      expect(Date.parse(gap?.time ?? '') - (times[1] ?? 0) * 1000).toBeLessThan(6000)
      // So many that a look which falls into the midst of them leaves more than a set holds.
      const named = (): number => attempted().slice(1).reduce((sum, { data }) => sum + (data['attempts'] as unknown[]).length + Number(data['more']), 0)
      const unnamed = (): number => records().filter(({ type }) => type === 'gap').reduce((sum, { data }) => sum + Number(data['count']), 0)
      await eventually(() => named() + unnamed(), (count) => count >= 4000)
      expect(named() + unnamed()).toBe(4000)
    } finally {
      child.kill('SIGKILL')
      await ended
    }
    await host.sh('true') // takes away what the killed one left
    expect(host.leftovers()).toEqual([])
  })

  test('are on record, and its walls still watched, when its first thread has ended and the others go on', async () => {
    // After that /proc/PID/net of the program is empty, and whoever looks only there sees nothing more.
    const program = `
import ctypes, socket, threading, time
def rest():
    time.sleep(1)
    try: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.77', 53))
    except OSError: pass
    print('sent', flush=True)
    time.sleep(600)
threading.Thread(target=rest).start()
ctypes.CDLL(None).syscall(${process.arch === 'x64' ? 60 : 93}, 0)`
    const before = new Set(host.runs())
    const child = host.start(['/usr/bin/python3', '-c', program])
    const ended = once(child, 'exit')
    try {
      if (child.stdout !== null) await once(child.stdout, 'data')
      const records = () => host.runs().filter((run) => !before.has(run)).flatMap((run) => host.records(run))
      const [first] = await eventually(() => records().filter(({ type }) => type === 'egress.attempted'), (seen) => seen.length > 0)
      expect(first?.data['attempts']).toEqual([{ destination: 'udp 192.0.2.77:53', count: 1 }])
      const [pid = 0] = host.processes()
      const path = /^\d+:pids:(.*)$/m.exec(readFileSync(`/proc/${pid}/cgroup`, 'utf8'))?.[1] ?? ''
      writeFileSync(`/sys/fs/cgroup/pids${path}/pids.max`, 'max')
      expect(await Promise.race([ended, sleep(100_000, 'still running')])).toEqual([70, null])
    } finally {
      child.kill('SIGKILL')
    }
    await host.sh('true')
    expect(host.leftovers()).toEqual([])
  })
})
