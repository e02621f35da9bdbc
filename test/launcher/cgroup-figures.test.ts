import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { readCgroupFigures } from '../../src/launcher/cgroup-figures.ts'

let dir: string
beforeEach(() => void (dir = mkdtempSync(join(tmpdir(), 'cordon-cg-'))))
afterEach(() => rmSync(dir, { recursive: true }))

const UNIFIED = {
  'memory.current': '1048576\n',
  'memory.peak': '2097152\n',
  'memory.events': 'low 0\nhigh 3\nmax 7\noom 2\noom_kill 2\noom_group_kill 1\n',
  'cpu.stat': 'usage_usec 1234\nuser_usec 1000\nsystem_usec 234\nnr_periods 29\nnr_throttled 29\nthrottled_usec 98765\n',
  'pids.current': '4\n',
  'io.stat': '8:0 rbytes=100 wbytes=200 rios=1 wios=2 dbytes=0 dios=0\n8:16 rbytes=1 wbytes=2 rios=1 wios=2\n7:0 \n',
  'memory.pressure': 'some avg10=0.00 avg60=0.00 avg300=0.00 total=55\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=44\n',
  'cpu.pressure': 'some avg10=0.00 avg60=0.00 avg300=0.00 total=66\n',
  'io.pressure': 'some avg10=0.00 avg60=0.00 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n',
}
const LEGACY = {
  memory: { 'memory.usage_in_bytes': '10\n', 'memory.max_usage_in_bytes': '20\n', 'memory.oom_control': 'oom_kill_disable 0\nunder_oom 0\noom_kill 3\n' },
  cpu: { 'cpu.stat': 'nr_periods 5\nnr_throttled 4\nthrottled_time 7000\n' },
  cpuacct: { 'cpuacct.usage': '5000999\n' },
  pids: { 'pids.current': '2\n' },
  blkio: { 'blkio.throttle.io_service_bytes': '8:0 Read 5\n8:0 Write 6\n8:0 Sync 0\n8:0 Total 11\n8:16 Read 1\nTotal 12\n' },
}
const NOTHING = {
  memoryBytes: null, memoryPeakBytes: null, cpuUsageUs: null, cpuThrottledUs: null, cpuThrottledPeriods: null, tasks: null,
  ioReadBytes: null, ioWriteBytes: null, oomKills: null, memoryPressureUs: null, cpuPressureUs: null, ioPressureUs: null,
}

function fill(where: string, files: Readonly<Record<string, string>>): void {
  mkdirSync(where, { recursive: true })
  for (const [name, text] of Object.entries(files)) writeFileSync(join(where, name), text)
}

describe('cgroup figures', () => {
  test('of version 2 are read in one unit each', () => {
    fill(dir, UNIFIED)
    expect(readCgroupFigures(2, new Map([['unified', dir]]))).toEqual({
      memoryBytes: 1048576, memoryPeakBytes: 2097152, cpuUsageUs: 1234, cpuThrottledUs: 98765, cpuThrottledPeriods: 29, tasks: 4,
      ioReadBytes: 101, ioWriteBytes: 202, oomKills: 2, memoryPressureUs: 55, cpuPressureUs: 66, ioPressureUs: 77,
    })
  })

  test('of version 1 are the same figures; nanoseconds become microseconds, pressure does not exist', () => {
    for (const [controller, files] of Object.entries(LEGACY)) fill(join(dir, controller), files)
    expect(readCgroupFigures(1, new Map(Object.keys(LEGACY).map((name) => [name, join(dir, name)])))).toEqual({
      ...NOTHING, memoryBytes: 10, memoryPeakBytes: 20, cpuUsageUs: 5000, cpuThrottledUs: 7, cpuThrottledPeriods: 4, tasks: 2, ioReadBytes: 6, ioWriteBytes: 6, oomKills: 3,
    })
  })

  test('of files and controllers that do not exist are null, never 0', () => {
    expect(readCgroupFigures(2, new Map([['unified', join(dir, 'absent')]]))).toEqual(NOTHING)
    expect(readCgroupFigures(1, new Map())).toEqual(NOTHING)
  })

  test.each([
    ['memory.current', 'max\n'],
    ['memory.current', ''],
    ['memory.current', '-1\n'],
    ['memory.current', '1\n2\n'],
    ['memory.events', 'oom_kill many\n'],
    ['cpu.stat', 'usage_usec 0x10\n'],
    ['io.stat', '8:0 rbytes=1e3\n'],
    ['memory.pressure', 'some avg10=0.00\n'],
  ])('from a strange %s (%j) are refused instead of guessed', (name, text) => {
    fill(dir, { ...UNIFIED, [name]: text })
    expect(() => readCgroupFigures(2, new Map([['unified', dir]]))).toThrow(expect.objectContaining({ code: 'CGROUP_BAD_FIGURE', message: expect.stringContaining(name) }))
  })
})
