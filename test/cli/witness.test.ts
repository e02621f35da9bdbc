import { chmodSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { parseCheckpoint, parseVerifierKey } from '../../src/audit/verify/note.ts'
import { auditPush } from '../../src/cli/audit-push.ts'
import type { CommandContext, RunCommand } from '../../src/cli/context.ts'
import { witnessCommand } from '../../src/cli/witness.ts'
import { DEFAULT_HOST_CONFIG } from '../../src/policy/load-host-config.ts'
import { Forge } from '../audit/forge.ts'
import { tempDir } from '../audit/kit.ts'

async function run(command: RunCommand, stateDir: string, ...args: string[]): Promise<string> {
  const out: string[] = []
  const context = { config: { ...DEFAULT_HOST_CONFIG, stateDir }, signal: AbortSignal.timeout(100_000), tree: '/nowhere' } as unknown as CommandContext
  expect(await command(args, { out: (line) => void out.push(line), err: () => {}, json: false, color: false }, context)).toBe(0)
  return `${out.join('\n')}\n`
}

test('audit push prints the checkpoint as it is, and the key that a witness must know', async () => {
  const stateDir = tempDir()
  const forge = new Forge().record('log.opened', { pid: 1 }).seal('open')
  forge.write(join(stateDir, 'audit'))
  expect(await run(auditPush, stateDir)).toBe(forge.checkpoint())
  expect(parseCheckpoint(await run(auditPush, stateDir))?.size).toBe(3)
  expect(parseVerifierKey((await run(auditPush, stateDir, '--log-key')).trim())).toEqual({ name: forge.origin, type: 1, key: forge.log.raw })
  await expect(run(auditPush, tempDir())).rejects.toMatchObject({ code: 'AUDIT_NOT_SEALED' })
  await expect(run(auditPush, tempDir(), '--log-key')).rejects.toMatchObject({ code: 'AUDIT_NOT_FOUND' })
  await expect(run(auditPush, stateDir, '--never')).rejects.toMatchObject({ code: 'USAGE_BAD_OPTION' })
})

test('a witness without a directory of its own, without logs or with a wrong address does not start', async () => {
  const stateDir = tempDir()
  new Forge().record('log.opened', { pid: 1 }).seal('open').write(join(stateDir, 'audit'))
  const key = (await run(auditPush, stateDir, '--log-key')).trim()
  const open = join(tempDir(), 'open')
  mkdirSync(open)
  chmodSync(open, 0o755)
  for (const args of [[], ['--state', open], ['--state', open, '--log', 'x'], ['--state', open, '--log', key, '--listen', 'somewhere'], ['--state', open, '--log', key, '--name', 'a b'], ['--nonsense']]) {
    await expect(run(witnessCommand, stateDir, ...args), args.join(' ')).rejects.toMatchObject({ code: 'USAGE_BAD_OPTION' })
  }
  await expect(run(witnessCommand, stateDir, '--state', open, '--log', key)).rejects.toMatchObject({ code: 'WITNESS_STATE' })
})
