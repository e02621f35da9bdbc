import { spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import type { Duplex } from 'node:stream'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'

const HELPER_TIMEOUT_MS = 35_000
const COMPLAINT_BYTES = 2000

/**
 * Let a short helper open the HTTP listening socket and send it to the gateway over the socketpair that we only lend.
 * The helper has an uid of its own and, for ports below 1024, CAP_NET_BIND_SERVICE and nothing else.
 * Node and the script enter as descriptors, so that this uid needs no access to the place where Cordon lies.
 * @param lent our copy of the gateway's NODE_CHANNEL_FD peer; never read here
 * @throws CordonError LISTEN_FAILED: port taken, address not ours
 */
export async function lendListener(lent: Duplex, script: string, uid: number, listen: { readonly host: string; readonly port: number }): Promise<void> {
  const bind = listen.port > 0 && listen.port < 1024 ? '+net_bind_service' : null
  const id = String(uid)
  const drop = [
    '--reuid', id, '--regid', id, '--clear-groups', '--no-new-privs', '--pdeathsig', 'KILL',
    ...(bind === null ? ['--inh-caps=-all', '--ambient-caps=-all', '--bounding-set=-all'] : [`--inh-caps=-all,${bind}`, `--ambient-caps=-all,${bind}`, `--bounding-set=-all,${bind}`]),
  ]
  const source = openSync(script, 'r')
  const node = openSync(process.execPath, 'r')
  const child = spawn('/usr/bin/setpriv', [...drop, '--', '/proc/self/fd/4', '-', listen.host, String(listen.port)], {
    stdio: [source, 'ignore', 'pipe', lent, node],
    env: { NODE_CHANNEL_FD: '3', NODE_CHANNEL_SERIALIZATION_MODE: 'json' },
    cwd: '/',
  })
  closeSync(source)
  closeSync(node)
  let complaint = ''
  child.stderr?.on('data', (bytes: Buffer) => { complaint = (complaint + bytes.toString('utf8')).slice(0, COMPLAINT_BYTES) })
  const timer = setTimeout(() => child.kill('SIGKILL'), HELPER_TIMEOUT_MS)
  const status = await new Promise<number | null>((resolve) => {
    child.once('close', (code) => resolve(code))
    child.once('error', () => resolve(null))
  })
  clearTimeout(timer)
  if (status === 0) return
  const errno = /"errno":"(\w+)"/.exec(complaint)?.[1]
  const where = `${listen.host}:${listen.port}`
  if (errno === 'EADDRINUSE') throw new CordonError('LISTEN_FAILED', `${where} is taken by another process`)
  throw new CordonError('LISTEN_FAILED', `cannot listen on ${where}: ${errno ?? printable(complaint, 300)}`)
}
