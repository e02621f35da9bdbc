import { readFileSync } from 'node:fs'
import { sharesFromWeight } from '../plan/oci.ts'
import type { SandboxPlan } from '../plan/plan.ts'
import type { Expect } from './comparison.ts'

/** @param text of /proc/PID/cgroup @param dirs the cgroup directories of the run by controller (`unified` on version 2) */
export function attestCgroup(text: string, cgroup: SandboxPlan['cgroup'], dirs: ReadonlyMap<string, string>, expect: Expect): void {
  const read = (controller: string, file: string): string => {
    const dir = dirs.get(controller)
    try {
      return dir === undefined ? 'absent' : readFileSync(`${dir}/${file}`, 'utf8').trim()
    } catch {
      return 'absent' // a finding: where a value is expected, the comparison fails with it
    }
  }
  const leaf = `/${cgroup.path.replace(/^\//, '')}`
  if (cgroup.version === 2) {
    expect('cgroup', `0::${leaf}`, text.trim())
    expect('memory.max', String(cgroup.memoryMaxBytes), read('unified', 'memory.max'))
    if (cgroup.memoryHighBytes !== null) expect('memory.high', String(cgroup.memoryHighBytes), read('unified', 'memory.high'))
    const swap = read('unified', 'memory.swap.max')
    expect('memory.swap.max', '0', swap === 'absent' ? '0' : swap) // a kernel without swap accounting has no such file
    expect('memory.oom.group', '1', read('unified', 'memory.oom.group'))
    expect('cpu.max', `${cgroup.cpuQuotaUs} ${cgroup.cpuPeriodUs}`, read('unified', 'cpu.max'))
    if (cgroup.cpuWeight !== null) {
      expect('cpu.weight', String(cgroup.cpuWeight), read('unified', 'cpu.weight'))
      expect('cpu.weight of its group', String(cgroup.cpuWeight), read('unified', '../cpu.weight')) // the one that counts (cgroup-shares.ts)
    }
    expect('pids.max', String(cgroup.tasksMax), read('unified', 'pids.max'))
    if (cgroup.ioWeight !== null) expect('io.weight', `default ${cgroup.ioWeight}`, read('unified', 'io.weight').split('\n')[0] ?? '')
    if (cgroup.ioBandwidth !== null) {
      const { device, readBps, writeBps } = cgroup.ioBandwidth
      const line = read('unified', 'io.max').split('\n').find((one) => one.startsWith(`${device} `))
      expect('io.max', `rbps=${readBps ?? 'max'} wbps=${writeBps ?? 'max'}`, line?.split(' ').slice(1, 3).join(' ') ?? 'absent')
    }
    return
  }
  for (const line of text.trim().split('\n')) {
    const [, names, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? []
    const ours = names?.split(',').some((name) => dirs.has(name)) === true
    if (ours) expect(`cgroup ${names}`, 'the run\'s', path?.endsWith(leaf) === true ? 'the run\'s' : (path ?? ''))
  }
  expect('memory.limit_in_bytes', String(cgroup.memoryMaxBytes), read('memory', 'memory.limit_in_bytes'))
  const withSwap = read('memory', 'memory.memsw.limit_in_bytes')
  expect('memory.memsw.limit_in_bytes', String(cgroup.memoryMaxBytes), withSwap === 'absent' ? String(cgroup.memoryMaxBytes) : withSwap) // as above
  expect('cpu.cfs_quota_us', String(cgroup.cpuQuotaUs), read('cpu', 'cpu.cfs_quota_us'))
  expect('cpu.cfs_period_us', String(cgroup.cpuPeriodUs), read('cpu', 'cpu.cfs_period_us'))
  if (cgroup.cpuWeight !== null) {
    expect('cpu.shares', String(sharesFromWeight(cgroup.cpuWeight)), read('cpu', 'cpu.shares'))
    expect('cpu.shares of its group', String(sharesFromWeight(cgroup.cpuWeight)), read('cpu', '../cpu.shares'))
  }
  if (cgroup.ioBandwidth !== null) {
    const { device, readBps, writeBps } = cgroup.ioBandwidth
    for (const [file, rate] of [['blkio.throttle.read_bps_device', readBps], ['blkio.throttle.write_bps_device', writeBps]] as const) {
      if (rate !== null) expect(file, `${device} ${rate}`, read('blkio', file))
    }
  }
  expect('pids.max', String(cgroup.tasksMax), read('pids', 'pids.max'))
}
