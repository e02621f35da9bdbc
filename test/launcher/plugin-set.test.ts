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
function start(append: (event: AuditEvent) => Promise<{ seq: number }>): { set: PluginSet; noted: AuditEvent[] } {
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
  const config = { ...DEFAULT_HOST_CONFIG, stateDir: `${dir}/state`, policiesDir: `${dir}/policies`, pluginsDir: `${dir}/plugins` }
  const set = new PluginSet({
    host: { config } as LaunchHost, audit: { append, note: (event) => void noted.push(event) },
    load: { presetsDir: resolve(import.meta.dirname, '../../policies'), own: config, ownership: 'reported' },
    disabled, quarantines: openQuarantines(`${dir}/state`, () => {}), supervisor: { onChange: () => {} } as unknown as SupervisorDeps,
    stopping: new AbortController().signal, log: () => {},
  })
  return { set, noted }
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
