import { spawnSync } from 'node:child_process'
import { generateKeyPairSync, sign } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, test, vi } from 'vitest'
import { verifyLog } from '../../src/audit/verify/log.ts'
import { RecordScanner } from '../../src/audit/verify/scan.ts'
import { PYTHON_VERIFIER } from './both.ts'
import { canonical, Forge } from './forge.ts'
import { tempDir } from './kit.ts'

vi.setConfig({ testTimeout: 60_000 }) // other processes take part, on a machine that may be busy

/** Runs Python with the verifier as module `m`; what it prints is the answer. */
function python(code: string, input = ''): string {
  const load = `import importlib.util, sys, json\ns = importlib.util.spec_from_file_location('m', ${JSON.stringify(PYTHON_VERIFIER)})\nm = importlib.util.module_from_spec(s)\nsys.dont_write_bytecode = True\ns.loader.exec_module(m)\n`
  const { stdout, stderr, status } = spawnSync('/usr/bin/python3', ['-c', load + code], { input, encoding: 'utf8', maxBuffer: 64 * 2 ** 20 })
  if (status !== 0) throw new Error(stderr)
  return stdout
}

// RFC 8032 section 7.1: secret (unused here), public, message, signature.
const VECTORS = [
  ['d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a', '', 'e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b'],
  ['3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c', '72', '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00'],
  ['fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025', 'af82', '6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a'],
]

test('Ed25519 in Python agrees with the test vectors of RFC 8032, and with Node on right and wrong signatures', () => {
  const cases = VECTORS.map(([key, message, signature]) => [key, message, signature, true])
  for (let i = 0; i < 20; i++) {
    const { privateKey, publicKey } = generateKeyPairSync('ed25519')
    const message = Buffer.from(`message ${i}`)
    const signature = sign(null, message, privateKey)
    const key = publicKey.export({ format: 'der', type: 'spki' }).subarray(-32)
    cases.push([key.toString('hex'), message.toString('hex'), signature.toString('hex'), true])
    for (const bytes of [key, signature]) {
      const wrong = Buffer.from(bytes)
      wrong[i] = (wrong[i] ?? 0) ^ 4
      cases.push([(bytes === key ? wrong : key).toString('hex'), message.toString('hex'), (bytes === signature ? wrong : signature).toString('hex'), false])
    }
    // The same signature with L added to S: RFC 8032 section 5.1.7 wants S < L.
    const s = BigInt(`0x${Buffer.from(signature.subarray(32)).reverse().toString('hex')}`) + 2n ** 252n + 27742317777372353535851937790883648493n
    cases.push([key.toString('hex'), message.toString('hex'), signature.subarray(0, 32).toString('hex') + Buffer.from(s.toString(16).padStart(64, '0'), 'hex').reverse().toString('hex'), false])
  }
  const answer = python('for k, t, s, _ in json.load(sys.stdin): print(m.ed25519_verifies(bytes.fromhex(k), bytes.fromhex(t), bytes.fromhex(s)))', JSON.stringify(cases))
  expect(answer.trim().split('\n')).toEqual(cases.map(([, , , right]) => (right === true ? 'True' : 'False')))
})

test('both verifiers take the same lines for records, whatever was done to one', () => {
  const good = new Forge().text(3, '0'.repeat(64), 'x.y', { a: [1, 'é\n"', { b: null }], '\u{1f600}': -7, z: { '': true } })
  const pieces = fc.constantFrom('"', '\\', '\\u0041', '\\u001f', '\\n', '{', '}', '[', ']', ',', ':', '0', '-', '1.5', '1e9', 'null', 'true', ' ', '\t', 'é', '\ufb00', '\u{1f600}', 'NaN', '9007199254740992', '\u007f')
  const lines = fc.sample(fc.tuple(fc.nat(good.length), fc.nat(4), fc.oneof(pieces, fc.string({ maxLength: 2 }))).map(([at, remove, insert]) => good.slice(0, at) + insert + good.slice(at + remove)), { seed: 3629, numRuns: 3000 })
    .concat(fc.sample(fc.dictionary(fc.string({ unit: 'grapheme', maxLength: 4 }), fc.oneof(fc.integer(), fc.string({ unit: 'binary', maxLength: 5 }), fc.boolean())).map((data) => canonical(JSON.parse(good) as unknown).replace(/"data":\{.*\},"mono/, () => `"data":${canonical(data)},"mono`)), { seed: 8259, numRuns: 1000 }))
    .concat(good, good.replace('{"a":', `{"a":${'['.repeat(29)}`).replace(',"z"', `${']'.repeat(29)},"z"`), good.replace('{"a":', `{"a":${'['.repeat(31)}`).replace(',"z"', `${']'.repeat(31)},"z"`))
    .filter((line) => !line.includes('\n'))
  const ours = lines.map((line) => {
    const bytes = Buffer.from(`${line}\n`)
    return new RecordScanner().scan(bytes, 0, bytes.length - 1)
  })
  const code = 'for text in json.load(sys.stdin):\n  try:\n    m.read_record(text.encode("utf-8", "replace"))\n    print(1)\n  except m.NoRecord:\n    print(0)'
  const theirs = python(code, JSON.stringify(lines.map((line) => line.toWellFormed()))).trim().split('\n').map((one) => one === '1')
  const different = lines.filter((_, i) => ours[i] !== theirs[i])
  expect(different).toEqual([])
  expect(ours.filter(Boolean).length).toBeGreaterThan(100)
})

test('the command: a sentence first, the same exit statuses, JSON on request, and nothing to check is no verdict', async () => {
  const run = (...args: string[]) => spawnSync('/usr/bin/python3', [PYTHON_VERIFIER, ...args], { encoding: 'utf8' })
  const forge = new Forge().record('log.opened', { pid: 7 }).seal('open').records(3).seal('close')
  const dir = forge.write(tempDir())
  const whole = run('--key', forge.fingerprint, dir)
  expect([whole.status, whole.stdout.split('\n')[0]]).toEqual([0, 'The log is whole: 7 records, each where it was written.'])
  expect(whole.stdout).toContain(`first key: ${forge.fingerprint}, the one that you named`)
  writeFileSync(join(dir, 'records/0000000000000000.jsonl'), `${forge.lines.toSpliced(4, 1).join('\n')}\n`)
  const bad = run('--json', dir)
  expect([bad.status, (JSON.parse(bad.stdout) as { firstBad: { seq: number } }).firstBad.seq]).toEqual([2, 4])
  expect(await verifyLog(dir)).toMatchObject({ verdict: 'tampered', firstBad: { seq: 4 } })
  expect(run('--at', '2026-12-20T12:00:00.000Z', new Forge().records(2).write(tempDir())).status).toBe(3)
  expect(run(new Forge().record('gap', { reason: 'x' }).seal('close').write(tempDir())).status).toBe(4)
  expect([run(tempDir()).status, run().status, run('--nonsense').status, run('--head', 'x', dir).status, run('--key', 'SHA256:short', dir).status, run('--key', `${forge.fingerprint}=`, dir).status]).toEqual([66, 64, 64, 64, 64, 64])
})

test('it is one file that needs nothing, and no syntax newer than Python 3.9', () => {
  const source = readFileSync(PYTHON_VERIFIER, 'utf8')
  expect(python('import ast\nast.parse(open(m.__file__).read(), feature_version=(3, 9))\nprint(len([n for n in ast.walk(ast.parse(open(m.__file__).read())) if isinstance(n, ast.Match)]))').trim()).toBe('0')
  const modules = [...source.matchAll(/^(?:import|from) (\w+)/gm)].map((match) => match[1])
  expect(python(`print([n for n in ${JSON.stringify(modules)} if n not in sys.stdlib_module_names])`).trim()).toBe('[]')
})
