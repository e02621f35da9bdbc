import { createHash } from 'node:crypto'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { canRun } from '../kernel/require.ts'
import { TestHost } from './host.ts'

interface Manifest {
  readonly plugin: string
  readonly files: readonly { readonly path: string; readonly bytes: number; readonly sha256: string }[]
  readonly missing: readonly { readonly part: string; readonly why: string }[]
  readonly running: { readonly pids: readonly number[]; readonly frozen: boolean; readonly uid: number }
  readonly records: { readonly count: number }
}

describe.skipIf(!canRun('/usr/sbin/runc'))('cordon evidence', () => {
  const host = new TestHost(23)
  let scratch = ''
  let out = ''
  let fingerprint = ''
  const manifest = (): Manifest => JSON.parse(readFileSync(join(out, 'manifest.json'), 'utf8')) as Manifest
  const told = (command: string) => host.http('/api/x/suspect/do', { method: 'POST', body: command })
  const python = (...args: string[]): { status: number; text: string } => {
    try {
      return { status: 0, text: execFileSync('/usr/bin/python3', [join(out, 'audit-verify.py'), ...args], { encoding: 'utf8' }) }
    } catch (error) {
      return { status: (error as { status: number }).status, text: String((error as { stdout: unknown }).stdout) }
    }
  }

  beforeAll(async () => {
    scratch = mkdtempSync('/var/lib/cordon-evidence-')
    out = join(scratch, 'kept')
    host.plugin('suspect', {}, 'does-as-told')
    host.plugin('bystander', {}, 'good-gen2')
    await host.start()
    await host.settled(['suspect', 'bystander'], ['running'])
    fingerprint = (JSON.parse(readFileSync(join(host.stateDir, 'audit/records/0000000000000000.jsonl'), 'utf8').split('\n')[0] ?? '') as { data: { first_key: string } }).data.first_key
    fingerprint = `SHA256:${createHash('sha256').update(Buffer.from(fingerprint, 'hex')).digest('base64').replace(/=+$/, '')}`
    await told('mkdir -p /tmp/stage; echo loot >/tmp/stage/loot; ln -s /etc/shadow /tmp/away; echo kept >/data/notes; (exec sleep 987 >/dev/null 2>&1 &)')
    expect((await host.cli(['quarantine', 'suspect', '--reason', 'it stages loot'])).status).toBe(0)
    const made = await host.cli(['evidence', 'suspect', '--out', out, '--json'])
    expect(made).toMatchObject({ status: 0, stderr: '' })
    expect(JSON.parse(made.stdout)).toMatchObject({ missing: [] })
  })
  afterAll(async () => {
    rmSync(scratch, { recursive: true, force: true })
    await host.close()
  })

  test('holds what the design names, and its manifest the hash of each file', () => {
    expect(readdirSync(out).sort()).toEqual(['README.txt', 'audit-verify.py', 'data.list', 'log', 'logs', 'manifest.json', 'manifest.proof', 'policies', 'processes.json', 'programs', 'proofs', 'records.jsonl', 'tmp.tar'])
    expect(statSync(out).mode & 0o777).toBe(0o700)
    const { files, missing, running } = manifest()
    expect(missing).toEqual([])
    expect(running).toMatchObject({ frozen: true })
    for (const { path, sha256 } of files) expect(createHash('sha256').update(readFileSync(join(out, path))).digest('hex'), path).toBe(sha256)
    const there = execFileSync('/usr/bin/find', [out, '-type', 'f', '-printf', '%P\n'], { encoding: 'utf8' }).trim().split('\n').filter((path) => !path.startsWith('manifest.'))
    expect(files.map(({ path }) => path).sort()).toEqual(there.sort())
  })

  test('the frozen /tmp, the processes and the data are those of the plugin', () => {
    const tar = execFileSync('/usr/bin/tar', ['--list', '--verbose', '--file', join(out, 'tmp.tar')], { encoding: 'utf8' })
    expect(tar).toMatch(/stage\/loot$/m)
    expect(tar).toMatch(/away -> \/etc\/shadow$/m) // the link, not what it names
    expect(execFileSync('/usr/bin/tar', ['--extract', '--to-stdout', '--file', join(out, 'tmp.tar'), './stage/loot'], { encoding: 'utf8' })).toBe('loot\n')
    const processes = JSON.parse(readFileSync(join(out, 'processes.json'), 'utf8')) as { arguments: string[] }[]
    expect(processes.some((one) => one.arguments.join(' ') === 'sleep 987')).toBe(true)
    expect(readFileSync(join(out, 'data.list'), 'latin1')).toContain('\0notes\0')
    expect(readdirSync(join(out, 'programs'))).toHaveLength(1)
    expect(readdirSync(join(out, 'policies')).length).toBeGreaterThanOrEqual(2)
  })

  test('every record in it is the plugin\'s, and each proof holds against the first key alone, with the verifier that lies beside it', () => {
    const records = readFileSync(join(out, 'records.jsonl'), 'utf8').trim().split('\n').map((line) => JSON.parse(line) as { plugin: string; seq: number; type: string })
    expect(records.every((record) => record.plugin === 'suspect')).toBe(true)
    expect(records.map(({ type }) => type)).toEqual(expect.arrayContaining(['plugin.start', 'isolation.attested', 'plugin.quarantined']))
    expect(manifest().records.count).toBe(records.length)
    expect(readdirSync(join(out, 'proofs')).sort()).toEqual(records.map(({ seq }) => `${seq}.proof`).sort())
    for (const seq of [records[0]?.seq, records.at(-1)?.seq]) expect(python('--key', fingerprint, '--proof', join(out, 'proofs', `${seq}.proof`))).toMatchObject({ status: 0 })
    expect(python('--key', `SHA256:${'A'.repeat(43)}`, '--proof', join(out, 'manifest.proof')).status).not.toBe(0) // the control
  })

  test('what signs the manifest is the log: its hash is a record, sealed, and the proof says so', () => {
    const sha256 = createHash('sha256').update(readFileSync(join(out, 'manifest.json'))).digest('hex')
    const proof = readFileSync(join(out, 'manifest.proof'), 'utf8')
    expect(python('--key', fingerprint, '--proof', join(out, 'manifest.proof'))).toMatchObject({ status: 0 })
    expect(python('--key', fingerprint, '--evidence', out)).toMatchObject({ status: 0, text: expect.stringMatching(/^The evidence is as it was gathered: \d+ files/) as string })
    const record = host.records().find((one) => one.type === 'evidence.gathered')
    expect(record).toMatchObject({ plugin: 'suspect', data: { sha256 } })
    expect(proof.includes(sha256) || Buffer.from(proof.split('\n').find((line) => line.startsWith('extra '))?.slice(6) ?? '', 'base64').toString('utf8').includes(sha256)).toBe(true)
  })

  test('nothing is added to evidence, a stopped plugin has less of it, and without a daemon it is gathered all the same', async () => {
    expect(await host.cli(['evidence', 'suspect', '--out', out])).toMatchObject({ status: 73, stderr: expect.stringContaining('EVIDENCE_EXISTS') as string })
    await host.cli(['stop', 'bystander'])
    const stopped = join(scratch, 'stopped')
    expect(await host.cli(['evidence', 'bystander', '--out', stopped])).toMatchObject({ status: 0, stderr: expect.stringContaining('it does not run') as string })
    expect(existsSync(join(stopped, 'tmp.tar'))).toBe(false)
    await host.stop()
    const alone = join(scratch, 'alone')
    const made = await host.cli(['evidence', 'suspect', '--out', alone])
    expect(made.status).toBe(0)
    expect(made.stderr).toMatch(/manifest\.proof: .*control\.sock/s)
    expect(existsSync(join(alone, 'records.jsonl'))).toBe(true)
  })

  test('what it wrote shows beside the listing from the end of its run', async () => {
    await host.start()
    await host.settled(['bystander'], ['running'])
    expect((await host.cli(['release', 'suspect', '--reason', 'the test'])).status).toBe(0)
    await host.settled(['suspect'], ['running'])
    const before = new Date().toISOString()
    await sleep(20)
    await told('echo more >/data/fresh; rm /data/notes')
    const { stdout } = await host.cli(['data', 'diff', 'suspect', '--since', before, '--json'])
    const { changes, comparedWith } = JSON.parse(stdout) as { changes: { kind: string; path: string }[]; comparedWith: string | null }
    expect(comparedWith).not.toBeNull()
    expect(changes.map(({ kind, path }) => `${kind} ${path}`)).toEqual(expect.arrayContaining(['added fresh', 'removed notes']))
  })
})
