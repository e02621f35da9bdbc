import { createHash } from 'node:crypto'
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { CommandIo } from '../../src/cli/io.ts'
import { policyCheck } from '../../src/cli/policy-check.ts'
import { policyExplain } from '../../src/cli/policy-explain.ts'
import { policyInit } from '../../src/cli/policy-init.ts'
import { DEFAULT_HOST_CONFIG } from '../../src/policy/load-host-config.ts'

const presetsDir = join(import.meta.dirname, '../../policies')
const FIRST = 'plugin: demo\nexecutable: { path: /opt/demo }\n'

let dir = ''
let options = { config: DEFAULT_HOST_CONFIG, presetsDir }
beforeEach(() => {
  dir = mkdtempSync('/tmp/cordon-cli-policy-')
  options = { config: { ...DEFAULT_HOST_CONFIG, policiesDir: join(dir, 'policies'), pluginsDir: join(dir, 'plugins') }, presetsDir }
  mkdirSync(options.config.policiesDir, { mode: 0o755 })
  mkdirSync(options.config.pluginsDir, { mode: 0o755 })
})
afterEach(() => { rmSync(dir, { recursive: true, force: true }) })

function terminal(json = false): CommandIo & { readonly stdout: string[]; readonly stderr: string[] } {
  const stdout: string[] = []
  const stderr: string[] = []
  return { out: (line) => { stdout.push(line) }, err: (line) => { stderr.push(line) }, json, color: false, stdout, stderr }
}
const write = (name: string, text: string): string => {
  writeFileSync(join(options.config.policiesDir, name), text, { mode: 0o644 })
  return join(options.config.policiesDir, name)
}

describe('policy check', () => {
  test('shows every problem of every file with a hint, and ends with 65', async () => {
    write('demo.yaml', `${FIRST}limts: {}\nread: [{ path: /proc, reason: x }]\n`)
    write('good.yaml', FIRST.replace('demo', 'good'))
    const io = terminal()
    expect(await policyCheck([], io, options)).toBe(65)
    expect(io.stdout.slice(0, 4)).toEqual([
      `error: POLICY_UNKNOWN_FIELD ${join(dir, 'policies/demo.yaml')}:3:1 unknown field "limts"`,
      'hint:  Did you mean "limits"?',
      expect.stringContaining(`error: POLICY_UNSAFE_PATH ${join(dir, 'policies/demo.yaml')}:4:16 "read[0].path" "/proc" is refused`),
      'hint:  Name the narrowest path that the plugin needs.',
    ])
    const named = terminal() // where owners are no problems: these tests may run as anybody
    expect(await policyCheck(['demo', 'good'], named, options)).toBe(65)
    expect(named.stdout).toContainEqual(expect.stringMatching(/^ok: .*good\.yaml \(policy [0-9a-f]{12}\)$/))
  })

  test('an absent file ends with 66, a good one with 0', async () => {
    expect(await policyCheck(['demo'], terminal(), options)).toBe(66)
    write('demo.yaml', FIRST)
    expect(await policyCheck(['demo'], terminal(), options)).toBe(0)
    expect(await policyCheck([join(dir, 'policies/demo.yaml')], terminal(), options)).toBe(0)
  })

  test('a file behind a linked directory is found, a file that is a link is not', async () => {
    const file = write('demo.yaml', FIRST)
    symlinkSync(join(dir, 'policies'), join(dir, 'linked'))
    expect(await policyCheck([join(dir, 'linked/demo.yaml')], terminal(), options)).toBe(0)
    symlinkSync(file, join(dir, 'demo.yaml'))
    expect(await policyCheck([join(dir, 'demo.yaml')], terminal(), options)).toBe(74)
  })

  test('cordon.yaml is checked as the configuration of the host', async () => {
    const file = join(dir, 'cordon.yaml')
    writeFileSync(file, 'listen: nowhere\n', { mode: 0o644 })
    const io = terminal()
    expect(await policyCheck([file], io, options)).toBe(65)
    expect(io.stdout[0]).toContain('cordon.yaml:1:9 "listen" is "nowhere"')
    writeFileSync(file, 'unknown: wait\n')
    expect(await policyCheck([file], terminal(), options)).toBe(0)
  })

  test('--json gives one object with codes and places', async () => {
    write('demo.yaml', `${FIRST}limts: {}\n`)
    const io = terminal(true)
    expect(await policyCheck([], io, options)).toBe(65)
    expect(io.stdout).toHaveLength(1)
    expect(JSON.parse(io.stdout[0] ?? '')).toMatchObject({ ok: false, files: [{ plugin: 'demo', digest: null, problems: [{ code: 'POLICY_UNKNOWN_FIELD', line: 3, column: 1 }] }] })
  })

  test('--resolve asks the resolver for the names, and nothing asks it otherwise', async () => {
    write('demo.yaml', `${FIRST}egress: { allow: [{ host: blocked.com, ports: [443], reason: x }, { host: "*.example.com", ports: [443], reason: x }] }\n`)
    const asked: string[] = []
    const ask = async (name: string): Promise<string[]> => {
      asked.push(name)
      return ['0.0.0.0']
    }
    expect(await policyCheck(['demo'], terminal(), options, ask)).toBe(0)
    expect(asked).toEqual([])
    const io = terminal()
    expect(await policyCheck(['demo', '--resolve'], io, options, ask)).toBe(0)
    expect(asked).toEqual(['blocked.com'])
    expect(io.stdout.join('\n')).toMatch(/warning: .*demo\.yaml blocked\.com resolves to 0\.0\.0\.0 on this host today: a DNS filter/)
    const json = terminal(true)
    await policyCheck(['demo', '--resolve'], json, options, ask)
    expect(Object.keys((JSON.parse(json.stdout[0] ?? '') as { files: object[] }).files[0] ?? {})).not.toContain('policy')
  })

  test('an unknown option is refused', async () => {
    await expect(policyCheck(['--al'], terminal(), options)).rejects.toMatchObject({ code: 'USAGE_BAD_OPTION' })
  })

  test.skipIf(process.getuid?.() !== 0)('who may write a file counts for the host, and is a warning for a draft', async () => {
    const file = write('demo.yaml', FIRST)
    chmodSync(file, 0o666)
    expect(await policyCheck([], terminal(), options)).toBe(77)
    const io = terminal()
    expect(await policyCheck([file], io, options)).toBe(0)
    expect(io.stdout.join('\n')).toContain('the daemon would refuse it as it lies there')
    chmodSync(file, 0o644)
    expect(await policyCheck([], terminal(), options)).toBe(0)
  })
})

describe('policy init', () => {
  test('writes a starter that passes the check, pins the hash of what is there, and is readable to all', async () => {
    writeFileSync(join(dir, 'plugins/demo'), 'program')
    expect(await policyInit(['demo'], terminal(), options)).toBe(0)
    const file = join(dir, 'policies/demo.yaml')
    expect(statSync(file).mode & 0o7777).toBe(0o644)
    expect(readFileSync(file, 'utf8')).toContain(createHash('sha256').update('program').digest('hex'))
    expect(await policyCheck(['demo'], terminal(), options)).toBe(0)
    const io = terminal()
    await policyExplain(['demo'], io, { ...options, renderOci: () => null })
    expect(io.stdout.join('\n')).toContain('Host API permissions: none')
  })

  test('every commented example in it holds once the comment is taken away', async () => {
    await policyInit(['demo', '--executable', '/opt/demo', '--preset', 'worker'], terminal(), options)
    const file = join(dir, 'policies/demo.yaml')
    const text = readFileSync(file, 'utf8')
    const open = text.replaceAll(/^# (?=limits:|read:|egress:|runtime:|sockets:|env:|api:|http:|restart:| )/gm, '')
    expect(open).not.toBe(text)
    writeFileSync(file, open.replace(/^\s+# sha256:.*\n/m, ''))
    const io = terminal()
    expect(await policyCheck(['demo'], io, options), io.stdout.join('\n')).toBe(0)
  })

  test('never overwrites, and writes nothing that it would refuse', async () => {
    write('demo.yaml', 'mine')
    await expect(policyInit(['demo'], terminal(), options)).rejects.toMatchObject({ code: 'POLICY_EXISTS' })
    expect(readFileSync(join(dir, 'policies/demo.yaml'), 'utf8')).toBe('mine')
    await expect(policyInit(['other', '--executable', '/proc/self/exe'], terminal(), options)).rejects.toThrow()
    await expect(policyInit(['other', '--preset', 'none'], terminal(), options)).rejects.toMatchObject({ code: 'POLICY_INVALID' })
    await expect(policyInit(['../other'], terminal(), options)).rejects.toMatchObject({ code: 'USAGE_BAD_OPTION' })
    await expect(policyInit([], terminal(), options)).rejects.toMatchObject({ code: 'USAGE_BAD_OPTION' })
    expect(statSync(join(dir, 'policies/other.yaml'), { throwIfNoEntry: false })).toBeUndefined()
  })
})

describe('policy explain', () => {
  test('sentences, JSON, or what the runtime is told', async () => {
    write('demo.yaml', FIRST)
    const say = async (args: string[], json = false): Promise<string> => {
      const io = terminal(json)
      expect(await policyExplain(args, io, { ...options, renderOci: (policy) => ({ ociVersion: '1.0.2', hostname: policy.plugin }) })).toBe(0)
      return io.stdout.join('\n')
    }
    expect(await say(['demo'])).toMatch(/Network: none\.[\s\S]*Policy digest: [0-9a-f]{64}$/)
    expect(JSON.parse(await say(['demo'], true))).toMatchObject({ plugin: 'demo', policy: { limits: { TasksMax: 64 } } })
    expect(JSON.parse(await say(['demo', '--oci']))).toEqual({ ociVersion: '1.0.2', hostname: 'demo' })
  })
})
