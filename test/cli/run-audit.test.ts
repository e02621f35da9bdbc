import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import type { AuditEvent, AuditSink } from '../../src/audit/record.ts'
import type { RunId } from '../../src/base/ids.ts'
import { isHeld, openRunAudit } from '../../src/cli/run-audit.ts'
import { CordonError } from '../../src/errors.ts'
import { serveRunRecords } from '../../src/launcher/run-records.ts'
import { DEFAULT_HOST_CONFIG } from '../../src/policy/load-host-config.ts'

const RUN = '0123456789abcdef' as RunId
const ended: AuditEvent = { type: 'run.ended', run: RUN, reason: 'exit 0', oom_kills: 0 }

function places() {
  const dir = mkdtempSync(join(tmpdir(), 'cordon-run-audit-'))
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }))
  const config = { ...DEFAULT_HOST_CONFIG, stateDir: join(dir, 'state'), runDir: join(dir, 'run') }
  for (const place of [config.stateDir, config.runDir]) mkdirSync(place, { mode: 0o700 })
  return { config, path: join(config.runDir, 'runs.sock') }
}

describe('where the records of a cordon run are kept', () => {
  test('beside a daemon: by that daemon, in order, and nothing of its own is written', async () => {
    const { config, path } = places()
    const heard: unknown[] = []
    const sink: AuditSink = { append: async (event, origin) => ({ seq: heard.push([origin, event.type]) }), note: (event, origin) => void heard.push([origin, event.type]) }
    const served = await serveRunRecords(path, sink, () => {})
    onTestFinished(() => served.close())
    const audit = await openRunAudit(config, RUN)
    audit.note({ type: 'gap', reason: 'first' }, 'launcher')
    expect(await audit.append(ended, 'launcher')).toEqual({ seq: 2 })
    audit.note({ type: 'gap', reason: 'last' }, 'launcher')
    await audit.close()
    await expect.poll(() => heard).toEqual([['run', 'gap'], ['run', 'run.ended'], ['run', 'gap']])
    expect(readdirSync(config.stateDir)).toEqual([])
  })

  test('a daemon that cannot record says so, with its own hint; one that goes away refuses what waits, and what comes', async () => {
    const { config, path } = places()
    let answer = (): Promise<{ seq: number }> => Promise.reject(new CordonError('AUDIT_UNAVAILABLE', 'records: ENOSPC'))
    const noted: AuditEvent[] = []
    const sink: AuditSink = { append: () => answer(), note: (event) => void noted.push(event) }
    const served = await serveRunRecords(path, sink, () => {})
    const audit = await openRunAudit(config, RUN)
    await expect(audit.append(ended, 'launcher')).rejects.toMatchObject({ code: 'AUDIT_UNAVAILABLE', message: 'records: ENOSPC', hint: expect.stringContaining('Free space') as string })
    answer = () => new Promise(() => {})
    const waits = audit.append(ended, 'launcher')
    await new Promise((done) => setTimeout(done, 50))
    served.close()
    await expect(waits).rejects.toMatchObject({ code: 'AUDIT_UNAVAILABLE', message: expect.stringContaining('is gone') as string })
    await expect(audit.append(ended, 'launcher')).rejects.toMatchObject({ code: 'AUDIT_UNAVAILABLE' })
    audit.note({ type: 'gap', reason: 'nobody hears it' }, 'launcher')

    // Started again, it is told first what is missing.
    noted.length = 0
    answer = async () => ({ seq: 9 })
    const again = await serveRunRecords(path, sink, () => {})
    onTestFinished(() => again.close())
    await expect.poll(() => audit.append(ended, 'launcher').catch(() => null), { interval: 200 }).toEqual({ seq: 9 })
    expect(noted).toEqual([expect.objectContaining({ type: 'gap', run: RUN, reason: 'unavailable', lost: { gap: 1 }, refused: { 'run.ended': expect.any(Number) as number } })])
    await audit.close()
  })

  test.skipIf(process.getuid?.() !== 0)('without a daemon: in a log of its own, one for each run, also where an old socket lies', async () => {
    const { config, path } = places()
    const served = await serveRunRecords(path, { append: async () => ({ seq: 0 }), note: () => {} }, () => {})
    served.close()
    writeFileSync(`${config.stateDir}/lock`, '') // of a daemon that ended
    const audits = await Promise.all([RUN, 'fedcba9876543210' as RunId].map((run) => openRunAudit(config, run)))
    await Promise.all(audits.map((audit) => audit.append({ type: 'gap', reason: 'x' }, 'launcher')))
    await Promise.all(audits.map((audit) => audit.close()))
    expect(readdirSync(`${config.stateDir}/runs`).sort()).toEqual([RUN, 'fedcba9876543210'])
  })

  test('a lock is told from the kernel\'s list, and not by trying it', () => {
    const { config } = places()
    const lock = `${config.stateDir}/lock`
    expect(isHeld(lock)).toBe(false)
    writeFileSync(lock, '')
    expect(isHeld(lock)).toBe(false)
    const held = execFileSync('/usr/bin/flock', [lock, '/bin/cat', '/proc/locks'], { encoding: 'latin1' })
    expect(isHeld(lock, () => held)).toBe(true)
    const shared = execFileSync('/usr/bin/flock', ['--shared', lock, '/bin/cat', '/proc/locks'], { encoding: 'latin1' })
    expect(isHeld(lock, () => shared)).toBe(false)
    expect(readFileSync(lock, 'utf8')).toBe('')
  })
})
