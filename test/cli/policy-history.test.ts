import { appendFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { AuditEvent } from '../../src/audit/record.ts'
import { DEFAULT_HOST_CONFIG } from '../../src/policy/load-host-config.ts'
import { parsePolicy } from '../../src/policy/parse.ts'
import { cordon } from './fake-daemon.ts'
import { asked, closed, opened, refused, writeLog, type At } from './log-kit.ts'

const HOUR = 3_600_000
const NOW = Date.now()
let config = DEFAULT_HOST_CONFIG
let dir = ''
beforeEach(() => {
  dir = mkdtempSync('/tmp/cordon-cli-history-')
  config = { ...DEFAULT_HOST_CONFIG, runDir: dir, stateDir: dir, policiesDir: join(dir, 'policies') }
  mkdirSync(config.policiesDir)
})
afterEach(() => { rmSync(dir, { recursive: true, force: true }) })

const policy = (egress: string, more = ''): void => writeFileSync(join(config.policiesDir, 'demo.yaml'), `plugin: demo\nexecutable: { path: /opt/demo }\n${more}egress:\n  allow:\n${egress}`)
const API = '    - { host: api.example.org, ports: [443], reason: its API }\n'
const OLD = '    - { host: old.example.org, ports: [443], reason: an old idea }\n'
const note = (ms: number, event: object): At => ({ ms, event: { plugin: 'demo', ...event } as AuditEvent })
const snapshot = (ms: number, memory: number, tasks: number): At => note(ms, { type: 'resources.snapshot', run: 'r', memory_bytes: { min: 1, mean: 2, max: memory }, tasks: { min: 1, mean: 1, max: tasks }, memory_peak_bytes: null })

describe('policy suggest', () => {
  test('proposes what the log shows from the beginning of learning on, and states its coverage', async () => {
    policy(OLD, 'api: { grants: [projects_read, ai_generate] }\nlimits: { MemoryMax: 256M, TasksMax: 64 }\nhttp: { public_paths: [/hooks, /feed] }\n')
    writeLog(dir, [
      opened(NOW - 30 * HOUR, 'before.example.org'), asked(NOW - 29 * HOUR, 'old-news.internal'),
      note(NOW - 20 * HOUR, { type: 'egress.applied', act: 'learn', until: new Date(NOW - 1 * HOUR).toISOString(), who: 'root' }),
      note(NOW - 19 * HOUR, { type: 'plugin.start', run: 'r' }), opened(NOW - 18 * HOUR, 'api.example.org'), opened(NOW - 17 * HOUR, 'api.example.org'), closed(NOW - 17 * HOUR, 'api.example.org', 3 * 2 ** 20),
      refused(NOW - 18 * HOUR, 'git.lan', 22, 'address-private', 'git.lan: 10.0.0.7 is private', 1), refused(NOW - 17 * HOUR, 'git.lan', 22, 'address-private', 'git.lan: 10.0.0.7 is private', 0),
      refused(NOW - 17 * HOUR, 'dead.example.org', 443, 'connect-timeout', 'x', 0), asked(NOW - 16 * HOUR, 'new.internal', 1),
      opened(NOW - 17 * HOUR, 'theirs.example.org', 443, 'other'), note(NOW - 16 * HOUR, { type: 'egress.applied', act: 'learn', until: new Date(NOW).toISOString(), who: 'root' }),
      note(NOW - 15 * HOUR, { type: 'plugin.start', run: 's' }), snapshot(NOW - 14 * HOUR, 40 * 2 ** 20, 7), snapshot(NOW - 13 * HOUR, 30 * 2 ** 20, 9),
      note(NOW - 12 * HOUR, { type: 'channel.call', run: 's', method: 'list_projects', outcome: 'ok', ms: 1 }),
      note(NOW - 12 * HOUR, { type: 'http.request', method: 'POST', path: '/hooks/x', query: null, status: 200, ms: 1, bytesIn: 1, bytesOut: 1, client: 'c', who: '', requestId: 'q' }),
    ])
    const { status, out, err } = await cordon(config, 'policy', 'suggest', 'demo')
    expect([status, err]).toEqual([0, ''])
    expect(out).toContain('(20 h), 2 restarts, 2 connections.') // it had run before
    expect(out).toContain('# Events: this host delivers none')
    expect(out).toMatch(/^\+ {4}- \{ host: api\.example\.org, ports: \[443\], reason: .*\} {2}# 2×, .*, 3M out/m)
    expect(out).toMatch(/^- {4}- \{ host: old\.example\.org.* # never used in this period$/m)
    expect(out).toMatch(/^- {2}MemoryMax: 256M\n\+ {2}MemoryMax: 80M {2}# twice the peak of 40M$/m)
    expect(out).toMatch(/^\+ {2}TasksMax: 18 {2}# twice the peak of 9$/m)
    expect(out).toMatch(/^\+ {2}EgressMax: 6M\/day/m)
    expect(out).toMatch(/^-api\.grants: ai_generate {2}# never used/m)
    expect(out).toMatch(/^-http\.public_paths: \/feed/m)
    expect(out).not.toMatch(/projects_read|\/hooks|theirs|before\.example/)
    expect(out).toMatch(/^# Refused in this time.*\n#  refused 3×, \S+Z to \S+Z: git\.lan:22 \(address-private\) git\.lan: 10\.0\.0\.7 is private.*\n#  refused 2×.*new\.internal \(name-not-allowed\)/m)
    expect(out).not.toMatch(/dead\.example|old-news/)
  })

  test('--since moves the beginning, --json has it in parts, and its lines are a policy', async () => {
    policy(OLD)
    writeLog(dir, [opened(NOW - 30 * HOUR, 'before.example.org'), opened(NOW - 2 * HOUR, 'api.example.org')])
    expect((await cordon(config, 'policy', 'suggest', 'demo', '--since', '3h')).out).not.toContain('before.example.org')
    const answer = JSON.parse((await cordon(config, 'policy', 'suggest', 'demo', '--since', '3d', '--json')).out)
    expect(answer).toMatchObject({ plugin: 'demo', restarts: 0, unused: [{ match: { name: 'old.example.org' } }] })
    const lines = String(answer.diff).split('\n').filter((line) => /^\+ {4}- /.test(line)).map((line) => line.slice(1))
    expect(lines).toHaveLength(2)
    expect(() => parsePolicy(`plugin: demo\nexecutable: { path: /opt/demo }\negress:\n  allow:\n${lines.join('\n')}\n`, 'demo.yaml')).not.toThrow()
  })

  test('of nothing on record is an error, not an empty policy; bad options are refused', async () => {
    policy(API)
    expect(await cordon(config, 'policy', 'suggest', 'demo')).toMatchObject({ status: 66, err: expect.stringContaining('AUDIT_NOT_FOUND') as string })
    writeLog(dir, [opened(NOW, 'x.example.org', 443, 'other')])
    expect(await cordon(config, 'policy', 'suggest', 'demo')).toMatchObject({ status: 66, out: '' })
    for (const since of ['soon', '2100-01-01', '2026-02-31T00:00:00Z', '-1h']) expect((await cordon(config, 'policy', 'suggest', 'demo', `--since=${since}`)).status).toBe(64)
    expect((await cordon(config, 'policy', 'suggest')).status).toBe(64)
  })

  test('of more connections than are weighed takes the newest and says so; a flood of refusals pushes nothing out', async () => {
    policy(API)
    const refusals = Array.from({ length: 5000 }, (_, n) => asked(NOW - HOUR + n, `r${n}.example.org`))
    writeLog(dir, [opened(NOW - 3 * HOUR, 'first.example.org'), ...Array.from({ length: 100_000 }, (_, n) => opened(NOW - 2 * HOUR + n, 'api.example.org')), ...refusals])
    const { status, out, err } = await cordon(config, 'policy', 'suggest', 'demo', '--since', '1d')
    expect(status).toBe(0)
    expect(err).toContain('1 older records are left out')
    expect(out).toContain('100000 connections.')
    expect(out).not.toContain('first.example.org')
  })

  test('a log that was changed by hand neither stops it nor reaches the terminal', async () => {
    policy(API)
    writeLog(dir, [opened(NOW - HOUR, 'api.example.org')])
    appendFileSync(join(dir, 'audit/records/0000000000000000.jsonl'), ['"plugin":"demo" \u001b[2J', '{"plugin":"demo"}', '{"plugin":"demo","type":"egress.opened","run":null,"time":"2026-01-01T00:00:00Z","data":{"name":"x"}}', ''].join('\n'))
    const { status, out, err } = await cordon(config, 'policy', 'suggest', 'demo')
    expect(status).toBe(0)
    expect(err).toContain('2 lines of the log could not be read')
    expect(out + err).toMatch(/^(?:\P{Cc}|\n)*$/u)
  })
})

describe('policy test --replay', () => {
  const happened = [
    opened(NOW - 40 * 24 * HOUR, 'long-ago.example.org'), opened(NOW - 3 * HOUR, 'api.example.org'), opened(NOW - 2 * HOUR, 'api.example.org'), opened(NOW - 2 * HOUR, 'other.example.org'), asked(NOW - HOUR, 'new.example.org', 4),
    opened(NOW - 2 * HOUR, 'theirs.example.org', 443, 'other'),
  ]

  test('ends with 1 when something that was let through would be refused, and says how often and why', async () => {
    policy(API)
    writeLog(dir, happened)
    const { status, out } = await cordon(config, 'policy', 'test', 'demo', '--replay', '30d')
    expect(status).toBe(1)
    expect(out).toContain('demo: 8 attempts since')
    expect(out).toMatch(/What would be refused now, and was let through:\n {2}1× other\.example\.org:443, last 20/)
    expect(out).toContain('Nothing would be let through now, and was refused.')
    expect(out).not.toMatch(/long-ago|theirs/)
    for (const line of out.split('\n')) expect(line.length).toBeLessThanOrEqual(80)
  })

  test('ends with 0 when nothing would, and tells what would be let through', async () => {
    policy(`${API}    - { host: other.example.org, ports: [443], reason: x }\n    - { host: new.example.org, ports: [443], reason: x }\n`)
    writeLog(dir, happened)
    const { status, out } = await cordon(config, 'policy', 'test', join(config.policiesDir, 'demo.yaml'), '--replay', '30d')
    expect(status).toBe(0)
    expect(out).toContain('Nothing would be refused now, and was let through.')
    expect(out).toMatch(/5× new\.example\.org, last .* \(perhaps:/)
    const answer = JSON.parse((await cordon(config, 'policy', 'test', 'demo', '--replay', '60d', '--json')).out)
    expect(answer).toMatchObject({ plugin: 'demo', attempts: 9, newlyRefused: [{ what: 'long-ago.example.org:443', times: 1 }], newlyAllowed: [{ what: 'new.example.org', times: 5 }] })
  })

  test('of a time in which nothing happened says that it says nothing; without --replay it is refused', async () => {
    policy(API)
    writeLog(dir, happened)
    expect(await cordon(config, 'policy', 'test', 'demo', '--replay', '1m')).toMatchObject({ status: 0, out: expect.stringContaining('this says nothing about the file') as string })
    expect((await cordon(config, 'policy', 'test', 'demo')).status).toBe(64)
  })

  test('compares with the addresses that the host had then, as the log has them', async () => {
    policy('    - { cidr: 203.0.114.0/24, ports: [443], reason: x }\n')
    const network = (name: string, addresses: string[]): At => ({ ms: NOW - 50 * HOUR, event: { type: 'host.network', name, addresses, on_link: [], own_ports: [], more: 0 } as AuditEvent })
    const dialled = (address: string, named: string): At => {
      const { ms, event } = opened(NOW - HOUR, 'x.example.org')
      return { ms, event: { ...event, name: null, sni: null, dialled: address, address, network: named } as AuditEvent }
    }
    writeLog(dir, [network('a', []), network('b', ['203.0.114.0/28']), dialled('203.0.114.7', 'a'), dialled('203.0.114.9', 'b'), dialled('203.0.114.200', 'b'), dialled('203.0.114.201', 'gone')])
    const { out, err } = await cordon(config, 'policy', 'test', 'demo', '--replay', '2h')
    expect(out).toMatch(/What would be refused now, and was let through:\n {2}1× 203\.0\.114\.9:443/)
    expect(out).not.toMatch(/114\.(?:7|200|201)/)
    expect(err).toContain('1 connection was compared with the addresses that this host has today')
  })

  test('a log larger than one batch is decided to its end', async () => {
    policy(API)
    writeLog(dir, Array.from({ length: 25_000 }, (_, n) => opened(NOW - HOUR + n, n % 2 === 0 ? 'api.example.org' : 'other.example.org')))
    const answer = JSON.parse((await cordon(config, 'policy', 'test', 'demo', '--replay', '1d', '--json')).out)
    expect(answer).toMatchObject({ attempts: 25_000, newlyRefused: [{ what: 'other.example.org:443', times: 12_500 }], newlyAllowed: [] })
  })
})

describe('policy check --used', () => {
  test('names the rules that no connection used, and how long the log looks back', async () => {
    policy(API + OLD)
    writeLog(dir, [note(NOW - 100 * 24 * HOUR, { type: 'plugin.start', run: 'r' }), opened(NOW - 95 * 24 * HOUR, 'old.example.org'), note(NOW - 90 * 24 * HOUR + HOUR, { type: 'plugin.start', run: 'r' }), opened(NOW - HOUR, 'api.example.org')])
    const { status, out } = await cordon(config, 'policy', 'check', 'demo', '--used')
    expect(status).toBe(0)
    expect(out).toContain('no connection in the last 90 days used the rule for old.example.org on port 443')
    expect(out).not.toContain('rule for api.example.org')
    expect((await cordon(config, 'policy', 'check', 'demo')).out).not.toContain('no connection')
    writeLog(dir, [opened(NOW - HOUR, 'api.example.org')])
    expect((await cordon(config, 'policy', 'check', 'demo', '--used')).out).toContain('no connection in the day that the audit log knows of it used')
  })

  test('claims nothing where nothing is on record', async () => {
    policy(API)
    expect((await cordon(config, 'policy', 'check', 'demo', '--used')).out).toContain('there is no audit log, so nothing is known')
    writeLog(dir, [opened(NOW, 'x.example.org', 443, 'other')])
    expect((await cordon(config, 'policy', 'check', 'demo', '--used')).out).toContain('has no record of demo in the last 90 days')
  })
})
