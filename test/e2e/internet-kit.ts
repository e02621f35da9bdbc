import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { TREE } from './host.ts'

export interface Answers { readonly A?: readonly string[]; readonly AAAA?: readonly string[]; readonly CNAME?: string }
/** What the pretend internet answers for a name; `then` from the second question on (DNS rebinding), `truncated`: whole by TCP alone. */
export type Zone = Readonly<Record<string, Answers & { readonly then?: Answers; readonly truncated?: boolean }>>

/** One packet on the receiving side. `wire`: it left the machine; `host`: it reached the host's own addresses. */
export interface Arrival { readonly where: 'wire' | 'host'; readonly what: string }

export const RESOLVER = '10.77.0.53'
const OWN = '10.77.0.1'
/** By what the test itself calls on the host's loopback; the sniffer passes it over. */
export const TEST_ADDRESS = '127.0.0.9'
const MARK = 'the mark of the test'
const LIMIT_MS = 60_000
/** A plugin may be told to do something that takes its time. */
const ANSWER_MS = 150_000

/**
 * A machine and an internet of its own: two network namespaces joined by one wire. The internet answers on every address there is,
 * IPv4 and IPv6, so whatever is sent arrives somewhere; a sniffer on its end of the wire and one on the machine's loopback
 * say what did. Nothing leaves the real machine.
 */
export class PretendInternet {
  readonly arrived: Arrival[] = []
  readonly #host: string
  readonly #internet: string
  readonly #dir: string
  readonly #children: ChildProcess[] = []
  readonly #waiting = new Map<number, (answer: string) => void>()
  #runner: ChildProcess | null = null
  #holder = 0
  #asked = 0

  /** @param tag part of the namespaces' names, a different one for each test file */
  constructor(tag: string) {
    this.#host = `cordon-e2e-${process.pid}-${tag}-host`
    this.#internet = `cordon-e2e-${process.pid}-${tag}-inet`
    this.#dir = mkdtempSync(`/var/lib/cordon-e2e-${tag}-`)
  }

  /**
   * @param neighbours a further address of the machine and one of the internet on the same wire, with their prefix
   * @param mounts shell commands that prepare the machine's own view of the file system, as `mount --bind …`
   */
  async start({ zone, ports, mounts = '', neighbours = [] }: { readonly zone: Zone; readonly ports: readonly number[]; readonly mounts?: string; readonly neighbours?: readonly [] | readonly [host: string, internet: string] }): Promise<void> {
    const dir = this.#dir
    for (const ns of [this.#host, this.#internet]) ip('netns', 'add', ns)
    ip('link', 'add', 'veth0', 'netns', this.#host, 'type', 'veth', 'peer', 'name', 'veth0', 'netns', this.#internet)
    for (const [ns, v4, v6] of [[this.#host, OWN, 'fd77::1'], [this.#internet, '10.77.0.2', 'fd77::2']] as const) {
      execFileSync('/usr/sbin/ip', ['netns', 'exec', ns, '/bin/sh', '-c', 'echo 0 >/proc/sys/net/ipv6/conf/all/disable_ipv6; echo 0 >/proc/sys/net/ipv6/conf/default/disable_ipv6; echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range'])
      for (const link of ['lo', 'veth0']) ip('-n', ns, 'link', 'set', link, 'up')
      ip('-n', ns, 'address', 'add', `${v4}/24`, 'dev', 'veth0')
      ip('-n', ns, 'address', 'add', `${v6}/64`, 'dev', 'veth0', 'nodad')
    }
    ip('-n', this.#host, 'route', 'add', 'default', 'via', '10.77.0.2')
    ip('-n', this.#host, '-6', 'route', 'add', 'default', 'via', 'fd77::2')
    ip('-n', this.#internet, 'address', 'add', `${RESOLVER}/24`, 'dev', 'veth0')
    for (const [index, address] of neighbours.entries()) ip('-n', index === 0 ? this.#host : this.#internet, 'address', 'add', address, 'dev', 'veth0')
    for (const [family, all] of [['-4', '0.0.0.0/0'], ['-6', '::/0']] as const) ip('-n', this.#internet, family, 'route', 'add', 'local', all, 'dev', 'lo', 'table', 'main')
    writeFileSync(`${dir}/resolv.conf`, `nameserver ${RESOLVER}\n`)
    execFileSync('/usr/bin/openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', `${dir}/key.pem`, '-out', `${dir}/cert.pem`, '-days', '2', '-subj', '/CN=pretend'], { stdio: 'ignore' })
    const net = (ns: string): string => `--net=/run/netns/${ns}`
    await Promise.all([
      this.#spawn([net(this.#internet), process.execPath, `${TREE}/test/e2e/internet-servers.ts`, JSON.stringify(zone), `${dir}/cert.pem`, `${dir}/key.pem`, ...ports.map(String)], null),
      this.#spawn([net(this.#internet), '/usr/bin/python3', `${TREE}/test/e2e/sniffer.py`, 'veth0'], 'wire'),
      this.#spawn([net(this.#host), '/usr/bin/python3', `${TREE}/test/e2e/sniffer.py`, 'lo'], 'host'),
      // Keeps the machine's mounts; a process, since a file cannot keep a mount namespace below a shared mount.
      this.#spawn([net(this.#host), '/usr/bin/unshare', '--mount', '/bin/sh', '-euc', `mount --bind "$0" /etc/resolv.conf\n${mounts}\necho '"ready"'; exec sleep infinity`, `${dir}/resolv.conf`], null)
        .then((child) => { this.#holder = child.pid ?? 0 }),
    ])
    this.#runner = await this.#spawn(['--target', String(this.#holder), '--mount', '--net', '/usr/bin/python3', `${TREE}/test/e2e/probe-runner.py`], null)
  }

  /** The machine gets an address, on a bridge without ports: up, and without a carrier. */
  owns(address: string): void {
    ip('-n', this.#host, 'link', 'add', 'bridge0', 'type', 'bridge')
    ip('-n', this.#host, 'link', 'set', 'bridge0', 'up')
    ip('-n', this.#host, 'address', 'add', address, 'dev', 'bridge0')
  }

  /** The machine reaches a block without a gateway, as through a VPN. */
  neighbours(block: string): void {
    ip('-n', this.#host, 'route', 'add', block, 'dev', 'veth0', 'scope', 'link')
  }

  /** What runs a command on the pretend machine: nsenter and not `ip netns exec`, which hides /sys/fs/cgroup. */
  get enter(): readonly string[] {
    return ['/usr/bin/nsenter', '--target', String(this.#holder), '--mount', '--net', '--']
  }

  /** Wait until all that was sent so far has been seen, on the wire and on the loopback; nothing is overtaken there. */
  async settle(): Promise<void> {
    const mark = `${MARK} ${this.#asked};`
    await this.ask({ mark })
    for (const where of ['wire', 'host'] as const) {
      await until(`the sniffer of ${where}`, () => this.arrived.some(({ where: here, what }) => here === where && what.includes(mark)))
    }
  }

  /** Forget what arrived so far. */
  forget(): void {
    this.arrived.splice(0)
  }

  /** One order to probe-runner.py on the pretend machine. @returns its answer */
  ask(order: Readonly<Record<string, unknown>>): Promise<string> {
    this.#asked += 1
    const id = this.#asked
    return new Promise((done, fail) => {
      const timer = setTimeout(() => fail(new Error(`no answer from the pretend machine: ${JSON.stringify(order).slice(-500)}`)), ANSWER_MS)
      this.#waiting.set(id, (answer) => {
        clearTimeout(timer)
        done(answer)
      })
      this.#runner?.stdin?.write(`${JSON.stringify({ ...order, id })}\n`)
    })
  }

  /** What arrived since `forget`, without the marks and the kernel's refusals of them. */
  async seen(): Promise<string[]> {
    await this.settle()
    return this.arrived.filter(({ what }) => !what.includes(MARK)).map(({ where, what }) => `${where} ${what}`)
  }

  close(): void {
    for (const child of this.#children) child.kill('SIGKILL')
    for (const ns of [this.#host, this.#internet]) ip('netns', 'del', ns)
    rmSync(this.#dir, { recursive: true })
  }

  async #spawn(args: readonly string[], where: Arrival['where'] | null): Promise<ChildProcess> {
    // Nothing of it outlives the test, however that ends.
    const child = spawn('/usr/bin/setpriv', ['--pdeathsig', 'KILL', '/usr/bin/nsenter', ...args], { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#children.push(child)
    let ready = false
    let text = ''
    child.stdout.setEncoding('utf8').on('data', (more: string) => {
      const lines = (text + more).split('\n')
      text = lines.pop() ?? ''
      for (const said of lines.map((line) => JSON.parse(line) as string | { readonly id: number; readonly ok: string } | { readonly arrived: string })) {
        if (typeof said === 'string') {
          if (!ready) ready = said === 'ready'
          else if (where !== null) this.arrived.push({ where, what: said })
        } else if ('arrived' in said) {
          this.arrived.push({ where: 'host', what: said.arrived })
        } else {
          this.#waiting.get(said.id)?.(said.ok)
          this.#waiting.delete(said.id)
        }
      }
    })
    await until(args.slice(0, 3).join(' '), () => {
      if (child.exitCode !== null) throw new Error(`${args.join(' ')} ended with ${child.exitCode}`)
      return ready
    })
    return child
  }
}

async function until(what: string, fits: () => boolean): Promise<void> {
  const limit = Date.now() + LIMIT_MS
  while (!fits()) {
    if (Date.now() > limit) throw new Error(`${what}: not within ${LIMIT_MS / 1000} s`)
    await sleep(10)
  }
}

function ip(...args: string[]): void {
  execFileSync('/usr/sbin/ip', args)
}
