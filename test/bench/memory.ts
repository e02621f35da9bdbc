/**
 * What Cordon itself holds in memory: per running plugin outside the plugin (its runtime process, and what launcher and gateway grow),
 * and launcher plus gateway with ten plugins. Proportional set size of /proc/PID/smaps_rollup; RSS beside it, since shared pages of the
 * runtime's program text count once per process there.
 */
import { execFileSync, spawn } from 'node:child_process'
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { PluginName } from '../../src/base/ids.ts'
import { createUsers } from '../../src/launcher/users.ts'

const PLUGINS = 10
const tree = `${import.meta.dirname}/../..`
const base = mkdtempSync('/var/lib/cordon-bench-')
const names = Array.from({ length: PLUGINS }, (_, i) => `good${i}` as PluginName)
const uids = { first: 1_883_000_000, count: 256 }
for (const dir of ['policies', 'state/plugins', 'programs']) mkdirSync(`${base}/${dir}`, { recursive: true })
chmodSync(base, 0o755)
writeFileSync(`${base}/cordon.yaml`, `listen: 127.0.0.1:0\npolicies_dir: ${base}/policies\nstate_dir: ${base}/state\nrun_dir: ${base}/run\nuids: { first: ${uids.first}, count: ${uids.count} }\n`)

const daemon = spawn(`${tree}/deploy/cordon`, ['serve', '--config', `${base}/cordon.yaml`], { stdio: ['ignore', 'ignore', 'inherit'] })
try {
  await until(() => existsSync(`${base}/run/port`), 300)
  const [launcher, gateway] = [daemon.pid ?? 0, find('/app/gateway.cjs').find(isOurs) ?? 0]
  await sleep(5000)
  const empty = [figures(launcher), figures(gateway)]
  for (const name of names) {
    const program = `${base}/programs/${name}`
    cpSync(`${tree}/test/fixtures/plugins/good-gen2`, program)
    chmodSync(program, 0o755)
    writeFileSync(`${base}/policies/${name}.yaml`, `plugin: ${name}\nexecutable: { path: ${program} }\n`)
  }
  daemon.kill('SIGHUP')
  await until(() => running() === PLUGINS, 600)
  await sleep(20_000)
  const runtimes = find('run --bundle').filter((pid) => readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(base) && pid !== parentOf(gateway) && isRuntime(pid)).map(figures)
  // One more stands ready for the next start (src/launcher/standing.ts).
  if (runtimes.length < PLUGINS) throw new Error(`${runtimes.length} runtime processes of ${PLUGINS} plugins`)
  const full = [figures(launcher), figures(gateway)]
  const sum = (list: Memory[], of: keyof Memory): number => list.reduce((total, one) => total + one[of], 0)
  const growth = (sum(full, 'pss') - sum(empty, 'pss')) / PLUGINS
  const perRuntime = sum(runtimes, 'pss') / runtimes.length
  const mib = (kb: number): string => (kb / 1024).toFixed(1)
  console.log(`memory per plugin outside it: ${mib(perRuntime + growth)} MB (at most 5 with crun) = runtime ${mib(perRuntime)} MB PSS (${mib(sum(runtimes, 'rss') / runtimes.length)} RSS) + launcher and gateway ${mib(growth)} MB`)
  console.log(`memory of launcher and gateway: ${mib(sum(full, 'rss'))} MB RSS with ${PLUGINS} plugins (at most 200), ${mib(sum(empty, 'rss'))} MB with none`)
} finally {
  daemon.kill('SIGTERM')
  await new Promise((resolve) => daemon.once('exit', resolve))
  await createUsers(`${base}/state`, uids).removeUsers(names)
  rmSync(base, { recursive: true, force: true })
}

interface Memory {
  readonly pss: number
  readonly rss: number
}

function figures(pid: number): Memory {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')
  const kb = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(text)?.[1] ?? 0)
  return { pss: kb('Pss'), rss: kb('Rss') }
}

function running(): number {
  const { plugins } = JSON.parse(execFileSync(`${tree}/deploy/cordon`, ['--config', `${base}/cordon.yaml`, 'list', '--json'], { encoding: 'utf8' })) as { plugins: { state: string }[] }
  return plugins.filter(({ state }) => state === 'running').length
}

/** Processes whose command line holds the text. */
function find(text: string): number[] {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name)).map(Number).filter((pid) => {
    try {
      return pid !== process.pid && readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').includes(text)
    } catch {
      return false // it has ended
    }
  })
}

/** Started by our daemon: another one may run on the same machine. */
function isOurs(pid: number): boolean {
  for (let at = pid; at > 1; at = parentOf(at)) if (at === daemon.pid) return true
  return false
}

/** Not a short-lived `runc init` or `kill` that happened to be there. */
function isRuntime(pid: number): boolean {
  return existsSync(`/proc/${pid}/exe`) && parentOf(pid) === (daemon.pid ?? 0)
}

function parentOf(pid: number): number {
  return Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
}

async function until(done: () => boolean, seconds: number): Promise<void> {
  for (let waited = 0; !done(); waited += 0.2) {
    if (waited > seconds) throw new Error(`waited ${seconds} s in vain`)
    await sleep(200)
  }
}
