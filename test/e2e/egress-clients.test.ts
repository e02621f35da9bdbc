import { spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { canRun } from '../kernel/require.ts'
import { ClientsWorld, SITE, SITE6, type Told } from './clients-world.ts'
import { TestHost, type AuditRecord } from './host.ts'

const LIMIT_MS = 150_000
/** Three commands, each within its own limit; alone on a machine they take a second. */
const TEST_MS = 600_000
const SSL_OF = `select 'rows', ssl from pg_stat_ssl where pid = pg_backend_pid()`

/** An unmodified program, and how it is told to do its work with a host. */
interface Client {
  readonly name: string
  /** The one name that it may have, where that is not `good.example`. */
  readonly allowed?: string
  readonly port?: number
  /** A shell command; status 0 only if it got what it wanted. */
  readonly ask: (host: string) => string
  readonly says: (host: string) => string
  /** What the receiving side notices, among other things. */
  readonly arrives: (host: string) => string[]
  /** Says in the clear whom it means. */
  readonly tls: boolean
}

const psql = (mode: string) => (host: string): string => `psql -X -At "host=${host} user=app dbname=postgres sslmode=${mode} connect_timeout=60" -c "${SSL_OF}"`
/** Its own way to a private CA is the user's NSS database. */
const PROFILE = 'if [ ! -d $HOME/.pki ]; then mkdir -p $HOME/.pki/nssdb && certutil -d sql:$HOME/.pki/nssdb -N --empty-password && certutil -d sql:$HOME/.pki/nssdb -A -n pretend -t C,, -i $SSL_CERT_FILE || exit 90; fi'
const chromium = (host: string, flags = '--no-sandbox'): string => `${PROFILE}; timeout 120 chromium --headless ${flags} --dump-dom https://${host}/page 2>/dev/null | grep -o 'the script of .* ran'`

const CLIENTS: readonly Client[] = [
  {
    name: 'curl', tls: true, ask: (host) => `curl -sS -m 60 https://${host}/curl`,
    says: (host) => `this is ${host}\n`, arrives: (host) => [`https ${host}/curl`],
  },
  {
    name: 'curl in plain HTTP', port: 80, tls: false, ask: (host) => `curl -sS -m 60 http://${host}/curl`,
    says: (host) => `this is ${host}\n`, arrives: (host) => [`http ${host}/curl`],
  },
  {
    // c-ares, then getaddrinfo.
    name: 'Node fetch', tls: true, ask: (host) => `"$NODE" -e 'require("dns").promises.resolve4("${host}").then(() => fetch("https://${host}/node")).then((r) => r.text()).then((t) => process.stdout.write(t))'`,
    says: (host) => `this is ${host}\n`, arrives: (host) => [`https ${host}/node`],
  },
  {
    name: 'Bun fetch', tls: true, ask: (host) => `"$BUN" -e 'process.stdout.write(await (await fetch("https://${host}/bun")).text())'`,
    says: (host) => `this is ${host}\n`, arrives: (host) => [`https ${host}/bun`],
  },
  {
    name: 'Python urllib', tls: true, ask: (host) => `python3 -c 'import urllib.request as u; print(u.urlopen("https://${host}/python", timeout=60).read().decode(), end="")'`,
    says: (host) => `this is ${host}\n`, arrives: (host) => [`https ${host}/python`],
  },
  {
    name: 'git', tls: true, ask: (host) => `timeout 90 git clone -q https://${host}/repo.git $TMPDIR/${host} && cat $TMPDIR/${host}/README`,
    says: () => 'this is a clone\n', arrives: (host) => [`https ${host}/repo.git/info/refs`, `https ${host}/repo.git/git-upload-pack`],
  },
  {
    name: 'git in plain HTTP', port: 80, tls: false, ask: (host) => `timeout 90 git clone -q http://${host}/repo.git $TMPDIR/plain-${host} && cat $TMPDIR/plain-${host}/README`,
    says: () => 'this is a clone\n', arrives: (host) => [`http ${host}/repo.git/info/refs`, `http ${host}/repo.git/git-upload-pack`],
  },
  // TLS begins inside the protocol: the door sees no hello, and the name that was looked up is all that it holds the client to.
  { name: 'psql over TLS', port: 5432, tls: false, ask: psql('verify-full'), says: () => 'rows|t\n', arrives: () => ['postgres connection'] },
  { name: 'psql without TLS', port: 5432, tls: false, ask: psql('disable'), says: () => 'rows|f\n', arrives: () => ['postgres connection'] },
  ...['go', 'cgo'].map((resolver): Client => ({
    name: `a Go program (gron, ${resolver} resolver)`, tls: true, ask: (host) => `GODEBUG=netdns=${resolver} timeout 90 gron https://${host}/data.json`,
    says: (host) => `json = {};\njson.from = "${host}";\n`, arrives: (host) => [`https ${host}/data.json`],
  })),
  {
    name: 'Chromium', allowed: 'browser.good.example', tls: true, ask: chromium,
    says: (host) => `the script of ${host} ran\n`, arrives: (host) => [`https ${host}/page`, `https ${host}/page.js`],
  },
]

/**
 * Programs that know nothing of Cordon, behind real walls and a real door. Each gets its work done with one allowed name; towards another one nothing
 * arrives, as the receiving side says; without walls the same command gets through, so it is the walls that kept it.
 */
describe.skipIf(!canRun('/usr/bin/curl', '/usr/bin/git', '/usr/bin/psql', '/usr/bin/gron', '/usr/bin/tldr', '/usr/bin/chromium', '/usr/bin/certutil'))('unmodified clients behind the door', () => {
  const host = new TestHost(12)
  let world: ClientsWorld
  let env: Readonly<Record<string, string>>

  beforeAll(async () => {
    world = new ClientsWorld()
    await world.start()
    const { ca, node, bun } = world
    // Each client's own way to a private CA; NODE and BUN are for the commands above.
    env = { SSL_CERT_FILE: ca, NODE_EXTRA_CA_CERTS: ca, GIT_SSL_CAINFO: ca, PGSSLROOTCERT: ca, GIT_TERMINAL_PROMPT: '0', NODE: node, BUN: bun }
    host.plugin('does-as-told', {
      limits: { MemoryMax: '1G', CPUQuota: '200%', TasksMax: 512, TmpMax: '256M', LimitNOFILE: 4096 },
      runtime: [node, bun].map((path) => ({ path, reason: 'fetch' })),
      read: [{ path: ca, reason: 'the private CA' }, { path: '/etc/chromium.d', reason: 'Debian\'s chromium is a script that reads it' }],
      env,
      egress: {
        allow: [
          { host: 'good.example', ports: [80, 443, 5432], reason: 'the test' },
          { host: 'six.good.example', ports: [443], reason: 'the test' },
          { host: 'strict.good.example', ports: [5432], tls: 'require', reason: 'the test' },
          { host: 'browser.good.example', ports: [443], ech: true, reason: 'a browser' },
          // Where the versions of tldr that Debian has look for their archive.
          ...['tldr.sh', 'github.com'].map((name) => ({ host: name, ports: [443], reason: 'the test' })),
          { host: 'host.internal', ports: [5432], reason: 'the database' },
        ],
      },
    })
    await host.start({ prefix: world.enterHost })
    await host.settled(['does-as-told'], ['running'])
  })

  afterAll(async () => {
    try {
      await host.close()
    } finally {
      await world.close()
    }
  })

  /** A shell command as the plugin. */
  async function told(command: string): Promise<Told> {
    const [file = '', network = ''] = world.enterHost
    const child = spawn(file, [network, '/usr/bin/curl', '-sS', '-X', 'POST', '--data-binary', '@-', '-H', `authorization: Bearer ${host.token()}`, `http://127.0.0.1:${host.port}/api/x/does-as-told/do`], { stdio: ['pipe', 'pipe', 'inherit'], timeout: LIMIT_MS })
    let text = ''
    child.stdout.setEncoding('utf8').on('data', (more: string) => { text += more })
    child.stdin.end(command)
    await new Promise((done) => child.once('close', done))
    return JSON.parse(text) as Told
  }
  const mark = (): number => host.records().at(-1)?.seq ?? 0
  const recorded = async (since: number, type: string, data: Readonly<Record<string, unknown>>): Promise<AuditRecord> =>
    host.recorded((record) => record.seq > since && record.type === type && Object.entries(data).every(([key, value]) => record.data[key] === value))

  test.each(CLIENTS)('$name gets its work done with the name that it is allowed, and with no other', async ({ name, allowed = 'good.example', port = 443, ask, says, arrives, tls }) => {
    const other = `${name.toLowerCase().replace(/[^a-z]+/g, '-').replace(/-$/, '')}.other.example`
    const begun = mark()
    await world.quiet()
    const refused = await told(ask(other))
    expect(refused.status, refused.out).not.toBe(0)
    expect(await world.quiet()).toEqual([])
    const { data: why } = await recorded(begun, 'dns.refused', { name: other, code: 'name-not-allowed' })
    expect(why['say']).toContain(`no rule names ${other}`)

    expect(await told(ask(allowed))).toEqual({ status: 0, out: says(allowed) })
    expect(await world.quiet()).toEqual(expect.arrayContaining(arrives(allowed)))
    await recorded(begun, 'egress.opened', { name: allowed, port, address: SITE, sni: tls ? allowed : null })
    const { data } = await recorded(begun, 'egress.closed', { name: allowed, port })
    expect([Number(data['bytesOut']) > 0, Number(data['bytesIn']) > 0]).toEqual([true, true])

    expect(await world.control(ask(other), env)).toEqual({ status: 0, out: says(other) })
    expect(await world.quiet()).toEqual(expect.arrayContaining(arrives(other)))
  }, TEST_MS)

  test('a Rust program (tldr) fetches its archive, and is not led elsewhere by a redirect', async () => {
    const update = 'timeout 90 tldr --update'
    const elsewhere = 'https://tldr.other.example/tldr.zip'
    const begun = mark()
    await world.quiet()
    expect(await told(update)).toEqual({ status: 0, out: expect.stringContaining('Successfully updated') as unknown })
    const arrived = (await world.quiet()).filter((one) => /^https .*\.zip$/.test(one))
    expect(arrived.length).toBeGreaterThan(0)
    const [, name = ''] = /^https ([^/]+)/.exec(arrived[0] ?? '') ?? []
    await recorded(begun, 'egress.opened', { name, port: 443, sni: name })
    await recorded(begun, 'egress.closed', { name, port: 443 })

    await world.sendArchivesTo(elsewhere)
    const refused = await told(update)
    expect(refused.status, refused.out).not.toBe(0)
    expect((await world.quiet()).filter((one) => one.includes('other') || !(one.includes(name) || one.includes(SITE)))).toEqual([])
    await recorded(begun, 'dns.refused', { name: 'tldr.other.example', code: 'name-not-allowed' })

    expect((await world.control(update, env)).status).toBe(0)
    expect(await world.quiet()).toEqual(expect.arrayContaining(['https tldr.other.example/tldr.zip']))
    await world.sendArchivesTo('')
  }, TEST_MS)

  test('a database on the loopback of the host is reached by host.internal, and by no name of the loopback', async () => {
    const begun = mark()
    await world.quiet()
    expect(await told(psql('prefer')('host.internal'))).toEqual({ status: 0, out: 'rows|t\n' })
    expect(await world.quiet()).toEqual(['postgres on the host connection'])
    await recorded(begun, 'egress.opened', { name: 'host.internal', port: 5432, address: '127.0.0.1' })
    expect((await told(psql('prefer')('localhost'))).status).not.toBe(0)
    expect(await world.quiet()).toEqual([])
    await recorded(begun, 'egress.refused', { port: 5432, code: 'loopback-reset' })
    expect(await world.control(psql('prefer')('localhost'), env)).toEqual({ status: 0, out: 'rows|t\n' })
  }, TEST_MS)

  test('psql is refused where the rule asks for TLS, since its own begins later', async () => {
    const begun = mark()
    await world.quiet()
    expect((await told(psql('verify-full')('strict.good.example'))).status).not.toBe(0)
    expect(await world.quiet()).toEqual([])
    const { data } = await recorded(begun, 'egress.refused', { name: 'strict.good.example', code: 'tls-required' })
    expect(data['say']).toContain('add tls: off')
  }, TEST_MS)

  test('a name that has IPv6 addresses only is reached all the same', async () => {
    const begun = mark()
    await world.quiet()
    expect(await told('curl -sS -m 60 https://six.good.example/six && GODEBUG=netdns=go timeout 90 gron https://six.good.example/data.json')).toEqual({ status: 0, out: 'this is six.good.example\njson = {};\njson.from = "six.good.example";\n' })
    await recorded(begun, 'egress.opened', { name: 'six.good.example', address: SITE6 })
  }, TEST_MS)

  test('a door that is held up for two seconds delays a look-up and does not fail it', async () => {
    const programs = CLIENTS.filter(({ name }) => /^(curl|Node fetch)$|Go program/.test(name))
    const door = processesOf(host.firstUid + 4)
    expect(door.length).toBeGreaterThan(0)
    for (const pid of door) process.kill(pid, 'SIGSTOP')
    const all = Promise.all(programs.map(({ ask }) => told(ask('good.example'))))
    try {
      await sleep(2000)
    } finally {
      for (const pid of door) process.kill(pid, 'SIGCONT')
    }
    expect(await all).toEqual(programs.map(({ says }) => ({ status: 0, out: says('good.example') })))
  }, TEST_MS)

  test('Chromium is refused where the rule does not accept its ECH, and does not start with its own sandbox', async () => {
    const begun = mark()
    await world.quiet()
    expect((await told(chromium('good.example'))).status).not.toBe(0)
    expect(await world.quiet()).toEqual([])
    const { data } = await recorded(begun, 'egress.refused', { name: 'good.example', code: 'ech-refused' })
    expect(data['say']).toContain('add ech: true')
    expect((await told(chromium('browser.good.example', ''))).status).not.toBe(0)
    expect(await world.quiet()).toEqual([])
  }, TEST_MS)
})

function processesOf(uid: number): number[] {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name)).map(Number).filter((pid) => {
    try {
      return Number(/^Uid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) === uid
    } catch {
      return false // it ended while we looked
    }
  })
}
