import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { commandOf, TestHost } from '../e2e/host.ts'

/** Whom a plugin that presses reaches, and whom one that is measured: two servers, so that the one's load is not felt in the other's answers. */
const PRESSED = { name: 'good.example', address: '10.78.0.10' }
const MEASURED = { name: 'other.example', address: '10.78.0.11' }
const DNS = '10.78.0.53'
export const PORTS = [9000, 9001, 9002, 9003]
const PRESS = readFileSync(join(import.meta.dirname, 'press.py'), 'utf8')
const PAUSE_MS = 2
const CPU = '/sys/fs/cgroup/cpu'
/** Twenty times what a process has that asks for nothing. */
const SHARES = 20_480
/** Until both clients have begun. */
const WARM_UP_MS = 400
/** Until what a plugin that pauses had begun is over. */
const SETTLE_MS = 500
const PRESS_LIMIT_MS = 30 * 60_000
const ip = (...args: string[]): string => execFileSync('/usr/sbin/ip', args, { encoding: 'utf8' })

/** Requests of another plugin, one after the other: when each began (CLOCK_MONOTONIC, ms) and how long it took. */
interface Times { readonly at: readonly number[]; readonly ms: readonly number[] }

/** What another plugin felt: milliseconds through the door (name looked up, connection opened, used) and through the front. */
export interface Felt { readonly door: readonly number[]; readonly front: readonly number[] }

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
  /**
   * Where the host divides the processor with cgroups of version 1: one for the daemon, as systemd would give its service, and two for what stands
   * for other machines. They come before other work on this machine, which shall be felt as little as may be; but not the server that is pressed,
   * whose processor time another machine would spend.
   */
  readonly #cpu: readonly string[]
  readonly #sinks: ChildProcess[] = []
  #presses = 0

  /** @param slot of TestHost */
  constructor(slot: number, plugins: readonly string[]) {
    this.#hostNs = `cordon-load-${process.pid}-host`
    this.#sinkNs = `cordon-load-${process.pid}-sink`
    this.#dir = mkdtempSync('/var/lib/cordon-load-')
    this.#plugins = plugins
    this.#cpu = existsSync(`${CPU}/cpu.shares`) ? ['service', 'others', 'pressed'].map((name) => `${CPU}/cordon-load-${process.pid}-${name}`) : []
    this.host = new TestHost(slot)
  }

  /** @param quotas CPUQuota of plugins that shall have more than the preset `default` gives: one that floods uses all the processor time that it may have */
  async start(quotas: Readonly<Record<string, string>> = {}): Promise<void> {
    for (const dir of this.#cpu) {
      mkdirSync(dir)
      if (!dir.endsWith('pressed')) writeFileSync(`${dir}/cpu.shares`, String(SHARES))
    }
    ip('netns', 'add', this.#hostNs)
    ip('netns', 'add', this.#sinkNs)
    ip('link', 'add', 'veth0', 'netns', this.#hostNs, 'type', 'veth', 'peer', 'name', 'veth0', 'netns', this.#sinkNs)
    for (const [ns, addresses] of [[this.#hostNs, ['10.78.0.1/24']], [this.#sinkNs, ['10.78.0.2/24', `${PRESSED.address}/24`, `${MEASURED.address}/24`, `${DNS}/24`]]] as const) {
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
    await this.#startSink(2, PRESSED.address)
    await this.#startSink(1, MEASURED.address, DNS, ...[PRESSED, MEASURED].map(({ name, address }) => `${name}=${address}`))
    const allow = [PRESSED.name, MEASURED.name, '*.wild.example'].map((host) => ({ host, ports: [...PORTS], private: true, reason: 'the load test' }))
    for (const plugin of this.#plugins) {
      this.host.plugin(plugin, { egress: { allow }, limits: { MemoryMax: '128M', TasksMax: 128, LimitNOFILE: 4096, TmpMax: '4M', CPUQuota: quotas[plugin] ?? '50%' } }, 'does-as-told')
    }
    await this.host.start({ prefix: [...this.#within(0), ...this.#enter(this.#hostNs), '/usr/bin/unshare', '--mount', '/bin/sh', '-c', 'mount --bind "$0" /etc/resolv.conf && exec "$@"', `${this.#dir}/resolv.conf`] })
    await this.host.settled(this.#plugins, ['running'])
  }

  async #startSink(which: 1 | 2, address: string, ...dns: readonly string[]): Promise<void> {
    const [program, enter] = this.#aside(this.#sinkNs, which)
    const sink = spawn(program, [...enter, process.execPath, join(import.meta.dirname, 'sink.ts'), address, PORTS.join(), ...dns], { stdio: ['ignore', 'pipe', 'inherit'] })
    this.#sinks.push(sink)
    await once(sink.stdout, 'data')
  }

  async close(): Promise<void> {
    try {
      await this.host.close()
    } finally {
      for (const sink of this.#sinks) sink.kill('SIGKILL')
      for (const ns of [this.#hostNs, this.#sinkNs]) ip('netns', 'del', ns)
      rmSync(this.#dir, { recursive: true })
      for (const dir of this.#cpu) await removeCgroup(dir)
    }
  }

  /** A verb of press.py as the plugin; its answer. */
  async press<Answer>(plugin: string, verb: string, ...args: readonly (string | number)[]): Promise<Answer> {
    this.#presses += 1
    const out = `press-${this.#presses}`
    // In the background: a request through the front must not last that long.
    const command = `cd /data; python3 - ${[verb, verb === 'times' ? MEASURED.name : PRESSED.name, ...args].join(' ')} >${out}.out 2>${out}.err <<'PRESS' &\n${PRESS}\nPRESS\n`
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

  /** What another plugin feels for as long as `during` takes. */
  async felt<Result>(plugin: string, during: () => Promise<Result>): Promise<Felt & { readonly result: Result }> {
    const { door, front, result } = await this.#measured(plugin, during)
    return { door: door.ms, front: front.ms, result }
  }

  /**
   * What another plugin feels of `pressing`, in turn with pauses of it (press.py) in which it is undisturbed, so that what else this machine
   * does falls on both alike.
   * @param pressMs of each turn; the pauses are as long
   */
  async inTurn<Result>(plugin: string, presser: string, pressing: () => Promise<Result>, pressMs = 4000): Promise<{ readonly calm: Felt; readonly pressed: Felt; readonly turns: number; readonly result: Result }> {
    const pause = this.data(presser, 'pause')
    const turns: { readonly from: number; readonly to: number; readonly calm: boolean }[] = []
    const turn = async (ms: number, calm: boolean, stop: Promise<unknown>): Promise<void> => {
      const from = monotonicMs()
      await Promise.race([sleep(ms), stop])
      turns.push({ from, to: monotonicMs(), calm })
    }
    const { door, front, result } = await this.#measured(plugin, async () => {
      let over = false
      writeFileSync(pause, '')
      const pressed = pressing().finally(() => { over = true })
      await sleep(SETTLE_MS) // it has started, and waits
      while (!over) {
        await turn(pressMs, true, pressed)
        rmSync(pause)
        await turn(pressMs, false, pressed)
        writeFileSync(pause, '')
        await sleep(SETTLE_MS) // what is still on its way belongs to neither
      }
      rmSync(pause)
      return pressed
    })
    const of = (times: Times, calm: boolean): number[] => times.ms.filter((_ms, n) => {
      const at = times.at[n] ?? 0
      return turns.some((one) => one.calm === calm && at >= one.from && at < one.to)
    })
    return {
      calm: { door: of(door, true), front: of(front, true) }, pressed: { door: of(door, false), front: of(front, false) },
      turns: turns.filter(({ calm }) => !calm).length, result,
    }
  }

  /**
   * Its connections through the door and requests to it through the front, each one after the other, for as long as `during` takes.
   */
  async #measured<Result>(plugin: string, during: () => Promise<Result>): Promise<{ readonly door: Times; readonly front: Times; readonly result: Result }> {
    this.#presses += 1
    const file = `stop-${this.#presses}`
    const seen = this.data(plugin, file)
    const [program, enter] = this.#aside(this.#hostNs)
    const child = spawn(program, [...enter, process.execPath, join(import.meta.dirname, 'front-times.ts'), String(this.host.port), this.host.token(), `/api/x/${plugin}/health`, seen, String(PAUSE_MS)], { stdio: ['ignore', 'pipe', 'inherit'] })
    const front = collect(child)
    const door = this.press<Times>(plugin, 'times', `/data/${file}`, PAUSE_MS)
    let result: Result
    try {
      await sleep(WARM_UP_MS)
      result = await during()
    } finally {
      writeFileSync(seen, '')
    }
    const [throughDoor, throughFront] = await Promise.all([door, front])
    return { door: throughDoor, front: JSON.parse(throughFront) as Times, result }
  }

  /** Connections that are open at the sink. */
  arrived(): number {
    const [program, ...enter] = this.#enter(this.#sinkNs)
    return Number(execFileSync(program, [...enter, process.execPath, '-e', `require('net').connect(${PORTS[0]}, '${PRESSED.address}').on('data', (d) => process.stdout.write(d)).write('c')`], { encoding: 'utf8', timeout: 30_000 }))
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

  /** Program and arguments that run the rest in one of our cgroups. */
  #within(which: 0 | 1 | 2): string[] {
    const dir = this.#cpu[which]
    return dir === undefined ? [] : ['/bin/sh', '-c', 'echo $$ >"$0/cgroup.procs" && exec "$@"', dir]
  }

  /** The same for what stands for another machine, in that namespace. */
  #aside(ns: string, which: 1 | 2 = 1): [string, string[]] {
    const [program = '', ...args] = [...this.#within(which), ...this.#enter(ns)]
    return [program, args]
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

/** The clock that the clients go by. */
function monotonicMs(): number {
  return Number(process.hrtime.bigint() / 1_000_000n)
}

async function collect(child: ChildProcess): Promise<string> {
  let text = ''
  child.stdout?.on('data', (bytes: Buffer) => { text += bytes.toString() })
  const [status] = (await once(child, 'close')) as [number | null]
  if (status !== 0) throw new Error(`a client ended with ${status}`)
  return text
}

/** A cgroup stays busy for a moment after its last process has ended. */
async function removeCgroup(dir: string): Promise<void> {
  for (const end = Date.now() + 10_000; ;) {
    try {
      return rmdirSync(dir)
    } catch (error) {
      if (!(error instanceof Error) || !('code' in error) || error.code !== 'EBUSY' || Date.now() > end) throw error
    }
    await sleep(20)
  }
}

/** From the first uid of the daemon's range (launcher/users.ts). */
const DOOR_USER = 4

/** Sorted values to the one below which a share of them lies. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN
}
