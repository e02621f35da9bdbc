import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { openLaunchHost, type LaunchHost } from '../launcher/host.ts'
import { sweepStaleRuns } from '../launcher/recover.ts'
import type { HostConfig } from '../policy/host-config.ts'

/**
 * What a single command needs to start something behind the walls, beside a daemon or without one; all of it is gone afterwards. The
 * caller has entered namespaces of its own (launcher/enter.ts).
 * @param use gets the host and a directory below runDir that is this process's alone
 */
export async function withPrivateHost<T>(config: HostConfig, use: (host: LaunchHost, runDir: string) => Promise<T>): Promise<T> {
  await sweepStaleRuns(config.runDir)
  const runDir = `${config.runDir}/run/${process.pid}-${startTime()}`
  try {
    const host = await openLaunchHost(config, runDir, null)
    try {
      return await use(host, runDir)
    } finally {
      await host.close()
    }
  } finally {
    rmSync(runDir, { recursive: true, force: true })
    const parent = `${config.runDir}/run`
    if (existsSync(parent) && readdirSync(parent).length === 0) rmSync(parent, { recursive: true, force: true })
  }
}

/** Start time in clock ticks (proc_pid_stat(5), field 22): with the pid it names this process for ever. */
function startTime(): string {
  return readFileSync('/proc/self/stat', 'utf8').split(') ')[1]?.split(' ')[19] ?? '0'
}
