import { mkdirSync, readFileSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test, vi } from 'vitest'
import { checkGathered, type GatheredCheck } from '../../src/audit/verify/gathered.ts'
import { proveRecord } from '../../src/audit/verify/prove.ts'
import { askPython } from './both.ts'
import { Forge, sha256 } from './forge.ts'
import { tempDir } from './kit.ts'

vi.setConfig({ testTimeout: 60_000 }) // another process takes part, on a machine that may be busy

const FILES: Readonly<Record<string, string>> = { 'records.jsonl': '{}\n', 'logs/stderr.log': 'it went wrong\n', 'programs/p/bin/x': 'MZ' }

/** Evidence as `cordon evidence` leaves it, with a link in a program's tree; `type` is that of the record that holds its hash. */
async function gathered(type = 'evidence.gathered'): Promise<{ readonly dir: string; readonly pin: string }> {
  const dir = tempDir()
  for (const [path, text] of Object.entries(FILES)) {
    mkdirSync(join(dir, path, '..'), { recursive: true })
    writeFileSync(join(dir, path), text)
  }
  symlinkSync('bin/x', join(dir, 'programs/p/start'))
  const files = [...Object.entries(FILES).map(([path, text]) => ({ path, bytes: text.length, sha256: sha256(text).toString('hex') })), { path: 'programs/p/start', bytes: 5, sha256: sha256('link:bin/x').toString('hex') }]
  const manifest = JSON.stringify({ v: 1, plugin: 'p', files })
  writeFileSync(join(dir, 'manifest.json'), manifest)
  const forge = new Forge().seal('open').record(type, { files: files.length, sha256: sha256(manifest).toString('hex'), who: 'root' }, { plugin: 'p' }).seal('ask')
  writeFileSync(join(dir, 'manifest.proof'), await proveRecord(forge.write(tempDir()), 2))
  return { dir, pin: forge.fingerprint }
}

async function ask(dir: string, pin: string | null): Promise<GatheredCheck> {
  const [ours, theirs] = await Promise.all([checkGathered(dir, pin), askPython({ evidence: dir, key: pin })])
  expect(theirs).toEqual(ours)
  return ours
}

test('evidence that nobody touched is whole, and tells the record that vouches for it', async () => {
  const { dir, pin } = await gathered()
  expect(await ask(dir, pin)).toMatchObject({ verdict: 'whole', problem: null, files: 4, seq: 2 })
  expect(await ask(dir, null)).toMatchObject({ verdict: 'whole' })
  expect(await ask(dir, `SHA256:${'A'.repeat(43)}`)).toMatchObject({ verdict: 'tampered', problem: expect.stringMatching(/first key/) })
})

const edit = (dir: string, change: (text: string) => string, file = 'manifest.json'): void => writeFileSync(join(dir, file), change(readFileSync(join(dir, file), 'utf8')))
test.each<[string, (dir: string) => void, RegExp]>([
  ['a byte changed', (dir) => writeFileSync(join(dir, 'logs/stderr.log'), 'it went right\n'), /^logs\/stderr\.log: it is not what was gathered/],
  ['a file gone', (dir) => unlinkSync(join(dir, 'records.jsonl')), /^records\.jsonl: it is missing/],
  ['a directory gone', (dir) => rmSync(join(dir, 'logs'), { recursive: true }), /^logs\/stderr\.log: it is missing/],
  ['a file more', (dir) => writeFileSync(join(dir, 'programs/p/more'), ''), /^programs\/p\/more: it is not in the manifest/],
  ['a link more', (dir) => symlinkSync('/etc', join(dir, 'programs/etc')), /^programs\/etc: it is not in the manifest/],
  ['a link that leads elsewhere', (dir) => { unlinkSync(join(dir, 'programs/p/start')); symlinkSync('/bin/sh', join(dir, 'programs/p/start')) }, /start: it is not what was gathered/],
  ['a link to the same bytes', (dir) => { writeFileSync(join(dir, '..', 'same'), FILES['records.jsonl'] ?? ''); unlinkSync(join(dir, 'records.jsonl')); symlinkSync('../same', join(dir, 'records.jsonl')) }, /^records\.jsonl: it is not what was gathered/],
  ['a manifest made to fit', (dir) => { writeFileSync(join(dir, 'records.jsonl'), 'x'); edit(dir, (text) => text.replace(sha256(FILES['records.jsonl'] ?? '').toString('hex'), sha256('x').toString('hex'))) }, /its record is not that of this manifest/],
  ['a manifest that names something outside', (dir) => edit(dir, (text) => text.replace('"records.jsonl"', '"../records.jsonl"')), /no manifest of evidence/],
  ['a manifest that names a file twice', (dir) => edit(dir, (text) => text.replace('"records.jsonl"', '"logs/stderr.log"')), /no manifest of evidence|not in the manifest/],
  ['a manifest that is none', (dir) => edit(dir, () => '[1]'), /no manifest of evidence/],
  ['the manifest gone', (dir) => unlinkSync(join(dir, 'manifest.json')), /^manifest\.json: it is missing/],
  ['the proof changed', (dir) => edit(dir, (text) => text.replace('\nindex 2\n', '\nindex 1\n'), 'manifest.proof'), /^manifest\.proof: the record is not at that place/],
])('%s: found, by both verifiers', async (_name, change, problem) => {
  const { dir, pin } = await gathered()
  change(dir)
  expect(await ask(dir, pin)).toMatchObject({ verdict: 'tampered', problem: expect.stringMatching(problem) })
})

test('a record of another kind with that hash in it vouches for nothing, and no proof is no verdict on the manifest', async () => {
  const { dir, pin } = await gathered('http.request')
  expect(await ask(dir, pin)).toMatchObject({ verdict: 'tampered', problem: expect.stringMatching(/not that of this manifest/) })
  unlinkSync(join(dir, 'manifest.proof'))
  expect(await ask(dir, pin)).toMatchObject({ verdict: 'unverifiable-tail', files: 4 })
})
