import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import type { PluginName } from '../../src/base/ids.ts'
import { openQuarantines, quarantineText, type Quarantines } from '../../src/launcher/quarantines.ts'

const NAME = 'sample' as PluginName
const WHY = { since: '2026-11-20T12:00:00.000Z', who: 'root (SUDO_USER alice)', reason: 'odd look-ups' }

function place(): { dir: string; said: string[]; again(): Quarantines } {
  const dir = mkdtempSync(join(tmpdir(), 'cordon-quarantines-'))
  const said: string[] = []
  const all: Quarantines[] = []
  onTestFinished(() => {
    for (const one of all) one.close()
    rmSync(dir, { recursive: true, force: true })
  })
  return { dir, said, again: () => { all.push(openQuarantines(dir, (message) => void said.push(message))); return all.at(-1) as Quarantines } }
}

describe('quarantines on disk', () => {
  test('are there for the next daemon, for root alone, with since when, by whom and why', async () => {
    const { dir, again } = place()
    const first = again()
    await first.put(NAME, WHY)
    expect([first.isDurable(NAME), again().of(NAME), again().names()]).toEqual([true, WHY, [NAME]])
    expect([statSync(`${dir}/quarantine`).mode & 0o777, statSync(`${dir}/quarantine/${NAME}`).mode & 0o777]).toEqual([0o700, 0o600])
    expect(quarantineText(WHY)).toBe('odd look-ups; by root (SUDO_USER alice) since 2026-11-20T12:00:00.000Z')
  })

  test('hold from the first moment, before they are on disk', async () => {
    const quarantines = place().again()
    const written = quarantines.put(NAME, WHY)
    expect([quarantines.of(NAME), quarantines.isDurable(NAME)]).toEqual([WHY, false])
    await written
  })

  test('take a file that lies ready, which needs no room, and lay out another', async () => {
    const { dir, again } = place()
    const quarantines = again()
    const spares = (): string[] => readdirSync(`${dir}/quarantine`).filter((name) => name.startsWith('.spare'))
    await expect.poll(() => spares().length).toBe(4)
    const [inode] = spares().map((name) => statSync(`${dir}/quarantine/${name}`).ino)
    await quarantines.put(NAME, WHY)
    expect(statSync(`${dir}/quarantine/${NAME}`).ino).toBe(inode)
    expect(JSON.parse(readFileSync(`${dir}/quarantine/${NAME}`, 'utf8'))).toEqual(WHY)
    await expect.poll(() => spares().length).toBe(4)
  })

  test('are written as soon as the disk takes them, and nobody forgets them meanwhile', async () => {
    const { dir, said, again } = place()
    const quarantines = again()
    await expect.poll(() => readdirSync(`${dir}/quarantine`).length).toBe(4)
    rmSync(`${dir}/quarantine`, { recursive: true }) // a disk that is gone
    const written = quarantines.put(NAME, WHY)
    await expect.poll(() => said.length).toBe(1)
    expect([quarantines.of(NAME), quarantines.isDurable(NAME), said[0]]).toEqual([WHY, false, expect.stringContaining('sample: its quarantine is in force and not on disk yet') as string])
    again() // makes the directory again
    await written
    expect([quarantines.isDurable(NAME), existsSync(`${dir}/quarantine/${NAME}`)]).toEqual([true, true])
  })

  test('end with their file; one that was released while it waited for the disk is not written later', async () => {
    const { dir, again } = place()
    const quarantines = again()
    const written = quarantines.put(NAME, WHY)
    await quarantines.remove(NAME)
    await written
    expect([quarantines.of(NAME), quarantines.names(), existsSync(`${dir}/quarantine/${NAME}`), again().of(NAME)]).toEqual([null, [], false, null])
  })

  test.each([['', 'nothing'], ['{', 'half of it'], ['{"since":"yesterday","who":"x","reason":"y"}', 'no instant'], [`{"since":"2026-11-20T12:00:00Z","who":"x","reason":"${'y'.repeat(600)}"}`, 'too much']])('that hold %j (%s) still hold the plugin', async (text) => {
    const { dir, said, again } = place()
    await again().put(NAME, WHY)
    writeFileSync(`${dir}/quarantine/${NAME}`, text)
    expect(again().of(NAME)).toMatchObject({ who: 'an unknown hand', reason: expect.stringContaining('cannot be read') as string })
    expect(said.at(-1)).toContain('the plugin stays in quarantine')
  })

  test('of what is no plugin name are nothing of ours', () => {
    const { dir, again } = place()
    again()
    writeFileSync(`${dir}/quarantine/.hidden`, '{}')
    writeFileSync(`${dir}/quarantine/NOT A NAME`, '{}')
    expect(again().names()).toEqual([])
  })
})
