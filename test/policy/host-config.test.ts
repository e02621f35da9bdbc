import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { DEFAULT_HOST_CONFIG, HOST_CONFIG_FILE, loadHostConfig } from '../../src/policy/load-host-config.ts'
import { parseHostConfig } from '../../src/policy/parse.ts'
import { PolicyError } from '../../src/policy/problem.ts'

let dir = ''
beforeEach(() => { dir = mkdtempSync('/tmp/cordon-host-') })
afterEach(() => { rmSync(dir, { recursive: true, force: true }) })

function codes(text: string): string[] {
  try {
    parseHostConfig(text, 'cordon.yaml')
  } catch (error) {
    if (error instanceof PolicyError) return error.problems.map((one) => `${one.line} ${one.code}`)
    throw error
  }
  return []
}

test('without a file the defaults hold; a file that was named must exist', () => {
  expect(loadHostConfig(join(dir, 'cordon.yaml'), 'reported', false)).toEqual({ config: DEFAULT_HOST_CONFIG, file: null, distrust: [], warnings: [] })
  expect(() => loadHostConfig(join(dir, 'cordon.yaml'), 'reported')).toThrow(expect.objectContaining({ code: 'POLICY_ABSENT' }))
  expect(HOST_CONFIG_FILE).toBe('/etc/cordon/cordon.yaml')
})

test('what the file says replaces a default, and the rest stays', () => {
  writeFileSync(join(dir, 'cordon.yaml'), 'listen: "[::1]:0"\nstate_dir: /srv/cordon\nruntime: { kind: runc, path: /usr/sbin/runc }\nuids: { first: 2000000000 }\nunknown: run-default\n', { mode: 0o644 })
  expect(loadHostConfig(join(dir, 'cordon.yaml'), 'reported').config).toEqual({
    listen: { host: '::1', port: 0 }, policiesDir: '/etc/cordon/policies', pluginsDir: '/srv/cordon/plugins', stateDir: '/srv/cordon', runDir: '/run/cordon',
    runtime: { kind: 'runc', path: '/usr/sbin/runc' }, uids: { first: 2_000_000_000, count: 65_536 }, unknown: 'run-default', forwardedUser: null, audit: DEFAULT_HOST_CONFIG.audit,
  })
})

test('a proxy whose word about users is put on record is named by address and header, and by nothing else', () => {
  writeFileSync(join(dir, 'cordon.yaml'), 'forwarded_user: { header: X-Forwarded-User, from: [127.0.0.1, "::1"] }\n', { mode: 0o644 })
  expect(loadHostConfig(join(dir, 'cordon.yaml'), 'reported').config.forwardedUser).toEqual({ header: 'X-Forwarded-User', from: ['127.0.0.1', '::1'] })
  expect(DEFAULT_HOST_CONFIG.forwardedUser).toBeNull()
  for (const wrong of ['{ header: X-Forwarded-User, from: [proxy.example.org] }', '{ header: X-Forwarded-User, from: [] }', '{ header: Authorization, from: [127.0.0.1] }', '{ header: "X Y", from: [127.0.0.1] }', '{ from: [127.0.0.1] }']) {
    expect(codes(`forwarded_user: ${wrong}`), wrong).toHaveLength(1)
  }
})

test('all mistakes of the file are told at once', () => {
  expect(codes([
    'listen: 8480', 'policies_dir: policies', 'state_dir: /', 'run_dir: /run/../x', 'runtime: { path: /usr/bin/crun }', 'uids: { first: 1000, count: 1 }',
    'unknown: run', 'plugin_hosts: "{name}.example.org"', 'lisen: x',
  ].join('\n'))).toEqual([
    '1 POLICY_BAD_VALUE', '2 POLICY_UNSAFE_PATH', '3 POLICY_UNSAFE_PATH', '4 POLICY_UNSAFE_PATH', '5 POLICY_CONFLICT', '6 POLICY_OUT_OF_BOUNDS', '6 POLICY_OUT_OF_BOUNDS',
    '7 POLICY_BAD_VALUE', '8 POLICY_NOT_YET', '9 POLICY_UNKNOWN_FIELD',
  ])
})

test.each(['127.0.0.1', ':8480', '127.0.0.1:65536', '999.0.0.1:80', '::1:80', 'example.org:80', '[::1]', '*:80'])('%s is no address to listen on', (text) => {
  expect(codes(`listen: "${text}"`)).toEqual(['1 POLICY_BAD_VALUE'])
})

test('two places that are one are refused', () => {
  expect(codes('state_dir: /srv/c\nrun_dir: /srv/c\n')).toEqual(['2 POLICY_CONFLICT'])
})

test('a run_dir whose sockets would have longer paths than the kernel takes is refused', () => {
  expect(codes(`run_dir: /run/${'x'.repeat(59)}\n`)).toEqual([])
  expect(codes(`run_dir: /run/${'x'.repeat(60)}\n`)).toEqual(['1 POLICY_OUT_OF_BOUNDS'])
  expect(codes(`run_dir: /run/${'é'.repeat(30)}\n`)).toEqual(['1 POLICY_OUT_OF_BOUNDS'])
})

test('listening beyond this machine is a warning', () => {
  expect(parseHostConfig('listen: 0.0.0.0:80', 'c').warnings).toMatchObject([{ line: 1, column: 9 }])
  expect(parseHostConfig('listen: 127.0.0.2:80', 'c').warnings).toEqual([])
})

test('a uid range that runs over the end of uids is refused', () => {
  expect(codes('uids: { first: 2147483600, count: 100 }')).toEqual(['1 POLICY_OUT_OF_BOUNDS'])
  expect(codes('uids: { first: 2147483500, count: 100 }')).toEqual([])
})

test('copies of records go to journald and syslog, over TLS unless it is said otherwise', () => {
  writeFileSync(join(dir, 'cordon.yaml'), 'audit:\n  export:\n    - { kind: journald }\n    - { kind: syslog, address: "logs.example.org:6514", ca: /etc/ssl/logs.pem }\n    - { kind: syslog, address: "[2001:db8::1]:601", tls: false }\n', { mode: 0o644 })
  expect(loadHostConfig(join(dir, 'cordon.yaml'), 'reported').config.audit.export).toEqual([
    { kind: 'journald' }, { kind: 'syslog', host: 'logs.example.org', port: 6514, tls: true, ca: '/etc/ssl/logs.pem' }, { kind: 'syslog', host: '2001:db8::1', port: 601, tls: false, ca: null },
  ])
})

test.each([
  ['{ kind: syslog }', 'POLICY_MISSING_FIELD'], ['{ kind: journald, tls: true }', 'POLICY_CONFLICT'], ['{ kind: syslog, address: "a:1", tls: false, ca: /x }', 'POLICY_CONFLICT'],
  ['{ kind: syslog, address: "a" }', 'POLICY_BAD_VALUE'], ['{ kind: syslog, address: "a b:1" }', 'POLICY_BAD_VALUE'], ['{ kind: syslog, address: "a:0" }', 'POLICY_BAD_VALUE'], ['{ kind: file }', 'POLICY_BAD_VALUE'],
  ['{ kind: journald }, { kind: journald }', 'POLICY_CONFLICT'],
])('%s is no place for copies of records', (sinks, code) => {
  expect(codes(`audit: { export: [${sinks}] }`)).toEqual([`1 ${code}`])
})

test('a witness has a name that is a file name, an http address and a key in the form that it prints', () => {
  const good = "{ name: cellar, url: 'http://192.0.2.7:8481', key: 'w.example/w+0a1b2c3d+BAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g' }"
  const found = (text: string): string[] => codes(`audit: { witnesses: [${text}] }`)
  expect(found(good)).toEqual([])
  for (const [from, to] of [['cellar', '../x'], ['cellar', '.x'], ['cellar', 'A'], ['http:', 'ftp:'], ['192.0.2.7', 'a@b'], ['0a1b2c3d', 'x'], ['+BAEC', ' BAEC']] as const) expect(found(good.replace(from, to)), to).toEqual([expect.stringMatching(/^1 POLICY_/)])
  expect(found(`${good}, ${good}`)).toEqual(['1 POLICY_CONFLICT'])
  writeFileSync(join(dir, 'cordon.yaml'), `audit: { witnesses: [${good}] }\n`, { mode: 0o644 })
  expect(loadHostConfig(join(dir, 'cordon.yaml'), 'reported').config.audit.witnesses).toMatchObject([{ name: 'cellar', url: 'http://192.0.2.7:8481' }])
})
