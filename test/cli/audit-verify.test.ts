import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { auditProve } from '../../src/cli/audit-prove.ts'
import { auditVerify } from '../../src/cli/audit-verify.ts'
import type { CommandContext } from '../../src/cli/context.ts'
import type { CommandIo } from '../../src/cli/io.ts'
import { Forge, keyOf, sha256 } from '../audit/forge.ts'
import { tempDir } from '../audit/kit.ts'

const AT = ['--at', '2026-11-20T10:03:00.000Z']

async function verify(dir: string, ...args: string[]): Promise<{ status: number; out: string[] }> {
  const out: string[] = []
  const io: CommandIo = { out: (line) => void out.push(line), err: () => {}, json: args.includes('--json'), color: false }
  const status = await auditVerify(args.filter((one) => one !== '--json'), io, { dir, signal: AbortSignal.timeout(100_000) })
  return { status, out }
}

function sealed(): Forge {
  return new Forge().record('log.opened', { pid: 7 }).seal('open').pass(60).records(4).seal().pass(30).records(2)
}

function witnessKey(): string {
  const key = keyOf('w').raw
  return `w.example+${sha256('w.example\n', Buffer.of(4), key).subarray(0, 4).toString('hex')}+${Buffer.concat([Buffer.of(4), key]).toString('base64')}`
}

describe('audit verify of a sealed log', () => {
  test('says one sentence first, then what is sealed, what is not, who witnessed it, and which key it begins with', async () => {
    const forge = sealed()
    const { status, out } = await verify(forge.write(tempDir()), ...AT)
    expect(status).toBe(0)
    expect(out).toEqual([
      'The log is whole: 10 records, each where it was written, the last of 2026-11-20T10:01:30.000Z.',
      'last sealed: record 7 at 2026-11-20T10:01:00.000Z (epoch 1, interval)',
      'not yet sealed: 2 records at the end, 90 s',
      'last witnessed: never',
      `first key: ${forge.fingerprint}`,
      expect.stringMatching(/^head: 9:[0-9a-f]{64}$/),
      expect.stringMatching(/^note: What root can make of a log/),
    ])
  })

  test('tampering is 2 and names record, file, line and byte; a late end 3; a gap 4', async () => {
    const forge = sealed()
    forge.lines[4] = (forge.lines[4] ?? '').replace('"n":4', '"n":5')
    const { status, out } = await verify(forge.write(tempDir()), ...AT)
    expect([status, out[0]]).toEqual([2, 'The log was TAMPERED WITH or damaged: only the first 4 records can be believed.'])
    expect(out[1]).toMatch(/^ {2}record 4, records\/0000000000000000\.jsonl line 5, byte \d+: it was changed/)
    const late = await verify(sealed().write(tempDir()), '--at', '2026-11-20T11:00:00Z')
    expect([late.status, late.out[0]]).toEqual([3, expect.stringMatching(/^The log's end cannot be verified/)])
    const gap = await verify(sealed().record('gap', { reason: 'budget' }).seal('close').write(tempDir()), ...AT, '--json')
    expect([gap.status, JSON.parse(gap.out[0] ?? '')]).toEqual([4, expect.objectContaining({ verdict: 'gap', exit: 4, gapCount: 1 })])
  })

  test('the key, saved checkpoints and a witness are compared, whether named as key or file', async () => {
    const forge = sealed()
    const dir = forge.write(tempDir())
    const saved = join(tempDir(), 'state')
    writeFileSync(saved, `${witnessKey()}\n${forge.cosigned('w.example', keyOf('w'))}`)
    const good = await verify(dir, ...AT, '--key', forge.fingerprint, '--witness', saved)
    expect(good.status).toBe(0)
    expect(good.out).toEqual(expect.arrayContaining([
      expect.stringMatching(/^last witnessed: 8 records by w\.example at 2026-/), `first key: ${forge.fingerprint}, the one that you named`, '1 saved checkpoint agrees with it, the largest for 8 records.',
    ]))
    expect(good.out.join()).not.toContain('note:')
    expect((await verify(dir, ...AT, '--witness', witnessKey())).status).toBe(3)
    expect((await verify(dir, ...AT, '--with', saved)).status).toBe(0)
    expect((await verify(dir, ...AT, '--key', new Forge('b').fingerprint)).status).toBe(2)
    writeFileSync(saved, 'nothing')
    await expect(verify(dir, '--with', saved)).rejects.toMatchObject({ code: 'AUDIT_NO_CHECKPOINT' })
    await expect(verify(dir, '--with', `${saved}x`)).rejects.toMatchObject({ code: 'AUDIT_UNAVAILABLE' })
  })

  test.each([[['--key', 'SHA256:x']], [['--witness', 'nothing']], [['--at', 'soon']], [['--head', 'x']], [['a', 'b']], [['--nonsense']]])('%j is refused', async (args) => {
    await expect(verify(tempDir(), ...args)).rejects.toMatchObject({ code: 'USAGE_BAD_OPTION' })
  })
})

describe('audit prove', () => {
  const prove = async (stateDir: string, ...args: string[]): Promise<string[]> => {
    const out: string[] = []
    expect(await auditProve(args, { out: (line) => void out.push(line), err: () => {}, json: false, color: false }, { config: { stateDir }, signal: AbortSignal.timeout(100_000) } as unknown as CommandContext)).toBe(0)
    return out
  }

  test('writes a proof that verify --proof accepts with the key, and refuses with another one or once it was changed', async () => {
    const forge = sealed()
    const stateDir = tempDir()
    forge.write(join(stateDir, 'audit'))
    const file = join(stateDir, 'proof')
    expect(await prove(stateDir, '4', '--out', file)).toEqual([expect.stringContaining('record 4, proved')])
    const good = await verify('/', '--proof', file, '--key', forge.fingerprint)
    expect([good.status, good.out]).toEqual([0, [`The proof holds: this is record 4 of 8 in ${forge.origin}.`, `first key: ${forge.fingerprint}, the one that you named`, forge.lines[4]]])
    expect((await verify('/', '--proof', file, '--key', new Forge('b').fingerprint)).status).toBe(2)
    writeFileSync(file, `${(await prove(stateDir, '4')).join('\n')}\n`.replace('index 4', 'index 5'))
    expect((await verify('/', '--proof', file)).status).toBe(2)
  })

  test('what is not there, not sealed, no number or in the way has an error of its own', async () => {
    const stateDir = tempDir()
    sealed().write(join(stateDir, 'audit'))
    await expect(prove(stateDir, '99')).rejects.toMatchObject({ code: 'AUDIT_NOT_FOUND' })
    await expect(prove(stateDir, '9')).rejects.toMatchObject({ code: 'AUDIT_NOT_SEALED' })
    await expect(prove(stateDir, 'x')).rejects.toMatchObject({ code: 'USAGE_BAD_OPTION' })
    await expect(prove(stateDir, '1', '--out', '/')).rejects.toMatchObject({ code: 'USAGE_BAD_OPTION' })
    await expect(prove(tempDir(), '1')).rejects.toMatchObject({ code: 'AUDIT_NOT_FOUND' })
    await expect(verify('/', '--proof', join(stateDir, 'none'))).rejects.toMatchObject({ code: 'AUDIT_NOT_FOUND' })
  })
})
