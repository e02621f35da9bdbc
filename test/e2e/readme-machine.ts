import { execFileSync, spawn } from 'node:child_process'
import { cpSync, mkdirSync, rmSync } from 'node:fs'
import { TREE, type TestHost } from './host.ts'
import type { PretendInternet } from './internet-kit.ts'

/** Where the commands of the README are found. */
export const README_ENV = { PATH: `${TREE}/deploy:/usr/sbin:/usr/bin:/sbin:/bin` }

/**
 * The pretend machine has an /etc of its own, so that the commands find /etc/cordon where the README says.
 * @returns the directory, and the shell commands that mount it there
 */
export function ownEtc(host: TestHost): { readonly etc: string; readonly mounts: string } {
  const etc = `${host.dir}/etc`
  execFileSync('/bin/cp', ['-a', '/etc', etc])
  rmSync(`${etc}/cordon`, { recursive: true, force: true }) // of the machine that runs the tests
  mkdirSync(`${etc}/cordon/policies`, { recursive: true, mode: 0o755 })
  host.configure({ policies_dir: '/etc/cordon/policies' })
  cpSync(host.configFile, `${etc}/cordon/cordon.yaml`)
  return { etc, mounts: `mount --bind ${etc} /etc; mount --bind "$0" /etc/resolv.conf` }
}

/** What a person would have typed on that machine. */
export function typed(net: PretendInternet, commands: string, cwd = '/'): Promise<{ status: number; out: string }> {
  const [program = '', ...args] = [...net.enter, '/bin/bash', '-c', `exec 2>&1; cd ${cwd}\n${commands}`]
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'], env: README_ENV, cwd: '/' })
  let out = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => { out += text })
  return new Promise((done) => child.once('close', (status) => done({ status: status ?? -1, out })))
}
