import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, afterAll, describe, expect, test } from 'vitest'
import { auditReport } from '../../src/cli/audit-report.ts'
import type { RunCommand } from '../../src/cli/context.ts'
import { CordonError } from '../../src/errors.ts'
import { DEFAULT_HOST_CONFIG } from '../../src/policy/load-host-config.ts'
import { HOUR_MS, type Report } from '../../src/report/collect.ts'
import { tell } from '../../src/report/describe.ts'
import { Destinations } from '../../src/report/destinations.ts'
import { html } from '../../src/report/html.ts'
import { Timeline } from '../../src/report/timeline.ts'
import { CATALOGUE } from '../../src/audit/catalogue.ts'
import { writeSegments } from '../history/kit.ts'
import { archived, incident, NEW_PROGRAM, NOW, POLICY, WIDER } from './incident.ts'

let stateDir: string
let digests: readonly [string, string]
beforeAll(() => {
  stateDir = mkdtempSync(join(tmpdir(), 'cordon-report-'))
  digests = [archived(stateDir, 'indexnow', POLICY), archived(stateDir, 'indexnow', WIDER)]
  writeSegments(stateDir, incident(...digests), 200_000)
})
afterAll(() => rmSync(stateDir, { recursive: true, force: true }))

const whole: RunCommand = async (_, io) => {
  io.out('The log is whole: 1778 records.\n  a <detail>')
  return 0
}

async function made(args: readonly string[], json: boolean, verify: RunCommand = whole): Promise<string> {
  const lines: string[] = []
  const io = { out: (line: string) => lines.push(line), err: (line: string) => lines.push(line), json, color: false }
  const context = { config: { ...DEFAULT_HOST_CONFIG, stateDir }, configFile: null, signal: AbortSignal.timeout(100_000), tree: process.cwd(), load: { presetsDir: '', own: DEFAULT_HOST_CONFIG, ownership: 'reported' } } as const
  expect(await auditReport(async () => verify, NOW)(args, io, context)).toBe(0)
  return lines.join('\n')
}

const data = async (...args: string[]): Promise<Report> => JSON.parse(await made(args, true)) as Report

describe('a report', () => {
  test('is one page that can load and run nothing, whatever plugins wrote', async () => {
    const text = await made(['--plugin', 'indexnow', '--since', '6h'], false)
    expect(text).toContain('&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;&quot;&#39;&#96;')
    expect(text).not.toMatch(/<script|<img|<link|<iframe|<object|<form|javascript:| on[a-z]+=["']|@import|url\(/i)
    expect(text).not.toMatch(/(?:src|href)="(?!#)/)
    expect(text).toMatch(/Content-Security-Policy" content="default-src 'none'; style-src 'sha256-[A-Za-z0-9+/]{43}='; base-uri 'none'; form-action 'none'"/)
    const tags = [...text.replace('<!doctype html>', '').matchAll(/<(\/?)([a-z0-9]+)((?:\s+[a-z][a-z0-9-]*="[^"<]*")*)\s*(\/?)>|</gi)]
    expect(tags.filter(([, , name]) => name === undefined)).toEqual([])
    const open: string[] = []
    for (const [, end, name = '', , self] of tags) {
      if (self === '/' || name === 'meta') continue
      if (end === '') open.push(name)
      else expect(open.pop(), name).toBe(name)
    }
    expect(open).toEqual([])
  })

  test('begins with the verdict on the log, also when there is none', async () => {
    const text = await made(['--since', '6h'], false)
    expect(text.indexOf('The log is whole: 1778 records.')).toBeLessThan(text.indexOf('What happened</h2>'))
    expect(text).toContain('class="verdict whole"')
    expect(text).toContain('a &lt;detail&gt;')
    const tampered = await made(['--since', '6h'], false, async (_, io) => {
      io.out('TAMPERED')
      return 2
    })
    expect(tampered).toContain('<div class="verdict tampered"><p>TAMPERED</p>')
    const none = await made(['--since', '6h'], false, async () => { throw new CordonError('AUDIT_UNAVAILABLE', 'a disk') })
    expect(none).toContain('class="verdict unknown"><p>The log could not be verified: a disk')
  })

  test('asks for the verdict with the key, the saved checkpoints and the witnesses that it was given', async () => {
    const asked: string[] = []
    await made(['--since', '6h', '--key', 'SHA256:x', '--with', 'mails.mbox', '--with=-odd', '--witness', 'w+1+k'], false, async (args, io) => {
      asked.push(...args)
      io.out('whole')
      return 0
    })
    expect(asked).toEqual(['--key=SHA256:x', '--with=mails.mbox', '--with=-odd', '--witness=w+1+k'])
  })

  test('is not made when what it was to compare with is none', async () => {
    for (const code of ['USAGE_BAD_OPTION', 'AUDIT_NO_CHECKPOINT'] as const) {
      await expect(made(['--since', '6h', '--with', 'x'], false, async () => { throw new CordonError(code, 'no') })).rejects.toMatchObject({ code })
    }
  })

  test('tells what happened in order, repeats as one row, after the hour before', async () => {
    const { timeline, before, sinceMs } = await data('--plugin', 'indexnow', '--since', '6h')
    expect(before.map(({ text, times }) => [text, times])).toEqual([['Connected', 6]])
    expect(before.every(({ firstMs }) => firstMs >= sinceMs - HOUR_MS && firstMs < sinceMs)).toBe(true)
    expect(timeline.length).toBeLessThan(40)
    const texts = timeline.map(({ text }) => text)
    const order = ['Apply, asked by root (loginuid 1000, SUDO_USER alice)', `Policy ${digests[1].slice(0, 12)} came into force, from /etc/cordon/policies/indexnow.yaml`, `Started: program ${NEW_PROGRAM.slice(0, 12)}, policy ${digests[1].slice(0, 12)}`, 'Killed: it used up its memory', 'Failed: start-limit: 3 starts in 1h', 'Deny *.example.net:443, by root (loginuid 1000, SUDO_USER alice)']
    expect(texts.filter((text) => order.includes(text))).toEqual([...order.slice(0, 4), order[2], ...order.slice(4)])
    expect(timeline.find(({ text }) => text === order[3])).toMatchObject({ times: 4, tone: 'bad' })
    expect(timeline.find(({ text }) => text.startsWith('RECORDS ARE MISSING'))).toMatchObject({ text: 'RECORDS ARE MISSING: budget, 312 counted instead of recorded' })
  })

  test('counts bytes and refusals by destination and says which were never seen before', async () => {
    const { destinations } = await data('--plugin', 'indexnow', '--since', '6h')
    const of = (where: string) => destinations.find((one) => one.where === where)
    expect(of('cdn7.example.net:443')).toMatchObject({ connections: 29, bytesOut: 29 * 18_000_000 })
    expect(of('cdn7.example.net:443')?.everFirstMs).toBe(of('cdn7.example.net:443')?.firstMs)
    expect(of('api.indexnow.org:443')?.everFirstMs).toBeLessThan(NOW - 71 * HOUR_MS)
    expect(of('169.254.169.254:80')).toMatchObject({ connections: 0, refused: 4, codes: { 'address-metadata': 4 } })
    const text = await made(['--plugin', 'indexnow', '--since', '6h'], false)
    expect(text).toMatch(/cdn7\.example\.net:443<span class="new">first seen ever<\/span>/)
    expect(text).not.toMatch(/api\.indexnow\.org:443<span class="new">/)
    expect(text).toMatch(/64 names below exfil\.example\.org/)
  })

  test('draws what was used with its limits, and marks kills', async () => {
    const { usage: [usage] } = await data('--plugin', 'indexnow', '--since', '6h')
    expect(usage?.kills).toHaveLength(4)
    expect(Math.max(...(usage?.memory.values ?? []).map((value) => value ?? 0))).toBe(256 * 2 ** 20)
    expect(new Set(usage?.memory.limits)).toEqual(new Set([null, 256 * 2 ** 20]))
    expect(Math.max(...(usage?.cpu.values ?? []).map((value) => value ?? 0))).toBeLessThan(50)
    const text = await made(['--plugin', 'indexnow', '--since', '6h'], false)
    expect(text.match(/<line class="kill"/g)).toHaveLength(12)
    expect(text).toMatch(/MemoryMax 256 MiB/)
    expect(text).not.toMatch(/NaN|Infinity|undefined/)
  })

  test('says why each run ended, which program and which policy it was, who did what and what to replace', async () => {
    const report = await data('--plugin', 'indexnow', '--since', '6h')
    expect(report.runs.map(({ cause }) => cause)).toEqual(['stopped: its policy changed', ...Array.from({ length: 4 }, () => 'killed by the kernel: it used up its memory (MemoryMax)')])
    expect(report.programs).toMatchObject([{ sha256: NEW_PROGRAM, runs: 4 }])
    expect(report.programs[0]?.everFirstMs).toBe(report.programs[0]?.firstMs)
    expect(report.policies.map(({ period, inForce }) => [period.digest, inForce, period.broughtBy])).toEqual([
      [digests[0], false, 'the start of the daemon, which read it from its file'], [digests[1], true, 'root (loginuid 1000, SUDO_USER alice) (cordon policy apply)'],
    ])
    expect(report.policies[1]?.sentences?.join('\n')).toContain('*.example.net')
    expect(report.policies[1]?.changes).toEqual(['deny *.example.net:443, by root (loginuid 1000, SUDO_USER alice)'])
    expect(report.policies[1]?.holds).toEqual({ env: ['INDEXNOW_KEY', 'LOG_LEVEL'], api: [], read: ['/srv/www'], sockets: [] })
    expect(report.handed).toEqual({ indexnow: { secrets: ['OLD_KEY', 'INDEXNOW_KEY', 'CDN_TOKEN'], env: ['LOG_LEVEL'] } })
    expect(report.timeline.filter(({ text }) => /DECOY|refused \(at|Seen running/.test(text)).map(({ text, objects, times }) => [text, objects, times])).toEqual([
      ['Seen running for the first time in this run', ['/tmp/.x (eeeeeeeeeeee)'], 1], ['System calls were refused (at least so often)', ['bpf, ptrace'], 5], ['IT TOUCHED A DECOY: asked for the decoy vault.internal', [], 1],
    ])
    expect(report.acts.map(({ who, what }) => `${who}: ${what}`)).toEqual([
      'bearer of a one-time link from 192.0.2.44: was let in', 'session of a one-time link from 192.0.2.44: POST requests', 'root (loginuid 1000, SUDO_USER alice): Apply',
      'root (loginuid 1000, SUDO_USER alice): Deny *.example.net:443', 'root (loginuid 1000, SUDO_USER alice): Disabled',
    ])
    expect(await made(['--plugin', 'indexnow'], false)).not.toContain('abc') // a value of env
  })

  test('of all plugins, of an empty time and of a plugin that nobody knows is a page too', async () => {
    for (const args of [['--since', '73h'], ['--since', '2026-11-01', '--until', '2026-11-02'], ['--plugin', 'nobody']]) {
      const text = await made(args, false)
      expect(text).toMatch(/^<!doctype html>/)
      expect(text).not.toMatch(/NaN|Infinity|undefined/)
    }
  })

  test('--out writes a private file that did not exist', async () => {
    const out = `${stateDir}/r.html`
    await made(['--plugin', 'indexnow', '--out', out], false)
    expect(statSync(out).mode & 0o777).toBe(0o600)
    expect(readFileSync(out, 'utf8')).toMatch(/<\/html>\n$/)
    await expect(made(['--out', out], false)).rejects.toMatchObject({ code: 'AUDIT_REPORT' })
    expect(existsSync(`${stateDir}/none`)).toBe(false)
  })

  test.each([[['--since', '1h', '--until', '2h']], [['stray']], [['--plugin', 'A b']], [['--since', 'x']]])('%j is refused', async (args) => {
    await expect(made(args, false)).rejects.toMatchObject({ code: 'USAGE_BAD_OPTION' })
  })
})

test('every type of record is told in words or belongs to another part', () => {
  for (const type of CATALOGUE.keys()) {
    const told = tell({ seq: 1, time: '', type, origin: 'launcher', plugin: 'a', run: null, policy: null, data: {} })
    expect(told?.text ?? '', type).not.toMatch(/^[a-z]+\.[a-z]+:/)
  }
})

test('a record of a changed log, with names and values that every object has, is told like any other', () => {
  const odd = { toString: 1, valueOf: 1 }
  for (const type of ['toString', 'constructor', '__proto__', 'hasOwnProperty', ...CATALOGUE.keys()]) {
    const data = { programs: [{ path: odd }], changes: [{ sign: odd, field: odd, say: odd }], attempts: [{ destination: odd }], reason: odd, who: odd, lost: odd, calls: odd }
    const told = tell({ seq: 1, time: '', type, origin: 'launcher', plugin: 'constructor', run: null, policy: null, data })
    if (!CATALOGUE.has(type as never)) expect(told?.text, type).toContain(type)
  }
})

test('hostile text is visible and escaped, also beyond ASCII', () => {
  expect(html`<p title="${'"><b>\u202e'}">${'\u0000&<\ud800'}</p>`.text).toBe('<p title="&quot;&gt;&lt;b&gt;\\u{202e}">\\x00&amp;&lt;\\u{d800}</p>')
})

test('a plugin that invents names or repeats itself makes no endless report', () => {
  const timeline = new Timeline()
  const destinations = new Destinations()
  for (let n = 0; n < 30_000; n++) {
    const record = { seq: n, time: '', type: n % 3 === 0 ? 'dns.refused' : n % 3 === 1 ? 'egress.opened' : 'plugin.failed', origin: 'door', plugin: 'a', run: null, policy: null, data: { name: `n${n}.example.org`, code: `c${n}`, reason: `r${n}` } }
    const told = tell(record)
    if (told !== null) timeline.add(n * 1000, n, 'a', told)
    destinations.add(record, n * 1000)
  }
  expect(timeline.rows.length).toBeLessThanOrEqual(2500)
  expect(timeline.leftOut).toBeGreaterThan(0)
  expect(destinations.all.length).toBe(5000)
  expect(destinations.leftOut).toBe(15_000)
})
