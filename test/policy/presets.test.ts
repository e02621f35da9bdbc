import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { finishRaw } from '../../src/policy/load.ts'
import { DEFAULT_OWN_PLACES } from '../../src/policy/paths.ts'

const POLICIES = join(import.meta.dirname, '../../policies')
const names = readdirSync(POLICIES).filter((name) => name.endsWith('.yaml')).map((name) => name.slice(0, -5))

test('there are presets, the default among them', () => {
  expect(names).toContain('default')
  expect(names.length).toBeGreaterThanOrEqual(5)
})

test.each(names)('%s can be deployed today, and takes nothing of the host', (name) => {
  const { policy, warnings } = finishRaw({ plugin: 'demo', extends: name, executable: { path: '/opt/demo' } }, '(test)', { presetsDir: POLICIES, own: DEFAULT_OWN_PLACES, ownership: 'reported' })
  expect(policy.preset).toBe(name)
  expect(warnings).toEqual([])
  expect(policy).toMatchObject({ runtime: [], read: [], sockets: [], http: { publicPaths: [] }, unenforced: [] })
})

test.each(names)('%s says for whom it is, what it may do and what breaks first', (name) => {
  const head = readFileSync(join(POLICIES, `${name}.yaml`), 'utf8').split('\n')
  expect(head[0]).toBe('# yaml-language-server: $schema=./preset.schema.json')
  expect(head.some((line) => line.startsWith('# For: '))).toBe(true)
  expect(head.some((line) => /^# It may .*\.$/.test(line))).toBe(true)
  expect(head.some((line) => line.startsWith('# Breaks first: '))).toBe(true)
})

test('only api-client grants host permissions, and those only read', () => {
  const grants = names.map((name) => [name, finishRaw({ plugin: 'demo', extends: name, executable: { path: '/opt/demo' } }, '(test)', { presetsDir: POLICIES, own: DEFAULT_OWN_PLACES, ownership: 'reported' }).policy.api.grants] as const)
  expect(grants.filter(([, list]) => list.length > 0)).toEqual([['api-client', ['projects_read', 'environments_read', 'deployments_read']]])
})
