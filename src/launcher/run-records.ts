import { createServer, type Server, type Socket } from 'node:net'
import { CATALOGUE } from '../audit/catalogue.ts'
import type { AuditEvent, AuditSink, AuditType } from '../audit/record.ts'
import type { RunId } from '../base/ids.ts'
import { printable } from '../base/printable.ts'
import { toSafeError } from '../errors.ts'
import { encodeMessage, FrameReader, type Frame } from '../wire/frame.ts'
import { FROM_RUN, type FromRun, type ToRun } from '../wire/run-log.ts'
import { listenForRoot } from './control-server.ts'
import { UnendedConnections } from './unended-connections.ts'

/** A single command each; one more is turned away and does not run. */
const MAX_RUNS = 256
/** Records of one run that wait for the disk; then nothing more is read of it. */
const MAX_PENDING = 64
/** Of answers, which are short, that it does not read. */
const MAX_UNREAD_BYTES = 64 * 1024
/** What a `cordon run` may have recorded: what it did itself, and what its door says. Nothing in the name of the daemon or an operator. */
const TYPES: ReadonlySet<AuditType> = new Set<AuditType>([
  'run.started', 'run.ended', 'isolation.attested', 'isolation.violated', 'resources.snapshot', 'programs.seen', 'seccomp.refused', 'egress.attempted', 'gap',
  'host.network', 'door.started', 'door.opened', 'door.ended', 'egress.opened', 'egress.closed', 'egress.refused', 'dns.refused', 'tripwire.touched',
])
/** The process of its door is a run of its own; `of` ties it to the one that it serves. */
const OF_ITS_DOOR: ReadonlySet<string> = new Set(['isolation.attested', 'isolation.violated', 'host.network', 'door.started', 'door.ended'])

export interface RunRecords {
  close(): void
}

/**
 * Takes the records of each `cordon run` beside this daemon into the one log, which so has one writer: with origin `run`, because the daemon
 * did not see itself what they tell, and charged to that run alone.
 * @param path lies in a directory that only root enters
 */
export async function serveRunRecords(path: string, audit: AuditSink, log: (message: string) => void): Promise<RunRecords> {
  const sockets = new Set<Socket>()
  const server: Server = createServer((socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    converse(socket, audit, log)
  })
  server.maxConnections = MAX_RUNS
  await listenForRoot(server, path)
  return {
    close: () => {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}

function converse(socket: Socket, audit: AuditSink, log: (message: string) => void): void {
  const frames = new FrameReader()
  let run: RunId | null = null
  let ended = false
  const unended = new UnendedConnections(performance.now.bind(performance))
  let pending = 0
  const say = (message: ToRun): void => {
    if (socket.writableLength > MAX_UNREAD_BYTES) socket.destroy()
    else if (socket.writable) socket.write(encodeMessage(message))
  }
  const refuse = (what: string): void => {
    log(`a cordon run${run === null ? '' : ` (${run})`} was cut off: ${what}`)
    socket.destroy()
  }
  const record = (own: RunId, { id, event }: Extract<FromRun, { type: 'record' }>): void => {
    const accepted = acceptedEvent(own, event)
    if (typeof accepted === 'string') return refuse(accepted)
    ended ||= accepted.type === 'run.ended'
    const seen = (): void => {
      if (accepted.type === 'egress.opened' || accepted.type === 'egress.closed') unended.see(accepted)
    }
    if (id === null) {
      audit.note(accepted, 'run')
      return seen()
    }
    pending += 1
    if (pending >= MAX_PENDING) frames.pause()
    audit.append(accepted, 'run').then(
      ({ seq }) => {
        seen()
        say({ type: 'answer', id, seq })
      },
      (error: unknown) => say({ type: 'answer-error', id, error: toSafeError(error) }),
    ).finally(() => {
      pending -= 1
      if (pending < MAX_PENDING) frames.resume()
    })
  }
  let gone = false
  socket.on('error', () => { // it was killed
    gone = true
    socket.destroy()
  })
  socket.on('end', () => { gone = true })
  frames.on('error', (error) => refuse(printable(error.message)))
  frames.on('data', (frame: Frame) => {
    if (socket.destroyed) return
    const parsed = frame.kind === 'message' ? FROM_RUN.safeParse(frame.value) : null
    if (parsed === null || !parsed.success) return refuse('a message that is not in the table')
    const message = parsed.data
    if (message.type === 'begin' && run === null) run = message.run
    else if (message.type === 'record' && run !== null) record(run, message)
    else refuse(`"${message.type}" at the wrong time`)
  })
  // What it sent is read to the end, also when it ended right after.
  socket.once('close', () => {
    frames.end()
    if (run === null || ended) return
    // Its door lives and dies with it. One that was cut off for what it sent, or by our own end, may live and tell more.
    if (gone) unended.tell((event) => audit.note(event, 'run'))
    audit.note({ type: 'gap', run, reason: 'cordon run went away without the record of its end' }, 'launcher')
  })
  socket.pipe(frames)
}

/** @returns the event as it may be recorded, or why it may not */
export function acceptedEvent(run: RunId, event: { readonly type: string } & Readonly<Record<string, unknown>>): AuditEvent | string {
  const { type, ...fields } = event
  const row = TYPES.has(type as AuditType) ? CATALOGUE.get(type as AuditType) : undefined
  if (row === undefined) return `a record of type "${printable(type, 64)}"`
  if ('of' in fields) return 'it says itself whose door it is'
  if (fields['plugin'] !== undefined && fields['plugin'] !== 'run') return `a record of a plugin (${type})`
  const tied: Readonly<Record<string, unknown>> = fields['run'] !== run && OF_ITS_DOOR.has(type) ? { ...fields, of: run } : { ...fields, run }
  if (!('of' in tied) && fields['run'] !== undefined && fields['run'] !== run) return `a record of another run (${type})`
  const checked = row.fields.safeParse(tied)
  return checked.success ? ({ ...checked.data, type } as AuditEvent) : `a ${type} in another form than described`
}
