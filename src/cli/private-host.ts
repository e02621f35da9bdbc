import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { openLaunchHost, runPlaces, type LaunchHost } from '../launcher/host.ts'
import { sweepStaleRuns } from '../launcher/recover.ts'
import { runProgram } from '../launcher/run-program.ts'
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
    const host = await openLaunchHost(config, runDir, null).catch(async (error: unknown) => {
      // It may have come as far as its mounts, which keep the directory busy and would hide this error behind EBUSY.
      const { socketsDir, bundlesDir } = runPlaces(runDir)
      for (const place of [socketsDir, bundlesDir]) await runProgram('/usr/bin/umount', ['--lazy', '--quiet', place]).catch(() => '') // not mounted
      throw error
    })
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
