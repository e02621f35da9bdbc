import { fstatSync } from 'node:fs'
import { open, readFile, readlink } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { rootText } from '../base/root-text.ts'
import { runProgram } from './run-program.ts'

/** On whose behalf something is done, as records have it. */
export interface Who {
  readonly who: string
  /** Of commands in a terminal: the kernel says so, or only the command itself. */
  readonly who_verified?: boolean
}

/** The act waits that long for it at most; it takes some 20 ms, and seconds on a machine that is starting. */
const LIMIT_MS = 10_000
/** Of all connected Unix sockets of the host, about 120 bytes each. */
const LIST_BYTES = 4 * 1024 * 1024
const ENVIRON_BYTES = 128 * 1024

/**
 * Who is at the other end of an accepted Unix socket, from the kernel and not from what he says: Node has no SO_PEERCRED, so the socket's
 * inode leads over ss(8) to the process that holds the other end, and /proc tells of it. SUDO_USER is what that process was started with.
 * A process that shares its end with others, or left already, is nobody.
 * @returns null when it cannot be found, within LIMIT_MS
 */
export async function peerOf(socket: Socket, list: () => Promise<string> = listSockets): Promise<Who | null> {
  try {
    const inode = inodeOf(socket)
    const holder = inode === null ? null : holderOf(await list(), inode)
    return holder === null ? null : await describe(holder)
  } catch {
    return null // it left, or ss is missing, too slow or too long: the record says that it is not verified
  }
}

export interface Holder {
  readonly pid: number
  readonly fd: number
  /** Of its end. */
  readonly inode: string
}

/**
 * The one process that holds the other end. Names of sockets and processes in the list are chosen by anybody on the host: what looks
 * like two answers is none, and the answer is checked in /proc.
 * @param list `ss -xpH state established`: TYPE RECVQ SENDQ NAME INODE NAME PEER-INODE users:(("NAME",pid=N,fd=N),…)
 */
export function holderOf(list: string, inode: string): Holder | null {
  const rows = list.split('\n').flatMap((line) => {
    const [, mine, peer, users] = /^u_str .* (\d{1,20}) \S+ (\d{1,20}) users:\((.*)\)\s*$/.exec(line) ?? []
    return mine !== undefined && users !== undefined && peer === inode ? [{ mine, users }] : []
  })
  const [row] = rows
  if (row === undefined || rows.length > 1) return null
  const holders = [...row.users.matchAll(/,pid=(\d{1,10}),fd=(\d{1,10})\)/g)]
  const [holder] = holders
  return holder === undefined || holders.length > 1 ? null : { pid: Number(holder[1]), fd: Number(holder[2]), inode: row.mine }
}

async function describe({ pid, fd, inode }: Holder): Promise<Who | null> {
  const proc = `/proc/${pid}`
  // A kernel without CONFIG_AUDIT has no loginuid.
  const [status, loginUid, environ] = await Promise.all([readFile(`${proc}/status`, 'utf8'), readFile(`${proc}/loginuid`, 'utf8').catch(() => null), readStart(`${proc}/environ`)])
  const uid = /^Uid:\t(\d+)\t/m.exec(status)?.[1]
  // Asked last: what was read is of the process that holds the socket, and not of a later one with its pid.
  if (uid === undefined || (await readlink(`${proc}/fd/${fd}`)) !== `socket:[${inode}]`) return null
  const sudoUser = environ.split('\0').find((pair) => pair.startsWith('SUDO_USER='))?.slice('SUDO_USER='.length)
  return { who: rootText(loginUid, sudoUser, Number(uid)), who_verified: true }
}

function inodeOf(socket: Socket): string | null {
  // Not in Node's types, and in its sockets ever since; without it nothing is verified, and a test fails.
  const fd = (socket as unknown as { readonly _handle?: { readonly fd?: unknown } | null })._handle?.fd
  return typeof fd === 'number' && fd >= 0 ? String(fstatSync(fd, { bigint: true }).ino) : null
}

function listSockets(): Promise<string> {
  return runProgram('/usr/bin/ss', ['-xpH', 'state', 'established'], { timeoutMs: LIMIT_MS, outputBytes: LIST_BYTES })
}

async function readStart(path: string): Promise<string> {
  const file = await open(path)
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(ENVIRON_BYTES), 0, ENVIRON_BYTES, 0)
    return buffer.toString('utf8', 0, bytesRead)
  } finally {
    await file.close()
  }
}
