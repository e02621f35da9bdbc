import { closeSync, constants, openSync, readSync } from 'node:fs'
import type { HostFacts } from '../plan/plan.ts'
import { syscallNames } from './syscall-names.ts'

/** Longest record that /dev/kmsg gives (Linux, kernel/printk/printk.c, PRINTK_MESSAGE_MAX and its CONSOLE_EXT_LOG_MAX of older kernels). */
const RECORD_BYTES = 8192
/** Records in one go; the kernel's buffer holds fewer, unless something floods it. */
const MAX_RECORDS = 50_000
/** Different calls counted for one user; a filter refuses some hundreds. */
const MAX_CALLS = 64

/**
 * What the kernel writes when a filter with SECCOMP_FILTER_FLAG_LOG refuses a call (kernel/audit.c, audit_seccomp), as a record of /dev/kmsg
 * (Documentation/ABI/testing/dev-kmsg): `PRIORITY,SEQ,TIME,FLAGS;audit: type=1326 …`.
 *
 * The launcher must not parse what a plugin wrote, and this line holds `comm` and `exe`, which are the plugin's. It is matched here all the same,
 * rather than in a child that would cost a Node for a handful of lines, since nothing of those two is taken, and neither can pretend to be more
 * than it is: the kernel writes them in quotes only where they hold no quote, blank or control character, and in hex otherwise
 * (audit_log_untrustedstring), and the expression stands for the whole line. Of it three runs of digits are used.
 * Lines that others write into /dev/kmsg never have the kernel's facility, 0 (devkmsg_write).
 */
const REFUSED = /^[0-7],\d+,\d+,[^;]{1,40};audit: type=1326 audit\(\d+\.\d+:\d+\): auid=\d+ uid=(\d{1,10}) gid=\d+ ses=\d+(?: subj=[^ "]+)? pid=\d+ comm=(?:"[^" ]*"|[0-9A-F]+) exe=(?:"[^" ]*"|[0-9A-F]+|\(null\)) sig=\d+ arch=([0-9a-f]{1,8}) syscall=(-?\d{1,10}) compat=[01] ip=0x[0-9a-f]+ code=0x[0-9a-f]+$/

/** AUDIT_ARCH_ values of linux/audit.h. */
const NATIVE = { x86_64: 'c000003e', aarch64: 'c00000b7' } as const

export interface RefusedCalls {
  /** Since the last time, by name, each at least that often: the kernel drops such lines when there are many. null: they are not recorded on this host. */
  take(): Record<string, number> | null
  end(): void
}

/** @returns uid, and the name of the call; null for any other record */
export function refusedCall(record: string, architecture: HostFacts['architecture'], nameOf: (number: number) => string): { readonly uid: number; readonly call: string } | null {
  const [, uid, arch, number] = REFUSED.exec(record) ?? []
  if (uid === undefined || arch === undefined || number === undefined) return null
  // Another ABI of the same processor has numbers of its own.
  return { uid: Number(uid), call: arch === NATIVE[architecture] ? nameOf(Number(number)) : `${number} of architecture ${arch}` }
}

/**
 * System calls that filters refused, counted by user from the kernel's log. Each plugin has a user of its own, and so has each `cordon run`.
 * Under runc the filter does not ask for these lines (Debian 12's refuses the flag; plan/seccomp.ts), and there may be no /dev/kmsg to read:
 * then nothing is counted, and `take` says so.
 */
export class KernelLog {
  #fd: number | null
  readonly #architecture: HostFacts['architecture']
  readonly #nameOf: (number: number) => string
  readonly #watched = new Map<number, Map<string, number>>()

  constructor(facts: Pick<HostFacts, 'architecture' | 'runtime'>, path = '/dev/kmsg') {
    this.#architecture = facts.architecture
    this.#nameOf = syscallNames(facts.architecture)
    this.#fd = facts.runtime.kind === 'crun' ? open(path) : null
  }

  get recorded(): boolean {
    return this.#fd !== null
  }

  /** Count for one user from now on. What the kernel's log held before is not counted. */
  watch(uid: number): RefusedCalls {
    this.#drain()
    const counts = new Map<string, number>()
    this.#watched.set(uid, counts)
    return {
      take: () => {
        if (this.#fd === null) return null
        this.#drain()
        const taken = Object.fromEntries([...counts].sort(([, a], [, b]) => b - a))
        counts.clear()
        return taken
      },
      end: () => {
        if (this.#watched.get(uid) === counts) this.#watched.delete(uid)
      },
    }
  }

  close(): void {
    if (this.#fd !== null) closeSync(this.#fd)
    this.#fd = null
  }

  /** All that is there; never waits (O_NONBLOCK). */
  #drain(): void {
    if (this.#fd === null) return
    const buffer = Buffer.allocUnsafe(RECORD_BYTES)
    for (let n = 0; n < MAX_RECORDS; n++) {
      const record = readRecord(this.#fd, buffer)
      if (record === 'end') return
      if (record !== 'lost' && record.includes('type=1326')) this.#count(record)
    }
  }

  #count(record: string): void {
    const found = refusedCall(record, this.#architecture, this.#nameOf)
    const counts = found === null ? undefined : this.#watched.get(found.uid)
    if (found === null || counts === undefined) return
    const call = counts.has(found.call) || counts.size < MAX_CALLS ? found.call : 'others'
    counts.set(call, (counts.get(call) ?? 0) + 1)
  }
}

function open(path: string): number | null {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW)
  } catch {
    return null // no such device in a container, or no right to read it: `take` says that nothing is recorded
  }
}

/** @returns one record; `end`: no more; `lost`: some were overwritten before they were read (EPIPE) */
function readRecord(fd: number, buffer: Buffer): string {
  try {
    const bytes = readSync(fd, buffer, 0, buffer.length, null)
    return bytes === 0 ? 'end' : (buffer.toString('latin1', 0, bytes).split('\n', 1)[0] ?? '') // what follows are lines of KEY=value
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPIPE' ? 'lost' : 'end'
  }
}
