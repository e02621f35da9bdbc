import { CordonError } from '../errors.ts'
import { figure, read, type CgroupDirs } from './cgroup.ts'

/** What the kernel counts for one cgroup and everything below it. null: this kernel or cgroup version has no such file. */
export interface CgroupFigures {
  readonly memoryBytes: number | null
  /** Highest since the cgroup was made; version 2 has it since Linux 5.19. */
  readonly memoryPeakBytes: number | null
  readonly cpuUsageUs: number | null
  readonly cpuThrottledUs: number | null
  readonly cpuThrottledPeriods: number | null
  readonly tasks: number | null
  readonly ioReadBytes: number | null
  readonly ioWriteBytes: number | null
  /** Processes killed for memory. On version 1 the count is the cgroup's own: it does not travel up to the parent. */
  readonly oomKills: number | null
  /** Total stall time ("some"), version 2 with PSI only. Linux accounting/psi.rst. */
  readonly memoryPressureUs: number | null
  readonly cpuPressureUs: number | null
  readonly ioPressureUs: number | null
}

/** @throws CordonError CGROUP_BAD_FIGURE when a file does not look as documented (cgroup-v2.rst, cgroup-v1/) */
export function readCgroupFigures(version: 1 | 2, dirs: CgroupDirs): CgroupFigures {
  return version === 2 ? readUnified(dirs.get('unified') ?? null) : readLegacy(dirs)
}

function readUnified(dir: string | null): CgroupFigures {
  const file = (name: string): string | null => (dir === null ? null : `${dir}/${name}`)
  const cpu = keyed(file('cpu.stat'))
  const io = readIoStat(file('io.stat'))
  return {
    memoryBytes: single(file('memory.current')),
    memoryPeakBytes: single(file('memory.peak')),
    cpuUsageUs: cpu('usage_usec'),
    cpuThrottledUs: cpu('throttled_usec'),
    cpuThrottledPeriods: cpu('nr_throttled'),
    tasks: single(file('pids.current')),
    ioReadBytes: io?.read ?? null,
    ioWriteBytes: io?.write ?? null,
    oomKills: keyed(file('memory.events'))('oom_kill'),
    memoryPressureUs: stallTotal(file('memory.pressure')),
    cpuPressureUs: stallTotal(file('cpu.pressure')),
    ioPressureUs: stallTotal(file('io.pressure')),
  }
}

function readLegacy(dirs: CgroupDirs): CgroupFigures {
  const file = (controller: string, name: string): string | null => {
    const dir = dirs.get(controller)
    return dir === undefined ? null : `${dir}/${name}`
  }
  const cpu = keyed(file('cpu', 'cpu.stat'))
  const io = readServiceBytes(file('blkio', 'blkio.throttle.io_service_bytes_recursive')) ?? readServiceBytes(file('blkio', 'blkio.throttle.io_service_bytes'))
  return {
    memoryBytes: single(file('memory', 'memory.usage_in_bytes')),
    memoryPeakBytes: single(file('memory', 'memory.max_usage_in_bytes')),
    cpuUsageUs: microseconds(single(file('cpuacct', 'cpuacct.usage'))),
    cpuThrottledUs: microseconds(cpu('throttled_time')),
    cpuThrottledPeriods: cpu('nr_throttled'),
    tasks: single(file('pids', 'pids.current')),
    ioReadBytes: io?.read ?? null,
    ioWriteBytes: io?.write ?? null,
    oomKills: keyed(file('memory', 'memory.oom_control'))('oom_kill'),
    memoryPressureUs: null,
    cpuPressureUs: null,
    ioPressureUs: null,
  }
}

function microseconds(nanoseconds: number | null): number | null {
  return nanoseconds === null ? null : Math.floor(nanoseconds / 1000)
}

function lines(path: string | null): string[] | null {
  const text = path === null ? null : read(path)
  return text === null ? null : text.split('\n').filter((line) => line !== '')
}

function single(path: string | null): number | null {
  const text = lines(path)
  return text === null || path === null ? null : figure(text.join('\n'), path)
}

/** "flat keyed": one `KEY VALUE` a line. A key that this kernel does not have is null. */
function keyed(path: string | null): (key: string) => number | null {
  const all = lines(path)
  return (key) => {
    const line = all?.find((one) => one.startsWith(`${key} `))
    return line === undefined || path === null ? null : figure(line.slice(key.length + 1), path)
  }
}

/** "nested keyed": `MAJ:MIN rbytes=N wbytes=N …`, one line a device; a device without figures has an empty rest. */
function readIoStat(path: string | null): { read: number; write: number } | null {
  const all = lines(path)
  if (all === null || path === null) return null
  const sum = { read: 0, write: 0 }
  for (const pair of all.flatMap((line) => line.split(' ').slice(1))) {
    const [key, value = ''] = pair.split('=')
    if (key === 'rbytes') sum.read += figure(value, path)
    if (key === 'wbytes') sum.write += figure(value, path)
  }
  return sum
}

/** `MAJ:MIN Read N`, `MAJ:MIN Write N`, …, and a last line `Total N`. */
function readServiceBytes(path: string | null): { read: number; write: number } | null {
  const all = lines(path)
  if (all === null || path === null) return null
  const sum = { read: 0, write: 0 }
  for (const line of all) {
    const [, kind, value = ''] = line.split(' ')
    if (kind === 'Read') sum.read += figure(value, path)
    if (kind === 'Write') sum.write += figure(value, path)
  }
  return sum
}

/** `some avg10=0.00 avg60=0.00 avg300=0.00 total=N`, then `full …`. */
function stallTotal(path: string | null): number | null {
  const some = lines(path)?.find((line) => line.startsWith('some '))
  if (some === undefined || path === null) return null
  const total = / total=(\d+)$/.exec(some)?.[1]
  if (total === undefined) throw new CordonError('CGROUP_BAD_FIGURE', `${path} holds ${JSON.stringify(some.slice(0, 80))}, expected "some … total=N"`)
  return figure(total, path)
}
