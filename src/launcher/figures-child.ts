/**
 * A short unprivileged process that prints one JSON line of host figures: `figures.cjs STATE_DIR`.
 * Apart from the launcher because `systeminformation` starts shells and other programs.
 */
import si from 'systeminformation'

async function main(stateDir: string): Promise<void> {
  const [load, memory, disks] = await Promise.all([si.currentLoad(), si.mem(), si.fsSize()])
  // The deepest mount point above the state directory; df lists mounts, so the directory itself need not be readable.
  const disk = disks.filter(({ mount }) => stateDir === mount || stateDir.startsWith(mount.endsWith('/') ? mount : `${mount}/`)).sort((a, b) => b.mount.length - a.mount.length)[0]
  const figures = {
    load1: load.avgLoad,
    cpuPercent: load.currentLoad,
    cpuCount: load.cpus.length,
    memoryBytes: memory.total,
    memoryAvailableBytes: memory.available,
    swapBytes: memory.swaptotal,
    swapUsedBytes: memory.swapused,
    disk: disk === undefined ? null : { mount: disk.mount.slice(0, 200), bytes: disk.size, availableBytes: disk.available },
  }
  process.stdout.write(`${JSON.stringify(figures)}\n`)
}

main(process.argv[2] ?? '/').catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
})
