import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { stringify } from 'yaml'
import type { StatusAnswer } from '../../src/wire/operator-answers.ts'
import { recordProblems } from '../audit/check-record.ts'

export const TREE = resolve(import.meta.dirname, '../..')
const FIXTURES = join(TREE, 'test/fixtures/plugins')
const READY_MS = 120_000
const HTTP_MS = 60_000

/** One line of the audit log. */
export interface AuditRecord {
  readonly seq: number
  readonly time: string
  readonly type: string
  readonly origin: string
  readonly plugin?: string
  readonly run?: string
  readonly data: Readonly<Record<string, unknown>>
}

export interface CliResult {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
  /** stdout as JSON; throws when it is none. */
  json(): unknown
}

export interface HttpAnswer {
  readonly status: number
  readonly text: string
}

export interface StartOptions {
  /** Wrapped around `deploy/cordon serve`, as `['unshare', '-m', …]`. */
  readonly prefix?: readonly string[]
}

/**
 * A daemon of its own on this machine: directories below /var/lib (policies and plugins must lie where only root writes), a uid range
 * of its own, port 0. `leftovers()` names whatever it left anywhere.
 * @param slot 0..19, a different one for each test file: the uid range follows from it
 */
export class TestHost {
  readonly dir: string
  readonly policiesDir: string
  readonly pluginsDir: string
  readonly stateDir: string
  readonly runDir: string
  readonly configFile: string
  readonly firstUid: number
  daemon: ChildProcess | null = null
  log = ''
  port = 0
  readonly #name: string

  constructor(slot: number, config: Readonly<Record<string, unknown>> = {}) {
    this.#name = `cordon-e2e-${process.pid}-${slot}`
    this.firstUid = 1_881_000_000 + slot * 1000 + 20_000
    this.dir = `/var/lib/${this.#name}`
    rmSync(this.dir, { recursive: true, force: true })
    this.policiesDir = `${this.dir}/policies`
    this.stateDir = `${this.dir}/state`
    this.pluginsDir = `${this.stateDir}/plugins`
    this.runDir = `/run/${this.#name}`
    this.configFile = `${this.dir}/cordon.yaml`
    for (const dir of [this.policiesDir, this.pluginsDir]) mkdirSync(dir, { recursive: true, mode: 0o755 })
    this.configure(config)
  }

  configure(config: Readonly<Record<string, unknown>>): void {
    writeFileSync(this.configFile, stringify({
      listen: '127.0.0.1:0', policies_dir: this.policiesDir, plugins_dir: this.pluginsDir, state_dir: this.stateDir, run_dir: this.runDir,
      uids: { first: this.firstUid, count: 512 }, ...config,
    }))
  }

  /** Install a fixture under a name of its own. @returns its path */
  install(name: string, fixture = name): string {
    const path = `${this.pluginsDir}/${name}`
    rmSync(path, { force: true })
    copyFileSync(join(FIXTURES, fixture), path)
    chmodSync(path, 0o755)
    return path
  }

  /** A fixture and a policy for it. */
  plugin(name: string, fields: Readonly<Record<string, unknown>> = {}, fixture = name): void {
    this.policy(name, { executable: { path: this.install(name, fixture) }, ...fields })
  }

  policy(name: string, fields: Readonly<Record<string, unknown>>): void {
    writeFileSync(`${this.policiesDir}/${name}.yaml`, stringify({
      plugin: name,
      limits: { MemoryMax: '64M', CPUQuota: '100%', TasksMax: 32, TmpMax: '4M' },
      restart: { on: 'never', backoff: '1s..60s', start_limit: '5 in 10m' },
      ...fields,
    }), { mode: 0o644 })
  }

  /** @throws when it does not become ready; its words are in the message */
  async start(options: StartOptions = {}): Promise<void> {
    const ended = this.spawn(options)
    const until = Date.now() + READY_MS
    while (!existsSync(`${this.runDir}/port`)) {
      const early = await Promise.race([ended, sleep(25, null)])
      if (early !== null) throw new Error(`the daemon ended with ${early.status}: ${this.log}`)
      if (Date.now() > until) throw new Error(`the daemon was not ready within ${READY_MS / 1000} s: ${this.log}`)
    }
    while (this.port === 0) this.port = Number(readFileSync(`${this.runDir}/port`, 'utf8')) // made, then written
  }

  /** Start without waiting. @returns resolves when it has ended */
  spawn({ prefix = [] }: StartOptions = {}): Promise<{ status: number | null }> {
    rmSync(`${this.runDir}/port`, { force: true })
    this.port = 0
    const [program = '', ...args] = [...prefix, `${TREE}/deploy/cordon`, 'serve', '--config', this.configFile]
    const daemon = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    this.daemon = daemon
    for (const stream of [daemon.stdout, daemon.stderr]) stream?.setEncoding('utf8').on('data', (text: string) => { this.log += text })
    return new Promise((done) => daemon.once('close', (status) => done({ status })))
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    const { daemon } = this
    if (daemon === null) return null
    this.daemon = null
    if (daemon.exitCode !== null || daemon.signalCode !== null) return daemon.exitCode
    const ended = new Promise<number | null>((done) => daemon.once('exit', (status) => done(status)))
    daemon.kill(signal)
    return ended
  }

  kill9(): Promise<number | null> {
    return this.stop('SIGKILL')
  }

  /** @param as run the CLI as another user, or with another environment */
  cli(args: readonly string[], as: { readonly prefix?: readonly string[]; readonly env?: Readonly<Record<string, string>> } = {}): Promise<CliResult> {
    const [program = '', ...rest] = [...(as.prefix ?? []), `${TREE}/deploy/cordon`, ...args, '--config', this.configFile]
    const child = spawn(program, rest, { stdio: ['ignore', 'pipe', 'pipe'], env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', ...as.env } })
    let stdout = ''
    let stderr = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => { stdout += text })
    child.stderr.setEncoding('utf8').on('data', (text: string) => { stderr += text })
    return new Promise((done, fail) => {
      child.once('error', fail)
      child.once('close', (status) => done({ status: status ?? -1, stdout, stderr, json: () => JSON.parse(stdout) as unknown }))
    })
  }

  async status(): Promise<StatusAnswer> {
    const answer = await this.cli(['status', '--json'])
    if (answer.status !== 0) throw new Error(`status: ${answer.stderr}`)
    return answer.json() as StatusAnswer
  }

  async plugin1(name: string): Promise<StatusAnswer['plugins'][number]> {
    const one = (await this.status()).plugins.find((plugin) => plugin.name === name)
    if (one === undefined) throw new Error(`there is no plugin "${name}"`)
    return one
  }

  /** Wait until each of these is in one of the states. */
  async settled(names: readonly string[], states: readonly string[], limitMs = 120_000): Promise<StatusAnswer['plugins']> {
    const until = Date.now() + limitMs
    for (;;) {
      const { plugins } = await this.status()
      const asked = plugins.filter((plugin) => names.includes(plugin.name))
      if (asked.length === names.length && asked.every((plugin) => states.includes(plugin.state))) return asked
      if (Date.now() > until) throw new Error(`not ${states.join(' or ')} after ${limitMs / 1000} s: ${JSON.stringify(asked.filter((plugin) => !states.includes(plugin.state)).map(({ name, state, reason }) => [name, state, reason]))}; asked ${names.length}, found ${asked.length}`)
      await sleep(150)
    }
  }

  /** A request to the console's origin with the admin token, or as `host` says. */
  http(path: string, options: { readonly method?: string; readonly token?: string | null; readonly host?: string; readonly body?: string } = {}): Promise<HttpAnswer> {
    const token = options.token === undefined ? this.token() : options.token
    return new Promise((done, fail) => {
      const asked = request({
        host: '127.0.0.1', port: this.port, path, method: options.method ?? 'GET', agent: false, timeout: HTTP_MS,
        headers: { host: options.host ?? `localhost:${this.port}`, ...(token === null ? {} : { authorization: `Bearer ${token}` }), ...(options.body === undefined ? {} : { 'content-length': Buffer.byteLength(options.body) }) },
      }, (answer) => {
        let text = ''
        answer.setEncoding('utf8').on('data', (part: string) => { text += part }).on('end', () => done({ status: answer.statusCode ?? 0, text })).on('error', fail)
      })
      asked.on('error', fail)
      asked.on('timeout', () => asked.destroy(new Error(`${path}: no answer within ${HTTP_MS / 1000} s`)))
      asked.end(options.body)
    })
  }

  token(): string {
    return readFileSync(`${this.stateDir}/admin-token`, 'utf8').trim()
  }

  records(): AuditRecord[] {
    const dir = `${this.stateDir}/audit/records`
    const text = readdirSync(dir).sort().map((name) => readFileSync(`${dir}/${name}`, 'utf8')).join('')
    return text.split('\n').filter((line) => line !== '').map((line) => JSON.parse(line) as AuditRecord)
  }

  /** What the catalogue of records does not describe. Torn bytes are the verifier's question. */
  strangeRecords(): string[] {
    const dir = `${this.stateDir}/audit/records`
    const lines = existsSync(dir) ? readdirSync(dir).flatMap((name) => readFileSync(`${dir}/${name}`, 'utf8').split('\n')) : []
    return [...new Set(lines.filter((line) => line.endsWith('"v":1}')).flatMap((line) => recordProblems(JSON.parse(line) as AuditRecord)))]
  }

  async recorded(what: (record: AuditRecord) => boolean, limitMs = 30_000): Promise<AuditRecord> {
    const until = Date.now() + limitMs
    for (;;) {
      const found = this.records().find(what)
      if (found !== undefined) return found
      if (Date.now() > until) throw new Error(`no such record within ${limitMs / 1000} s`)
      await sleep(50)
    }
  }

  /** Processes of one plugin on the host, without the runtime's own. */
  processesOf(plugin: string): number[] {
    return processes((cgroup) => cgroup.includes(`${this.#cgroupName()}/${plugin}/`))
  }

  /** Everything of this host that is still there: nothing, after a stop. */
  leftovers(): string[] {
    const name = this.#name
    const found: string[] = []
    const namespaces = new Set<string>()
    for (const pid of processes((cgroup) => cgroup.includes(this.#cgroupName()))) found.push(`process ${pid} in our cgroup: ${commandOf(pid)}`)
    for (const pid of processIds()) {
      const uid = uidOf(pid)
      if (uid !== null && uid >= this.firstUid && uid < this.firstUid + 512) found.push(`process ${pid} of uid ${uid}: ${commandOf(pid)}`)
      const command = commandOf(pid)
      if (pid !== process.pid && command.includes(this.configFile)) found.push(`process ${pid}: ${command}`)
      // Every mount namespace, by one of its processes.
      for (const mount of mountsOf(pid, namespaces)) if (mount.includes(name)) found.push(`mount ${mount} in the namespace of ${pid}`)
    }
    for (const hierarchy of readdirSync('/sys/fs/cgroup')) {
      const listed = execFileSync('/usr/bin/find', [`/sys/fs/cgroup/${hierarchy}`, '-type', 'd', '-path', `*${this.#cgroupName()}*`], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
      found.push(...listed.split('\n').filter((line) => line !== '').map((line) => `cgroup ${line}`))
    }
    if (existsSync(this.runDir)) {
      const listed = execFileSync('/usr/bin/find', [this.runDir, '-mindepth', '1'], { encoding: 'utf8' })
      found.push(...listed.split('\n').filter((line) => line !== '').map((line) => `file ${line}`))
    }
    return [...new Set(found)]
  }

  /** Ends everything, looks for what is left and at what was recorded, then takes away directories and users. @throws when something was left, or stands in the log in another form than described */
  async close(): Promise<void> {
    await this.stop()
    const left = this.leftovers()
    const strange = this.strangeRecords()
    this.destroy()
    if (strange.length > 0) throw new Error(`records that the catalogue does not describe:\n${strange.slice(0, 20).join('\n')}`)
    if (left.length > 0) throw new Error(`left behind:\n${left.join('\n')}\n${this.log.slice(-3000)}`)
  }

  /** What the operator would keep: users and state. */
  destroy(): void {
    for (const line of readFileSync('/etc/passwd', 'utf8').split('\n')) {
      const [user = '', , uid = ''] = line.split(':')
      if (Number(uid) >= this.firstUid && Number(uid) < this.firstUid + 512) execFileSync('/usr/sbin/userdel', [user], { stdio: 'ignore' })
    }
    removable(this.stateDir)
    for (const dir of [this.dir, this.runDir]) rmSync(dir, { recursive: true, force: true })
  }

  #cgroupName(): string {
    return `cordon${this.runDir.replaceAll('/', '-')}`
  }
}

/** A daemon that was killed leaves the open segment of its log append-only. */
export function removable(stateDir: string): void {
  spawnSync('/usr/bin/chattr', ['-R', '-f', '-a', `${stateDir}/audit/records`], { stdio: 'ignore' })
}

function processIds(): number[] {
  // Without those that have ended and that nobody has waited for yet.
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name) && !/^State:\s+[ZX]/m.test(read(`/proc/${name}/status`))).map(Number)
}

function processes(inCgroup: (text: string) => boolean): number[] {
  return processIds().filter((pid) => inCgroup(read(`/proc/${pid}/cgroup`)))
}

export function commandOf(pid: number): string {
  return read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim()
}

function uidOf(pid: number): number | null {
  try {
    return statSync(`/proc/${pid}`).uid
  } catch {
    return null
  }
}

/** @param seen mount namespaces that were looked at already */
function mountsOf(pid: number, seen: Set<string>): string[] {
  let namespace: string
  try {
    namespace = readlinkSync(`/proc/${pid}/ns/mnt`)
  } catch {
    return [] // gone, or a kernel thread
  }
  if (seen.has(namespace)) return []
  seen.add(namespace)
  return read(`/proc/${pid}/mountinfo`).split('\n').map((line) => line.split(' ')[4] ?? '')
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return '' // the process has ended
  }
}
