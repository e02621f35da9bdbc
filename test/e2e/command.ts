import { mkdtempSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { execa } from 'execa'

export const CORDON = resolve('deploy/cordon')

export interface Ended {
  readonly status: number | undefined
  readonly out: string
  readonly err: string
}

/** One command of the built CLI, as an operator types it. */
export async function cordon(args: readonly string[], options: { readonly as?: number; readonly env?: Record<string, string> } = {}): Promise<Ended> {
  const command = options.as === undefined ? [CORDON, ...args] : ['/usr/bin/setpriv', '--reuid', String(options.as), '--regid', String(options.as), '--clear-groups', '--', CORDON, ...args]
  const { exitCode, stdout, stderr } = await execa(command[0] ?? '', command.slice(1), { reject: false, stdin: 'ignore', timeout: 240_000, ...(options.env === undefined ? {} : { env: options.env }) })
  return { status: exitCode, out: stdout, err: stderr }
}

export interface TestHost {
  readonly configFile: string
  readonly policiesDir: string
  readonly stateDir: string
  readonly runDir: string
  remove(): void
}

/** A configuration of its own below /var/lib, where only root writes, with a uid range of its own. */
export function makeTestHost(uidFirst: number, more = 'listen: 127.0.0.1:0\n'): TestHost {
  const base = mkdtempSync('/var/lib/cordon-test.')
  const runDir = mkdtempSync('/run/cordon-test.')
  const host = { configFile: `${base}/cordon.yaml`, policiesDir: `${base}/policies`, stateDir: `${base}/state`, runDir }
  mkdirSync(host.policiesDir, { mode: 0o755 })
  writeFileSync(host.configFile, `${more}policies_dir: ${host.policiesDir}\nplugins_dir: ${base}/plugins\nstate_dir: ${host.stateDir}\nrun_dir: ${runDir}\nuids: { first: ${uidFirst}, count: 512 }\n`)
  return { ...host, remove: () => [base, runDir].forEach((dir) => rmSync(dir, { recursive: true, force: true })) }
}
