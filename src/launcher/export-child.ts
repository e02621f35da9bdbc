import { spawn } from 'node:child_process'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { printable } from '../base/printable.ts'
import type { ExportSink } from '../policy/export-sink.ts'

/** journald's stream for services; a Unix stream, which Node can speak, unlike the datagrams of its native protocol. */
const JOURNAL_SOCKET = '/run/systemd/journal/stdout'
const SAID_BYTES = 4096

/** An exporter process at work on one sink. */
export interface ExportChild {
  /** One block of the log. Resolves once the other side's kernel has it; rejects when the process has ended, with its last words. */
  send(block: Buffer): Promise<void>
  /** Nothing more comes: it ends when it is done. */
  finish(): void
  kill(): void
}

export interface ExportProgram {
  /** dist/export.cjs */
  readonly script: string
  /** uid and gid of Cordon's own range (`Users.own.exporter`); null: as we are (tests). */
  readonly uid: number | null
}

/**
 * Start one: without privileges, environment or files. Its words on stderr go to `trouble`, printable; of stdout the bytes are counted and
 * not looked at.
 */
export function startExportChild(sink: ExportSink, { script, uid }: ExportProgram, trouble: (text: string) => void, journalSocket = JOURNAL_SOCKET): ExportChild {
  const order = sink.kind === 'journald'
    ? { form: 'journal', host: hostname(), target: { kind: 'unix', path: journalSocket } }
    : { form: 'syslog', host: hostname(), target: sink.tls ? { kind: 'tls', host: sink.host, port: sink.port, ca: sink.ca === null ? null : readFileSync(sink.ca, 'utf8') } : { kind: 'tcp', host: sink.host, port: sink.port } }
  const file = openSync(script, 'r')
  const node = openSync(process.execPath, 'r')
  const child = (() => {
    try {
      const [program, args] = uid === null ? [process.execPath, []] : ['/usr/bin/setpriv', [
        '--reuid', String(uid), '--regid', String(uid), '--clear-groups', '--no-new-privs', '--inh-caps=-all', '--ambient-caps=-all', '--bounding-set=-all', '--pdeathsig', 'KILL', '--', '/proc/self/fd/3']]
      // By descriptor, and by that name: its user may have no access to the place where Cordon lies.
      return spawn(program, [...args, '--max-old-space-size=96', '--preserve-symlinks-main', '/proc/self/fd/4'], { stdio: ['pipe', 'pipe', 'pipe', node, file], env: {}, cwd: '/' })
    } finally {
      closeSync(file)
      closeSync(node)
    }
  })()
  const [stdin, stdout, stderr] = child.stdio
  let waiting: { resolve: () => void; reject: (error: Error) => void } | null = null
  let said = ''
  let ended: Error | null = null
  const end = (why: string): void => {
    ended ??= new Error(`the exporter ${why}${said === '' ? '' : `: ${printable(said.trim(), 300)}`}`)
    waiting?.reject(ended)
    waiting = null
  }
  child.on('error', (error) => end(`could not be started: ${error.message}`))
  child.on('exit', (status, signal) => end(`ended with ${status ?? signal ?? '?'}`))
  stdin?.on('error', () => undefined) // it ended, and `exit` says so
  stdout?.on('data', (bytes: Buffer) => {
    // One block is on its way at a time, so one byte is all that it may say.
    if (bytes.length !== 1 || waiting === null) return void child.kill('SIGKILL')
    waiting.resolve()
    waiting = null
  })
  stderr?.on('data', (bytes: Buffer) => {
    said = bytes.toString('latin1').slice(0, SAID_BYTES)
    trouble(printable(said.trim(), 300))
  })
  const frame = (payload: Buffer): void => {
    const length = Buffer.alloc(4)
    length.writeUInt32BE(payload.length)
    stdin?.write(length)
    stdin?.write(payload)
  }
  frame(Buffer.from(JSON.stringify(order)))
  return {
    send: (block) => new Promise((resolve, reject) => {
      if (ended !== null) return reject(ended)
      waiting = { resolve, reject }
      frame(block)
    }),
    finish: () => void stdin?.end(),
    kill: () => void child.kill('SIGKILL'),
  }
}
