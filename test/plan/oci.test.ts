import { expect, test } from 'vitest'
import { planDigest } from '../../src/plan/digest.ts'
import { renderOci } from '../../src/plan/oci.ts'
import type { SandboxPlan } from '../../src/plan/plan.ts'
import { FULL, gatewayPlan, HYBRID, pluginPlan, UNIFIED } from './plans.ts'

const PLANS: readonly (readonly [name: string, plan: SandboxPlan])[] = [
  ['plugin-crun', pluginPlan(UNIFIED)],
  ['plugin-runc', pluginPlan(HYBRID, `${FULL}unenforced: [MemoryHigh]\n`)],
  ['gateway-crun', gatewayPlan(UNIFIED)],
  ['gateway-runc', gatewayPlan(HYBRID)],
]

interface Spec {
  readonly process: { readonly args: string[]; readonly capabilities: Record<string, string[]>; readonly noNewPrivileges: boolean; readonly terminal: boolean; readonly user: { readonly uid: number } }
  readonly root: { readonly readonly: boolean }
  readonly mounts: readonly { readonly destination: string; readonly source: string; readonly options: readonly string[] }[]
  readonly linux: { readonly seccomp: unknown; readonly namespaces: readonly { readonly type: string; readonly path?: string }[] }
}
const specOf = (plan: SandboxPlan, staged?: ReadonlyMap<string, string>): Spec => renderOci(plan, staged) as Spec

test.each(PLANS)('what the runtime is asked for: %s', async (name, plan) => {
  const spec = specOf(plan)
  expect(spec.linux.seccomp).toBe(plan.seccomp) // in full in golden/seccomp-*.json
  const shown = { ...spec, linux: { ...spec.linux, seccomp: `${plan.seccomp.syscalls.length} entries, flags: ${plan.seccomp.flags.join(' ')}` } }
  await expect(`${JSON.stringify(shown, null, 2)}\n`).toMatchFileSnapshot(`golden/oci-${name}.json`)
})

test.each(PLANS)('without any capability, any terminal, any shared namespace but the named one: %s', (_, plan) => {
  const { process, root, linux, mounts } = specOf(plan)
  expect(Object.values(process.capabilities).flat()).toEqual([])
  expect([process.noNewPrivileges, process.terminal, root.readonly]).toEqual([true, false, true])
  expect(process.user.uid).toBeGreaterThan(100_000)
  expect(linux.namespaces.map((one) => one.type).sort()).toEqual(['cgroup', 'ipc', 'mount', 'network', 'pid', 'uts'])
  expect(linux.namespaces.filter((one) => one.path !== undefined)).toEqual([{ type: 'network', path: plan.namespaces.networkPath }])
  // Devices only where the runtime makes them, setuid programs nowhere.
  expect(mounts.filter(({ destination, options }) => !options.includes('nosuid') || (!options.includes('nodev') && destination !== '/dev'))).toEqual([])
})

test('a grant is bound from where it was staged, everything else from the plan', () => {
  const { mounts } = specOf(pluginPlan(UNIFIED), new Map([['/srv/www', '/run/cordon/bundles/x/stage/1']]))
  expect(mounts.find((one) => one.destination === '/srv/www')?.source).toBe('/run/cordon/bundles/x/stage/1')
  expect(mounts.find((one) => one.destination === '/usr')?.source).toBe('/usr')
})

test('the arguments of each generation', () => {
  const argumentsOf = (style: '2' | '1' | '1db'): string[] => specOf(pluginPlan(UNIFIED, FULL, style)).process.args.slice(-7)
  const common = ['/plugin/demo/bin/demo', '--socket-path', '/run/plugin/plugin.sock', '--data-dir', '/data']
  expect(argumentsOf('2').slice(2)).toEqual(common)
  expect(argumentsOf('1').slice(2)).toEqual(common)
  expect(argumentsOf('1db')).toEqual([...common, '--database-url', 'postgres://none@127.0.0.1:9/none'])
})

test('the same input has the same digest, for ever', () => {
  expect(planDigest(pluginPlan(UNIFIED))).toBe(planDigest(pluginPlan(UNIFIED)))
  // A record of years ago names a plan by this. If the number below changes, so does the meaning of every digest on record.
  const cgroup = { ...gatewayPlan(UNIFIED).cgroup, cpuQuotaUs: 400_000, cpuPeriodUs: 100_000 }
  expect(planDigest({ ...gatewayPlan(UNIFIED), cgroup, args: ['/x'], env: { PATH: '/usr/bin', NODE_CHANNEL_FD: '4', NODE_CHANNEL_SERIALIZATION_MODE: 'json', NODE_ENV: 'production' }, mounts: [], masked: [], readonly: [], seccomp: { ...gatewayPlan(UNIFIED).seccomp, syscalls: [] } }))
    .toMatchInlineSnapshot(`"1818ee4c5b6eaee37548deed19c4e158b0f91bccd3bdb93d8be4a7ada82e51a1"`)
})

test('any change of a policy that changes a wall changes the digest', () => {
  const changes = ['MemoryMax: 17M', 'MemoryHigh: 20M', 'CPUQuota: 17%', 'CPUWeight: 17', 'IOWeight: 17', 'IOReadBandwidthMax: 1M', 'IOWriteBandwidthMax: 1M', 'TasksMax: 17', 'LimitNOFILE: 17', 'TmpMax: 17M']
    .map((limit) => `limits: { ${limit} }`)
  const plain = 'plugin: demo\nexecutable: { path: /opt/demo, entry: bin/demo }\n'
  const digests = ['', ...changes, 'read: [{ path: /srv, reason: x }]', 'sockets: [{ path: /srv, reason: x }]', 'runtime: [{ path: /srv, reason: x }]', 'env: { A: b }', 'unenforced: [CPUWeight]']
    .map((change) => planDigest(pluginPlan(UNIFIED, `${plain}${change}\n`)))
  expect(new Set(digests).size).toBe(digests.length)
})

test('a plan cannot be changed once it is made', () => {
  expect(Object.isFrozen(pluginPlan(UNIFIED))).toBe(true)
  expect(Object.isFrozen(gatewayPlan(UNIFIED))).toBe(true)
})
