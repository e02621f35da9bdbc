import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { cosignedAt, parseCheckpoint, parseSignature, parseVerifierKey } from '../../src/audit/verify/note.ts'
import { TileHashes } from '../../src/audit/verify/tile-hashes.ts'
import { both } from '../audit/both.ts'
import { Forge, sha256 } from '../audit/forge.ts'
import { tempDir } from '../audit/kit.ts'

vi.setConfig({ testTimeout: 60_000 }) // other processes take part, on a machine that may be busy

export function logKey(forge: Forge): string {
  return `${forge.origin}+${sha256(`${forge.origin}\n`, Buffer.of(1), forge.log.raw).subarray(0, 4).toString('hex')}+${Buffer.concat([Buffer.of(1), forge.log.raw]).toString('base64')}`
}

interface Running {
  readonly url: string
  readonly key: string
  readonly errors: string[]
  readonly child: ChildProcess
}

function stateDir(): string {
  const dir = mkdtempSync(join(tmpdir(), 'cordon-witness-'))
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

async function start(dir: string, ...logs: string[]): Promise<Running> {
  const child = spawn(process.execPath, [join(import.meta.dirname, '../../src/witness.ts'), dir, 'w.example', '127.0.0.1', '0', ...logs], { stdio: ['ignore', 'pipe', 'pipe'] })
  onTestFinished(() => void child.kill('SIGKILL'))
  const errors: string[] = []
  child.stderr.on('data', (chunk: Buffer) => errors.push(chunk.toString()))
  let out = ''
  while (!/url: \S+\n/.test(out)) {
    const chunk = await Promise.race([once(child.stdout, 'data') as Promise<[Buffer]>, once(child, 'exit').then(() => null)])
    if (chunk === null) throw new Error(`the witness ended: ${errors.join('')}`)
    out += String(chunk[0])
  }
  return { url: /url: (\S+)/.exec(out)?.[1] ?? '', key: /key: (\S+)/.exec(out)?.[1] ?? '', errors, child }
}

async function post(url: string, body: string): Promise<{ status: number; text: string; type: string | null }> {
  const response = await fetch(`${url}/add-checkpoint`, { method: 'POST', body })
  return { status: response.status, text: await response.text(), type: response.headers.get('content-type') }
}

function request(forge: Forge, old: number, size = forge.checkpointSize, proof?: string[]): string {
  const dir = mkdtempSync(join(tmpdir(), 'cordon-audit-'))
  try {
    forge.write(dir)
    const hashes = proof ?? new TileHashes(join(dir, 'tile')).consistency(old, size).map((one) => Buffer.from(one, 'latin1').toString('base64'))
    return `old ${old}\n${hashes.map((one) => `${one}\n`).join('')}\n${forge.checkpoint(size)}`
  } finally {
    rmSync(dir, { recursive: true })
  }
}

const grown = (): Forge => new Forge().record('log.opened', { pid: 1 }).seal('open').records(5).seal()

describe('a witness', () => {
  test('cosigns a history that goes on, and remembers it across kill -9', async () => {
    const forge = grown()
    const dir = stateDir()
    const first = await start(dir, logKey(forge))
    const begun = await post(first.url, request(forge, 0))
    expect(begun).toMatchObject({ status: 200, type: 'text/plain; charset=utf-8' })
    const witness = parseVerifierKey(first.key)
    const signature = parseSignature(begun.text.trimEnd())
    const checkpoint = parseCheckpoint(forge.checkpoint())
    if (witness === null || signature === null || checkpoint === null) throw new Error(begun.text)
    expect(Math.abs((cosignedAt({ text: checkpoint.text, signatures: [signature] }, witness) ?? 0) - Date.now() / 1000)).toBeLessThan(100)
    const size = forge.checkpointSize
    expect(await post(first.url, request(forge, size)), 'the same again').toMatchObject({ status: 200 })
    first.child.kill('SIGKILL')
    await once(first.child, 'exit')
    const again = await start(dir, logKey(forge))
    expect(again.key).toBe(first.key)
    forge.records(300).seal().records(7).seal()
    expect(await post(again.url, request(forge, 0)), 'it asks for what it saw').toEqual({ status: 409, text: `${size}\n`, type: 'text/x.tlog.size' })
    expect(await post(again.url, request(forge, size))).toMatchObject({ status: 200 })
    const page = await (await fetch(again.url)).text()
    expect(page).toContain(again.key)
    const saved = join(tempDir(), 'page')
    writeFileSync(saved, page)
    expect(await both(forge.write(tempDir()), { now: forge.now, witnesses: [witness], saved: [saved] })).toMatchObject({ verdict: 'whole', lastWitnessed: [{ size: forge.checkpointSize, verified: true }] })
    // The log put back to what it was: whole by itself, and found by what the witness remembers.
    const old = grown()
    expect(await both(old.write(tempDir()), { now: old.now })).toMatchObject({ verdict: 'whole' })
    expect(await both(old.write(tempDir()), { now: old.now, witnesses: [witness], saved: [saved] })).toMatchObject({ verdict: 'tampered', missing: [{ from: size, to: forge.checkpointSize - 1 }] })
  })

  test('refuses a fork, a log that was put back, a wrong proof, an unknown log, another key and what is no request', async () => {
    const forge = grown()
    const dir = stateDir()
    const { url, errors } = await start(dir, logKey(forge))
    expect(await post(url, request(forge, 0))).toMatchObject({ status: 200 })
    const size = forge.checkpointSize
    const fork = new Forge().record('log.opened', { pid: 1 }).seal('open').record('admin.act', { other: true }).records(4).seal()
    expect(fork.checkpointSize).toBe(size)
    expect(await post(url, request(fork, size, size)), 'another root for the same size').toMatchObject({ status: 409, text: `${size}\n` })
    fork.records(9).seal()
    expect(await post(url, request(fork, size)), 'another history, with its own proof').toMatchObject({ status: 422 })
    expect(errors.join('')).toMatch(/ALARM cordon-audit.*\n.*ALARM/)
    expect(readdirSync(join(dir, 'refused'))).toHaveLength(1)
    expect(await post(url, request(forge, 3, 3)), 'rolled back').toEqual({ status: 409, text: `${size}\n`, type: 'text/x.tlog.size' })
    forge.records(20).seal()
    expect(await post(url, request(forge, size, forge.checkpointSize, []))).toMatchObject({ status: 422 })
    expect(await post(url, request(forge, forge.checkpointSize + 1, forge.checkpointSize, [])), 'old above new').toMatchObject({ status: 400 })
    expect(await post(url, request(new Forge('other').seal(), 0))).toMatchObject({ status: 404 })
    expect(await post(url, request(forge, size).replace(/(— \S+ ......)./, (_, kept: string) => `${kept}A`))).toMatchObject({ status: 403 })
    for (const body of ['', 'old 0\n', 'old 00\n\nx\n1\n', `old ${size}\n${'A'.repeat(43)}=\n`, `${`old 0\n${`${'A'.repeat(43)}=\n`.repeat(64)}\n`}${forge.checkpoint()}`, request(forge, size).replace('\n\n', '\n')]) expect((await post(url, body)).status, body.slice(0, 40)).toBe(400)
    expect((await post(url, 'x'.repeat(100_000))).status).toBe(413)
    expect((await fetch(`${url}/add-checkpoint`)).status).toBe(405)
    expect((await fetch(`${url}/other`, { method: 'POST', body: 'x' })).status).toBe(404)
    expect(await post(url, request(forge, size)), 'the real one still goes on').toMatchObject({ status: 200 })
  })

  test('of two requests at once for different sizes, one is told to ask again; the state never goes back', async () => {
    const forge = grown()
    const dir = stateDir()
    const { url } = await start(dir, logKey(forge))
    await post(url, request(forge, 0))
    const base = forge.checkpointSize
    const bodies: string[] = []
    for (let i = 0; i < 8; i++) {
      forge.record().seal()
      bodies.push(request(forge, base))
    }
    const answers = await Promise.all(bodies.toReversed().map((body) => post(url, body)))
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(1)
    expect(answers.filter(({ status }) => status === 409)).toHaveLength(7)
    const kept = parseCheckpoint(readFileSync(join(dir, 'logs', readdirSync(join(dir, 'logs'))[0] ?? ''), 'utf8'))
    expect(answers.filter(({ status }) => status === 409).map(({ text }) => text)).toEqual(Array.from({ length: 7 }, () => `${kept?.size ?? 0}\n`))
  })

  test('its key and its state are for its user alone; damaged or foreign, it does not start; what cannot be written is not signed', async () => {
    const forge = grown()
    const dir = stateDir()
    const { url, child } = await start(dir, logKey(forge))
    await post(url, request(forge, 0))
    expect(statSync(join(dir, 'witness.key')).mode & 0o777).toBe(0o600)
    const file = join(dir, 'logs', readdirSync(join(dir, 'logs'))[0] ?? '')
    expect(statSync(file).mode & 0o777).toBe(0o600)
    forge.record().seal()
    const before = readFileSync(file)
    rmSync(join(dir, 'logs'), { recursive: true })
    expect((await post(url, request(forge, forge.checkpointSize - 2))).status).toBe(500)
    child.kill()
    await once(child, 'exit')
    await start(dir, logKey(forge)) // makes logs/ again
    writeFileSync(file, before.subarray(0, 50))
    await expect(start(dir, logKey(forge))).rejects.toThrow(/is damaged/)
    writeFileSync(file, before)
    writeFileSync(join(dir, 'witness.key'), 'short')
    await expect(start(dir, logKey(forge))).rejects.toThrow(/must hold 32 bytes/)
    chmodSync(dir, 0o755)
    await expect(start(dir, logKey(forge))).rejects.toThrow(/mode 0700/)
    await expect(start(stateDir(), 'x')).rejects.toThrow(/no key of a log/)
  })

  test('a client that sends slowly or nothing, or too many of them, does not keep it from answering', async () => {
    const forge = grown()
    const { url } = await start(stateDir(), logKey(forge))
    const { port } = new URL(url)
    const idle = Array.from({ length: 40 }, () => connect({ port: Number(port), host: '127.0.0.1' }).on('error', () => {}))
    onTestFinished(() => idle.forEach((socket) => socket.destroy()))
    await Promise.all(idle.map((socket) => once(socket, 'connect')))
    for (const socket of idle) socket.write('POST /add-checkpoint HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nold')
    expect((await post(url, request(forge, 0))).status).toBe(200)
  })
})
