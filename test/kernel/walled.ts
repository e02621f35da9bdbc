import { execFileSync, spawn, type ChildProcess, type StdioOptions } from 'node:child_process'
import { chmodSync, copyFileSync, existsSync, globSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { recordProblems } from '../audit/check-record.ts'
import { removable } from '../e2e/host.ts'

export const CORDON = resolve('deploy/cordon')
export const HOSTILE = resolve('deploy/samples/hostile')
const RUN_LIMIT_MS = 200_000
const OUTPUT_LIMIT_BYTES = 8 << 20
/** An ordinary user outside all walls: the controls run as it. */
const NOBODY = 65534

export interface Ran {
  readonly status: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: Buffer
  readonly stderr: string
  /** Of the run's own audit log, oldest first. */
  readonly records: readonly AuditRecord[]
}

export interface AuditRecord {
  readonly type: string
  readonly plugin: string | null
  readonly time: string
  readonly data: Readonly<Record<string, unknown>>
}

export interface RunOptions {
  /** Options of `cordon run`, before `--`. */
  readonly options?: readonly string[]
  readonly input?: Buffer
  readonly stdio?: StdioOptions
  readonly env?: NodeJS.ProcessEnv
}

/**
 * A Cordon of its own: configuration, state and run directory, uids. Everything below one root-owned directory of /var/lib, where no
 * other user can write, as Cordon demands it.
 */
export class WalledHost {
  readonly dir: string
  readonly stateDir: string
  readonly runDir: string
  readonly config: string
  /** Readable by everybody outside; policies may grant what is in it. */
  readonly files: string

  /** @param uids first of 512 numbers that no other test uses @param runtime value of `runtime:` in cordon.yaml */
  constructor(uids: number, runtime: ((dir: string) => string) | null = null) {
    this.dir = mkdtempSync('/var/lib/cordon-walls-')
    chmodSync(this.dir, 0o755)
    this.stateDir = `${this.dir}/state`
    this.runDir = `/run/${this.dir.slice('/var/lib/'.length)}`
    this.config = `${this.dir}/cordon.yaml`
    this.files = `${this.dir}/files`
    for (const dir of [this.files, `${this.dir}/policies`]) mkdirSync(dir, { mode: 0o755 })
    writeFileSync(this.config, [
      'listen: 127.0.0.1:0',
      `policies_dir: ${this.dir}/policies`, `state_dir: ${this.stateDir}`, `run_dir: ${this.runDir}`,
      `uids: { first: ${uids}, count: 512 }`, ...(runtime === null ? [] : [`runtime: ${runtime(this.dir)}`]), '',
    ].join('\n'), { mode: 0o644 })
    copyFileSync(HOSTILE, `${this.files}/hostile`)
    chmodSync(`${this.files}/hostile`, 0o755)
  }

  /** The probe as it is called inside and outside alike. */
  get hostile(): string {
    return `/usr/bin/perl ${this.files}/hostile`
  }

  start(command: readonly string[], { options = [], stdio = 'pipe', env = { PATH: '/usr/bin:/bin' } }: RunOptions = {}): ChildProcess {
    const probe = options.includes('--policy') ? [] : ['--read', `${this.files}/hostile`] // a policy stands alone
    return spawn(CORDON, ['--config', this.config, 'run', ...probe, ...options, '--', ...command], { stdio, env })
  }

  async run(command: readonly string[], options: RunOptions = {}): Promise<Ran> {
    const before = new Set(this.runs())
    const ended = await collect(this.start(command, options), options.input)
    const own = this.runs().filter((name) => !before.has(name))
    return { ...ended, records: own.flatMap((name) => this.records(name)) }
  }

  /** One shell line behind the walls. */
  sh(line: string, options: RunOptions = {}): Promise<Ran> {
    return this.run(['/bin/sh', '-c', line], options)
  }

  /** Answers of the probe behind the walls, one run for all attempts. */
  async attempts(lines: readonly string[], options: readonly string[] = []): Promise<string[]> {
    return answers(await this.sh(lines.map((line) => `${this.hostile} ${line}`).join('; '), { options }))
  }

  /** The same attempts by an ordinary user outside. */
  async control(lines: readonly string[], uid = NOBODY): Promise<string[]> {
    const script = lines.map((line) => `${this.hostile} ${line}`).join('; ')
    return answers(await collect(spawn('/usr/bin/setpriv', ['--reuid', String(uid), '--regid', String(uid), '--clear-groups', '--', '/bin/sh', '-c', script], {
      env: { PATH: '/usr/bin:/bin', CORDON_PROBE_CONTROL: '1' }, stdio: ['pipe', 'pipe', 'pipe'], cwd: '/',
    })))
  }

  records(run: string): AuditRecord[] {
    return readRecords(`${this.stateDir}/runs/${run}`)
  }

  /** The daemon's log. */
  audit(): AuditRecord[] {
    return readRecords(`${this.stateDir}/audit`)
  }

  /** What this host still has in the kernel and below /run; empty when all is gone. */
  leftovers(): string[] {
    const mark = this.runDir.replaceAll('/', '-').slice(1)
    const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n').filter((line) => line.includes(this.runDir)).map((line) => `mount ${line}`)
    const cgroups = globSync(`/sys/fs/cgroup/**/*${mark}*`).map((path) => `cgroup ${path}`)
    const places = existsSync(this.runDir) ? readdirSync(this.runDir, { recursive: true }).map((name) => `${this.runDir}/${String(name)}`) : []
    return [...mounts, ...cgroups, ...places, ...this.processes().map((pid) => `process ${pid}`)]
  }

  /** Every process of this host's users, or in its cgroups. */
  processes(): number[] {
    const [, first = 0] = /first: (\d+)/.exec(readFileSync(this.config, 'utf8'))?.map(Number) ?? []
    const mark = this.runDir.replaceAll('/', '-').slice(1)
    return readdirSync('/proc').filter((name) => /^\d+$/.test(name)).map(Number).filter((pid) => {
      try {
        const status = readFileSync(`/proc/${pid}/status`, 'utf8')
        if (/^State:\s+Z/m.test(status)) return false // dead, and its new parent (pid 1 of this machine) in no hurry
        const uid = Number(/^Uid:\s+(\d+)/m.exec(status)?.[1])
        return (uid >= first && uid < first + 512) || readFileSync(`/proc/${pid}/cgroup`, 'utf8').includes(mark)
      } catch {
        return false // it ended while we looked
      }
    })
  }

  /** Waits for the one process of this host whose program and arguments are these. */
  async pidOf(...words: readonly string[]): Promise<number> {
    const is = (pid: number): boolean => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8') === `${words.join('\0')}\0`
      } catch {
        return false // it ended while we looked
      }
    }
    return await eventually(() => this.processes().find(is) ?? 0, (pid) => pid !== 0)
  }

  /** Ids of all runs so far, in no order. */
  runs(): string[] {
    return existsSync(`${this.stateDir}/runs`) ? readdirSync(`${this.stateDir}/runs`) : []
  }

  /** Also after a test that failed half way: the next layer counts what is left on the machine. */
  remove(): void {
    for (const pid of this.processes()) process.kill(pid, 'SIGKILL')
    execFileSync('/usr/bin/find', ['/sys/fs/cgroup', '-depth', '-type', 'd', '-path', `*${this.runDir.replaceAll('/', '-').slice(1)}*`, '-exec', 'rmdir', '--ignore-fail-on-non-empty', '{}', '+'])
    removable(this.stateDir)
    rmSync(this.dir, { recursive: true, force: true })
    rmSync(this.runDir, { recursive: true, force: true })
  }
}

function readRecords(dir: string): AuditRecord[] {
  const text = globSync(`${dir}/records/*.jsonl`).sort().map((log) => readFileSync(log, 'utf8')).join('')
  const lines = text.split('\n').slice(0, -1) // what has no newline yet is being written
  const records = lines.map((line) => JSON.parse(line) as AuditRecord)
  const strange = [...new Set(records.flatMap(recordProblems))]
  if (strange.length > 0) throw new Error(`records that the catalogue does not describe:\n${strange.slice(0, 20).join('\n')}`)
  return records
}

export async function collect(child: ChildProcess, input?: Buffer): Promise<Omit<Ran, 'records'>> {
  const out: Buffer[] = []
  let size = 0
  let stderr = ''
  child.stdout?.on('data', (chunk: Buffer) => {
    size += chunk.length
    if (size <= OUTPUT_LIMIT_BYTES) out.push(chunk)
  })
  child.stderr?.on('data', (chunk: Buffer) => { stderr = (stderr + String(chunk)).slice(0, 1 << 20) })
  child.stdin?.on('error', () => undefined) // a program that does not read its input
  child.stdin?.end(input)
  const limit = setTimeout(() => child.kill('SIGKILL'), RUN_LIMIT_MS)
  return new Promise((done, failed) => {
    child.once('error', failed)
    child.once('close', (status, signal) => {
      clearTimeout(limit)
      done({ status, signal, stdout: Buffer.concat(out), stderr })
    })
  })
}

function answers(ran: Omit<Ran, 'records'>): string[] {
  const text = String(ran.stdout).trim()
  if (text === '') throw new Error(`the probe said nothing: status ${ran.status}, ${ran.stderr}`)
  return text.split('\n').map((line) => {
    const { result, reason } = JSON.parse(line) as { result: string; reason?: string }
    return reason === undefined ? result : `${result}: ${reason}`
  })
}

/** Wait until something holds; a test that waits in vain says what it saw last. */
export async function eventually<T>(look: () => T, good: (seen: T) => boolean, limitMs = 60_000): Promise<T> {
  const until = Date.now() + limitMs
  for (;;) {
    const seen = look()
    if (good(seen)) return seen
    if (Date.now() >= until) throw new Error(`still ${JSON.stringify(seen)} after ${limitMs} ms`)
    await new Promise((next) => setTimeout(next, 20))
  }
}
