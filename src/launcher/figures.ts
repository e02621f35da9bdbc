import { spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { z } from 'zod'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'

const bytes = z.number().min(0).max(Number.MAX_SAFE_INTEGER)
const HOST_FIGURES = z.strictObject({
  load1: z.number().min(0).max(1e6),
  cpuPercent: z.number().min(0).max(100),
  cpuCount: z.int().min(1).max(100_000),
  memoryBytes: bytes,
  memoryAvailableBytes: bytes,
  swapBytes: bytes,
  swapUsedBytes: bytes,
  /** The file system of the state directory; null when it is in no list of mounts. */
  disk: z.strictObject({ mount: z.string().max(200).transform((mount) => printable(mount)), bytes, availableBytes: bytes }).nullable(),
})
export type HostFigures = z.infer<typeof HOST_FIGURES>

const TIMEOUT_MS = 10_000
const OUTPUT_BYTES = 64 * 1024

export interface FiguresChild {
  /** uid and gid of Cordon's own range (`Users.own.figuresChild`). */
  readonly uid: number
  /** dist/figures.cjs */
  readonly script: string
  readonly stateDir: string
}

/**
 * Host figures from a short-lived process without privileges. Script and Node binary are passed as descriptors, so the
 * child's user needs no access to the place where Cordon lies.
 * @throws CordonError FIGURES_FAILED (exit status, time, or an output that does not fit the schema); never waits longer than 10 s
 */
export async function readHostFigures(child: FiguresChild, signal?: AbortSignal, timeoutMs = TIMEOUT_MS): Promise<HostFigures> {
  const output = await runUnprivileged(child, signal, timeoutMs)
  let json: unknown
  try {
    json = JSON.parse(output)
  } catch (error) {
    throw new CordonError('FIGURES_FAILED', `the figures child printed "${printable(output, 80)}", expected JSON`, { cause: error })
  }
  const parsed = HOST_FIGURES.safeParse(json)
  if (!parsed.success) throw new CordonError('FIGURES_FAILED', `the figures child printed unexpected figures: ${printable(z.prettifyError(parsed.error), 300)}`)
  return parsed.data
}

function runUnprivileged(child: FiguresChild, signal: AbortSignal | undefined, timeoutMs: number): Promise<string> {
  const id = String(child.uid)
  const drop = ['--reuid', id, '--regid', id, '--clear-groups', '--no-new-privs', '--inh-caps=-all', '--ambient-caps=-all', '--bounding-set=-all', '--pdeathsig', 'KILL']
  const script = openSync(child.script, 'r')
  const node = openSync(process.execPath, 'r')
  let started
  try {
    // A group of its own: the shells that it starts are killed with it.
    started = spawn('/usr/bin/setpriv', [...drop, '--', '/proc/self/fd/3', '-', child.stateDir], { stdio: [script, 'pipe', 'pipe', node], env: {}, cwd: '/', detached: true })
  } finally {
    closeSync(script)
    closeSync(node)
  }
  const running = started
  const { stdout, stderr } = running
  if (stdout === null || stderr === null) throw new CordonError('FIGURES_FAILED', 'the figures child has no pipes')
  return new Promise((resolve, reject) => {
    const out: Buffer[] = []
    let size = 0
    let complaint = ''
    let why: string | null = null
    const end = (reason: string): void => {
      why ??= reason
      if (running.pid !== undefined) killGroup(running.pid)
      stdout.destroy() // a descendant that left the group may hold the pipe open: do not wait for it
      stderr.destroy()
    }
    const onAbort = (): void => end('was cancelled')
    const timer = setTimeout(() => end(`took longer than ${timeoutMs} ms`), timeoutMs)
    if (signal?.aborted === true) onAbort()
    signal?.addEventListener('abort', onAbort, { once: true })
    stdout.on('data', (chunk: Buffer) => {
      size += chunk.length
      if (size > OUTPUT_BYTES) end(`printed more than ${OUTPUT_BYTES} bytes`)
      else out.push(chunk)
    })
    stderr.on('data', (chunk: Buffer) => void (complaint = (complaint + chunk.toString('latin1')).slice(0, 500)))
    running.on('error', (error) => end(`could not be started: ${error.message}`))
    running.on('close', (status) => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', onAbort)
      if (running.pid !== undefined) killGroup(running.pid)
      const failed = why ?? (status === 0 ? null : `ended with ${status ?? 'a signal'}: ${printable(complaint, 300)}`)
      if (failed === null) resolve(Buffer.concat(out).toString('utf8'))
      else reject(new CordonError('FIGURES_FAILED', `the figures child ${failed}`))
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
