import { mkdirSync, writeFileSync } from 'node:fs'
import { archivePolicy } from '../../src/launcher/policy-archive.ts'
import { DEFAULT_HOST_CONFIG } from '../../src/policy/load-host-config.ts'
import { loadPolicy } from '../../src/policy/load.ts'
import type { Made } from '../history/kit.ts'

export const NOW = Date.parse('2026-11-20T16:00:00Z')
const MIN = 60_000
const HOUR = 60 * MIN
export const OLD_PROGRAM = '3f1c09aa'.repeat(8)
export const NEW_PROGRAM = 'b7e2d114'.repeat(8)

/** A policy as the launcher archives it. @returns its digest */
export function archived(stateDir: string, name: string, text: string): string {
  mkdirSync(`${stateDir}/written`, { recursive: true })
  const file = `${stateDir}/written/${name}.yaml`
  writeFileSync(file, text)
  const loaded = loadPolicy(file, { presetsDir: `${import.meta.dirname}/../../policies`, own: DEFAULT_HOST_CONFIG, ownership: 'reported' })
  archivePolicy(stateDir, loaded, (message) => { throw new Error(message) })
  return loaded.digest
}

export const POLICY = `plugin: indexnow
executable: { path: /var/lib/cordon/plugins/indexnow }
limits: { MemoryMax: 256M, CPUQuota: 50%, TasksMax: 64 }
read: [{ path: /srv/www, reason: the site that it checks }]
env: { INDEXNOW_KEY: abc, LOG_LEVEL: info }
egress:
  allow:
    - { host: api.indexnow.org, ports: [443], reason: submits URLs }
`
export const WIDER = POLICY.replace('    - {', '    - { host: "*.example.net", ports: [443], reason: CDN of the new version }\n    - {')

/** Three days of a plugin that was honest until last week's update. Texts of it are hostile where it can choose them. */
export function* incident(first: string, second: string): Generator<Made> {
  const begin = NOW - 72 * HOUR
  const all: Made[] = []
  const say = (ms: number, type: string, data: Made['data'], more: Partial<Made> = {}): void => void all.push({ type, plugin: 'indexnow', ms, data, ...more })
  let connection = 0
  const connect = (ms: number, run: string, name: string, bytesOut: number, address = '203.0.113.9'): void => {
    const at = { connection: ++connection, name, dialled: '198.18.0.5', port: 443, rule: 1, sni: name, address }
    say(ms, 'egress.opened', { ...at, ech: false, alpn: ['h2'], code: 'allowed', ms: 20 }, { run, origin: 'door' })
    say(ms + 1500, 'egress.closed', { ...at, bytesOut, bytesIn: 2200, ms: 1500, by: 'peer', code: null, requests: 0 }, { run, origin: 'door' })
  }
  const snapshot = (ms: number, run: string, memory: number, cpuUs: number, tasks: number): void =>
    say(ms, 'resources.snapshot', { memory_bytes: { min: Math.round(memory * 0.9), mean: Math.round(memory * 0.95), max: memory }, memory_peak_bytes: memory, tasks: { min: tasks, mean: tasks, max: tasks }, cpu_us: cpuUs, throttled_us: 0, samples: 6 }, { run })
  const start = (ms: number, run: string, sha256: string, policy: string): void => {
    say(ms, 'plugin.start', { sha256, generation: '2' }, { run, policy })
    say(ms + 200, 'isolation.attested', { plan_digest: 'c'.repeat(64), found: { uid: '1880000004' } }, { run, policy })
    say(ms + 300, 'plugin.started', { uid: 1_880_000_004, secrets: sha256 === OLD_PROGRAM ? ['OLD_KEY'] : ['INDEXNOW_KEY', 'CDN_TOKEN'], env: ['LOG_LEVEL'] }, { run })
    say(ms + 900, 'plugin.handshake', { generation: '2', name: 'indexnow', version: sha256 === OLD_PROGRAM ? '1.4.0' : '1.5.0', requested: [], granted: [] }, { run, origin: 'gateway' })
    say(ms + 1200, 'plugin.running', { generation: '2', version: sha256 === OLD_PROGRAM ? '1.4.0' : '1.5.0' }, { run })
  }
  say(begin, 'daemon.started', { version: '0.1.0', kernel: '6.12.0', runtime: 'crun', runtime_version: '1.21', cgroup: 2 }, { plugin: null })
  say(begin + 500, 'policy.loaded', { policy_digest: first, file: '/etc/cordon/policies/indexnow.yaml', previous: null })
  say(begin + 900, 'executable.stored', { sha256: OLD_PROGRAM, kind: 'file', bytes: 8_412_332, path: '/var/lib/cordon/plugins/indexnow', pinned: false })
  start(begin + 1000, '1111111111111111', OLD_PROGRAM, first)
  for (let ms = begin + 10 * MIN; ms < NOW - 5 * HOUR; ms += 10 * MIN) {
    connect(ms, '1111111111111111', 'api.indexnow.org', 4100)
    for (let at = ms; at < ms + 10 * MIN && at < NOW - 5 * HOUR; at += ms < NOW - 8 * HOUR ? 10 * MIN : MIN) snapshot(at + 1000, '1111111111111111', 41_000_000 + ((at / MIN) % 7) * 400_000, 4_000_000 + ((at / MIN) % 5) * 900_000, 7)
  }
  const update = NOW - 5 * HOUR
  say(update - 90_000, 'access.granted', { client: '192.0.2.44', how: 'one-time-link' }, { origin: 'gateway' })
  say(update - 60_000, 'http.request', { method: 'POST', path: '/api/x/indexnow/settings', status: 200, ms: 12, bytesIn: 220, bytesOut: 12, client: '192.0.2.44', who: 'session of a one-time link', requestId: 'a1' }, { origin: 'gateway' })
  say(update, 'admin.act', { act: 'apply', who: 'root (loginuid 1000, SUDO_USER alice)' }, { origin: 'operator', policy: second })
  say(update + 100, 'policy.loaded', { policy_digest: second, file: '/etc/cordon/policies/indexnow.yaml', previous: first })
  say(update + 200, 'plugin.stop', { reason: 'its policy changed' }, { run: '1111111111111111' })
  say(update + 900, 'plugin.exited', { reason: 'exit status 0', status: 0, oom_kills: 0, seconds: 241_000 }, { run: '1111111111111111' })
  say(update + 1500, 'executable.stored', { sha256: NEW_PROGRAM, kind: 'file', bytes: 11_020_100, path: '/var/lib/cordon/plugins/indexnow', pinned: false })
  start(update + 2000, '2222222222222222', NEW_PROGRAM, second)
  let memory = 60_000_000
  for (let ms = update + 2 * MIN; ms < update + 190 * MIN; ms += MIN) {
    memory = Math.min(256 * 2 ** 20, memory * 1.0085)
    snapshot(ms, '2222222222222222', Math.round(memory), 14_000_000 + (ms % 11) * 1_200_000, 12 + Math.floor(((ms - update) / MIN) / 8))
    if (ms === update + 50 * MIN) say(ms + 500, 'programs.seen', { programs: [{ path: '/tmp/.x', sha256: 'e'.repeat(64), bytes: 900_000 }] }, { run: '2222222222222222' })
    if (((ms - update) / MIN) % 7 === 0) connect(ms + 4000, '2222222222222222', 'api.indexnow.org', 4100)
    if ((ms - update) / MIN > 40 && ((ms - update) / MIN) % 5 === 0) connect(ms + 9000, '2222222222222222', 'cdn7.example.net', 18_000_000, '198.51.100.77')
    if ((ms - update) / MIN > 60 && ((ms - update) / MIN) % 2 === 0) {
      say(ms + 11_000, 'dns.refused', { name: `n${((ms - update) / MIN).toString(36)}x.exfil.example.org`, query: 'A', code: 'name-not-allowed', say: 'no rule names it', coalesced: 12 }, { run: '2222222222222222', origin: 'door' })
    }
  }
  const refusedAt = update + 100 * MIN
  say(refusedAt, 'egress.refused', { connection: ++connection, name: null, dialled: '169.254.169.254', port: 80, rule: null, sni: null, addresses: ['169.254.169.254'], host: null, code: 'address-metadata', say: 'The address gives a machine its secrets.', ms: 0, coalesced: 3 }, { run: '2222222222222222', origin: 'door' })
  say(refusedAt + 5000, 'dns.refused', { name: '</script><img src=x onerror=alert(1)>"\'`', query: 'TXT', code: 'name-malformed', say: 'x', coalesced: 0 }, { run: '2222222222222222', origin: 'door' })
  say(refusedAt + 20_000, 'seccomp.refused', { calls: { ptrace: 4, bpf: 1 } }, { run: '2222222222222222' })
  say(refusedAt + 30_000, 'tripwire.touched', { severity: 'critical', decoy: 'name', where: 'look-up', connection: null, say: 'asked for the decoy vault.internal' }, { run: '2222222222222222', origin: 'door' })
  say(refusedAt + 9000, 'channel.call', { method: 'list_projects', outcome: 'PERMISSION_DENIED', ms: 2 }, { run: '2222222222222222', origin: 'gateway' })
  const loop = update + 190 * MIN
  for (const [n, run] of ['2222222222222222', '3333333333333333', '4444444444444444', '5555555555555555'].entries()) {
    const at = loop + n * 3 * MIN
    if (n > 0) {
      start(at - 2 * MIN, run, NEW_PROGRAM, second)
      snapshot(at - MIN, run, 255 * 2 ** 20, 25_000_000, 44)
    }
    say(at, 'plugin.exited', { reason: 'oom-kill', status: 137, oom_kills: 1, seconds: n === 0 ? 11_400 : 120 }, { run })
  }
  say(loop + 10 * MIN, 'plugin.failed', { reason: 'start-limit: 3 starts in 1h' })
  say(loop + 24 * MIN, 'egress.applied', { act: 'deny', destination: '*.example.net:443', who: 'root (loginuid 1000, SUDO_USER alice)', closed: 0 }, { origin: 'operator' })
  say(loop + 26 * MIN, 'plugin.disabled', { who: 'root (loginuid 1000, SUDO_USER alice)' }, { origin: 'operator' })
  say(loop + 40 * MIN, 'gap', { reason: 'budget', coalesced: { 'dns.refused': 312 }, since: new Date(loop - HOUR).toISOString() })
  yield* all.sort((a, b) => a.ms - b.ms)
}
