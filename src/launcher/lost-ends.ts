import { endOfLog, linesBackward } from '../audit/segments.ts'
import type { AuditSink, LauncherEvent } from '../audit/record.ts'
import { DOOR_EVENTS } from '../wire/door.ts'
import { closedBy, type Opened } from './unended-connections.ts'

type Lost = Extract<LauncherEvent, { type: 'daemon.lost' }>

/** Of the log's newest records: half a second of reading, and as much as a daemon writes in weeks or, under load, in a minute. */
const LOOK_BYTES = 64 * 1024 * 1024
/** Connections that get a record of their own; more are only counted. */
const MAX_TOLD = 1000
const MAX_RUNS_NAMED = 100
/** A record of one of these types is looked at; in a text of a plugin's the quotes would be escaped. */
const TYPES = ['egress.opened', 'egress.closed', 'plugin.started', 'plugin.exited', 'daemon.started', 'daemon.stopped', 'daemon.lost'] as const
const HINTS = TYPES.map((type) => `"type":"${type}"`)
/** Of a single `cordon run`, which outlives a daemon. */
const SINGLE_RUN = 'run'

export interface LostEnds {
  /** When the last record before this daemon was made. */
  readonly last: string
  readonly runs: readonly { readonly plugin: string; readonly run: string }[]
  /** Oldest first. */
  readonly connections: readonly { readonly event: Omit<Opened, 'type'>; readonly ms: number }[]
  readonly more: number
  /** False: the look ended at LOOK_BYTES. */
  readonly whole: boolean
}

interface Line {
  readonly seq: number
  readonly time: string
  readonly boot: string
  readonly mono_ms: number
  readonly type: string
  readonly plugin?: string
  readonly run?: string
  readonly data: Readonly<Record<string, unknown>>
}

/**
 * After a daemon that was killed, or whose machine was: what its records say began and never that it ended. Nothing of it lives (its
 * children die with it, and `cleanLeftovers` has looked), so this daemon can say so.
 * @param dir `<stateDir>/audit`
 * @param before `seq` of the `daemon.started` of this daemon
 * @param singleRuns whether connections of a `cordon run` are over as well
 * @returns null where the daemon before ended in order, or there was none
 * @throws CordonError AUDIT_NOT_FOUND, AUDIT_UNAVAILABLE
 */
export async function findLostEnds(dir: string, before: number, singleRuns: boolean, lookBytes = LOOK_BYTES): Promise<LostEnds | null> {
  const ended = { connections: new Set<string>(), runs: new Set<string>() }
  const [runs, connections]: [LostEnds['runs'][number][], LostEnds['connections'][number][]] = [[], []]
  let newest: Line | null = null
  let [begun, told, bytes, more] = [false, false, 0, 0]
  const found = (whole: boolean): LostEnds | null => (begun || !whole ? { last: newest?.time ?? '', runs, connections: connections.reverse(), more, whole } : null)
  for await (const text of linesBackward(dir, await endOfLog(dir))) {
    bytes += text.length
    if (bytes > lookBytes) return found(false)
    if (newest !== null && !HINTS.some((hint) => text.includes(hint))) continue
    const line = parseLine(text)
    if (line === null || line.seq >= before) continue
    newest ??= line
    switch (line.type) {
      case 'daemon.stopped':
        return found(true)
      case 'daemon.lost':
        told = true
        break
      case 'daemon.started':
        begun = true
        if (told) return found(true) // what was before it is told
        break
      case 'plugin.exited':
        ended.runs.add(line.run ?? '')
        break
      case 'plugin.started':
        if (!ended.runs.has(line.run ?? '') && line.plugin !== undefined && line.run !== undefined) runs.push({ plugin: line.plugin, run: line.run })
        break
      case 'egress.closed':
        ended.connections.add(`${line.run} ${String(line.data['connection'])}`)
        break
      case 'egress.opened': {
        if (ended.connections.has(`${line.run} ${String(line.data['connection'])}`) || (line.plugin === SINGLE_RUN && !singleRuns)) break
        const parsed = DOOR_EVENTS.safeParse({ ...line.data, type: line.type, plugin: line.plugin, run: line.run })
        if (!parsed.success || parsed.data.type !== 'egress.opened') break // of another version
        if (connections.length < MAX_TOLD) connections.push({ event: parsed.data, ms: line.boot === newest.boot ? Math.max(0, newest.mono_ms - line.mono_ms) : 0 })
        else more += 1
      }
    }
  }
  return found(true)
}

/** Each connection has its end on record, and then one record says what became of the daemon before. */
export function tellLostEnds({ last, runs, connections, more, whole }: LostEnds, audit: AuditSink): void {
  for (const { event, ms } of connections) audit.note(closedBy('daemon-ended', event, ms), 'door') // of the door's budget, as they began
  const named = runs.slice(-MAX_RUNS_NAMED).map(({ plugin, run }) => ({ plugin, run }))
  audit.note({ type: 'daemon.lost', last, runs: named, more_runs: runs.length - named.length, connections: connections.length + more, told: connections.length, whole } satisfies Lost, 'launcher')
}

function parseLine(text: string): Line | null {
  try {
    return JSON.parse(text) as Line // written by ourselves; what was torn or changed is the verifier's question
  } catch {
    return null
  }
}
