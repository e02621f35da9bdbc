import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { freezeCgroup, killCgroup, processesIn, removeTree, waitEmpty, type CgroupDirs } from '../../src/launcher/cgroup.ts'
import { shareGroup } from '../../src/launcher/cgroup-shares.ts'
import { readCgroupFigures } from '../../src/launcher/cgroup-figures.ts'

/** Every cgroup version that this machine has, each with the directories that one group of ours gets there. */
function available(): { version: 1 | 2; dirs: CgroupDirs }[] {
  const name = `cordon-test-${process.pid}`
  const unifiedRoot = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'].find((root) => existsSync(`${root}/cgroup.controllers`))
  const legacy = ['memory', 'cpu', 'cpuacct', 'pids', 'blkio', 'freezer'].filter((controller) => existsSync(`/sys/fs/cgroup/${controller}/cgroup.procs`))
  return [
    ...(unifiedRoot === undefined ? [] : [{ version: 2 as const, dirs: new Map([['unified', `${unifiedRoot}/${name}`]]) }]),
    ...(legacy.length === 0 ? [] : [{ version: 1 as const, dirs: new Map(legacy.map((controller) => [controller, `/sys/fs/cgroup/${controller}/${name}`])) }]),
    ...(legacy.length === 0 ? [] : [{ version: 1 as const, dirs: new Map(legacy.filter((one) => one !== 'freezer').map((controller) => [controller, `/sys/fs/cgroup/${controller}/${name}-nofreezer`])) }]),
  ]
}

describe.each(available())('cgroup version $version', ({ version, dirs }) => {
  let child: ChildProcess
  beforeEach(async () => {
    for (const dir of dirs.values()) mkdirSync(`${dir}/leaf`, { recursive: true })
    // Enters the leaf of each hierarchy, then becomes a family of sleepers that starts new members all the time.
    const enter = [...dirs.values()].map((dir) => `echo $$ > ${dir}/leaf/cgroup.procs`).join('; ')
    child = spawn('/bin/sh', ['-c', `${enter}; (trap '' TERM INT; while :; do sleep 0.05; done) & (sleep 1000 & sleep 1000) & echo in; wait`], { stdio: ['ignore', 'pipe', 'inherit'] })
    if (child.stdout !== null) await once(child.stdout, 'data')
  })
  afterEach(async () => {
    await killCgroup(version, dirs)
    await removeTree(dirs)
    for (const dir of dirs.values()) expect(existsSync(dir)).toBe(false)
  })

  test('is emptied of processes that fork while they are killed', async () => {
    const exited = once(child, 'exit')
    expect(processesIn(dirs).size).toBeGreaterThan(1)
    expect(await waitEmpty(dirs, 100)).toBe(false)
    await killCgroup(version, dirs)
    expect(processesIn(dirs).size).toBe(0)
    expect(await exited).toEqual([null, 'SIGKILL'])
  })

  // Whoever kills by freezing, we or runc, may be killed in between; what is frozen on version 1 does not die before it is thawed.
  test('is emptied although somebody left a cgroup below it frozen', async () => {
    const freezer = version === 2 ? `${dirs.get('unified')}/leaf/cgroup.freeze` : `${dirs.get('freezer')}/leaf/freezer.state`
    if (!existsSync(freezer)) return expect(dirs.has('freezer')).toBe(false) // the third kind has no freezer
    writeFileSync(freezer, version === 2 ? '1' : 'FROZEN')
    process.kill(child.pid ?? 0, 'SIGKILL')
    expect(await waitEmpty(dirs, 100)).toBe(false)
    await killCgroup(version, dirs)
    expect(processesIn(dirs).size).toBe(0)
  })

  test('stands still when it is frozen, its forks too, and dies by a kill all the same', async () => {
    const ticks = (): number => [...processesIn(dirs)].reduce((sum, pid) => sum + pid, 0) // each tick of the sleepers is a new process
    const before = ticks()
    await expect.poll(ticks).not.toBe(before) // the control
    const frozen = freezeCgroup(version, new Map([...dirs].map(([controller, dir]) => [controller, `${dir}/leaf`])))
    if (frozen === null) return expect(dirs.has('freezer') || version === 2).toBe(false) // the third kind has no freezer
    expect(await frozen.still).toBe(true)
    const still = ticks()
    await new Promise((resolve) => { setTimeout(resolve, 300) })
    expect(ticks()).toBe(still)
    const exited = once(child, 'exit')
    await killCgroup(version, dirs)
    expect(await exited).toEqual([null, 'SIGKILL'])
  })

  test('has the weights of its run, and the usual ones where a policy names none', () => {
    const cgroup = { path: '', version, memoryMaxBytes: 0, memoryHighBytes: null, cpuQuotaUs: 0, cpuPeriodUs: 0, cpuWeight: 200, ioWeight: null, ioBandwidth: null, tasksMax: 0 }
    const found = (): string[] => [['unified', 'cpu.weight'], ['cpu', 'cpu.shares']].flatMap(([controller = '', file = '']) => {
      const path = `${dirs.get(controller) ?? ''}/${file}`
      return dirs.has(controller) && existsSync(path) ? [readFileSync(path, 'utf8').trim()] : [] // a hybrid host's unified hierarchy has no controllers
    })
    shareGroup(version, dirs, cgroup)
    const heavy = found()
    shareGroup(version, dirs, { ...cgroup, cpuWeight: null })
    expect([heavy, found()]).toEqual(dirs.has('cpu') ? [['2048'], ['1024']] : heavy.length === 0 ? [[], []] : [['200'], ['100']])
  })

  test('is not removed while a process lives in it, and is afterwards', async () => {
    await expect(removeTree(dirs, 200)).rejects.toThrow(expect.objectContaining({ code: 'CGROUP_BUSY' }))
    await killCgroup(version, dirs)
    await removeTree(dirs)
    await removeTree(dirs)
    await killCgroup(version, dirs)
  })

  test('is not killed while our own process is in it', async () => {
    const [first] = dirs.values()
    const home = readFileSync('/proc/self/cgroup', 'utf8').split('\n').find((line) => (version === 2 ? line.startsWith('0::') : line.split(':')[1] === [...dirs.keys()][0]))?.split(':')[2]
    const root = first?.slice(0, first.lastIndexOf('/'))
    writeFileSync(`${first}/cgroup.procs`, String(process.pid))
    try {
      await expect(killCgroup(version, dirs)).rejects.toThrow('our own process')
    } finally {
      writeFileSync(`${root}${home}/cgroup.procs`, String(process.pid))
    }
  })

  test('has figures for what runs in it', () => {
    const leaf = new Map([...dirs].map(([controller, dir]) => [controller, `${dir}/leaf`]))
    const figures = readCgroupFigures(version, leaf)
    if (version === 1) {
      expect(figures.tasks).toBeGreaterThan(1)
      expect(figures.memoryPeakBytes).toBeGreaterThan(0)
      expect(figures.oomKills).toBe(0)
    }
    expect(figures.cpuUsageUs).toBeGreaterThan(0)
  })
})

// `ip netns exec` and some containers hide /sys/fs/cgroup; Node's recursive mkdir would try for ever on such a file system.
test('a host without cgroups is told so at once', async () => {
  const child = spawn('/usr/bin/unshare', ['--mount', '/bin/sh', '-c', 'umount --lazy --recursive /sys/fs/cgroup && exec "$@"', 'sh', process.execPath, '--input-type=module', '-e', `
    import { openLegacyTree } from '${join(import.meta.dirname, '../../src/launcher/cgroup-tree.ts')}'
    try { openLegacyTree('cordon-test').makeGroup('x') } catch (error) { console.log(error.code) }`], { stdio: ['ignore', 'pipe', 'inherit'], timeout: 100_000 })
  let out = ''
  child.stdout?.on('data', (bytes: Buffer) => { out += String(bytes) })
  expect(await once(child, 'close')).toEqual([0, null])
  expect(out).toBe('LAUNCH_CGROUP\n')
})

test('removal does not follow a link out of the tree', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'cordon-cg-'))
  try {
    mkdirSync(join(dir, 'outside'))
    mkdirSync(join(dir, 'tree'))
    symlinkSync('../outside', join(dir, 'tree/link'))
    await expect(removeTree(new Map([['unified', join(dir, 'tree')]]), 200)).rejects.toThrow(expect.objectContaining({ code: 'CGROUP_BUSY' }))
    await removeTree(new Map([['unified', join(dir, 'tree/link')]]))
    expect(existsSync(join(dir, 'outside'))).toBe(true)
    expect(existsSync(join(dir, 'tree/link'))).toBe(true)
  } finally {
    rmSync(dir, { recursive: true })
  }
})
