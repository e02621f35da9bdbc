import { execFileSync, spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, chownSync, constants, copyFileSync, cpSync, globSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { BUN } from '../kernel/runc.ts'
import { eventually } from '../kernel/walled.ts'
import { TREE } from './host.ts'

/** Global addresses, so that no rule needs `private`; neither namespace has a way to the real ones. */
export const SITE = '93.184.215.14'
export const SITE6 = '2606:2800:21f:cb07::14'
const OTHER = '93.184.215.99'
const DNS = '93.184.215.53'
const NOBODY = 65_534
const READY_MS = 90_000
const END_MS = 30_000
const QUIET_MS = 250
const QUIET_LIMIT_MS = 60_000

export interface Arrival { readonly what: string; readonly detail: string }
export interface Told { readonly status: number; readonly out: string }

/**
 * Two network namespaces wired to each other: "the host", in which a daemon is started, and "the internet" with a CA, a resolver, web servers,
 * a git repository and a PostgreSQL server. Another PostgreSQL listens on the loopback of the host. Whatever arrives anywhere is in `arrived`.
 */
export class ClientsWorld {
  readonly dir: string
  readonly ca: string
  readonly node: string
  readonly bun: string
  /** Command words that enter the host: its network, and its resolv.conf over this machine's. */
  readonly enterHost: readonly string[]
  readonly arrived: Arrival[] = []
  readonly #host: string
  readonly #internet: string
  readonly #children: ChildProcess[] = []
  #servers: ChildProcess | null = null

  constructor() {
    this.dir = mkdtempSync('/var/lib/cordon-e2e-clients-')
    chmodSync(this.dir, 0o755)
    this.ca = `${this.dir}/ca.pem`
    this.node = `${this.dir}/node`
    this.bun = `${this.dir}/bun`
    this.#host = `cordon-clients-host-${process.pid}`
    this.#internet = `cordon-clients-inet-${process.pid}`
    // nsenter and not `ip netns exec`, which hides /sys/fs/cgroup.
    this.enterHost = ['/usr/bin/nsenter', `--net=/run/netns/${this.#host}`, '/usr/bin/unshare', '--mount', '/bin/sh', '-c', 'mount --bind "$0" /etc/resolv.conf && exec "$@"', `${this.dir}/resolv.conf`]
  }

  async start(): Promise<void> {
    this.#wire()
    this.#makeFiles()
    const database = this.#makeDatabase()
    await Promise.all([
      this.#startServers(),
      this.#startDatabase(this.#internet, `${this.dir}/pg-internet`, database, '0.0.0.0', 'postgres'),
      this.#startDatabase(this.#host, `${this.dir}/pg-host`, database, '127.0.0.1', 'postgres on the host'),
    ])
  }

  /** From now on whoever asks for an archive is sent to this URL; an empty one ends that. */
  async sendArchivesTo(url: string): Promise<void> {
    this.arrived.length = 0
    this.#servers?.stdin?.write(`${url}\n`)
    await eventually(() => this.arrived, (arrived) => arrived.some(({ what, detail }) => what === 'archives' && detail === url))
    this.arrived.length = 0
  }

  /** What arrived since the last call, once nothing more has come for a moment: a program that has ended may leave something on its way. */
  async quiet(): Promise<string[]> {
    const until = Date.now() + QUIET_LIMIT_MS
    for (let before = -1; before !== this.arrived.length; await sleep(QUIET_MS)) {
      if (Date.now() > until) throw new Error(`it never was quiet: ${JSON.stringify(this.arrived.slice(-20))}`)
      before = this.arrived.length
    }
    return this.arrived.splice(0).map(({ what, detail }) => `${what} ${detail}`)
  }

  /** The control: a shell command of an ordinary user on the host, with no walls. */
  control(command: string, env: Readonly<Record<string, string>>): Promise<Told> {
    const home = mkdtempSync(`${this.dir}/home-`)
    chownSync(home, NOBODY, NOBODY)
    const [file = '', ...args] = [...this.enterHost, '/usr/bin/setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups', '/bin/sh', '-c', `exec 2>&1; ${command}`]
    const child = spawn(file, args, { cwd: home, stdio: ['ignore', 'pipe', 'inherit'], timeout: 150_000, env: { PATH: '/usr/local/bin:/usr/bin:/bin', HOME: home, TMPDIR: home, LANG: 'C.UTF-8', ...env } })
    let out = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => { out += text })
    return new Promise((done, fail) => {
      child.once('error', fail)
      child.once('close', (status) => done({ status: status ?? -1, out }))
    })
  }

  async close(): Promise<void> {
    await Promise.all(this.#children.map(async (child) => {
      if (child.exitCode !== null || child.signalCode !== null) return
      const ended = once(child, 'exit')
      child.kill('SIGINT') // PostgreSQL's fast shutdown: it does not wait for clients
      const late = setTimeout(() => child.kill('SIGKILL'), END_MS)
      await ended
      clearTimeout(late)
    }))
    for (const namespace of [this.#host, this.#internet]) spawnSync('/usr/sbin/ip', ['netns', 'del', namespace])
    rmSync(this.dir, { recursive: true, force: true })
  }

  #wire(): void {
    const ip = (...args: string[]): void => void execFileSync('/usr/sbin/ip', args)
    for (const namespace of [this.#host, this.#internet]) {
      ip('netns', 'add', namespace)
      ip('-n', namespace, 'link', 'set', 'lo', 'up')
    }
    ip('link', 'add', 'wire', 'netns', this.#host, 'type', 'veth', 'peer', 'name', 'wire', 'netns', this.#internet)
    for (const [namespace, four, six] of [[this.#host, '10.77.0.1/30', 'fd77::1/64'], [this.#internet, '10.77.0.2/30', 'fd77::2/64']] as const) {
      ip('-n', namespace, 'address', 'add', four, 'dev', 'wire')
      ip('-n', namespace, 'address', 'add', six, 'dev', 'wire', 'nodad')
      ip('-n', namespace, 'link', 'set', 'wire', 'up')
    }
    for (const address of [`${SITE}/32`, `${OTHER}/32`, `${DNS}/32`, `${SITE6}/128`]) ip('-n', this.#internet, 'address', 'add', address, 'dev', 'lo')
    ip('-n', this.#host, 'route', 'add', 'default', 'via', '10.77.0.2')
    ip('-n', this.#host, '-6', 'route', 'add', 'default', 'via', 'fd77::2')
  }

  #makeFiles(): void {
    const run = (file: string, ...args: string[]): void => void execFileSync(file, args, { cwd: this.dir, stdio: ['ignore', 'ignore', 'pipe'], env: { PATH: '/usr/bin:/bin', HOME: this.dir } })
    writeFileSync(`${this.dir}/resolv.conf`, `nameserver ${DNS}\n`)
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'] as const
    run('/usr/bin/openssl', 'req', '-x509', ...key, '-keyout', 'ca-key.pem', '-out', 'ca.pem', '-subj', '/CN=pretend CA', '-addext', 'keyUsage=critical,keyCertSign,cRLSign')
    run('/usr/bin/openssl', 'req', '-x509', ...key, '-keyout', 'key.pem', '-out', 'cert.pem', '-subj', '/CN=good.example', '-CA', 'ca.pem', '-CAkey', 'ca-key.pem', '-addext', 'basicConstraints=critical,CA:FALSE',
      '-addext', `subjectAltName=${['good.example', '*.good.example', '*.other.example', 'host.internal', 'tldr.sh', 'github.com'].map((name) => `DNS:${name}`).join()}`)
    for (const [from, to] of [[process.execPath, this.node], [BUN, this.bun]] as const) {
      copyFileSync(from, to, constants.COPYFILE_FICLONE)
      chmodSync(to, 0o755)
    }
    run('/usr/bin/git', 'init', '-q', '-b', 'main', 'work')
    writeFileSync(`${this.dir}/work/README`, 'this is a clone\n')
    run('/usr/bin/git', '-C', 'work', 'add', 'README')
    run('/usr/bin/git', '-C', 'work', '-c', 'user.name=t', '-c', 'user.email=t@good.example', 'commit', '-q', '-m', 'first')
    run('/usr/bin/git', 'clone', '-q', '--bare', 'work', 'repo.git')
    mkdirSync(`${this.dir}/pages/common`, { recursive: true })
    writeFileSync(`${this.dir}/pages/common/hello.md`, '# hello\n\n> A page of the pretend internet.\n')
    run('/usr/bin/python3', '-m', 'zipfile', '-c', 'pages.zip', 'pages')
  }

  async #startServers(): Promise<void> {
    const servers = spawn('/usr/sbin/ip', ['netns', 'exec', this.#internet, process.execPath, `${TREE}/test/e2e/clients-internet.ts`, this.dir, SITE, SITE6, OTHER, DNS], { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#servers = servers
    this.#children.push(servers)
    await this.#listen(servers, 'stdout', (line) => {
      const arrival = JSON.parse(line) as Arrival
      if (arrival.what === 'ready') return true
      this.arrived.push(arrival)
      return false
    })
  }

  /** @returns the directory of its programs */
  #makeDatabase(): string {
    const [initdb] = globSync('/usr/lib/postgresql/*/bin/initdb').sort().reverse()
    if (initdb === undefined) throw new Error('no PostgreSQL server below /usr/lib/postgresql')
    const dir = `${this.dir}/pg-internet`
    mkdirSync(dir, { mode: 0o700 })
    execFileSync('/usr/bin/chown', ['postgres:', dir])
    this.#asPostgres(initdb, '-D', dir, '-U', 'app', '--auth=trust', '--no-sync', '--no-locale', '-E', 'UTF8')
    // Both ways in, and who comes says which one: the answer of a query proves it.
    writeFileSync(`${dir}/pg_hba.conf`, 'host all all all trust\n')
    for (const name of ['cert.pem', 'key.pem']) copyFileSync(`${this.dir}/${name}`, `${dir}/${name}`)
    execFileSync('/usr/bin/chown', ['postgres:', `${dir}/key.pem`, `${dir}/cert.pem`])
    chmodSync(`${dir}/key.pem`, 0o600)
    cpSync(dir, `${this.dir}/pg-host`, { recursive: true })
    execFileSync('/usr/bin/chown', ['-R', 'postgres:', `${this.dir}/pg-host`])
    chmodSync(`${this.dir}/pg-host`, 0o700)
    return initdb.replace(/\/initdb$/, '')
  }

  async #startDatabase(namespace: string, dir: string, programs: string, address: string, what: string): Promise<void> {
    const settings = [`listen_addresses=${address}`, 'port=5432', `unix_socket_directories=${dir}`, 'ssl=on', 'ssl_cert_file=cert.pem', 'ssl_key_file=key.pem', 'log_connections=on', 'logging_collector=off', 'fsync=off']
    const database = spawn('/usr/sbin/ip', ['netns', 'exec', namespace, ...AS_POSTGRES, `${programs}/postgres`, '-D', dir, ...settings.flatMap((setting) => ['-c', setting])], { cwd: dir, stdio: ['ignore', 'ignore', 'pipe'], env: { PATH: '/usr/bin:/bin', LC_ALL: 'C' } })
    this.#children.push(database)
    await this.#listen(database, 'stderr', (line) => {
      if (line.includes('connection received:')) this.arrived.push({ what, detail: 'connection' })
      return line.includes('ready to accept connections')
    })
  }

  /** Reads lines for as long as the child lives. @returns when one of them says that it is ready */
  #listen(child: ChildProcess, stream: 'stdout' | 'stderr', read: (line: string) => boolean): Promise<void> {
    let text = ''
    return new Promise((ready, fail) => {
      const late = setTimeout(() => fail(new Error(`${child.spawnargs.join(' ')}: not ready after ${READY_MS / 1000} s: ${text}`)), READY_MS)
      child.once('exit', (status) => fail(new Error(`${child.spawnargs.join(' ')}: ended with ${status}: ${text}`)))
      child[stream]?.setEncoding('utf8').on('data', (more: string) => {
        const lines = (text + more).split('\n')
        text = lines.pop() ?? ''
        for (const line of lines) {
          if (!read(line)) continue
          clearTimeout(late)
          ready()
        }
      })
    })
  }

  #asPostgres(...command: string[]): void {
    execFileSync('/usr/bin/setpriv', [...AS_POSTGRES.slice(1), ...command], { cwd: this.dir, stdio: ['ignore', 'ignore', 'pipe'], env: { PATH: '/usr/bin:/bin', LC_ALL: 'C' } })
  }
}

const AS_POSTGRES = ['/usr/bin/setpriv', '--reuid=postgres', '--regid=postgres', '--init-groups'] as const
