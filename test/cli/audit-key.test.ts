import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { auditKey } from '../../src/cli/audit-key.ts'
import type { CommandContext } from '../../src/cli/context.ts'
import { openLog, tempDir } from '../audit/kit.ts'
import { decodeQr } from './qr-decode.ts'

async function host(): Promise<{ stateDir: string; fingerprint: string; key(...args: string[]): Promise<string[]>; keyJson(...args: string[]): Promise<string[]>; keyOnTerminal(...args: string[]): Promise<string[]> }> {
  const stateDir = tempDir()
  mkdirSync(stateDir, { recursive: true })
  const log = await openLog({ dir: join(stateDir, 'audit') })
  await log.close()
  const run = async (json: boolean, args: string[], terminal = false): Promise<string[]> => {
    const lines: string[] = []
    await auditKey(args, { out: (line) => lines.push(line), err: () => {}, json, color: false, terminal }, { config: { stateDir } } as CommandContext)
    return lines
  }
  return { stateDir, fingerprint: log.state().fingerprint, key: (...args) => run(false, args), keyJson: (...args) => run(true, args), keyOnTerminal: (...args) => run(false, args, true) }
}

test('shows the first key, which command confirms it, and once it is, which command uses it', async () => {
  const { stateDir, fingerprint, key } = await host()
  expect(fingerprint).toMatch(/^SHA256:[A-Za-z0-9+/]{43}$/)
  expect((await key()).join('\n')).toMatch(`cordon audit key --confirm ${fingerprint}`)
  expect((await key('--confirm', fingerprint)).join('\n')).toMatch(`cordon audit verify --key ${fingerprint}`)
  expect((await key()).join('\n')).toMatch('You confirmed')
  expect([readFileSync(join(stateDir, 'audit-key-confirmed'), 'utf8'), statSync(join(stateDir, 'audit-key-confirmed')).mode & 0o777]).toEqual([`${fingerprint}\n`, 0o600])
})

test('another key is not confirmed, and a log that is not the confirmed one is named as such', async () => {
  const { stateDir, key } = await host()
  const other = `SHA256:${'A'.repeat(43)}`
  await expect(key('--confirm', other)).rejects.toMatchObject({ code: 'AUDIT_KEYS' })
  await expect(key('--confirm', 'nonsense')).rejects.toMatchObject({ code: 'USAGE_BAD_OPTION' })
  writeFileSync(join(stateDir, 'audit-key-confirmed'), `${other}\n`)
  expect((await key()).join('\n')).toMatch('CONFIRMED WAS ANOTHER ONE')
})

test('without a log there is no key', async () => {
  const stateDir = tempDir()
  await expect(auditKey([], { out: () => {}, err: () => {}, json: false, color: false }, { config: { stateDir } } as CommandContext)).rejects.toMatchObject({ code: 'AUDIT_NOT_FOUND' })
})

test('as a QR code where it is asked for, within 80 columns and 24 lines; in JSON never', async () => {
  const { fingerprint, key, keyJson, keyOnTerminal } = await host()
  const shown = await key('--qr')
  expect(decodeQr(shown.slice(0, 19), 4)).toBe(fingerprint)
  expect(shown.length).toBeLessThan(24) // the prompt needs a line
  expect(Math.max(...shown.map((line) => line.length))).toBeLessThanOrEqual(80)
  expect((await key()).join('\n')).not.toContain('█') // no terminal
  expect(decodeQr((await keyOnTerminal()).slice(0, 19), 4)).toBe(fingerprint)
  expect(await keyJson('--qr')).toEqual([JSON.stringify({ fingerprint, confirmed: 'not confirmed' })])
})
