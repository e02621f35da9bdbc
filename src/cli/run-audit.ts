import { mkdirSync, readFileSync, statSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { openAuditLog } from '../audit/log.ts'
import { Losses } from '../audit/losses.ts'
import type { AuditEvent, AuditSink } from '../audit/record.ts'
import type { RunId } from '../base/ids.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import type { HostConfig } from '../policy/host-config.ts'
import { encodeMessage, FrameReader, type Frame } from '../wire/frame.ts'
import { TO_RUN, type FromRun } from '../wire/run-log.ts'
import { answered } from './control.ts'
import { endRunLog, sweepRunLogs } from './run-logs.ts'

/** A daemon that holds its lock answers soon, or is ending. */
const DAEMON_WAIT_MS = 5000
const ASK_AGAIN_MS = 100
/** A daemon that went away is looked for this often, when there is something to record. */
const RECONNECT_MS = 1000
/** Not yet taken by the daemon; what nobody awaits is counted above it. */
const MAX_UNSENT_BYTES = 1024 * 1024

export interface RunAudit extends AuditSink {
  close(): Promise<void>
}

/**
 * Where one `cordon run` has its records kept. One log has one writer: beside a daemon that is the daemon, which is asked over its root-only
 * socket; without one the run keeps a log of its own, so that runs side by side need not wait for each other, and a daemon that starts meanwhile
 * finds its own as it left it.
 * @throws CordonError AUDIT_UNAVAILABLE: nothing must be started
 */
export async function openRunAudit({ runDir, stateDir }: HostConfig, run: RunId): Promise<RunAudit> {
  const path = `${runDir}/runs.sock`
  const until = performance.now() + DAEMON_WAIT_MS
  for (;;) {
    const socket = await reach(path)
    if (socket !== null) return new DaemonAudit(path, run, socket)
    if (!isHeld(`${stateDir}/lock`)) return ownLog(`${stateDir}/runs`, run)
    if (performance.now() > until) throw new CordonError('AUDIT_UNAVAILABLE', `a daemon holds ${stateDir}/lock and takes no records on ${path}: it is starting, ending or stuck`)
    await sleep(ASK_AGAIN_MS)
  }
}

async function ownLog(runs: string, run: RunId): Promise<RunAudit> {
  mkdirSync(runs, { recursive: true, mode: 0o700 })
  const dir = `${runs}/${run}`
  const log = await openAuditLog({ dir, keysDir: `${dir}/keys`, mode: 'run' })
  return {
    append: (event, origin) => log.append(event, origin),
    note: (event, origin) => log.note(event, origin),
    close: async () => {
      await log.close()
      endRunLog(dir)
      sweepRunLogs(runs)
    },
  }
}

/** @returns null where nothing listens @throws CordonError AUDIT_UNAVAILABLE */
function reach(path: string): Promise<Socket | null> {
  return new Promise((resolve, reject) => {
    const socket = connect(path)
    socket.once('connect', () => resolve(socket.off('error', failed)))
    const failed = (error: NodeJS.ErrnoException): void => {
      if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED' || error.code === 'ENOTDIR') resolve(null)
      else reject(new CordonError('AUDIT_UNAVAILABLE', `the daemon cannot be reached on ${path} (${error.code ?? printable(error.message)})`, { cause: error }))
    }
    socket.once('error', failed)
  })
}

/** Does a process hold an exclusive flock(2) on it? From the kernel's list (proc_locks(5)): to try would keep a daemon from starting. */
export function isHeld(lock: string, locks = () => readFileSync('/proc/locks', 'latin1')): boolean {
  const facts = statSync(lock, { throwIfNoEntry: false })
  return facts !== undefined && locks().split('\n').some((line) => /\sFLOCK\s+\S+\s+WRITE\s/.test(line) && line.includes(`:${facts.ino} `))
}

interface Waiting { resolve(done: { readonly seq: number }): void; reject(error: CordonError): void }

/** The daemon keeps the records. While it is gone whatever awaits one is refused; once it is back the count of what is missing comes first. */
class DaemonAudit implements RunAudit {
  readonly #path: string
  readonly #run: RunId
  readonly #waiting = new Map<number, Waiting>()
  readonly #losses = new Losses()
  #socket: Socket | null = null
  #nextId = 1
  #triedAt = -Infinity
  #coming: Promise<void> | null = null
  #closed = false

  constructor(path: string, run: RunId, socket: Socket) {
    this.#path = path
    this.#run = run
    this.#take(socket)
  }

  async append(event: AuditEvent): Promise<{ readonly seq: number }> {
    await this.#reconnect()
    const socket = this.#socket
    if (socket === null) {
      const error = gone()
      this.#losses.add('unavailable', event.type, 'refused', Date.now(), error.message)
      throw error
    }
    const id = this.#nextId++
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, {
        resolve,
        reject: (error) => {
          if (this.#socket !== socket) this.#losses.add('unavailable', event.type, 'refused', Date.now(), error.message)
          reject(error)
        },
      })
      this.#send(socket, { type: 'record', id, event })
    })
  }

  note(event: AuditEvent): void {
    const socket = this.#socket
    if (socket !== null && socket.writableLength < MAX_UNSENT_BYTES) return this.#send(socket, { type: 'record', id: null, event })
    this.#losses.add('unavailable', event.type, 'lost', Date.now(), 'the daemon that keeps the audit log took no records')
    void this.#reconnect()
  }

  /** What was sent reaches the daemon: a Unix socket keeps it for its reader. */
  async close(): Promise<void> {
    this.#closed = true
    const socket = this.#socket
    if (socket === null) return
    await new Promise<void>((done) => socket.once('close', () => done()).end())
  }

  #take(socket: Socket): void {
    const frames = new FrameReader()
    this.#socket = socket
    const over = (): void => {
      if (this.#socket === socket) this.#socket = null
      socket.destroy()
      const waiting = [...this.#waiting.values()]
      this.#waiting.clear()
      for (const { reject } of waiting) reject(gone())
    }
    socket.on('error', over).on('close', over)
    frames.on('error', over)
    frames.on('data', (frame: Frame) => {
      const parsed = frame.kind === 'message' ? TO_RUN.safeParse(frame.value) : null
      const waiting = parsed?.success === true ? this.#waiting.get(parsed.data.id) : undefined
      if (parsed?.success !== true || waiting === undefined) return over()
      this.#waiting.delete(parsed.data.id)
      if (parsed.data.type === 'answer') waiting.resolve({ seq: parsed.data.seq })
      else waiting.reject(answered(parsed.data.error))
    })
    socket.pipe(frames)
    this.#send(socket, { type: 'begin', run: this.#run })
    for (const event of this.#losses.take().gaps()) this.#send(socket, { type: 'record', id: null, event })
  }

  #send(socket: Socket, message: FromRun): void {
    socket.write(encodeMessage(message))
  }

  /** Never throws. */
  async #reconnect(): Promise<void> {
    if (this.#socket !== null || this.#closed) return
    if (this.#coming === null && performance.now() - this.#triedAt < RECONNECT_MS) return
    this.#triedAt = performance.now()
    this.#coming ??= reach(this.#path).then((socket) => {
      if (socket !== null) this.#take(socket)
    }, () => { /* not there yet; tried again RECONNECT_MS later, and what waits is counted */ }).finally(() => (this.#coming = null))
    await this.#coming
  }
}

function gone(): CordonError {
  return new CordonError('AUDIT_UNAVAILABLE', 'the daemon that keeps the audit log is gone')
}
