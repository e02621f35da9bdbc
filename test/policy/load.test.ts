import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { execFileSync } from 'node:child_process'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { finishRaw, loadDefaultPolicy, loadPolicies, loadPolicy, type LoadOptions } from '../../src/policy/load.ts'
import { DEFAULT_OWN_PLACES } from '../../src/policy/paths.ts'
import { PolicyError, position } from '../../src/policy/problem.ts'
import type { PluginName } from '../../src/base/ids.ts'

const PRESETS = join(import.meta.dirname, '../../policies')
const drafts: LoadOptions = { presetsDir: PRESETS, own: DEFAULT_OWN_PLACES, ownership: 'reported' }
const strict: LoadOptions = { ...drafts, ownership: 'required' }
const FIRST = 'plugin: demo\nexecutable: { path: /opt/demo }\n'

let dir = ''
beforeEach(() => { dir = mkdtempSync('/tmp/cordon-load-') })
afterEach(() => { rmSync(dir, { recursive: true, force: true }) })

function write(name: string, text: string, mode = 0o644): string {
  const file = join(dir, name)
  writeFileSync(file, text)
  chmodSync(file, mode)
  return file
}

function refusal(run: () => unknown): PolicyError {
  try {
    run()
  } catch (error) {
    if (error instanceof PolicyError) return error
    throw error
  }
  throw new Error('it was accepted')
}

test('absent, unreadable and invalid are three codes', () => {
  expect(refusal(() => loadPolicy(join(dir, 'demo.yaml'), drafts)).code).toBe('POLICY_ABSENT')
  mkdirSync(join(dir, 'demo.yaml'))
  expect(refusal(() => loadPolicy(join(dir, 'demo.yaml'), drafts)).code).toBe('POLICY_UNREADABLE')
  expect(refusal(() => loadPolicy(write('bad.yaml', 'plugin: ['), drafts)).code).toBe('POLICY_INVALID')
})

test('a link, a FIFO, a linked directory and text that is not UTF-8 are refused', () => {
  const file = write('demo.yaml', FIRST)
  symlinkSync(file, join(dir, 'link.yaml'))
  expect(refusal(() => loadPolicy(join(dir, 'link.yaml'), drafts))).toMatchObject({ code: 'POLICY_UNREADABLE', message: expect.stringContaining('symbolic link') as string })
  execFileSync('/usr/bin/mkfifo', [join(dir, 'pipe.yaml')])
  expect(refusal(() => loadPolicy(join(dir, 'pipe.yaml'), drafts))).toMatchObject({ code: 'POLICY_UNREADABLE', message: expect.stringContaining('regular file') as string })
  symlinkSync(dir, `${dir}-link`)
  try {
    expect(refusal(() => loadPolicy(`${dir}-link/demo.yaml`, drafts)).code).toBe('POLICY_UNREADABLE')
  } finally {
    rmSync(`${dir}-link`)
  }
  writeFileSync(join(dir, 'latin.yaml'), Buffer.from([0x70, 0xff]))
  expect(refusal(() => loadPolicy(join(dir, 'latin.yaml'), drafts))).toMatchObject({ code: 'POLICY_INVALID', message: expect.stringContaining('UTF-8') as string })
  expect(loadPolicy(file, drafts).policy.plugin).toBe('demo') // control
})

test('the file must be named after the plugin', () => {
  const error = refusal(() => loadPolicy(write('other.yaml', FIRST), drafts))
  expect(error.problems).toMatchObject([{ code: 'POLICY_NAME_MISMATCH', line: 1, column: 9 }])
})

test('two files that mean the same have one digest, and a changed limit gives another', () => {
  const digest = (text: string) => loadPolicy(write('demo.yaml', text), drafts).digest
  const plain = digest(FIRST)
  expect(plain).toMatch(/^[0-9a-f]{64}$/)
  expect(digest(`# comment\nexecutable:\n  path: "/opt/demo"\nplugin: demo\nlimits: { MemoryMax: 262144K }\n`)).toBe(plain)
  expect(digest(`${FIRST}limits: { MemoryMax: 255M }\n`)).not.toBe(plain)
})

test('presets are found by name; an unknown one, a cycle and an overlong chain are refused', () => {
  expect(loadPolicy(write('demo.yaml', `${FIRST}extends: worker\n`), drafts).policy).toMatchObject({ preset: 'worker', limits: { MemoryMax: 2 ** 30 } })
  const unknown = refusal(() => loadPolicy(write('demo.yaml', `${FIRST}extends: wroker\n`), drafts))
  expect(unknown.problems).toMatchObject([{ code: 'POLICY_PRESET', line: 3, message: expect.stringContaining('worker') as string }])
  const mine = { ...drafts, presetsDir: dir }
  write('a.yaml', 'extends: b\n')
  write('b.yaml', 'extends: a\n')
  expect(refusal(() => loadPolicy(write('demo.yaml', `${FIRST}extends: a\n`), mine)).problems).toMatchObject([{ code: 'POLICY_PRESET', message: expect.stringContaining('leads back') as string }])
  for (let step = 0; step < 6; step++) write(`p${step}.yaml`, step === 5 ? 'limits: {}\n' : `extends: p${step + 1}\n`)
  expect(refusal(() => loadPolicy(write('demo.yaml', `${FIRST}extends: p0\n`), mine)).message).toContain('more than 4 presets')
  expect(loadPolicy(write('demo.yaml', `${FIRST}extends: p3\n`), mine).policy.preset).toBe('p3') // control
})

test('one refused policy does not keep the others from loading, and nothing is skipped silently', () => {
  write('demo.yaml', FIRST)
  write('bad.yaml', 'plugin: bad\nexecutable: { path: /proc/x }\nlimts: {}\n')
  write('old.yml', FIRST)
  write('README', 'x')
  const set = loadPolicies(dir, drafts)
  expect([...set.loaded.keys()]).toEqual(['demo'])
  expect(set.refused.map((one) => [one.plugin, one.error.code, one.error.problems.length])).toEqual([['bad', 'POLICY_INVALID', 2], ['old', 'POLICY_NAME_MISMATCH', 0]])
  expect(set.ignored).toEqual(['README'])
  expect(refusal(() => loadPolicies(join(dir, 'none'), drafts)).code).toBe('POLICY_ABSENT')
})

test('a plugin without a policy gets the preset "default", which grants nothing', () => {
  const { policy, digest } = loadDefaultPolicy('demo' as PluginName, '/var/lib/cordon/plugins/demo', drafts)
  expect(policy).toMatchObject({ plugin: 'demo', preset: 'default', runtime: [], read: [], sockets: [], env: {}, api: { grants: [], legacy: 'deny' }, http: { publicPaths: [] }, unenforced: [] })
  expect(digest).toMatch(/^[0-9a-f]{64}$/)
})

test('what comes from options is held to the rules of a file, and all of its problems are told without a line', () => {
  const raw = { plugin: 'run', executable: { path: '/usr/bin/true' } }
  expect(finishRaw({ ...raw, limits: { MemoryMax: '64M' }, read: [{ path: '/srv/www', reason: 'x' }] }, '(options)', drafts).policy.limits.MemoryMax).toBe(2 ** 26)
  const wrong = { limits: { MemoryMax: '1', CPUQuota: '0%', TasksMax: 0 }, read: [{ path: '/', reason: 'x' }, { path: '/run', reason: 'x' }], env: { PATH: '/x' } }
  let problems: readonly string[] = []
  try {
    finishRaw({ ...raw, ...wrong }, '(options)', drafts)
  } catch (error) {
    problems = error instanceof PolicyError ? error.problems.map((one) => `${one.code} ${position(one)} ${one.message.split(' ')[0] ?? ''}`) : [String(error)]
  }
  expect(problems).toEqual([
    'POLICY_OUT_OF_BOUNDS (options) "limits.MemoryMax"', 'POLICY_OUT_OF_BOUNDS (options) "limits.CPUQuota"', 'POLICY_OUT_OF_BOUNDS (options) "limits.TasksMax"',
    'POLICY_UNSAFE_PATH (options) "read[0].path"', 'POLICY_UNSAFE_PATH (options) "read[1].path"', 'POLICY_BAD_VALUE (options) "env.PATH"',
  ])
})

describe.skipIf(process.getuid?.() !== 0)('as root', () => {
  test('a file of another user or writable by others is not believed, and the control is', () => {
    const file = write('demo.yaml', FIRST)
    expect(loadPolicy(file, strict).policy.plugin).toBe('demo')
    for (const mode of [0o664, 0o646]) {
      chmodSync(file, mode)
      expect(refusal(() => loadPolicy(file, strict)).code, mode.toString(8)).toBe('POLICY_UNTRUSTED')
    }
    chmodSync(file, 0o644)
    chownSync(file, 65534, 0)
    expect(refusal(() => loadPolicy(file, strict))).toMatchObject({ code: 'POLICY_UNTRUSTED', message: expect.stringContaining('uid 65534') as string })
    expect(loadPolicy(file, drafts).distrust).toHaveLength(1)
  })

  test('a directory above it that others can write to is not believed; a sticky one of root is', () => {
    mkdirSync(join(dir, 'a/b'), { recursive: true })
    const file = write('a/b/demo.yaml', FIRST)
    for (const [mode, believed] of [[0o755, true], [0o777, false], [0o775, false], [0o1777, true]] as const) {
      chmodSync(join(dir, 'a'), mode)
      if (believed) expect(loadPolicy(file, strict).policy.plugin).toBe('demo')
      else expect(refusal(() => loadPolicy(file, strict)).code, mode.toString(8)).toBe('POLICY_UNTRUSTED')
    }
    chownSync(join(dir, 'a'), 65534, 65534)
    expect(refusal(() => loadPolicy(file, strict)).code).toBe('POLICY_UNTRUSTED')
    expect(refusal(() => loadPolicies(join(dir, 'a/b'), strict)).code).toBe('POLICY_UNTRUSTED')
  })

  test('a preset that others can write to is not believed either', () => {
    mkdirSync(join(dir, 'presets'))
    write('presets/mine.yaml', 'limits: {}\n', 0o666)
    const file = write('demo.yaml', `${FIRST}extends: mine\n`)
    expect(refusal(() => loadPolicy(file, { ...strict, presetsDir: join(dir, 'presets') })).code).toBe('POLICY_UNTRUSTED')
  })

  test('no descriptor is left open, whatever came of it', () => {
    // What leads to this test's files, and the directories on the way there: the runner opens and closes others meanwhile.
    const target = (fd: string): string => { try { return readlinkSync(`/proc/self/fd/${fd}`) } catch { return '' } }
    const open = () => readdirSync('/proc/self/fd').map(target).filter((path) => ['/', '/tmp'].includes(path) || path.startsWith(dir)).length
    const file = write('demo.yaml', FIRST)
    loadPolicy(file, strict)
    const before = open()
    for (let round = 0; round < 20; round++) {
      loadPolicy(file, strict)
      refusal(() => loadPolicy(join(dir, 'none/demo.yaml'), strict))
      refusal(() => loadPolicy(join(dir, 'none.yaml'), strict))
    }
    expect(open()).toBe(before)
    expect(existsSync(file)).toBe(true)
  })
})
