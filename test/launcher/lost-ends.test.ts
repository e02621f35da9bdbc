import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { CATALOGUE } from '../../src/audit/catalogue.ts'
import type { AuditLog } from '../../src/audit/log.ts'
import type { AuditEvent } from '../../src/audit/record.ts'
import type { PluginName, RunId } from '../../src/base/ids.ts'
import { findLostEnds, tellLostEnds, type LostEnds } from '../../src/launcher/lost-ends.ts'
import { logPath, openLog, tempDir } from '../audit/kit.ts'

const A = 'aaaaaaaaaaaaaaaa' as RunId
const B = 'bbbbbbbbbbbbbbbb' as RunId
const DAEMON: AuditEvent = { type: 'daemon.started', version: '0', kernel: '6', runtime: 'crun', runtime_version: '1', cgroup: 2 }
const STOPPED: AuditEvent = { type: 'daemon.stopped', reason: 'asked' }
const about = (run: RunId, connection: number, plugin = 'demo') => ({ plugin: plugin as PluginName, run, connection, name: 'example.org', dialled: '198.18.1.0', port: 443, rule: 1, sni: null, address: '93.184.215.14' })
const opened = (run: RunId, connection: number, plugin?: string): AuditEvent => ({ type: 'egress.opened', ...about(run, connection, plugin), ech: false, alpn: [], code: 'allowed', ms: 1 })
const closed = (run: RunId, connection: number): AuditEvent => ({ type: 'egress.closed', ...about(run, connection), bytesOut: 1, bytesIn: 1, ms: 1, by: 'peer', code: null, requests: 0 })
const started = (run: RunId): AuditEvent => ({ type: 'plugin.started', plugin: 'demo' as PluginName, run, uid: 7, secrets: [], env: [] })
const exited = (run: RunId): AuditEvent => ({ type: 'plugin.exited', plugin: 'demo' as PluginName, run, reason: 'exit 0', status: 0, oom_kills: 0, seconds: 1 })
/** What a plugin can have written into a record: it must not pass for one. */
const DISGUISED: AuditEvent = { type: 'egress.refused', ...about(A, 0), addresses: [], host: '"type":"daemon.stopped"', code: 'http-host-other', say: 'x","type":"egress.closed"', ms: 0, coalesced: 0 }

/** A log of several daemons' records; the last of them is of the one that looks. */
async function logOf(...events: readonly AuditEvent[]): Promise<{ dir: string; log: AuditLog; seq: number }> {
  const dir = tempDir()
  const log = await openLog({ dir, mode: 'daemon' })
  let seq = 0
  for (const event of events) seq = (await log.append(event, 'launcher')).seq
  return { dir, log, seq }
}

const shown = (lost: LostEnds | null) => lost && { runs: lost.runs.map(({ run }) => run), connections: lost.connections.map(({ event }) => `${event.run[0]}${event.connection}`), more: lost.more, whole: lost.whole }

test('after a daemon that was killed each connection and run without an end is found, and no other', async () => {
  const { dir, seq } = await logOf(DAEMON, started(A), opened(A, 1), opened(A, 2), closed(A, 1), DISGUISED, started(B), exited(A), opened(B, 1), DAEMON)
  expect(shown(await findLostEnds(dir, seq, true))).toEqual({ runs: [B], connections: ['a2', 'b1'], more: 0, whole: true })
})

test('after one that ended in order nothing is looked for; nor at the beginning of a log, nor in what the daemon itself has begun', async () => {
  const { dir, log, seq } = await logOf(DAEMON, started(A), opened(A, 1), STOPPED, DAEMON)
  await log.append(opened(B, 1), 'door')
  expect(await findLostEnds(dir, seq, true)).toBeNull()
  const first = await logOf(DAEMON)
  expect(await findLostEnds(first.dir, first.seq, true)).toBeNull()
})

test('what a daemon that was killed before it had told it left is found by the next; what was told is not told again', async () => {
  const { dir, log, seq } = await logOf(DAEMON, opened(A, 1), DAEMON, opened(B, 1), DAEMON)
  const lost = await findLostEnds(dir, seq, true)
  expect(shown(lost)).toEqual({ runs: [], connections: ['a1', 'b1'], more: 0, whole: true })
  const told: AuditEvent[] = []
  if (lost !== null) tellLostEnds(lost, { append: () => Promise.reject(new Error('nothing waits')), note: (event) => told.push(event) })
  expect(told).toMatchObject([
    { type: 'egress.closed', run: A, connection: 1, by: 'door', code: 'daemon-ended', bytesOut: 0 }, { type: 'egress.closed', run: B, connection: 1 },
    { type: 'daemon.lost', connections: 2, told: 2, runs: [], more_runs: 0, whole: true, last: expect.stringMatching(/^\d{4}-/) as string },
  ])
  for (const { type, ...fields } of told) CATALOGUE.get(type)?.fields.parse(fields)
  for (const event of told) await log.append(event, 'launcher')
  const next = await log.append(DAEMON, 'launcher')
  expect(shown(await findLostEnds(dir, next.seq, true))).toEqual({ runs: [], connections: [], more: 0, whole: true })
})

test('connections of a single run that may live on are left to it', async () => {
  const { dir, seq } = await logOf(DAEMON, opened(A, 1, 'run'), opened(B, 1), DAEMON)
  expect(shown(await findLostEnds(dir, seq, false))?.connections).toEqual(['b1'])
  expect(shown(await findLostEnds(dir, seq, true))?.connections).toEqual(['a1', 'b1'])
})

test('it looks back so far and no farther, and says so', async () => {
  const { dir, log } = await logOf(DAEMON, ...Array.from({ length: 60 }, (_, n) => opened(A, n)))
  const { seq } = await log.append(DAEMON, 'launcher')
  const line = readFileSync(logPath(dir)).length / 65
  const lost = await findLostEnds(dir, seq, true, line * 30)
  expect(lost?.whole).toBe(false)
  expect(lost?.connections.length).toBeGreaterThan(10)
  expect(lost?.connections.length).toBeLessThan(40)
})

test('of very many the newest thousand are told, and the others counted', async () => {
  const { dir, log } = await logOf(DAEMON)
  await Promise.all(Array.from({ length: 1500 }, (_, n) => log.append(opened(A, n), 'door')))
  const { seq } = await log.append(DAEMON, 'launcher')
  const lost = await findLostEnds(dir, seq, true)
  expect([lost?.connections.length, lost?.more, lost?.connections.at(-1)?.event.connection]).toEqual([1000, 500, 1499])
})
