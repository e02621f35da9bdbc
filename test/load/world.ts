import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { setPriority } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { commandOf, TestHost } from '../e2e/host.ts'

export const NAME = 'good.example'
const ADDRESS = '10.78.0.10'
const DNS = '10.78.0.53'
export const PORTS = [9000, 9001, 9002, 9003]
const PRESS = readFileSync(join(import.meta.dirname, 'press.py'), 'utf8')
const PAUSE_MS = 2
/** Until both clients have begun. */
const WARM_UP_MS = 400
const PRESS_LIMIT_MS = 30 * 60_000
const ip = (...args: string[]): string => execFileSync('/usr/sbin/ip', args, { encoding: 'utf8' })

export interface Memory {
  /** MiB, now and at most so far. */
  readonly rss: number
  readonly peak: number
}

/**
 * A daemon in a network namespace of its own ("the host") with a wire to another one where a sink serves and answers names, and plugins
 * that do as they are told. All of it is real: walls, door, records on disk. Nothing leaves this machine.
 */
export class LoadWorld {
  readonly host: TestHost
  readonly #hostNs: string
  readonly #sinkNs: string
  readonly #dir: string
  readonly #plugins: readonly string[]
  #sink: ChildProcess | null = null
  #presses = 0

  /** @param slot of TestHost */
  constructor(slot: number, plugins: readonly string[]) {
    this.#hostNs = `cordon-load-${process.pid}-host`
    this.#sinkNs = `cordon-load-${process.pid}-sink`
    this.#dir = mkdtempSync('/var/lib/cordon-load-')
    this.#plugins = plugins
    this.host = new TestHost(slot)
  }

  /** @param limits of each plugin: one that floods uses all the processor time that it may have, and half a core is what the default policy gives */
  async start(limits: Readonly<Record<string, unknown>> = { CPUQuota: '50%' }): Promise<void> {
    setPriority(-20)
    ip('netns', 'add', this.#hostNs)
    ip('netns', 'add', this.#sinkNs)
    ip('link', 'add', 'veth0', 'netns', this.#hostNs, 'type', 'veth', 'peer', 'name', 'veth0', 'netns', this.#sinkNs)
    for (const [ns, addresses] of [[this.#hostNs, ['10.78.0.1/24']], [this.#sinkNs, ['10.78.0.2/24', `${ADDRESS}/24`, `${DNS}/24`]]] as const) {
      ip('-n', ns, 'link', 'set', 'lo', 'up')
      for (const address of addresses) ip('-n', ns, 'address', 'add', address, 'dev', 'veth0')
      ip('-n', ns, 'link', 'set', 'veth0', 'up')
    }
    // The sink is another machine: what the kernel holds for it must not count against the memory that TCP has on this one.
    execFileSync(...this.#shellIn(this.#sinkNs, "echo '4096 16384 65536' >/proc/sys/net/ipv4/tcp_wmem"))
    // What peers may fill before the door reads is the host's to say (README, Limitations): with its usual 6 MiB or more, 256 connections that
    // nobody reads use up the memory that TCP has on a small machine.
    execFileSync(...this.#shellIn(this.#hostNs, "echo '4096 131072 1048576' >/proc/sys/net/ipv4/tcp_rmem"))
    writeFileSync(`${this.#dir}/resolv.conf`, `nameserver ${DNS}\n`)
    this.#sink = spawn('/usr/bin/nsenter', [`--net=/run/netns/${this.#sinkNs}`, process.execPath, join(import.meta.dirname, 'sink.ts'), ADDRESS, DNS, ...PORTS.map(String)], { stdio: ['ignore', 'pipe', 'inherit'] })
    if (this.#sink.stdout !== null) await once(this.#sink.stdout, 'data')
    const allow = [NAME, '*.wild.example'].map((host) => ({ host, ports: [...PORTS], private: true, reason: 'the load test' }))
    for (const plugin of this.#plugins) {
      this.host.plugin(plugin, { egress: { allow }, limits: { MemoryMax: '128M', TasksMax: 128, LimitNOFILE: 4096, TmpMax: '4M', ...limits } }, 'does-as-told')
    }
    await this.host.start({ prefix: [...this.#enter(this.#hostNs), '/usr/bin/unshare', '--mount', '/bin/sh', '-c', 'mount --bind "$0" /etc/resolv.conf && exec "$@"', `${this.#dir}/resolv.conf`] })
    await this.host.settled(this.#plugins, ['running'])
    this.#preferAll()
  }

  /** Other work on this machine shall be felt as little as may be: our cgroups come before it, and the rest of us has the priority of its parent. */
  #preferAll(): void {
    const shares = readdirSync('/sys/fs/cgroup').includes('cpu') ? `/sys/fs/cgroup/cpu/cordon${this.host.runDir.replaceAll('/', '-')}/cpu.shares` : null
    if (shares !== null && existsSync(shares)) writeFileSync(shares, '20480')
  }

  async close(): Promise<void> {
    try {
      await this.host.close()
    } finally {
      this.#sink?.kill('SIGKILL')
      for (const ns of [this.#hostNs, this.#sinkNs]) ip('netns', 'del', ns)
      rmSync(this.#dir, { recursive: true })
    }
  }

  /** A verb of press.py as the plugin; its answer. */
  async press<Answer>(plugin: string, verb: string, ...args: readonly (string | number)[]): Promise<Answer> {
    this.#presses += 1
    const out = `press-${this.#presses}`
    // In the background: a request through the front must not last that long.
    const command = `cd /data; python3 - ${[verb, NAME, ...args].join(' ')} >${out}.out 2>${out}.err <<'PRESS' &\n${PRESS}\nPRESS\n`
    const args2 = ['-sSf', '-X', 'POST', '--data-binary', '@-', '-H', `authorization: Bearer ${this.host.token()}`, `http://127.0.0.1:${this.host.port}/api/x/${plugin}/do`]
    const told = execFileSync(this.#enter(this.#hostNs)[0], [...this.#enter(this.#hostNs).slice(1), '/usr/bin/curl', ...args2], { input: command, encoding: 'utf8', timeout: 60_000 })
    if ((JSON.parse(told) as { status: number }).status !== 0) throw new Error(told)
    const [said, failed] = [this.data(plugin, `${out}.out`), this.data(plugin, `${out}.err`)]
    for (let waited = 0; waited < PRESS_LIMIT_MS; waited += 20) {
      const text = existsSync(said) ? readFileSync(said, 'utf8') : ''
      if (text.endsWith('\n')) return JSON.parse(text) as Answer
      const trouble = existsSync(failed) ? readFileSync(failed, 'utf8') : ''
      if (trouble !== '') {
        await sleep(300) // the rest of it
        throw new Error(`${plugin} ${verb}: ${readFileSync(failed, 'utf8')}\n${this.host.log.slice(-2000)}`)
      }
      await sleep(20)
    }
    throw new Error(`${plugin} ${verb} did not end`)
  }

  /** A file of the plugin's data directory, as this side sees it. */
  data(plugin: string, file: string): string {
    return `${this.host.stateDir}/data/${plugin}/${file}`
  }

  /**
   * What another plugin feels meanwhile: its connections through the door (name looked up, opened, used) and requests to it through the front,
   * each one after the other, for as long as `during` takes.
   */
  async felt<Result>(plugin: string, during: () => Promise<Result>): Promise<{ readonly door: readonly number[]; readonly front: readonly number[]; readonly result: Result }> {
    this.#presses += 1
    const file = `stop-${this.#presses}`
    const seen = this.data(plugin, file)
    const [program, ...enter] = this.#enter(this.#hostNs)
    const child = spawn(program, [...enter, process.execPath, join(import.meta.dirname, 'front-times.ts'), String(this.host.port), this.host.token(), `/api/x/${plugin}/health`, seen, String(PAUSE_MS)], { stdio: ['ignore', 'pipe', 'inherit'] })
    const front = collect(child)
    const door = this.press<{ ms: number[] }>(plugin, 'times', `/data/${file}`, PAUSE_MS)
    let result: Result
    try {
      await sleep(WARM_UP_MS)
      result = await during()
    } finally {
      writeFileSync(seen, '')
    }
    const [throughDoor, throughFront] = await Promise.all([door, front])
    return { door: throughDoor.ms, front: (JSON.parse(throughFront) as { ms: number[] }).ms, result }
  }

  /** Connections that are open at the sink. */
  arrived(): number {
    const [program, ...enter] = this.#enter(this.#sinkNs)
    return Number(execFileSync(program, [...enter, process.execPath, '-e', `require('net').connect(${PORTS[0]}, '${ADDRESS}').on('data', (d) => process.stdout.write(d)).write('c')`], { encoding: 'utf8', timeout: 30_000 }))
  }

  door(): number {
    return this.#processOf(this.host.firstUid + DOOR_USER, 'door.cjs')
  }

  launcher(): number {
    return this.#processOf(0, 'launcher.cjs')
  }

  memory(pid: number): Memory {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8')
    const mib = (field: string): number => Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) / 1024
    return { rss: mib('VmRSS'), peak: mib('VmHWM') }
  }

  descriptors(pid: number): number {
    return readdirSync(`/proc/${pid}/fd`).length
  }

  #enter(ns: string): [string, string] {
    return ['/usr/bin/nsenter', `--net=/run/netns/${ns}`]
  }

  #shellIn(ns: string, line: string): [string, string[]] {
    const [program, enter] = this.#enter(ns)
    return [program, [enter, '/bin/sh', '-c', line]]
  }

  /** The one process of this daemon with that uid and that script. */
  #processOf(uid: number, script: string): number {
    const found = readdirSync('/proc').filter((pid) => /^\d+$/.test(pid)).map(Number).filter((pid) => {
      try {
        return new RegExp(`^Uid:\\s+${uid}\\s`, 'm').test(readFileSync(`/proc/${pid}/status`, 'utf8')) && commandOf(pid).includes(script) && (uid !== 0 || commandOf(pid).includes(this.host.configFile)) && commandOf(pid).includes('node')
      } catch {
        return false // it has ended
      }
    })
    if (found.length !== 1) throw new Error(`${found.length} processes run ${script}`)
    return Number(found[0])
  }
}

async function collect(child: ChildProcess): Promise<string> {
  let text = ''
  child.stdout?.on('data', (bytes: Buffer) => { text += bytes.toString() })
  const [status] = (await once(child, 'close')) as [number | null]
  if (status !== 0) throw new Error(`a client ended with ${status}`)
  return text
}

/** From the first uid of the daemon's range (launcher/users.ts). */
const DOOR_USER = 4

/** Sorted values to the one below which a share of them lies. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN
}
