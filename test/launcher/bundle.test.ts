import { lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { RunId } from '../../src/base/ids.ts'
import { bundlePaths, makeRoot, writeConfig } from '../../src/launcher/bundle.ts'
import type { PlanMount, SandboxPlan } from '../../src/plan/plan.ts'
import { pluginPlan, UNIFIED } from '../plan/plans.ts'

let dir: string
let plan: SandboxPlan
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'cordon-bundle-'))
  // What the plan binds must exist, as a file or as a directory.
  const isFile = ({ destination }: PlanMount): boolean => ['/.cordon/init', '/run/postgresql/.s.PGSQL.5432'].includes(destination)
  const mounts = pluginPlan(UNIFIED).mounts.map((mount, i) => {
    if (mount.type !== 'bind') return mount
    const source = `${dir}/source-${i}`
    if (isFile(mount)) writeFileSync(source, '')
    else mkdirSync(source)
    return { ...mount, source }
  })
  plan = { ...pluginPlan(UNIFIED), rootPath: `${dir}/root`, mounts }
  makeRoot(plan, new Map())
})
afterEach(() => rmSync(dir, { recursive: true }))

const entries = (): string[] => readdirSync(plan.rootPath, { recursive: true }).map((name) => `/${String(name)}`).sort()
const inRoot = (path: string): string => `${plan.rootPath}${path}`

test('every mount point is there before the runtime starts, of the right kind', () => {
  for (const { destination, type, source } of plan.mounts.filter((mount) => !mount.destination.startsWith('/dev/'))) {
    const wanted = type === 'bind' && !statSync(source).isDirectory() ? 'file' : 'directory'
    expect([destination, lstatSync(inRoot(destination)).isDirectory() ? 'directory' : 'file']).toEqual([destination, wanted])
  }
})

test('its only links stay inside: those of a merged /usr, two for old paths, and the time zone', () => {
  const links = entries().filter((path) => lstatSync(inRoot(path)).isSymbolicLink())
  const merged = ['bin', 'sbin', 'lib', 'lib64', 'lib32', 'libx32'].map((name) => `/${name}`)
  for (const link of links) {
    const target = readlinkSync(inRoot(link))
    if (merged.includes(link)) expect(target).toBe(`usr${link}`)
    else if (link === '/etc/localtime') expect(target).toMatch(/^\/usr\/share\/zoneinfo\//)
    else expect([link, target]).toEqual(link === '/var/tmp' ? ['/var/tmp', '../tmp'] : ['/var/run', '../run'])
  }
  expect(links).toEqual(expect.arrayContaining(['/bin', '/lib', '/sbin', '/var/run', '/var/tmp']))
})

test('nothing in it can be written by another user, nothing is setuid, everything can be entered', () => {
  for (const path of entries().filter((one) => !lstatSync(inRoot(one)).isSymbolicLink())) {
    const { mode } = lstatSync(inRoot(path))
    expect([path, mode & 0o7022]).toEqual([path, 0])
    if (lstatSync(inRoot(path)).isDirectory()) expect([path, mode & 0o777]).toEqual([path, 0o755])
  }
})

test('/etc names nobody of this machine and no resolver of its network', () => {
  const made = entries().filter((path) => path.startsWith('/etc/') && lstatSync(inRoot(path)).isFile())
  expect(made).toEqual(['/etc/group', '/etc/hostname', '/etc/hosts', '/etc/nsswitch.conf', '/etc/passwd', '/etc/resolv.conf'])
  expect(readFileSync(inRoot('/etc/passwd'), 'utf8').split('\n').map((line) => line.split(':')[0])).toEqual(['root', 'plugin', 'nobody', ''])
  expect(readFileSync(inRoot('/etc/passwd'), 'utf8')).toContain('plugin:x:1880000016:1880000016:demo:/data:')
  expect(readFileSync(inRoot('/etc/resolv.conf'), 'utf8')).toContain('nameserver 198.18.0.1\n')
})

test('a look-up is given up at once without a door, and outlives a door that is held up for seconds', () => {
  const options = (made: SandboxPlan): string => /^options (.*)$/m.exec(readFileSync(`${made.rootPath}/etc/resolv.conf`, 'utf8'))?.[1] ?? ''
  const sealed = { ...plan, rootPath: `${dir}/sealed`, listeners: null }
  const guarded = { ...plan, rootPath: `${dir}/guarded`, listeners: { tcp: [53, 443], udp: [53], uid: 1 } }
  for (const one of [sealed, guarded]) makeRoot(one, new Map())
  expect([sealed, guarded].map(options)).toEqual(['timeout:1 attempts:1', 'timeout:1 attempts:5'])
})

test('the configuration is readable by root alone, and never overwritten', () => {
  const bundle = { ...bundlePaths(dir, '0123456789abcdef' as RunId), dir }
  writeConfig(bundle, { one: 1 })
  expect(statSync(`${dir}/config.json`).mode & 0o777).toBe(0o600)
  expect(() => writeConfig(bundle, { two: 2 })).toThrow('EEXIST')
})
