import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test, vi } from 'vitest'
import { parseVerifierKey } from '../../src/audit/verify/note.ts'
import { pushTo, startPusher, type PushDeps } from '../../src/launcher/pusher.ts'
import type { Ended } from '../../src/launcher/unprivileged.ts'
import { both } from '../audit/both.ts'
import { Forge, sha256, writeFiles } from '../audit/forge.ts'
import { tempDir } from '../audit/kit.ts'

vi.setConfig({ testTimeout: 60_000 }) // other processes take part, on a machine that may be busy

const SRC = join(import.meta.dirname, '../../src')

/** push-child.ts as a process of its own; without setpriv, which needs root (test/e2e/witness.test.ts has it). */
async function run(request: string): Promise<Ended> {
  const child = spawn(process.execPath, [join(SRC, 'launcher/push-child.ts'), request], { env: {}, stdio: ['ignore', 'pipe', 'pipe'] })
  const out: Buffer[] = []
  let stderr = ''
  child.stdout.on('data', (chunk: Buffer) => out.push(chunk))
  child.stderr.on('data', (chunk: Buffer) => void (stderr += chunk.toString()))
  const [status] = (await once(child, 'close')) as [number | null]
  return { status, stdout: Buffer.concat(out), stderr: stderr.replace(/\(node:.*\n?|\(Use .*\n?/g, ''), why: null }
}

async function startWitness(forge: Forge): Promise<{ name: string; url: string; key: string; errors: string[] }> {
  const dir = tempDir()
  const logKey = `${forge.origin}+${sha256(`${forge.origin}\n`, Buffer.of(1), forge.log.raw).subarray(0, 4).toString('hex')}+${Buffer.concat([Buffer.of(1), forge.log.raw]).toString('base64')}`
  const child = spawn(process.execPath, [join(SRC, 'witness.ts'), dir, 'w.example', '127.0.0.1', '0', logKey], { stdio: ['ignore', 'pipe', 'pipe'] })
  onTestFinished(() => void child.kill('SIGKILL'))
  const errors: string[] = []
  child.stderr.on('data', (chunk: Buffer) => errors.push(chunk.toString()))
  let out = ''
  while (!/url: \S+\n/.test(out)) out += String(((await once(child.stdout, 'data')) as [Buffer])[0])
  return { name: 'w', url: /url: (\S+)/.exec(out)?.[1] ?? '', key: /key: (\S+)/.exec(out)?.[1] ?? '', errors }
}

const deps = (dir: string): PushDeps => ({ dir, run, seen: new Map() })

test('a history that goes on is cosigned and kept, also by a daemon that does not know what was seen; both verifiers count it', async () => {
  const forge = new Forge().record('log.opened', { pid: 1 }).seal('open').records(5).seal()
  const witness = await startWitness(forge)
  const dir = forge.write(tempDir())
  const known = deps(dir)
  expect(await pushTo(witness, known)).toEqual({ state: 'answered', say: `${forge.checkpointSize} records witnessed`, size: forge.checkpointSize })
  for (let i = 0; i < 3; i++) {
    writeFiles(dir, new Map([...forge.records(150).seal().files(), ['witnessed/w', readFileSync(join(dir, 'witnessed/w'))]]))
    expect(await pushTo(witness, i === 1 ? deps(dir) : known), 'the second time it has to ask').toMatchObject({ state: 'answered', size: forge.checkpointSize })
  }
  expect(statSync(join(dir, 'witnessed/w')).mode & 0o777).toBe(0o600)
  expect(readdirSync(join(dir, 'witnessed'))).toEqual(['w'])
  const key = parseVerifierKey(witness.key)
  if (key === null) throw new Error(witness.key)
  expect(await both(dir, { now: forge.now, witnesses: [key] })).toMatchObject({ verdict: 'whole', lastWitnessed: [{ name: 'w.example', size: forge.checkpointSize, verified: true }] })
})

test('a log that was put back, and one that was forked, are refused, and it is said which', async () => {
  const forge = new Forge().record('log.opened', { pid: 1 }).seal('open').records(5).seal()
  const witness = await startWitness(forge)
  const seen = forge.checkpointSize
  expect(await pushTo(witness, deps(forge.write(tempDir())))).toMatchObject({ state: 'answered' })
  const older = new Forge().record('log.opened', { pid: 1 }).seal('open')
  expect(await pushTo(witness, deps(older.write(tempDir())))).toEqual({ state: 'refused', say: `it has seen ${seen} records of this log, which now has 3: the log was put back to an older state, or cut`, size: 3 })
  const fork = new Forge().record('log.opened', { pid: 1 }).seal('open').record('admin.act', { other: 1 }).records(4).seal()
  expect(await pushTo(witness, deps(fork.write(tempDir())))).toMatchObject({ state: 'refused', say: expect.stringMatching(/another history of the same 9 records/) })
  fork.records(4).seal()
  expect(await pushTo(witness, deps(fork.write(tempDir())))).toMatchObject({ state: 'refused', say: expect.stringMatching(/does not continue what it has seen/) })
  expect(witness.errors.join('')).toMatch(/ALARM/)
})

test.each<[string, number, string, RegExp]>([
  ['garbage', 200, 'hello', /no cosignature/],
  ['a cosignature of another', 200, '— w.example AAAAAAAA\n', /no cosignature/],
  ['an endless answer', 200, 'x'.repeat(100_000), /more than 8192 bytes/],
  ['a size that is none', 409, '-1\n', /without a size/],
  ['its own size again and again', 409, '1\n', /^$/],
  ['an error with control characters', 500, '\u001b[2J', /it answered 500: \\/],
])('a witness that answers %s gives nothing that is kept, and nothing that is not printable', async (_name, status, body, say) => {
  const server = createServer((request, response) => {
    request.resume()
    response.writeHead(status, { connection: 'close' }).end(body)
  })
  onTestFinished(() => void server.close())
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', () => resolve()))
  const forge = new Forge().record('log.opened', { pid: 1 }).seal('open').records(5).seal()
  const dir = forge.write(tempDir())
  const answer = await pushTo({ name: 'w', url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, key: (await startWitness(forge)).key }, deps(dir))
  expect(answer?.state).toMatch(/failed|refused/)
  if (answer?.state === 'failed') expect(answer.say).toMatch(say)
  expect(answer?.say).not.toContain('\u001b')
  expect(readdirSync(dir)).not.toContain('witnessed')
})

test('what changes is recorded once, however often it fails; a log without a checkpoint asks nobody', async () => {
  const forge = new Forge().record('log.opened', { pid: 1 }).seal('open')
  const dir = forge.write(tempDir())
  const notes: unknown[] = []
  let status = 1
  let calls = 0
  const fake = { dir, seen: new Map<string, number>(), run: async (): Promise<Ended> => ({ status, stdout: Buffer.from('kept as it is'), stderr: 'connect ECONNREFUSED', why: null, calls: calls++ }) as Ended }
  const stop = startPusher([{ name: 'w', url: 'http://x', key: 'k' }], fake, { note: (event) => void notes.push(event) }, () => {}, 5)
  onTestFinished(stop)
  const until = async (done: () => boolean): Promise<void> => {
    for (let i = 0; i < 2000 && !done(); i++) await sleep(5)
  }
  await until(() => calls > 5)
  status = 0
  await until(() => notes.length > 1)
  expect(notes).toEqual([
    { type: 'witness.changed', witness: 'w', state: 'failed', reason: 'connect ECONNREFUSED', size: 3, failures: 0 },
    { type: 'witness.changed', witness: 'w', state: 'answered', reason: '3 records witnessed', size: 3, failures: expect.any(Number) },
  ])
  expect((notes[1] as { failures: number }).failures).toBeGreaterThan(4)
  expect(readFileSync(join(dir, 'witnessed/w'), 'utf8')).toBe('kept as it is')
  const empty = tempDir()
  mkdirSync(join(empty, 'records'))
  writeFileSync(join(empty, 'checkpoint'), '')
  expect(await pushTo({ name: 'w', url: '', key: '' }, { ...fake, dir: empty })).toBeNull()
})
