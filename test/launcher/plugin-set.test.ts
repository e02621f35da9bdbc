import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import type { AuditEvent } from '../../src/audit/record.ts'
import { CordonError } from '../../src/errors.ts'
import { disabledPlugins } from '../../src/launcher/disabled.ts'
import type { LaunchHost } from '../../src/launcher/host.ts'
import { PluginSet } from '../../src/launcher/plugin-set.ts'
import { openQuarantines } from '../../src/launcher/quarantines.ts'
import type { SupervisorDeps } from '../../src/launcher/supervisor.ts'
import type { PluginName } from '../../src/base/ids.ts'
import { DEFAULT_HOST_CONFIG } from '../../src/policy/load-host-config.ts'

/** Two plugins, both disabled, so that nothing is ever started. @param append what becomes of the records that are waited for */
function start(append: (event: AuditEvent) => Promise<{ seq: number }>, unknown: 'wait' | 'run-default' = 'wait'): { set: PluginSet; noted: AuditEvent[]; dir: string; again: () => PluginSet } {
  const dir = mkdtempSync(join(tmpdir(), 'cordon-set-'))
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }))
  for (const sub of ['policies', 'plugins', 'state']) mkdirSync(`${dir}/${sub}`, { mode: 0o755 })
  writeFileSync(`${dir}/program`, '#!/bin/sh\n')
  chmodSync(`${dir}/program`, 0o755)
  const noted: AuditEvent[] = []
  const disabled = disabledPlugins(`${dir}/state`)
  for (const name of ['first', 'second']) {
    writeFileSync(`${dir}/policies/${name}.yaml`, `plugin: ${name}\nexecutable: { path: ${dir}/program }\n`, { mode: 0o644 })
    disabled.add(name as PluginName)
  }
  const config = { ...DEFAULT_HOST_CONFIG, stateDir: `${dir}/state`, policiesDir: `${dir}/policies`, pluginsDir: `${dir}/plugins`, unknown }
  const again = (): PluginSet => new PluginSet({
    host: { config } as LaunchHost, audit: { append, note: (event) => void noted.push(event) },
    load: { presetsDir: resolve(import.meta.dirname, '../../policies'), own: config, ownership: 'reported' },
    disabled, quarantines: openQuarantines(`${dir}/state`, () => {}), supervisor: { onChange: () => {} } as unknown as SupervisorDeps,
    stopping: new AbortController().signal, log: () => {},
  })
  return { set: again(), noted, dir, again }
}

/** An executable in the plugins directory, disabled under its own name, too, and a policy of another name for it. */
function named(dir: string, text = `plugin: first\nexecutable: { path: ${dir}/plugins/a-program }\n`): void {
  writeFileSync(`${dir}/plugins/a-program`, '#!/bin/sh\n')
  chmodSync(`${dir}/plugins/a-program`, 0o755)
  disabledPlugins(`${dir}/state`).add('a-program' as PluginName)
  writeFileSync(`${dir}/policies/first.yaml`, text, { mode: 0o644 })
}

test('a defect that one policy meets refuses that policy, on record, and the others are put in force', async () => {
  const { set, noted } = start(async (event) => {
    if (event.type === 'policy.loaded' && event.plugin === 'first') throw new TypeError('a defect')
    return { seq: 0 }
  })
  expect(await set.adopt('start')).toEqual(['second'])
  expect(set.all().map(({ name }) => name)).toEqual(['second'])
  expect(set.refused.map(({ plugin, error }) => [plugin, error.code])).toEqual([['first', 'INTERNAL_BUG']])
  expect(noted).toContainEqual(expect.objectContaining({ type: 'policy.refused', code: 'INTERNAL_BUG' }))
})

test('a log that takes nothing puts none in force', async () => {
  const { set } = start(() => Promise.reject(new CordonError('AUDIT_UNAVAILABLE', 'no room')))
  await expect(set.adopt('start')).rejects.toMatchObject({ code: 'AUDIT_UNAVAILABLE' })
  expect(set.all()).toEqual([])
})

test.each(['wait', 'run-default'] as const)('a program that a policy names under another name is no plugin of its own (unknown: %s)', async (unknown) => {
  const { set, dir } = start(async () => ({ seq: 0 }), unknown)
  named(dir)
  await set.adopt('start')
  expect(set.all().map(({ name }) => name)).toEqual(['first', 'second'])
  rmSync(`${dir}/policies/first.yaml`) // the control: without that policy it is one
  await set.adopt('reload')
  expect(set.all().map(({ name }) => name)).toEqual(['second', 'a-program'])
})

test('a program whose policy is refused does not run under the default one instead, nor after the daemon started again', async () => {
  const { set, dir, again } = start(async () => ({ seq: 0 }), 'run-default')
  named(dir)
  await set.adopt('start')
  named(dir, 'plugin: first\nmistake: 1\n')
  await set.adopt('reload')
  expect(set.all().map(({ name }) => name)).toEqual(['first', 'second'])
  const next = again()
  await next.adopt('start')
  expect(next.all().map(({ name }) => name)).toEqual(['second'])
})

test('a policy that went while no daemon ran is on record as removed, once', async () => {
  const { set, dir, noted, again } = start(async () => ({ seq: 0 }))
  await set.adopt('start')
  rmSync(`${dir}/policies/first.yaml`)
  expect(noted).toEqual([])
  await again().adopt('start')
  await again().adopt('start')
  expect(noted).toEqual([{ type: 'policy.removed', plugin: 'first' }])
})

test('through the gateway a policy that only takes away is put in force, and every other one is refused until a terminal says so', async () => {
  const { set, noted, dir } = start(async () => ({ seq: 0 }))
  const write = (name: string, more: string): void => writeFileSync(`${dir}/policies/${name}.yaml`, `plugin: ${name}\nexecutable: { path: ${dir}/program }\n${more}`, { mode: 0o644 })
  const tasks = (name: string): number | undefined => set.get(name as PluginName)?.policy?.policy.limits.TasksMax
  write('first', 'limits: { TasksMax: 40 }\n')
  write('second', 'limits: { TasksMax: 40 }\n')
  await set.adopt('start')
  write('first', 'limits: { TasksMax: 30 }\n')
  write('second', 'limits: { TasksMax: 50, MemoryMax: 16M }\n') // more of one, less of another
  write('third', '')
  expect(await set.adopt('tighten')).toEqual(['first'])
  expect([tasks('first'), tasks('second'), set.get('third' as PluginName)]).toEqual([30, 40, null])
  expect(set.refused.map(({ plugin, error }) => [plugin, error.code])).toEqual([['second', 'POLICY_WIDENS'], ['third', 'POLICY_WIDENS']])
  expect(noted).toContainEqual(expect.objectContaining({ type: 'policy.refused', code: 'POLICY_WIDENS' }))
  const looked = set.readPolicies().loaded.get('second' as PluginName)
  if (looked !== undefined) await set.put('second' as PluginName, looked, () => {})
  expect([tasks('second'), set.refused.map(({ plugin }) => plugin)]).toEqual([50, ['third']])
  disabledPlugins(`${dir}/state`).add('third' as PluginName)
  expect(await set.adopt('reload')).toEqual(['third'])
  expect(set.refused).toEqual([])
})
