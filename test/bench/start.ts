/**
 * From the start request to the plugin's first output, beyond the bare OCI runtime with the same config in the same run.
 * The bare run has its "go" in stdin already, so the difference is all that Cordon adds: places, namespace, plan, records, attestation.
 * The runtime alone varies by 10 ms and more from one start to the next, and drifts with what else the machine does. So the figure is the
 * median of the differences within rounds, each of them the three kinds within two seconds, with what chance leaves open of it.
 */
import { spawn } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { openAuditLog } from '../../src/audit/log.ts'
import type { PluginName } from '../../src/base/ids.ts'
import { makeDataDir, makeRoot, writeConfig } from '../../src/launcher/bundle.ts'
import { enterNamespaces, hasEntered } from '../../src/launcher/enter.ts'
import { openGenerations } from '../../src/launcher/generations.ts'
import { openLaunchHost } from '../../src/launcher/host.ts'
import { openRun } from '../../src/launcher/open-run.ts'
import { storeExecutable } from '../../src/launcher/store.ts'
import { NO_OVERLAY } from '../../src/policy/overlay.ts'
import { Supervisor } from '../../src/launcher/supervisor.ts'
import { compilePlugin } from '../../src/plan/compile.ts'
import { renderOci } from '../../src/plan/oci.ts'
import { finishRaw } from '../../src/policy/load.ts'
import { DEFAULT_HOST_CONFIG } from '../../src/policy/load-host-config.ts'
import type { RawPolicy } from '../../src/policy/schema.ts'

const ROUNDS = Number(process.argv[2] ?? 40)
if (!hasEntered()) enterNamespaces(null)

const base = mkdtempSync('/var/lib/cordon-bench-')
const config = { ...DEFAULT_HOST_CONFIG, stateDir: `${base}/state`, runDir: `${base}/run`, pluginsDir: `${base}/plugins`, policiesDir: `${base}/policies`, uids: { first: 1_882_000_000, count: 512 } }
mkdirSync(config.pluginsDir, { recursive: true })
const program = `${config.pluginsDir}/bench`
writeFileSync(program, '#!/bin/sh\necho first\nexec sleep 600\n')
chmodSync(program, 0o755)
const name = 'bench' as PluginName
const load = { presetsDir: `${import.meta.dirname}/../../policies`, own: config, ownership: 'required' } as const
const policy = finishRaw({ plugin: name, executable: { path: program } } as RawPolicy, 'bench', load)
const median = (values: number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN

interface Measured {
  once(): Promise<number>
  close(): Promise<void>
}

/** A supervised plugin, from `start()` to its first byte at the relay. */
async function supervised(prepare: boolean): Promise<Measured> {
  const host = await openLaunchHost(config, `${config.runDir}/${prepare ? 'prepared' : 'cold'}`, { clean: async () => {}, prepare })
  const stateDir = `${config.stateDir}/${prepare}`
  mkdirSync(`${config.stateDir}/logs`, { recursive: true })
  mkdirSync(stateDir, { recursive: true })
  const audit = await openAuditLog({ dir: `${stateDir}/audit` })
  let first: (at: number) => void = () => {}
  let fail: (error: Error) => void = () => {} // not thrown where it is noticed: what was made is taken away first
  const plugin = new Supervisor(name, policy, 'stopped', null, {
    host, audit, memory: new Map(), generations: openGenerations(`${stateDir}/generations.json`, () => {}),
    gateway: { say: () => {}, data: () => first(performance.now()), forget: () => {} },
    gatewayReady: async () => {}, auditReady: async () => {}, overlay: () => NO_OVERLAY, doors: { open: async () => {}, close: async () => {}, swap: async () => ({ closed: 0, held: [] }) }, log: (message) => console.error(message),
    onChange: () => { if (plugin.state === 'failed' || plugin.state === 'backoff') fail(new Error(plugin.status().reason ?? 'failed')) },
  })
  return {
    async once() {
      const seen = new Promise<number>((resolve, reject) => { [first, fail] = [resolve, reject] })
      const from = performance.now()
      plugin.start()
      const took = (await seen) - from
      await plugin.stop('bench')
      return took
    },
    async close() {
      await audit.close()
      await host.users.removeUsers([name])
      await host.close()
    },
  }
}

/** The OCI runtime alone, from its spawn to the first byte. */
async function bareRuntime(): Promise<Measured> {
  const host = await openLaunchHost(config, `${config.runDir}/bare`, { clean: async () => {}, prepare: false })
  const stored = await storeExecutable({ path: program, entry: null, sha256: null }, `${config.stateDir}/store`)
  const { uid } = await host.users.allocateEphemeral()
  const dataPath = `${config.stateDir}/bare`
  makeDataDir(dataPath, uid)
  return {
    async once() {
      const slot = await host.takeSlot()
      const { runId, bundle } = slot
      const open = await openRun(host, slot, { uid, group: 'bare', object: stored, dataPath, door: null, compile: (places) => compilePlugin(policy.policy, host.facts, places, '2') })
      await slot.sealed
      makeRoot(open.plan, new Map())
      writeConfig(bundle, renderOci(open.plan))
      host.tree.makeGroup('bare')
      const extra = host.facts.runtime.kind === 'crun' ? ['--cgroup-manager', 'cgroupfs'] : []
      const from = performance.now()
      const child = spawn(host.facts.runtime.path, ['--root', host.ociRoot, ...extra, 'run', '--bundle', bundle.dir, runId], { stdio: ['pipe', 'pipe', 'inherit'], env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' } })
      child.stdin.write('go\n')
      await new Promise((resolve) => child.stdout.once('data', resolve))
      const took = performance.now() - from
      spawn(host.facts.runtime.path, ['--root', host.ociRoot, 'kill', runId, 'KILL'])
      await new Promise((resolve) => child.once('close', resolve))
      await open.remove()
      return took
    },
    close: () => host.close(),
  }
}

const KINDS = ['bare', 'cold', 'prepared'] as const
const kinds = { bare: await bareRuntime(), cold: await supervised(false), prepared: await supervised(true) }
const times = { bare: [] as number[], cold: [] as number[], prepared: [] as number[] }
try {
  for (let round = -2; round < ROUNDS; round++) {
    // Each kind has each place in turn: what one leaves behind (namespaces and cgroups that the kernel takes apart later) slows the next.
    for (let place = 0; place < KINDS.length; place++) {
      const kind = KINDS[(round + 2 + place) % KINDS.length] ?? 'bare'
      await sleep(500) // the next slot is made in the meantime; all three, for a machine that idled is slower than one that did not
      const took = await kinds[kind].once()
      if (round >= 0) times[kind].push(took)
    }
  }
  const bare = median(times.bare)
  for (const [kind, limit] of [['cold', 25], ['prepared', 10]] as const) {
    const added = times[kind].map((ms, round) => ms - (times.bare[round] ?? Number.NaN))
    const [low, high] = interval(added)
    console.log(`start ${kind.padEnd(9)} ${median(times[kind]).toFixed(1)} ms, bare runtime ${bare.toFixed(1)} ms: +${median(added).toFixed(1)} ms (at most ${limit}; 95 % between ${low.toFixed(1)} and ${high.toFixed(1)}, ${ROUNDS} rounds), ratio ${(median(times[kind]) / bare).toFixed(2)}`)
  }
} finally {
  for (const kind of Object.values(kinds)) await kind.close()
  rmSync(base, { recursive: true, force: true })
}

/** Where the median of all such rounds lies with a confidence of 95 %, whatever their distribution: order statistics, n/2 ± 0.98 √n. */
function interval(values: readonly number[]): [number, number] {
  const sorted = values.toSorted((a, b) => a - b)
  const off = 0.98 * Math.sqrt(sorted.length)
  const at = (index: number): number => sorted[Math.min(sorted.length - 1, Math.max(0, index))] ?? Number.NaN
  return [at(Math.floor(sorted.length / 2 - off)), at(Math.ceil(sorted.length / 2 + off))]
}
