import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { ociRenderer } from '../../src/cli/policy-oci.ts'
import { loadPolicy } from '../../src/policy/load.ts'
import { DEFAULT_HOST_CONFIG } from '../../src/policy/load-host-config.ts'

let dir: string
beforeEach(() => void (dir = mkdtempSync(join(tmpdir(), 'cordon-oci-'))))
afterEach(() => rmSync(dir, { recursive: true }))

test('policy explain --oci shows what this host would run, and makes nothing', async () => {
  writeFileSync(join(dir, 'notes.yaml'), 'plugin: notes\nextends: default\nexecutable: { path: /opt/notes/plugin }\n')
  const config = { ...DEFAULT_HOST_CONFIG, stateDir: join(dir, 'state'), runDir: join(dir, 'run') }
  const { policy } = loadPolicy(join(dir, 'notes.yaml'), { presetsDir: resolve('policies'), own: config, ownership: 'reported' })
  const oci = JSON.stringify((await ociRenderer(config))(policy))
  expect(JSON.parse(oci)).toMatchObject({ process: { user: { uid: config.uids.first + 16 }, noNewPrivileges: true }, linux: { resources: { memory: { limit: 256 * 1024 * 1024 } } } })
  expect(oci).toContain(`${config.stateDir}/store/sha256/${'0'.repeat(64)}`)
  expect([existsSync(config.stateDir), existsSync(config.runDir)]).toEqual([false, false])
})
