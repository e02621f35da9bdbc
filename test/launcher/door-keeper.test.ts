import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { DoorKeeper, NO_DECOYS, type OpenedDoor } from '../../src/launcher/door-keeper.ts'
import type { LaunchHost } from '../../src/launcher/host.ts'

test('a door that cannot be opened costs the start that asked for it, also when that looks only later, and never the process', async () => {
  const stateDir = mkdtempSync(`${tmpdir()}/cordon-door-`)
  writeFileSync(`${stateDir}/file`, '')
  const host = { bundlesDir: `${stateDir}/file`, config: { stateDir } } as unknown as LaunchHost // no place for a bundle: the first step of a start fails
  const keeper = new DoorKeeper(host, { door: '', doorHelper: '', node: '' }, { append: () => Promise.resolve({ seq: 0 }), note: () => {} }, () => {}, () => [], () => {})
  const unheard: unknown[] = []
  const hear = (reason: unknown): void => void unheard.push(reason)
  process.on('unhandledRejection', hear)
  onTestFinished(async () => {
    process.off('unhandledRejection', hear)
    await keeper.stop()
    rmSync(stateDir, { recursive: true, force: true })
  })
  const open = (): Promise<void> => keeper.open({ run: 'r', plugin: 'p', egressMaxPerDay: null, decoys: NO_DECOYS } as unknown as OpenedDoor, { mode: 'enforce', until: null, allow: [] })
  const looksLater = open()
  await expect(open()).rejects.toThrow('ENOTDIR')
  await nextTurn() // Node tells of a rejection once the promises of this turn are done
  expect(unheard).toEqual([])
  await expect(looksLater).rejects.toThrow('ENOTDIR')
})
