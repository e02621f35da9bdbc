import { readFileSync } from 'node:fs'

/** Of the door's MemoryMax: the rest is for its own heap, and for what comes in until the next look. */
const SHARE = 4
const PAGE_BYTES = 4096

/** Files of the kernel; a test gives its own. */
export type ReadKernelFile = (path: string) => string | null

/**
 * Does the memory that the kernel holds for connections run short, the door's or that of the whole host?
 * @param cgroup directory of the door on unified hosts; null: this host does not count it there
 * @returns what is short, as half a sentence with figures; null: nothing is
 */
export function shortOfTcpMemory(cgroup: string | null, read: ReadKernelFile = readKernelFile): string | null {
  if (cgroup !== null) {
    const sock = Number(/^sock (\d+)$/m.exec(read(`${cgroup}/memory.stat`) ?? '')?.[1] ?? 0) // cgroup-v2.rst: network transmission buffers, which are both directions'
    const max = Number(read(`${cgroup}/memory.max`) ?? Number.NaN)
    if (sock * SHARE > max) return `what connections hold in the kernel is ${mib(sock)} of the door's ${mib(max)}`
  }
  // tcp(7), tcp_mem: from the second number of pages on the kernel itself tries to hold less. Only the first namespace shows it.
  const pressure = Number(/^\d+\s+(\d+)\s+\d+$/.exec((read('/proc/sys/net/ipv4/tcp_mem') ?? '').trim())?.[1] ?? Number.NaN)
  const pages = Number(/^TCP: .* mem (\d+)$/m.exec(read('/proc/net/sockstat') ?? '')?.[1] ?? 0)
  return pages > pressure ? `TCP holds ${mib(pages * PAGE_BYTES)} on this host, which makes the kernel hold back from ${mib(pressure * PAGE_BYTES)}` : null
}

function mib(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MiB`
}

function readKernelFile(path: string): string | null {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return null // another version, another namespace, or the door has ended
  }
}
