import { describe, expect, test } from 'vitest'
import { FIRST_OVERLAY_ID } from '../../src/policy/overlay.ts'
import { cordon, fakeHost, pluginStatus, statusAnswer } from './fake-daemon.ts'

const host = fakeHost('egress')
const { daemon } = host

const retuned = (more: object = {}) => () => ({ ok: { closed: 0, held: [], live: true, restarted: false, ...more } })
const rule = (more: object = {}) => ({ id: 1, match: { kind: 'host', name: 'api.example.org' }, ports: [443], private: false, tls: 'require', ech: false, until: null, reason: 'its API', ...more })
const SOON = new Date(Date.now() + 3_600_000).toISOString()
const stats = (more: object = {}) => ({
  serving: true, open: [{ connection: 3, name: 'api.example.org', address: '93.184.215.14', port: 443, rule: 1, sni: 'api.example.org', bytesOut: 2048, bytesIn: 3 * 2 ** 20, ms: 65_000 }],
  totals: { open: 1, opened: 12, refused: 4, waiting: 0, bytesOut: 4096, bytesIn: 5 * 2 ** 20, queries: 30, queriesDropped: 0, names: 2 },
  refused: [{ what: 'tracker.example:443', code: 'name-not-allowed', say: 'No rule names it. If the plugin needs it, add a line to `egress.allow`; if not, this is the wall at work.', count: 4 }],
  spent: { day: '2026-11-20', bytes: 4096 }, ...more,
})
const shown = (rules: object, more: object = {}) => () => ({ ok: { rules: { mode: 'enforce', until: null, allow: [], ...rules }, temporary: 0, denied: [], stats: null, ...more } })

describe('egress', () => {
  test('shows rules and which are temporary, what is open, totals, and what was refused with its sentence', async () => {
    await daemon(shown({ allow: [rule(), rule({ id: FIRST_OVERLAY_ID, match: { kind: 'wildcard', zone: 'example.net' }, ports: [80, 443], until: '2026-11-20T12:00:00Z', reason: 'a trial' })] }, { temporary: 1, stats: stats() }))
    const { status, out, err } = await cordon(host.config, 'egress', 'indexnow')
    expect([status, err]).toEqual([0, ''])
    expect(out).toMatch(/^indexnow: 2 rules, 1 of them temporary; its door is open$/m)
    expect(out).toMatch(/^api\.example\.org +443 +policy +its API$/m)
    expect(out).toMatch(/^\*\.example\.net +80 443 +2026-11-20T12:00:00Z +terminal +a trial$/m)
    expect(out).toMatch(/^api\.example\.org +93\.184\.215\.14 +443 +2K +3M +1m5s$/m)
    expect(out).toContain('12 connections (1 open, 0 waiting), 4 refused')
    expect(out).toContain('4× tracker.example:443 (name-not-allowed)')
    expect(out.replace(/\s+/g, ' ')).toContain('if not, this is the wall at work.')
    expect(out).not.toContain('LEARNING')
    for (const line of out.split('\n')) expect(line.length).toBeLessThanOrEqual(80)
  })

  test('names what the terminal took away from the policy file', async () => {
    await daemon(shown({}, { denied: ['api.example.org:443', '*.example.net:80'] }))
    expect((await cordon(host.config, 'egress', 'indexnow')).out.replace(/\s+/g, ' ')).toContain('Denied from the terminal until the policy is applied: api.example.org:443, *.example.net:80')
  })

  test('says in capitals that a plugin learns, until that is over', async () => {
    await daemon(shown({ mode: 'learn', until: SOON }))
    expect((await cordon(host.config, 'egress', 'indexnow')).out).toContain(`indexnow: LEARNING, NOT PROTECTED until ${SOON}.`)
    host.server?.close()
    await daemon(shown({ mode: 'learn', until: '2026-01-01T00:00:00Z' }))
    expect((await cordon(host.config, 'egress', 'indexnow')).out).not.toContain('LEARNING')
  })

  test('stays within 80 columns and free of control characters, whatever a plugin asked for', async () => {
    const many = Array.from({ length: 64 }, (_, n) => ({ what: `${'x'.repeat(250)}\u001b[2J${n}:443`, code: 'name-not-allowed', say: `\u0007${'y'.repeat(290)}`, count: n + 1 }))
    const open = Array.from({ length: 200 }, (_, n) => ({ connection: n, name: 'n'.repeat(253), address: '2606:4700:4700:0:1111:2222:3333:4444', port: 65_535, rule: null, sni: null, bytesOut: 2 ** 50, bytesIn: 0, ms: 10 ** 9 }))
    await daemon(shown({ allow: [rule({ ports: Array.from({ length: 32 }, (_, n) => 60_000 + n), reason: `r${'\u202e'.repeat(40)}` })] }, { stats: stats({ refused: many, open, totals: { ...stats().totals, open: 300 } }) }))
    const { out } = await cordon(host.config, 'egress', 'indexnow')
    expect(out).toMatch(/^(?:\P{Cc}|\n)*$/u)
    expect(out).not.toContain('\u202e')
    expect(Math.max(...out.split('\n').map((line) => line.length))).toBeLessThanOrEqual(80)
    expect(out).toContain('and 260 more; --json has 200')
    expect(JSON.parse((await cordon(host.config, 'egress', 'indexnow', '--json')).out).stats.open).toHaveLength(200)
  })
})

describe('allow', () => {
  test('asks for one spelling, an end and a reason, and says that it holds now', async () => {
    const asked = await daemon(retuned())
    const before = Date.now()
    const { status, out } = await cordon(host.config, 'allow', 'indexnow', 'API.example.org:443', '--for', '1h', '--reason', 'trial', '--private')
    expect(status).toBe(0)
    expect(asked).toMatchObject([{ type: 'allow', plugin: 'indexnow', destination: 'api.example.org', port: 443, private: true, reason: 'trial', who: expect.stringMatching(/^root/) as string }])
    const until = Date.parse(asked[0]?.type === 'allow' ? asked[0].until : '')
    expect(until - before).toBeGreaterThan(3_598_000)
    expect(until - before).toBeLessThan(3_610_000)
    expect(out.replace(/\s+/g, ' ')).toMatch(/^indexnow may reach api\.example\.org:443 until 20[^ ]+Z, private addresses too in force now$/)
  })

  test.each([
    ['no end', ['indexnow', 'a.example:443', '--reason', 'x'], 64], ['no reason', ['indexnow', 'a.example:443', '--for', '1h'], 64], ['an empty reason', ['indexnow', 'a.example:443', '--for', '1h', '--reason', ' '], 64],
    ['a reason over two lines', ['indexnow', 'a.example:443', '--for', '1h', '--reason', 'x\ny'], 64], ['no port', ['indexnow', 'a.example', '--for', '1h', '--reason', 'x'], 65], ['no destination', ['indexnow', '--for', '1h', '--reason', 'x'], 64],
    ['for ever', ['indexnow', 'a.example:443', '--for', '365d', '--reason', 'x'], 64], ['no time', ['indexnow', 'a.example:443', '--for', '0s', '--reason', 'x'], 64], ['words', ['indexnow', 'a.example:443', '--for', 'long', '--reason', 'x'], 64],
    ['DNS', ['indexnow', 'a.example:53', '--for', '1h', '--reason', 'x'], 65], ['a private everything', ['indexnow', 'public:443', '--for', '1h', '--reason', 'x', '--private'], 64], ['no plugin', ['../x', 'a.example:443', '--for', '1h', '--reason', 'x'], 64],
  ])('with %s asks the daemon nothing', async (_what, args, exit) => {
    const asked = await daemon(retuned())
    expect((await cordon(host.config, 'allow', ...args)).status).toBe(exit)
    expect(asked).toEqual([])
  })

  test('tells ports that the plugin holds itself as its doing, and a plugin that does not run', async () => {
    await daemon(retuned({ held: [8443] }))
    expect((await cordon(host.config, 'allow', 'indexnow', 'a.example:8443', '--for', '1h', '--reason', 'x')).out.replace(/\s+/g, ' ')).toContain('port 8443: held by the plugin itself')
    host.server?.close()
    await daemon(retuned({ live: false }))
    expect((await cordon(host.config, 'allow', 'indexnow', 'a.example:8443', '--for', '1h', '--reason', 'x')).out).toContain('in force with the next start of indexnow')
  })

  test('as JSON has the answer and the end', async () => {
    await daemon(retuned())
    const { out } = await cordon(host.config, 'allow', 'indexnow', 'a.example:443', '--for', '1h', '--reason', 'x', '--json')
    expect(JSON.parse(out)).toEqual({ closed: 0, held: [], live: true, restarted: false, until: expect.stringMatching(/Z$/) as string })
  })
})

describe('deny', () => {
  test('takes one destination, one port of it, or everything, and tells what it ended', async () => {
    const asked = await daemon(retuned({ closed: 2, inFile: true, others: [] }))
    const { out } = await cordon(host.config, 'deny', 'indexnow', 'a.example:443')
    expect(out.replace(/\s+/g, ' ')).toMatch(/^indexnow may no longer reach a\.example:443, also after a restart; its policy file says so still, and opens it again when it is applied .* in force now; 2 open connections ended by it$/)
    await cordon(host.config, 'deny', 'indexnow', '[fd00::]/64')
    await cordon(host.config, 'deny', 'indexnow', '--all')
    expect(asked).toMatchObject([{ destination: 'a.example', port: 443 }, { destination: 'fd00::/64', port: null }, { destination: null, port: null }])
    for (const args of [[], ['indexnow'], ['indexnow', 'a.example', '--all'], ['indexnow', 'a', 'b']]) expect((await cordon(host.config, 'deny', ...args)).status).toBe(64)
    expect(asked).toHaveLength(3)
  })

  test('promises nothing of the file where only the terminal had allowed it, and tells what still passes', async () => {
    await daemon(retuned({ inFile: false, others: ['the rule api.example.org on 443'] }))
    const out = (await cordon(host.config, 'deny', 'indexnow', '*.example.org:443')).out.replace(/\s+/g, ' ')
    expect(out).toBe('indexnow may no longer reach *.example.org:443, which its policy file does not open either a part of it is still let through: the rule api.example.org on 443 in force now')
  })
})

describe('learn', () => {
  test('says in capitals what it costs and when it ends; --stop ends it', async () => {
    const asked = await daemon(retuned())
    const { out } = await cordon(host.config, 'learn', 'indexnow', '--for', '24h')
    expect(out).toMatch(/^indexnow: LEARNING, NOT PROTECTED until 20\S+Z\./)
    expect((await cordon(host.config, 'learn', 'indexnow', '--stop')).out).toContain('cordon policy suggest')
    expect(asked).toMatchObject([{ type: 'learn', until: expect.stringMatching(/Z$/) as string }, { type: 'learn', until: null }])
    for (const args of [['indexnow'], ['indexnow', '--for', '1h', '--stop'], ['indexnow', '--for', '31d'], []]) expect((await cordon(host.config, 'learn', ...args)).status).toBe(64)
    expect(asked).toHaveLength(2)
  })
})

describe('list and status', () => {
  test('say in capitals that a plugin learns, and that the terminal changed its rules', async () => {
    await daemon(() => statusAnswer(pluginStatus('indexnow', { learning: SOON, temporary: 2 }), pluginStatus('other', { door: 'shut' })))
    const list = (await cordon(host.config, 'list')).out
    expect(list.split('\n')[1]).toMatch(/^indexnow +running .*LEARNING, NOT PROTECTED until/)
    expect(list.split('\n')[2]).not.toContain('LEARNING')
    const status = (await cordon(host.config, 'status', 'indexnow')).out.replace(/\s+/g, ' ')
    expect(status).toContain(`egress LEARNING, NOT PROTECTED until ${SOON}; door open; 2 temporary changes from the terminal`)
    expect((await cordon(host.config, 'status', 'other')).out).toMatch(/egress +door shut$/m)
  })
})
