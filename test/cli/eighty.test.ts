import { chmodSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { formatRecord } from '../../src/cli/audit-row.ts'
import { COMMANDS } from '../../src/cli/commands.ts'
import { columnsOf, cutTo, padTo } from '../../src/cli/columns.ts'
import { runCli } from '../../src/cli/main.ts'
import { Forge } from '../audit/forge.ts'
import { tempDir } from '../audit/kit.ts'
import { fakeHost, pluginStatus, statusAnswer } from './fake-daemon.ts'

const host = fakeHost('eighty')
/** As long as a plugin's name may be. */
const NAME = `a-plugin-${'with-a-very-long-name-'.repeat(3)}`.slice(0, 64).replace(/-$/, 'x')
const WORDS = 'The quick brown fox jumps over the lazy dog of nobody in particular. '.repeat(4).trim()
const WIDE = '漢字の理由 🦊 '.repeat(20).trim()

async function onTerminal(...argv: string[]): Promise<string[]> {
  const lines: string[] = []
  const say = (line: string): void => void lines.push(...line.split('\n'))
  const trouble: string[] = []
  await runCli(argv, { out: say, err: (line) => trouble.push(line), color: false, terminal: true }, { tree: process.cwd(), version: '0.1.0', signal: new AbortController().signal, loadConfig: () => host.config }, COMMANDS)
  expect(trouble.filter((line) => line.startsWith('error:'))).toEqual([])
  return lines
}

function tooLong(lines: readonly string[]): string[] {
  expect(lines.length).toBeGreaterThan(0)
  return lines.filter((line) => columnsOf(line) > 80)
}

const rule = (id: number, more: object = {}) => ({ id, match: { kind: 'host', name: `${'label-'.repeat(9)}x.${'zone-'.repeat(10)}y.example.org` }, ports: [443, 8443, 9443, 10_443, 11_443, 12_443], private: true, tls: 'require', ech: false, until: '2026-11-20T12:00:00Z', reason: WORDS, ...more })
const REPLIES: Readonly<Record<string, (text: string) => object>> = {
  list: (text) => statusAnswer(pluginStatus(NAME, { state: 'quarantined', reason: text, version: '1.2.3-alpha.4+build.5.of.the.day', learning: '2026-11-20T12:00:00Z' })),
  status: (text) => statusAnswer(pluginStatus(NAME, { state: 'failed', reason: text, unenforced: ['MemoryHigh', 'seccomp', 'IOWeight'], temporary: 3 })),
  why: (text) => ({ ok: { steps: [{ ok: true, text }, { ok: false, text, fix: `cordon policy check ${NAME}` }].map((step) => ({ fix: null, ...step })) } }),
  egress: (text) => ({ ok: {
    rules: { mode: 'enforce', until: null, allow: [rule(1), rule(2, { reason: text })] }, temporary: 0, denied: [`${'x'.repeat(60)}.example.org:443`, 'b.example.net:80'],
    stats: {
      serving: true, open: [{ connection: 3, name: `${'n'.repeat(60)}.example.org`, address: '2001:db8:1234:5678:9abc:def0:1234:5678', port: 65_535, rule: 1, sni: null, bytesOut: 2 ** 40, bytesIn: 2 ** 40, ms: 1e9 }],
      totals: { open: 1, opened: 12_000, refused: 4_000_000, waiting: 100, bytesOut: 2 ** 40, bytesIn: 2 ** 41, queries: 3_000_000, queriesDropped: 20_000, names: 2 },
      refused: [{ what: `${'w'.repeat(100)}.example:443`, code: 'name-not-allowed', say: text, count: 4_000_000 }], spent: { day: '2026-11-20', bytes: 4096 },
    },
  } }),
}

describe('on a terminal of 80 columns', () => {
  test.each(Object.keys(REPLIES).flatMap((command) => [['long words', WORDS] as const, ['wide characters', WIDE] as const].map(([what, text]) => [command, what, text] as const)))('cordon %s fits with long names and %s', async (command, _what, text) => {
    await host.daemon(() => REPLIES[command]?.(text) ?? {})
    expect(tooLong(await onTerminal(command, ...(command === 'list' ? [] : [NAME])))).toEqual([])
  })

  test('audit tail and query cut what does not fit, verify and key break it', async () => {
    const stateDir = tempDir()
    host.config = { ...host.config, stateDir }
    const forge = new Forge().record('log.opened', { pid: 7 }).seal('open')
    for (const [type, reason] of [['isolation.violated', WORDS], ['plugin.quarantined', WIDE], ['gap', WIDE]] as const) forge.record(type, { plugin: NAME, reason, who: `root (SUDO_USER ${WIDE})`, what: WORDS, count: 1 })
    forge.seal()
    chmodSync(join(forge.write(join(stateDir, 'audit')), 'records'), 0o700)
    for (const argv of [['audit', 'tail'], ['audit', 'query'], ['audit', 'key'], ['audit', 'verify', '--at', '2026-11-25T10:03:00.000Z']]) {
      const lines = await onTerminal(...argv)
      expect(tooLong(lines), argv.join(' ')).toEqual([])
      expect(lines.length, argv.join(' ')).toBeGreaterThan(2)
    }
  })

  test('a program gets the sentences of audit verify whole', async () => {
    const stateDir = tempDir()
    host.config = { ...host.config, stateDir }
    new Forge().record('log.opened', { pid: 7 }).seal('open').write(join(stateDir, 'audit'))
    const lines: string[] = []
    await runCli(['audit', 'verify'], { out: (line) => lines.push(line), err: () => undefined, color: false }, { tree: process.cwd(), version: '0.1.0', signal: new AbortController().signal, loadConfig: () => host.config }, COMMANDS)
    expect(Math.max(...lines.map((line) => line.length))).toBeGreaterThan(80)
  })
})

describe('columns', () => {
  test.each([['abc', 3], ['漢字', 4], ['🦊x', 3], ['e\u0301', 1], ['ÄÖ…', 3], ['', 0]])('%j takes %i', (text, columns) => {
    expect(columnsOf(text)).toBe(columns)
  })

  test('what is cut ends visibly and never in half a character; what is padded has its width', () => {
    expect([cutTo('漢字漢字', 4), cutTo('漢字漢', 4), cutTo('🦊🦊', 3), cutTo('abc', 3), cutTo('abcd', 3), cutTo('ab', 0)]).toEqual(['漢…', '漢…', '🦊…', 'abc', 'ab…', ''])
    expect(columnsOf(padTo(cutTo('漢字漢字', 4), 4))).toBe(4)
  })
})

test('a table says of an act when nobody but the command itself says who did it', () => {
  const line = (who_verified: boolean): string => JSON.stringify({ time: '2026-11-20T12:00:00.000Z', seq: 7, plugin: null, origin: 'operator', type: 'admin.act', data: { act: 'stop', who: 'root', who_verified } })
  expect(formatRecord(line(true), false)).toMatch(/stop who=root$/)
  expect(formatRecord(line(false), false)).toMatch(/stop who\?=root$/)
})
