import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { CordonError } from './errors.ts'
import { startDaemon, type Daemon } from './launcher/daemon.ts'
import { runProgram } from './launcher/run-program.ts'
import { loadHostConfig } from './policy/load-host-config.ts'

/**
 * Process 1, root: `launcher.cjs [CONFIG]`, started by `cordon serve` in namespaces of its own and holding the lock of its state.
 * It never parses what a plugin or a network peer wrote.
 */
async function main(): Promise<number> {
  const tree = dirname(dirname(process.argv[1] ?? ''))
  const version = (JSON.parse(readFileSync(`${tree}/package.json`, 'utf8')) as { version: string }).version
  const { config } = loadHostConfig(process.argv[2])
  const log = (message: string): void => void process.stderr.write(`cordon: ${message}\n`)
  const ended = new Promise<string>((resolve) => {
    // Not once(): execa listens too while a program of ours runs, and when it finds itself alone it ends the process by the same signal.
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => resolve(signal))
  })
  const files = {
    gateway: `${tree}/dist/gateway.cjs`, door: `${tree}/dist/door.cjs`, doorHelper: `${tree}/dist/doorhelper.cjs`, listen: `${tree}/dist/listen.cjs`, figures: `${tree}/dist/figures.cjs`, export: `${tree}/dist/export.cjs`, push: `${tree}/dist/push.cjs`,
    node: process.execPath, presetsDir: `${tree}/policies`,
  }
  rmSync(`${config.runDir}/port`, { force: true }) // of a daemon that was killed
  const daemon = await startDaemon(config, files, version, log)
  process.on('SIGHUP', () => void reload(daemon, log))
  await notifySystemd('--ready')
  // Where scripts find the port when it was chosen by the kernel.
  mkdirSync(config.runDir, { recursive: true })
  writeFileSync(`${config.runDir}/port`, `${daemon.port}\n`, { mode: 0o644 })
  const signal = await ended
  log(`${signal}: stopping`)
  await notifySystemd('--stopping')
  rmSync(`${config.runDir}/port`, { force: true })
  await daemon.stop(signal)
  return 0
}

async function reload(daemon: Daemon, log: (message: string) => void): Promise<void> {
  try {
    await daemon.reload('SIGHUP')
  } catch (error) {
    log(`reload failed, all goes on as it was: ${error instanceof Error ? error.message : String(error)}`)
  }
}

/** Node has no Unix datagrams, so readiness goes through systemd-notify(1); NotifyAccess=all in the unit. */
async function notifySystemd(what: '--ready' | '--stopping'): Promise<void> {
  if (process.env.NOTIFY_SOCKET === undefined) return
  await runProgram('/usr/bin/systemd-notify', [what], { env: { NOTIFY_SOCKET: process.env.NOTIFY_SOCKET } }).catch(() => '') // systemd will say so itself
}

process.on('uncaughtException', (error) => {
  process.stderr.write(`cordon: ${error.stack ?? error.message}\n`)
  process.exit(70) // the kernel ends what we started (PR_SET_PDEATHSIG); the next start cleans up
})
main().then(
  (status) => process.exit(status),
  (error: unknown) => {
    const known = error instanceof CordonError
    process.stderr.write(known ? `error: ${error.code} ${error.message}\nhint:  ${error.hint}\n` : `cordon: ${error instanceof Error ? error.stack : String(error)}\n`)
    process.exit(known ? error.exit : 70)
  },
)
