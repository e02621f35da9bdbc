import { chmodSync, chownSync, closeSync, constants, fstatSync, openSync } from 'node:fs'
import { CordonError } from '../errors.ts'
import { O_PATH } from './pin.ts'

/**
 * Make a plugin's socket reachable for the gateway, whatever mode its SDK gave it, without ever following what the plugin may
 * have put there instead: opened O_PATH|O_NOFOLLOW, looked at, then changed through the descriptor.
 * @returns device and inode, by which the gateway recognises the same socket
 * @throws CordonError LAUNCH_SOCKET
 */
export function takeSocket(path: string, uid: number, gatewayGid: number): { readonly dev: string; readonly ino: string } {
  let fd: number
  try {
    fd = openSync(path, O_PATH | constants.O_NOFOLLOW)
  } catch (error) {
    throw new CordonError('LAUNCH_SOCKET', `the plugin said ready, but its socket cannot be opened: ${error instanceof Error && 'code' in error ? String(error.code) : 'unknown'}`, { cause: error })
  }
  try {
    const stat = fstatSync(fd, { bigint: true })
    if (!stat.isSocket()) throw new CordonError('LAUNCH_SOCKET', `the plugin put a ${stat.isSymbolicLink() ? 'symlink' : stat.isFIFO() ? 'FIFO' : 'file'} where its socket belongs`)
    if (Number(stat.uid) !== uid) throw new CordonError('LAUNCH_SOCKET', `the socket belongs to uid ${stat.uid}, expected ${uid}`)
    chownSync(`/proc/self/fd/${fd}`, uid, gatewayGid)
    chmodSync(`/proc/self/fd/${fd}`, 0o660)
    return { dev: String(stat.dev), ino: String(stat.ino) }
  } finally {
    closeSync(fd)
  }
}
