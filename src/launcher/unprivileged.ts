import { spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'

export interface UnprivilegedProgram {
  /** uid and gid of Cordon's own range. */
  readonly uid: number
  /** One file below dist/. */
  readonly script: string
  readonly args: readonly string[]
  readonly timeoutMs: number
  /** Beyond so much output it is killed. */
  readonly outputBytes: number
}

export interface Ended {
  /** null: it was killed, or never ran; `why` says so. */
  readonly status: number | null
  readonly stdout: Buffer
  /** At most 500 bytes. */
  readonly stderr: string
  /** Why it was ended from here. */
  readonly why: string | null
}

/**
 * A short-lived program without privileges, environment, files or descriptors of ours. Script and Node binary are passed as
 * descriptors, so its user needs no access to the place where Cordon lies. Never rejects; never takes longer than its time.
 */
export function runUnprivileged(program: UnprivilegedProgram, signal?: AbortSignal): Promise<Ended> {
  const id = String(program.uid)
  const drop = ['--reuid', id, '--regid', id, '--clear-groups', '--no-new-privs', '--inh-caps=-all', '--ambient-caps=-all', '--bounding-set=-all', '--pdeathsig', 'KILL']
  const script = openSync(program.script, 'r')
  const node = openSync(process.execPath, 'r')
  let started
  try {
    // A group of its own: what it starts is killed with it.
    started = spawn('/usr/bin/setpriv', [...drop, '--', '/proc/self/fd/3', '-', ...program.args], { stdio: [script, 'pipe', 'pipe', node], env: {}, cwd: '/', detached: true })
  } finally {
    closeSync(script)
    closeSync(node)
  }
  const running = started
  const { stdout, stderr } = running
  return new Promise((resolve) => {
    const out: Buffer[] = []
    let size = 0
    let complaint = ''
    let why: string | null = null
    const end = (reason: string): void => {
      why ??= reason
      if (running.pid !== undefined) killGroup(running.pid)
      stdout?.destroy() // a descendant that left the group may hold the pipe open: do not wait for it
      stderr?.destroy()
    }
    const onAbort = (): void => end('was cancelled')
    const timer = setTimeout(() => end(`took longer than ${program.timeoutMs} ms`), program.timeoutMs)
    if (signal?.aborted === true) onAbort()
    signal?.addEventListener('abort', onAbort, { once: true })
    stdout?.on('data', (chunk: Buffer) => {
      size += chunk.length
      if (size > program.outputBytes) end(`printed more than ${program.outputBytes} bytes`)
      else out.push(chunk)
    })
    stderr?.on('data', (chunk: Buffer) => void (complaint = (complaint + chunk.toString('latin1')).slice(0, 500)))
    running.on('error', (error) => end(`could not be started: ${error.message}`))
    running.on('close', (status) => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', onAbort)
      if (running.pid !== undefined) killGroup(running.pid)
      resolve({ status: why === null ? status : null, stdout: Buffer.concat(out), stderr: complaint, why })
    })
  })
}

function killGroup(leader: number): void {
  try {
    process.kill(-leader, 'SIGKILL')
  } catch {
    // ESRCH: nobody of the group is left, which is the usual case
  }
}
