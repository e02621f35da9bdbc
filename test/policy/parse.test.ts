import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseHostConfig, parsePolicy, parsePreset } from '../../src/policy/parse.ts'
import { PolicyError, type PolicyProblem } from '../../src/policy/problem.ts'
import { MAX_DEPTH, MAX_FILE_BYTES } from '../../src/policy/strict-yaml.ts'

const FIRST = 'plugin: demo\nexecutable: { path: /opt/demo/bin }\n'

function problems(text: string, parse: (text: string, file: string) => unknown = parsePolicy): readonly PolicyProblem[] {
  try {
    parse(text, 'demo.yaml')
  } catch (error) {
    if (error instanceof PolicyError) return error.problems
    throw error
  }
  return []
}

const brief = (list: readonly PolicyProblem[]) => list.map((one) => `${one.line}:${one.column} ${one.code}`)

test('a file with ten mistakes reports ten problems, each with its code and place', () => {
  const text = [
    'plugin: Demo', //                                     1  not a plugin name
    'executable: { path: ../demo, sha256: ABC }', //       2  relative; 3 not hex
    'limits:',
    '  MemoryMax: 12MB', //                                4  not our unit
    '  TasksMax: 2', //                                    5  out of bounds
    '  DiskMax: 1G', //                                    6  not yet
    'read:',
    '  - { path: /srv/www }', //                           7  no reason
    'netwrok: none', //                                    8  unknown
    'env: { PATH: /bin }', //                              9  set by Cordon
    'api: { grants: [project_read] }', //                 10  misspelt
  ].join('\n')
  expect(brief(problems(text))).toEqual([
    '1:9 POLICY_BAD_VALUE',
    '2:21 POLICY_UNSAFE_PATH',
    '2:38 POLICY_BAD_VALUE',
    '4:14 POLICY_BAD_VALUE',
    '5:13 POLICY_OUT_OF_BOUNDS',
    '6:3 POLICY_NOT_YET',
    '8:5 POLICY_MISSING_FIELD',
    '9:1 POLICY_UNKNOWN_FIELD',
    '10:8 POLICY_BAD_VALUE',
    '11:17 POLICY_BAD_VALUE',
  ])
})

test('the message tells how many more there are, and the hint mends the first', () => {
  const error = ((): unknown => {
    try {
      return parsePolicy(`${FIRST}limts: {}\nreed: []\n`, 'demo.yaml')
    } catch (thrown) {
      return thrown
    }
  })()
  expect(error).toBeInstanceOf(PolicyError)
  expect(error).toMatchObject({ code: 'POLICY_INVALID', message: 'demo.yaml:3:1 unknown field "limts" (and 1 more in this file)', hint: 'Did you mean "limits"?' })
})

test('a smallest policy is accepted, and all fields at once are', () => {
  expect(problems(FIRST)).toEqual([])
  expect(problems(`plugin: demo
extends: default
executable: { path: /opt/demo, entry: bin/demo, sha256: "${'0a'.repeat(32)}" }
runtime: [{ path: /opt/node, reason: runs it }]
limits: { MemoryMax: 1G, MemoryHigh: 900M, CPUQuota: 150%, CPUWeight: 1, IOWeight: 10000, IOReadBandwidthMax: 10M, IOWriteBandwidthMax: 64000, TasksMax: 4, LimitNOFILE: 16, TmpMax: 1048576, EgressMax: 200M/day, MaxConnections: 1024 }
egress:
  mode: learn
  until: 2026-12-31
  allow:
    - { host: api.indexnow.org, ports: [443], reason: submits URLs }
    - { host: "*.bing.com", ports: [443, 8443], tls: auto, ech: true, reason: submits URLs, until: 2026-12-31T18:00:00Z }
    - { host: public, ports: [443], reason: crawls any public site }
    - { host: host.internal, ports: [8080], tls: off, reason: the host API }
    - { cidr: 10.0.5.7/32, ports: [5432], private: true, reason: its own database }
tripwires: true
read: [{ path: /srv/www, reason: the site }]
sockets: [{ path: /run/postgresql/.s.PGSQL.5432, reason: its database }]
env: { LOG_LEVEL: info, LD_PRELOAD: /plugin/x.so }
api: { grants: [projects_read, events_read], legacy: grant }
http: { public_paths: [/hooks, /hooks-2/in] }
restart: { on: never, backoff: 100ms..1h, start_limit: 100 in 7d }
unenforced: [MemoryHigh]
`)).toEqual([])
})

describe('YAML that could be read in two ways is refused', () => {
  test.each([
    ['a repeated field', `${FIRST}env: {}\nenv: {}\n`, '4:1 POLICY_YAML_FEATURE'],
    ['a field repeated in flow style', `${FIRST}env: { A: x, A: y }\n`, '3:14 POLICY_YAML_FEATURE'],
    ['an anchor', `${FIRST}env: &e { A: x }\n`, '3:9 POLICY_YAML_FEATURE'],
    ['an explicit tag', `${FIRST}env: { A: !!str 5 }\n`, '3:17 POLICY_YAML_FEATURE'],
    ['a tag of its own', `${FIRST}env: { A: !run x }\n`, '3:16 POLICY_YAML_FEATURE'],
    ['a second document', `${FIRST}---\nenv: {}\n`, '3:1 POLICY_YAML_FEATURE'],
    ['a directive', `%YAML 1.1\n---\n${FIRST}`, '1:1 POLICY_YAML_FEATURE'],
    ['a merge key', `${FIRST}<<: { env: {} }\n`, '3:1 POLICY_UNKNOWN_FIELD'],
    ['a number as field name', `${FIRST}env: { 1: x }\n`, '3:8 POLICY_YAML_FEATURE'],
    ['a list as field name', `${FIRST}? [a]\n: b\n`, '3:3 POLICY_YAML_FEATURE'],
    ['__proto__ as field name', `${FIRST}__proto__: { read: [] }\n`, '3:1 POLICY_UNKNOWN_FIELD'],
    ['__proto__ as a variable', `${FIRST}env: { __proto__: x }\n`, '3:8 POLICY_UNKNOWN_FIELD'],
    ['a YAML 1.1 boolean', `${FIRST}api: { legacy: no }\n`, '3:16 POLICY_BAD_VALUE'],
    ['an octal-looking number', `${FIRST}env: { A: 010 }\n`, '3:11 POLICY_BAD_VALUE'],
  ])('%s', (_title, text, expected) => {
    expect(brief(problems(text))).toEqual([expected])
  })

  test('an alias is one problem with its anchor, and not also a missing value', () => {
    expect(brief(problems(`${FIRST}read: &r []\nruntime: *r\n`))).toEqual(['3:10 POLICY_YAML_FEATURE', '4:10 POLICY_YAML_FEATURE'])
  })
})

describe('text that is no policy at all', () => {
  test.each([
    ['empty', '', '1:1 POLICY_SYNTAX'],
    ['only a comment', '# nothing\n', '1:1 POLICY_SYNTAX'],
    ['null', '~\n', '1:1 POLICY_SYNTAX'],
    ['a list', '- plugin: demo\n', '1:1 POLICY_SYNTAX'],
    ['a word', 'plugin\n', '1:1 POLICY_SYNTAX'],
    ['an open bracket', `${FIRST}read: [\n`, '4:1 POLICY_SYNTAX'],
    ['a tab as indentation', `${FIRST}limits:\n\tTasksMax: 4\n`, '4:1 POLICY_SYNTAX'],
    ['a NUL', 'plugin: a\0b\n', '1:10 POLICY_SYNTAX'],
    ['a direction override in a comment', `${FIRST}# \u202e\n`, '3:3 POLICY_SYNTAX'],
    ['too large', `${FIRST}#${'x'.repeat(MAX_FILE_BYTES)}`, '1:1 POLICY_TOO_LARGE'],
    ['deep brackets', `${FIRST}read: ${'['.repeat(50_000)}`, `3:${7 + MAX_DEPTH - 1} POLICY_TOO_LARGE`],
    ['deep dashes', '- '.repeat(50_000), null],
    ['deep question marks', '? '.repeat(50_000), null],
    ['deep braces', '{a: '.repeat(50_000), null],
  ])('%s', (_title, text, expected) => {
    const found = problems(text)
    if (expected === null) expect(found.map((one) => one.code)).toEqual(['POLICY_TOO_LARGE'])
    else expect(brief(found).slice(0, 1)).toEqual([expected])
  })
})

describe('what only later versions enforce is refused by name', () => {
  test.each([
    ['secrets: [KEY]', 'no secret is handed'],
    ['limits: { DiskMax: 1G }', 'no size of its own'],
    ['api: { events: ["deployment.*"] }', 'no platform events'],
  ])('%s', (line, today) => {
    const found = problems(`${FIRST}${line}\n`)
    expect(found.map((one) => one.code)).toEqual(['POLICY_NOT_YET'])
    expect(found[0]?.message).toContain(today)
  })
})

describe('values out of form or bounds', () => {
  test.each([
    ['limits: { MemoryMax: 15M }', 'POLICY_OUT_OF_BOUNDS', 'expected 16M to 1T'],
    ['limits: { MemoryMax: 2T }', 'POLICY_OUT_OF_BOUNDS', 'expected 16M to 1T'],
    ['limits: { MemoryMax: infinity }', 'POLICY_BAD_VALUE', 'as in 256M'],
    ['limits: { MemoryMax: 512mib }', 'POLICY_BAD_VALUE', 'as in 512M'],
    ['limits: { MemoryMax: -1 }', 'POLICY_BAD_VALUE', 'whole number of bytes'],
    ['limits: { MemoryMax: 1.5G }', 'POLICY_BAD_VALUE', 'whole number of bytes'],
    ['limits: { MemoryMax: .inf }', 'POLICY_BAD_VALUE', 'a whole number'],
    ['limits: { MemoryMax: 9007199254740993 }', 'POLICY_BAD_VALUE', 'below 8192T'],
    ['limits: { MemoryMax: [1] }', 'POLICY_BAD_VALUE', 'a list of 1'],
    ['limits: { CPUQuota: 25 }', 'POLICY_BAD_VALUE', 'expected text'],
    ['limits: { CPUQuota: 0% }', 'POLICY_OUT_OF_BOUNDS', '1% to'],
    ['limits: { TasksMax: 3 }', 'POLICY_OUT_OF_BOUNDS', '4 or more'],
    ['limits: { TasksMax: 32769 }', 'POLICY_OUT_OF_BOUNDS', '32768 or less'],
    ['limits: { MaxConnections: 1025 }', 'POLICY_OUT_OF_BOUNDS', '1024 or less'],
    ['limits: { LimitNOFILE: 15 }', 'POLICY_OUT_OF_BOUNDS', '16 or more'],
    ['limits: { IOReadBandwidthMax: 1K }', 'POLICY_OUT_OF_BOUNDS', '64K to 1T'],
    ['limits: { MemoryMax: 64M, MemoryHigh: 64M }', 'POLICY_CONFLICT', 'less than MemoryMax'],
    ['limits: { MemoryMax: 64M, TmpMax: 64M }', 'POLICY_CONFLICT', 'killed instead of an error'],
    ['executable2: {}', 'POLICY_UNKNOWN_FIELD', 'executable2'],
    ['read: [{ path: /srv, reason: " " }]', 'POLICY_BAD_VALUE', 'say why'],
    ['read: [{ path: /srv, reason: "a\\nb" }]', 'POLICY_BAD_VALUE', 'one line'],
    ['read: [{ path: /srv, reason: a }, { path: /srv, reason: b }]', 'POLICY_CONFLICT', 'twice'],
    ['read: /srv', 'POLICY_BAD_VALUE', 'expected a list'],
    ['env: { "A=B": x }', 'POLICY_BAD_VALUE', 'no variable name'],
    ['env: { HOME: /x }', 'POLICY_BAD_VALUE', 'set by Cordon'],
    ['env: { A: "x\\0y" }', 'POLICY_BAD_VALUE', 'no NUL'],
    ['env: { PORT: 8080 }', 'POLICY_BAD_VALUE', 'expected text'],
    ['http: { public_paths: [/] }', 'POLICY_UNSAFE_PATH', 'every page'],
    ['http: { public_paths: [//] }', 'POLICY_UNSAFE_PATH', 'every page'],
    ['http: { public_paths: [hooks] }', 'POLICY_UNSAFE_PATH', 'starts with'],
    ['http: { public_paths: [/a/../b] }', 'POLICY_UNSAFE_PATH', '..'],
    ['http: { public_paths: [/a%2e] }', 'POLICY_UNSAFE_PATH', 'plain characters'],
    ['http: { public_paths: ["/a?b"] }', 'POLICY_UNSAFE_PATH', 'plain characters'],
    ['http: { public_paths: ["/a#b"] }', 'POLICY_UNSAFE_PATH', 'plain characters'],
    ['http: { public_paths: ["/a\\\\b"] }', 'POLICY_UNSAFE_PATH', 'plain characters'],
    ['http: { public_paths: [/_temps/channel] }', 'POLICY_UNSAFE_PATH', 'never public'],
    ['http: { public_paths: [/_events] }', 'POLICY_UNSAFE_PATH', 'never public'],
    ['restart: { on: on-failure }', 'POLICY_BAD_VALUE', 'failure, always, never'],
    ['restart: { backoff: 60s..1s }', 'POLICY_BAD_VALUE', 'shorter duration first'],
    ['restart: { backoff: 1s }', 'POLICY_BAD_VALUE', 'two durations'],
    ['restart: { backoff: 1ms..60s }', 'POLICY_OUT_OF_BOUNDS', '100ms to 1h'],
    ['restart: { start_limit: 3/1h }', 'POLICY_BAD_VALUE', '3 in 1h'],
    ['restart: { start_limit: 0 in 1h }', 'POLICY_OUT_OF_BOUNDS', '1 to 100'],
    ['limits: { EgressMax: 200M }', 'POLICY_BAD_VALUE', 'as in 200M/day'],
    ['limits: { EgressMax: 200MB/day }', 'POLICY_BAD_VALUE', 'as in 200M/day'],
    ['limits: { EgressMax: 1K/day }', 'POLICY_OUT_OF_BOUNDS', '1M/day to 16T/day'],
    ['tripwires: []', 'POLICY_BAD_VALUE', 'true, false, record, quarantine'],
    ['tripwires: quarantaine', 'POLICY_BAD_VALUE', 'true, false, record, quarantine'],
    ['egress:', 'POLICY_BAD_VALUE', 'is empty'],
    ['unenforced: [seccomp]', 'POLICY_BAD_VALUE', 'one of'],
    ['extends: ../../etc/x', 'POLICY_BAD_VALUE', 'name of a preset'],
  ])('%s', (line, code, words) => {
    const found = problems(`${FIRST}${line}\n`)
    expect(found.map((one) => one.code)).toEqual([code])
    expect(found[0]?.message).toContain(words)
    expect(found[0]?.line).toBe(3)
  })

  test('a message shows hostile text escaped', () => {
    const [found] = problems(`${FIRST}"a\\e[2Jb": 1\n`)
    expect(found?.message).toBe('unknown field "a\\x1b[2Jb"')
  })
})

test('a preset names no program and a policy must', () => {
  expect(problems('limits: { TasksMax: 4 }', parsePreset)).toEqual([])
  expect(brief(problems(FIRST, parsePreset))).toEqual(['1:1 POLICY_UNKNOWN_FIELD', '2:1 POLICY_UNKNOWN_FIELD'])
  expect(problems('limits: { TasksMax: 4 }').map((one) => one.code)).toEqual(['POLICY_MISSING_FIELD', 'POLICY_MISSING_FIELD'])
})

test('what is allowed and dangerous is a warning with its place', () => {
  const { warnings } = parsePolicy(`${FIRST}read: [{ path: /home/ann/site, reason: x }]\napi: { legacy: grant }\n`, 'demo.yaml')
  expect(warnings.map((one) => `${one.line} ${one.message}`)).toEqual([
    expect.stringMatching(/^2 "executable.sha256" is absent/), expect.stringMatching(/^3 "read\[0\].path" "\/home\/ann\/site"/), expect.stringMatching(/^4 "api.legacy"/),
  ])
})

describe('parsing never throws anything but a PolicyError, and always says where', () => {
  const check = (text: string): void => {
    for (const parse of [parsePolicy, parsePreset, parseHostConfig]) {
      try {
        parse(text, 'x.yaml')
      } catch (error) {
        if (!(error instanceof PolicyError)) throw error
        expect(error.problems.length).toBeGreaterThan(0)
        for (const one of error.problems) {
          expect(one.line).toBeGreaterThan(0)
          expect(one.column).toBeGreaterThan(0)
          expect(one.message).not.toMatch(/[\u0000-\u001f]/)
        }
      }
    }
  }
  test('on any text', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary', maxLength: 300 }), check), { seed: 20261120, numRuns: 400 })
  })
  test('on text made of YAML and our words', () => {
    const words = ['plugin', 'demo', 'executable', 'path', 'read', 'limits', 'MemoryMax', '256M', 'env', 'egress', 'allow', 'host', 'cidr', 'ports', 'mode', 'learn', 'until', '2026-12-31', '10.0.0.0/8', '*.', '443', '__proto__', 'reason', '/srv', ': ', ':', '- ', '[', ']', '{', '}', ', ', '\n', '\n  ', '\n    ', '&a ', '*a', '!!str ', '!x ', '"', "'", '|\n', '>-\n', '? ', '%YAML 1.1\n', '---\n', '...\n', '# ', '<<: ', '~', '\t', '1e999', '.nan', '0x1', '\\u0000', '\ufeff', '@', '`']
    fc.assert(fc.property(fc.array(fc.constantFrom(...words), { maxLength: 60 }).map((parts) => parts.join('')), check), { seed: 20261120, numRuns: 1500 })
  })
  test('on a good file with some characters changed', () => {
    const good = `${FIRST}limits: { MemoryMax: 1G, CPUQuota: 50% }\nread: [{ path: /srv/www, reason: the site }]\negress: { mode: learn, until: 2026-12-31, allow: [{ host: a.org, ports: [443], reason: x }, { cidr: 10.0.0.0/8, private: true, ports: [1], reason: y }] }\nhttp:\n  public_paths: [/hooks]\nrestart: { backoff: 1s..60s }\n`
    const edit = fc.array(fc.tuple(fc.nat(good.length), fc.nat(8), fc.string({ maxLength: 4 })), { minLength: 1, maxLength: 4 })
    fc.assert(fc.property(edit, (edits) => {
      check(edits.reduce((text, [at, cut, put]) => text.slice(0, at) + put + text.slice(at + cut), good))
    }), { seed: 20261120, numRuns: 800 })
  })
})
