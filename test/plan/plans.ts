import type { RunId } from '../../src/base/ids.ts'
import { compileGateway } from '../../src/plan/compile-own.ts'
import { compilePlugin, type ArgumentStyle } from '../../src/plan/compile.ts'
import type { HostFacts, SandboxPlan } from '../../src/plan/plan.ts'
import type { Policy } from '../../src/policy/policy.ts'
import { parsePolicy } from '../../src/policy/parse.ts'
import { resolvePolicy } from '../../src/policy/resolve.ts'

/** The two hosts that Cordon knows: unified cgroups with crun, hybrid ones with runc. */
export const UNIFIED: HostFacts = {
  architecture: 'x86_64', cgroupVersion: 2, controllers: ['cpu', 'io', 'memory', 'pids'], runtime: { kind: 'crun', path: '/usr/bin/crun', version: '1.8.1' },
  ipv6: true, ioWeight: true, stateDevice: '254:0', kernel: '6.1.0',
}
export const HYBRID: HostFacts = {
  ...UNIFIED, cgroupVersion: 1, controllers: ['memory', 'cpu', 'cpuacct', 'pids', 'blkio', 'devices', 'freezer'], runtime: { kind: 'runc', path: '/usr/sbin/runc', version: '1.1.5' },
}

export const FULL = `plugin: demo
executable: { path: /opt/demo, entry: bin/demo }
runtime: [{ path: /opt/node, reason: runs it }]
limits: { MemoryMax: 512M, MemoryHigh: 400M, CPUQuota: 150%, CPUWeight: 200, IOWeight: 50, IOReadBandwidthMax: 10M, IOWriteBandwidthMax: 5M, TasksMax: 40, LimitNOFILE: 2048, TmpMax: 32M }
read: [{ path: /srv/www, reason: the site }]
sockets: [{ path: /run/postgresql/.s.PGSQL.5432, reason: its database }]
env: { LOG_LEVEL: info }
`

export function policyOf(text: string): Policy {
  return resolvePolicy(parsePolicy(text, 'demo.yaml'), [])
}

export function pluginPlan(facts: HostFacts, text: string = FULL, style: ArgumentStyle = '2'): SandboxPlan {
  return compilePlugin(policyOf(text), facts, {
    runId: '0123456789abcdef' as RunId, uid: 1_880_000_016, rootPath: '/run/cordon/bundles/0123456789abcdef/rootfs', initPath: '/run/cordon/init',
    netnsPath: '/run/cordon/net/0123456789abcdef', cgroupPath: '/plugins/demo/0123456789abcdef', etc: ['/etc/alternatives', '/etc/ssl/certs'],
    object: { path: '/var/lib/cordon/store/trees/abc', entry: 'bin/demo' }, dataPath: '/var/lib/cordon/data/demo', doorUid: null, socketDirPath: '/run/cordon/sockets/0123456789abcdef',
  }, style)
}

export function gatewayPlan(facts: HostFacts): SandboxPlan {
  return compileGateway(facts, {
    runId: 'fedcba9876543210' as RunId, uid: 1_880_000_000, rootPath: '/run/cordon/bundles/fedcba9876543210/rootfs', cgroupPath: '/plugins/_gateway/fedcba9876543210',
    netnsPath: '/run/cordon/net/fedcba9876543210', nodePath: '/opt/cordon/node', bundlePath: '/opt/cordon/dist/gateway.cjs', socketsPath: '/run/cordon/sockets',
  })
}

