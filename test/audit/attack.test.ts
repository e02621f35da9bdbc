import { mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import type { VerifyOptions } from '../../src/audit/verify/evidence.ts'
import { COSIGNATURE } from '../../src/audit/verify/note.ts'
import type { VerifyResult } from '../../src/audit/verify/verdict.ts'
import { both } from './both.ts'
import { BOOT_A, canonical, Forge, keyOf, leaf, sha256, treeHash, writeFiles } from './forge.ts'
import { tempDir } from './kit.ts'

vi.setConfig({ testTimeout: 60_000 }) // other processes take part, on a machine that may be busy

/*
 * What someone with root can do to a log, each with both verifiers. Root has: every file, the key of the current epoch and
 * the log key, as they are from some moment on. Root has not: the keys of earlier epochs.
 */

const WITNESS = keyOf('witness')
const witness = { name: 'witness.example/w', type: COSIGNATURE, key: WITNESS.raw }

/** Five epochs, two segments, an idle epoch, some records behind the last seal. */
function victim(): Forge {
  return new Forge().record('log.opened', { pid: 7 }).seal('open').pass(20).records(4).pass(40).seal().pass(60).seal().pass(10).records(3).rotate().pass(5).records(4).pass(20).seal().pass(5).records(2)
}

const look = (forge: Forge, options: VerifyOptions = {}): Promise<VerifyResult> => both(forge.write(tempDir()), { now: forge.now, ...options })

/** The records anew from `from` on: chained, sealed with the keys that root has. */
function rewrite(forge: Forge, from: number, change: (line: string) => string): Forge {
  const old = forge.lines
  const epochNow = forge.epoch
  forge.lines = old.slice(0, from)
  for (const line of old.slice(from)) {
    const { type, data, ...rest } = JSON.parse(change(line)) as { type: string; data: Record<string, unknown> }
    if (type !== 'seal') {
      forge.lines.push(canonical({ ...rest, data, type, seq: forge.lines.length, prev: forge.prev() }))
      continue
    }
    const { sig: _, ...claims } = data
    forge.epoch = Number(data['epoch'])
    forge.prevSeal = leaf(forge.lines.findLast((one) => one.includes('"type":"seal"')) ?? '').toString('hex')
    forge.seal(String(claims['why']), forge.epochKey(epochNow))
  }
  forge.epoch = epochNow
  return forge
}

test('the control: nobody touched it, and it is whole', async () => {
  const forge = victim()
  const saved = join(tempDir(), 'saved')
  writeFileSync(saved, forge.checkpoint())
  expect(await look(forge, { pin: forge.fingerprint, saved: [saved] })).toMatchObject({ verdict: 'whole', records: forge.lines.length, unsealed: { records: 2, seconds: 1 } })
})

describe('bytes', () => {
  test('each byte of each file flipped: found, except in the records behind the last seal, and there with a remembered head', async () => {
    const forge = new Forge().seal('open').pass(5).record('log.opened', { pid: 7 }).rotate().prune().pass(5).records(2)
    const files = forge.files()
    const dir = tempDir()
    writeFiles(dir, files)
    const head = { seq: forge.lines.length - 1, hash: leaf(forge.lines.at(-1) ?? '').toString('hex') }
    expect(await both(dir, { now: forge.now, head })).toMatchObject({ verdict: 'whole' })
    const open = `records/${String(forge.segments.at(-1)).padStart(16, '0')}.jsonl`
    const sealed = Buffer.byteLength(forge.lines.slice(forge.segments.at(-1), -2).map((line) => `${line}\n`).join(''))
    let hidden = 0
    for (const [path, bytes] of files) {
      for (let at = 0; at < bytes.length; at += 1) {
        const changed = Buffer.from(bytes)
        changed[at] = (changed[at] ?? 0) ^ (at % 3 === 0 ? 0x20 : 1)
        writeFileSync(join(dir, path), changed)
        const tail = path === open && at >= sealed
        const { verdict, firstBad } = await both(dir, { now: forge.now, ...(tail ? { head } : {}) })
        expect(verdict === 'tampered' || (path === open && at === bytes.length - 1 && verdict === 'unverifiable-tail'), `${path} byte ${at}: ${verdict} ${firstBad?.problem ?? ''}`).toBe(true)
        if (tail && at < bytes.length - 1 && at % 40 === 0 && (await both(dir, { now: forge.now })).verdict === 'whole') hidden += 1
      }
      writeFileSync(join(dir, path), bytes)
    }
    expect(hidden).toBeGreaterThan(0) // README.md, "What no local scheme can find": the records behind the last seal
  }, 120_000)
})

describe('records', () => {
  const N = victim().lines.length
  test.each<[string, (lines: string[]) => string[], number]>([
    ['the first removed', (l) => l.slice(1), 0],
    ['one removed', (l) => l.toSpliced(5, 1), 5],
    ['one inserted', (l) => l.toSpliced(5, 0, l[3] ?? ''), 5],
    ['one doubled', (l) => l.toSpliced(6, 0, l[5] ?? ''), 6],
    ['two swapped', (l) => l.with(5, l[6] ?? '').with(6, l[5] ?? ''), 5],
    ['one dated back', (l) => l.with(5, (l[5] ?? '').replace(/"time":"[^"]+"/, '"time":"2026-11-19T10:00:00.000Z"')), 5],
    ['a seal removed', (l) => l.toSpliced(7, 1), 7],
    ['one from another log', (l) => l.with(5, new Forge('other').records(9).lines[5] ?? ''), 5],
  ])('%s, the others as they were: found and named', async (_name, change, seq) => {
    const forge = victim()
    forge.lines = change(forge.lines)
    const result = await look(forge)
    expect(result.verdict).toBe('tampered')
    expect([seq, seq - 1]).toContain(result.firstBad?.seq)
  })

  test.each<[string, (lines: string[]) => string[]]>([
    ['one changed', (l) => l.with(5, (l[5] ?? '').replace('"n":', '"m":'))],
    ['one removed', (l) => l.toSpliced(5, 1)],
    ['one inserted', (l) => l.toSpliced(5, 0, l[4] ?? '')],
    ['all dated back by an hour', (l) => l.map((line) => line.replace('T10:', 'T09:'))],
    ['the idle epoch dropped', (l) => l.toSpliced(8, 1)],
  ])('%s, then everything chained anew and signed again with the key that root has: found at the next seal', async (_name, change) => {
    const forge = victim()
    forge.lines = change(forge.lines)
    const from = forge.lines.findIndex((line, i) => line !== victim().lines[i])
    const result = await look(rewrite(forge, Math.max(0, from), (line) => line))
    expect(result).toMatchObject({ verdict: 'tampered' })
    expect(result.firstBad?.seq).toBeLessThan(N - 2)
  })

  test('a seal of one\'s own over changed records, with the epoch that is really next, is not signed by the key of the one before', async () => {
    const forge = victim()
    forge.lines = forge.lines.slice(0, 8) // back into epoch 2, whose key is gone
    forge.epoch = 2
    forge.prevSeal = leaf(forge.lines[7] ?? '').toString('hex')
    forge.record('admin.act', { forged: true }).seal('close', forge.epochKey(4))
    expect(await look(forge)).toMatchObject({ verdict: 'tampered', firstBad: { seq: 9, problem: expect.stringMatching(/not signed by the key/) }, records: 8 })
  })
})

describe('the end cut off', () => {
  test('at every record: found by the checkpoint that is left, tile by tile, and once the writer is late', async () => {
    for (let end = 1; end < victim().lines.length - 2; end++) {
      const forge = victim()
      const saved = join(tempDir(), 'saved')
      writeFileSync(saved, forge.checkpoint())
      const late = { wallMs: forge.wallMs + 200_000, boot: forge.boot, monoMs: forge.monoMs + 200_000 }
      const lines = forge.lines
      const cut = (): Forge => {
        forge.lines = lines.slice(0, end)
        forge.segments = forge.segments.filter((first) => first <= end)
        return forge
      }
      const left = forge.files()
      cut()
      const dir = tempDir()
      for (const path of left.keys()) if (path.startsWith('records/')) left.delete(path)
      writeFiles(dir, new Map([...left, ...[...forge.files()].filter(([path]) => path.startsWith('records/'))]))
      expect(await both(dir, { now: forge.now }), `cut at ${end}, the rest left`).toMatchObject({ verdict: 'tampered' })
      rmSync(join(dir, 'checkpoint'))
      expect(await both(dir, { now: forge.now }), `cut at ${end}, without checkpoint`).toMatchObject({ verdict: 'tampered' })
      rmSync(join(dir, 'tile'), { recursive: true })
      expect(await both(dir, { now: late }), `cut at ${end}, without tiles`).toMatchObject({ verdict: 'unverifiable-tail' })
      expect(await both(dir, { now: late, saved: [saved] }), `cut at ${end}, with a saved checkpoint`).toMatchObject({ verdict: 'tampered', missing: [{ from: end, to: forge.checkpointSize - 1 }] })
    }
  })

  test('at a closing seal with the checkpoint of that time put back: no local scheme finds it; --with and the witness do', async () => {
    const forge = victim().seal('close')
    const closed = forge.lines.length
    const old = forge.write(tempDir())
    forge.pass(3600).record('log.opened', { pid: 8 }).seal('open').pass(30).record('admin.act', { evil: true }).pass(30).seal('close')
    const now = { ...forge.now, wallMs: forge.wallMs + 86_400_000 }
    expect(await both(old, { now })).toMatchObject({ verdict: 'whole', records: closed })
    const saved = join(tempDir(), 'mail')
    writeFileSync(saved, forge.checkpoint())
    expect(await both(old, { now, saved: [saved] })).toMatchObject({ verdict: 'tampered', firstBad: { problem: expect.stringMatching(/newer records were cut off/) }, missing: [{ from: closed, to: forge.lines.length - 1 }] })
    const cosigned = join(tempDir(), 'state')
    writeFileSync(cosigned, forge.cosigned(witness.name, WITNESS))
    expect(await both(old, { now, witnesses: [witness], saved: [cosigned] })).toMatchObject({ verdict: 'tampered' })
  })
})

describe('the whole directory', () => {
  test('an older copy of a running log put back: late, so its end cannot be verified; found with --with', async () => {
    const forge = victim()
    const old = forge.write(tempDir())
    forge.pass(60).record().seal().pass(60).seal()
    const saved = join(tempDir(), 'mail')
    writeFileSync(saved, forge.checkpoint())
    const now = { ...forge.now, monoMs: forge.monoMs + 20_000 }
    expect(await both(old, { now })).toMatchObject({ verdict: 'unverifiable-tail' })
    expect(await both(old, { now, saved: [saved] })).toMatchObject({ verdict: 'tampered' })
  })

  test('a new log under the old name is whole in itself; the pinned key, saved checkpoints and a witness tell them apart', async () => {
    const forge = victim()
    const saved = join(tempDir(), 'mail')
    writeFileSync(saved, forge.checkpoint())
    const fresh = new Forge('fresh').record('log.opened', { pid: 9 }).seal('open')
    expect(await look(fresh)).toMatchObject({ verdict: 'whole' })
    expect(await look(fresh, { pin: forge.fingerprint })).toMatchObject({ verdict: 'tampered', records: 0 })
    expect(await look(fresh, { saved: [saved] })).toMatchObject({ verdict: 'tampered', firstBad: { problem: expect.stringMatching(/not the log that they were saved from/) } })
    expect(await look(fresh, { witnesses: [witness] })).toMatchObject({ verdict: 'unverifiable-tail', firstBad: { problem: expect.stringMatching(/no checkpoint carries a cosignature/) } })
    // The old first key and name in front of new records: the first seal needs a key that is gone.
    const posing = new Forge('log').record('log.opened', { pid: 9 }).seal('open', keyOf('root has this'))
    expect(await look(posing, { pin: forge.fingerprint })).toMatchObject({ verdict: 'tampered', records: 0 })
  })

  test('segments taken away without a sealed record of it: found; removed by retention: told', async () => {
    const forge = victim().rotate()
    const dir = forge.write(tempDir())
    renameSync(join(dir, 'records/0000000000000000.jsonl'), join(tempDir(), 'gone'))
    expect(await both(dir, { now: forge.now })).toMatchObject({ verdict: 'tampered', missing: [{ from: 0, to: 12 }] })
    const kept = victim().rotate()
    kept.lines.slice(0, 13).filter((line) => /"type":"(?:log\.created|seal)"/.test(line)).forEach((line) => kept.kept.push(line))
    kept.segments.shift()
    expect(await look(kept)).toMatchObject({ verdict: 'tampered', firstBad: { problem: expect.stringMatching(/no sealed log.pruned/) } })
    kept.record('log.pruned', { bytes: 1, first: 0, last_leaf: leaf(kept.lines[12] ?? '').toString('hex'), next: 13, sha256: '0'.repeat(64) })
    expect(await look(kept), 'not yet sealed').toMatchObject({ verdict: 'tampered' })
    expect(await look(victim().rotate().prune().seal('close'))).toMatchObject({ verdict: 'whole', pruned: { from: 0, to: 12 } })
  })

  test('a segment from the middle taken away: the missing range is named', async () => {
    const forge = victim().rotate().records(3)
    const dir = forge.write(tempDir())
    rmSync(join(dir, `records/${String(forge.segments[1]).padStart(16, '0')}.jsonl`))
    expect(await both(dir, { now: forge.now })).toMatchObject({ verdict: 'tampered', missing: [{ from: 13, to: (forge.segments[2] ?? 0) - 1 }] })
  })

  test.each(['checkpoint', 'tile', 'seals.jsonl'])('%s of removed segments gone: found, or not needed', async (what) => {
    const forge = victim().rotate().prune().seal('close')
    const dir = forge.write(tempDir())
    rmSync(join(dir, what), { recursive: true })
    const { verdict } = await both(dir, { now: { ...forge.now, monoMs: forge.monoMs + 200_000 } })
    expect(verdict).toBe(what === 'checkpoint' ? 'unverifiable-tail' : 'tampered')
  })
})

describe('nothing, or something else, where the log was', () => {
  test('every file gone: not whole; and tampered with for who remembers anything of it', async () => {
    const forge = victim()
    const dir = forge.write(tempDir())
    const saved = join(tempDir(), 'mail')
    writeFileSync(saved, forge.checkpoint())
    rmSync(join(dir, 'records/0000000000000000.jsonl'))
    rmSync(join(dir, 'records/0000000000000013.jsonl'))
    rmSync(join(dir, 'tile'), { recursive: true })
    expect(await both(dir, { now: forge.now }), 'a checkpoint of nothing').toMatchObject({ verdict: 'tampered', firstBad: { file: 'checkpoint' } })
    rmSync(join(dir, 'checkpoint'))
    for (const _ of ['records/ is empty', 'records/ is gone']) {
      expect(await both(dir, { now: forge.now })).toMatchObject({ verdict: 'unverifiable-tail', firstBad: { problem: 'there is no record at all' } })
      expect(await both(dir, { now: forge.now, pin: forge.fingerprint })).toMatchObject({ verdict: 'tampered' })
      expect(await both(dir, { now: forge.now, saved: [saved] })).toMatchObject({ verdict: 'tampered' })
      rmSync(join(dir, 'records'), { recursive: true, force: true })
    }
  })

  test('a new log whose seals.jsonl begins with a record that is not the first: its key is compared all the same', async () => {
    const fresh = new Forge('fresh').record('log.opened', { pid: 9 }).seal('open')
    const dir = fresh.write(tempDir())
    writeFileSync(join(dir, 'seals.jsonl'), `${fresh.lines[2] ?? ''}\n`)
    expect(await both(dir, { now: fresh.now, pin: fresh.fingerprint }), 'the control').toMatchObject({ verdict: 'whole', keyConfirmed: true })
    expect(await both(dir, { now: fresh.now, pin: victim().fingerprint })).toMatchObject({ verdict: 'tampered', records: 0 })
    writeFileSync(join(dir, 'checkpoint'), victim().checkpoint())
    expect(await both(dir, { now: fresh.now })).toMatchObject({ verdict: 'tampered', firstBad: { file: 'checkpoint' } })
  })

  const kinds: Readonly<Record<string, (path: string) => void | Promise<void>>> = {
    'a link to the file': (path) => { renameSync(path, `${path}.real`); symlinkSync(`${path}.real`, path) },
    'a link to nothing': (path) => { rmSync(path); symlinkSync('/nowhere/at/all', path) },
    'a link to itself': (path) => { rmSync(path); symlinkSync(path, path) },
    'a directory': (path) => { rmSync(path); mkdirSync(path) },
    'a socket': (path) => {
      rmSync(path)
      const server = createServer()
      onTestFinished(() => void server.close())
      return new Promise((resolve) => server.listen(path, resolve))
    },
  }
  test.each(Object.keys(kinds))('%s in the place of a segment, a tile, the checkpoint or the kept seals: found, not an error', async (kind) => {
    const forge = victim().rotate().prune().seal('close')
    for (const path of ['checkpoint', 'seals.jsonl', `records/${String(forge.segments.at(-1)).padStart(16, '0')}.jsonl`, `tile/0/000.p/${forge.lines.length}`]) {
      const dir = forge.write(tempDir())
      await kinds[kind]?.(join(dir, path))
      const result = await both(dir, { now: forge.now })
      expect(result, path).toMatchObject({ verdict: 'tampered', firstBad: { file: path } })
    }
  })

  test('a segment renamed to a number beyond all counting: its records are missing', async () => {
    const forge = victim()
    const files = forge.files()
    files.set('records/9999999999999999.jsonl', files.get('records/0000000000000013.jsonl') ?? Buffer.alloc(0))
    files.delete('records/0000000000000013.jsonl')
    const dir = tempDir()
    writeFiles(dir, files)
    expect(await both(dir, { now: forge.now })).toMatchObject({ verdict: 'tampered', missing: [{ from: 13, to: forge.checkpointSize - 1 }] })
  })
})

describe('with the key of today', () => {
  // encoded points of order 1, 2, 4 and 8: a signature for one of them proves nothing
  test.each(['01'.padEnd(64, '0'), `ec${'f'.repeat(60)}7f`, '0'.repeat(64), '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05'])('a next key for which anybody can sign, %s: no seal by it is taken', async (weak) => {
    for (let n = 0; n < 16; n++) { // S = 0 and R of order 1: for some hashes of the message that would verify
      const forge = new Forge().seal('open', undefined, { next_key: weak }).record('admin.act', { n })
      const root = treeHash(forge.lines.map(leaf)).toString('hex')
      forge.record('seal', { epoch: 1, interval_s: 60, next_key: weak, prev_seal: leaf(forge.lines[1] ?? '').toString('hex'), root, sig: '01'.padEnd(128, '0'), size: 3, why: 'close' })
      forge.checkpointSize = 0
      expect(await look(forge)).toMatchObject({ verdict: 'tampered', firstBad: { problem: expect.stringMatching(/not signed by the key/) } })
    }
  })

  test('times that no calendar of a library reaches are only times', async () => {
    const forge = victim()
    forge.wallMs = Date.parse('0000-01-01T00:00:00.000Z')
    forge.record().seal('close')
    expect(await look(forge)).toMatchObject({ verdict: 'whole', lastSealed: { time: '0000-01-01T00:00:00.000Z' } })
  })

  test('removals that overlap, repeat or reach further: covered is covered, and a wrong hash is found wherever it stands', async () => {
    const pruned = (first: number, next: number, right: boolean) => (forge: Forge): Forge => forge.record('log.pruned', { bytes: 1, first, last_leaf: (right ? leaf(forge.lines[next - 1] ?? '') : leaf('x')).toString('hex'), next, sha256: '0'.repeat(64) })
    const made = (...acts: ((forge: Forge) => Forge)[]): Promise<VerifyResult> => {
      const forge = victim().rotate()
      for (const act of acts) act(forge)
      forge.prune()
      return look(forge)
    }
    expect(await made()).toMatchObject({ verdict: 'whole', pruned: { from: 0, to: 12 } })
    expect(await made(pruned(0, 13, true), pruned(0, 5, true))).toMatchObject({ verdict: 'whole' })
    expect(await made(pruned(0, 20, true))).toMatchObject({ verdict: 'whole' })
    for (const wrong of [pruned(0, 13, false), pruned(5, 13, false)]) expect(await made(wrong)).toMatchObject({ verdict: 'tampered', firstBad: { problem: expect.stringMatching(/last_leaf/) } })
  })

  test('torn bytes are vouched for by numbers, not by what a language takes for one', async () => {
    const forge = new Forge().seal('open')
    const before = Buffer.from(forge.lines.map((line) => `${line}\n`).join(''))
    forge.record('gap', { reason: 'torn-line', torn: { bytes: true, offset: before.length, sha256: sha256('x').toString('hex') } }).seal('close')
    const files = forge.files()
    const after = forge.lines.slice(2).map((line) => `${line}\n`).join('')
    files.set('records/0000000000000000.jsonl', Buffer.concat([before, Buffer.from('x\n'), Buffer.from(after)]))
    const dir = tempDir()
    writeFiles(dir, files)
    expect(await both(dir, { now: forge.now })).toMatchObject({ verdict: 'tampered' })
  })
})

describe('clocks', () => {
  test('the wall clock set back and forth is told and changes no verdict; a monotonic clock that falls is found', async () => {
    const forge = victim()
    forge.wallMs -= 86_400_000
    forge.record().seal()
    forge.wallMs += 3 * 86_400_000
    forge.record().pass(30).seal('close')
    expect(await look(forge)).toMatchObject({ verdict: 'whole', clockSteps: 1 })
    const fallen = victim()
    fallen.monoMs -= 1
    fallen.record()
    expect(await look(fallen)).toMatchObject({ verdict: 'tampered', firstBad: { seq: fallen.lines.length - 1, problem: expect.stringMatching(/mono_ms|no record/) } })
  })

  test('a reboot, with and without a closing seal, is no tampering', async () => {
    expect(await look(victim().seal('close').reboot().record('log.opened', { pid: 8 }).seal('open'))).toMatchObject({ verdict: 'whole', notes: [] })
    expect(await look(victim().reboot().record('log.opened', { pid: 8 }).seal('open'))).toMatchObject({ verdict: 'whole', notes: [expect.stringMatching(/power loss/)] })
  })

  test('a pause of the writer is told, and cannot be hidden by claiming a reboot', async () => {
    const paused = victim().seal().pass(600).record('log.opened', { pid: 8 }).seal('open')
    expect(await look(paused)).toMatchObject({ verdict: 'gap', pauses: [{ seconds: 600 }] })
    const from = paused.lines.length - 2
    expect(await look(rewrite(paused, from, (line) => line.replace(BOOT_A, '33333333-3333-4333-8333-333333333333')))).toMatchObject({ verdict: 'tampered' })
  })
})

describe('checkpoints', () => {
  test.each<[string, (forge: Forge) => string, RegExp]>([
    ['by another key', (forge) => { const body = forge.body(forge.checkpointSize); return `${body}\n${forge.note(body, forge.origin, 1, keyOf('x'))}${forge.note(body, `${forge.origin}/epoch`, 1, keyOf('x'))}` }, /not signed by the log key/],
    ['by the log key alone', (forge) => { const body = forge.body(forge.checkpointSize); return `${body}\n${forge.note(body, forge.origin, 1, forge.log)}` }, /epoch/],
    ['an older one with the epoch key of today', (forge) => forge.checkpoint(8, forge.epoch), /epoch/],
    ['for a size without a seal', (forge) => forge.checkpoint(forge.checkpointSize - 1), /no seal/],
    ['for more than there is', (forge) => { const more = victim().records(5).seal(); return more.checkpoint().replaceAll(more.origin, forge.origin) }, /cut off/],
    ['of another log', () => new Forge('other').seal().checkpoint(), /another log/],
    ['of another root', (forge) => { const body = forge.body(forge.checkpointSize).replace(/\n[^\n]*\n$/, `\n${leaf('x').toString('base64')}\n`); return `${body}\n${forge.note(body, forge.origin, 1, forge.log)}${forge.note(body, `${forge.origin}/epoch`, 1, forge.epochKey(forge.epoch))}` }, /not the same any more/],
    ['no note', () => 'hello\n', /no signed checkpoint/],
    ['with carriage returns', (forge) => forge.checkpoint().replaceAll('\n', '\r\n'), /no signed checkpoint/],
    ['with an extension line', (forge) => forge.checkpoint().replace('\n\n', '\nmore\n\n'), /no signed checkpoint/],
    ...['\u00a0', '\ufeff', '\u0085', '\u001c', '\u0000', '+'].map((c): [string, (forge: Forge) => string, RegExp] => [`with one more signature, of a name with ${JSON.stringify(c)} in it`, (forge) => forge.checkpoint() + forge.note('', `a${c}b`, 1, keyOf('x')), /no signed checkpoint/]),
    ['empty', () => '', /no signed checkpoint/],
  ])('on disk, %s: found', async (_name, make, problem) => {
    const forge = victim()
    const dir = forge.write(tempDir())
    writeFileSync(join(dir, 'checkpoint'), make(forge))
    expect(await both(dir, { now: forge.now })).toMatchObject({ verdict: 'tampered', firstBad: { problem: expect.stringMatching(problem) } })
  })

  test('an older one put back, genuine, is only late', async () => {
    const forge = victim()
    const dir = forge.write(tempDir())
    writeFileSync(join(dir, 'checkpoint'), forge.checkpoint(8))
    expect(await both(dir, { now: forge.now })).toMatchObject({ verdict: 'whole' })
  })

  test('a saved one that nobody signed counts for nothing: alone it is refused, beside a good one it is noted', async () => {
    const forge = victim()
    const forged = victim().records(5).seal()
    const saved = join(tempDir(), 'mail')
    const bad = forged.checkpoint().replace(/(— \S+ )....../g, '$1AAAAAA')
    writeFileSync(saved, bad)
    await expect(both(forge.write(tempDir()), { now: forge.now, saved: [saved] })).rejects.toThrow(/valid signature/)
    writeFileSync(saved, `${forge.checkpoint(8)}\nand\n${bad}`)
    expect(await look(forge, { saved: [saved] })).toMatchObject({ verdict: 'whole', savedConfirmed: 1, notes: [expect.stringMatching(/no valid signature/)] })
  })

  test('two histories of one size, both signed by the log key: one saved elsewhere shows it', async () => {
    const forge = victim()
    const saved = join(tempDir(), 'mail')
    writeFileSync(saved, forge.checkpoint())
    const fork = victim()
    fork.lines = fork.lines.slice(0, 13)
    fork.epoch = 4
    fork.prevSeal = leaf(fork.lines[12] ?? '').toString('hex')
    fork.pass(5).record('admin.act', { other: 1 }).record().record().record().pass(20).seal() // root kept a copy of that epoch's key
    expect(fork.checkpointSize).toBe(forge.checkpointSize)
    expect(await look(fork), 'without outside help').toMatchObject({ verdict: 'whole' })
    expect(await look(fork, { saved: [saved] })).toMatchObject({ verdict: 'tampered', firstBad: { problem: expect.stringMatching(/not the same any more/) } })
  })

  test('a witness\'s file counts as far as its signatures verify; an older one replayed is only old', async () => {
    const forge = victim()
    const dir = forge.write(tempDir())
    const files = forge.files()
    const place = (text: string): void => writeFiles(dir, new Map([...files, ['witnessed/w', Buffer.from(text)]]))
    place(forge.cosigned(witness.name, WITNESS))
    expect(await both(dir, { now: forge.now, witnesses: [witness] })).toMatchObject({ verdict: 'whole', lastWitnessed: [{ name: witness.name, size: forge.checkpointSize, verified: true }] })
    expect(await both(dir, { now: forge.now })).toMatchObject({ verdict: 'whole', lastWitnessed: [{ name: 'w', verified: false }] })
    place(forge.cosigned(witness.name, WITNESS, 8))
    expect(await both(dir, { now: forge.now, witnesses: [witness] })).toMatchObject({ verdict: 'whole', lastWitnessed: [{ size: 8, verified: true }] })
    place(forge.cosigned(witness.name, keyOf('not the witness')))
    expect(await both(dir, { now: forge.now, witnesses: [witness] })).toMatchObject({ verdict: 'unverifiable-tail', lastWitnessed: [] })
    place('HTTP/1.1 500 garbage\u0000')
    expect(await both(dir, { now: forge.now })).toMatchObject({ verdict: 'whole', notes: [expect.stringMatching(/was not counted/)] })
    const longer = victim().records(3).seal()
    place(longer.cosigned(witness.name, WITNESS))
    expect(await both(dir, { now: forge.now })).toMatchObject({ verdict: 'tampered', firstBad: { problem: expect.stringMatching(/cut off/) } })
  })
})

describe('a text with saved checkpoints', () => {
  const forge = victim()
  const good = forge.checkpoint()
  const quotedPrintable = (text: string): string => Buffer.from(text).toString('latin1').replace(/[=\u0080-\u00ff]/g, (c) => `=${c.charCodeAt(0).toString(16).toUpperCase()}`).split('\n').map((line) => line.replace(/(.{70})(?=.)/g, '$1=\r\n')).join('\r\n')
  test.each<[string, string, BufferEncoding?]>([
    ['as it is', good],
    ['in a mail box, with carriage returns and other mails around it', `From root\r\nSubject: checkpoint\r\n\r\n${good.replaceAll('\n', '\r\n')}\r\n-- \r\nFrom x\r\n\r\nhello cordon-audit/nothing\r\n`],
    ['quoted in an answer', good.split('\n').map((line) => `> > ${line}`).join('\n')],
    ['quoted, and broken by the mail program', good.split('\n').map((line) => `> ${line}`).join('\n').replace(/(.{72})(?=.)/g, '$1\n> ')],
    ['quoted-printable', `Content-Transfer-Encoding: quoted-printable\r\n\r\n${quotedPrintable(good)}`],
    ['in base64, as mails are sent', `Content-Transfer-Encoding: base64\r\n\r\n${Buffer.from(`This hour:\n\n${good}`).toString('base64').replace(/(.{76})/g, '$1\r\n')}\r\n`],
    ['in JSON', JSON.stringify({ messages: [{ user: 'cordon', text: good }] })],
    ['in JSON with \\u escapes', JSON.stringify({ text: good }).replaceAll('—', '\\u2014').replaceAll('/', '\\/')],
    ['in JSON in JSON', JSON.stringify({ raw: JSON.stringify({ text: good }) })],
    ['in HTML of a template engine, in quoted-printable', quotedPrintable(`<p>${good.replace(/[/=+]/g, (c) => `&#x${c.charCodeAt(0).toString(16).toUpperCase()};`).replaceAll('\n', '<br/>\n')}</p>`)],
    ['in UTF-16, as a Windows shell redirects', Buffer.from(`\ufeff${good.replaceAll('\n', '\r\n')}`, 'utf16le').toString('latin1'), 'latin1'],
    ['in syslog, line by line', good.split('\n').map((line) => `Nov 20 10:02:11 host root[4711]: ${line}`).join('\n')],
    ['in a chat log, a message for each line', good.split('\n').map((line) => `[20.11.26, 10:02:11] <cordon> ${line}`).join('\n')],
    ['in a telephone\'s export, with marks of direction', good.split('\n').map((line) => `\u200e${line}`).join('\n')],
    ['in HTML', `<pre>${good.replaceAll('\n', '<br>\n').replaceAll('—', '&mdash;')}</pre>`],
    ['in a chat export with names and times', `[12:00] cordon: \n${good}\n[12:01] me: thanks`],
    ['at the seam of two windows', `${'x'.repeat(4 * 1024 * 1024 - 200)}\n${good}`],
    ['among binary', `\u0000\uffff${good}\u0000`],
  ])('%s: found, and its signature holds', async (_name, text, encoding) => {
    const saved = join(tempDir(), 'text')
    writeFileSync(saved, text, encoding)
    expect(await look(forge, { saved: [saved] })).toMatchObject({ verdict: 'whole', savedConfirmed: 1, savedSize: forge.checkpointSize })
  })

  test('many, of several logs: each of this one is compared, the others do not matter', async () => {
    const saved = join(tempDir(), 'mbox')
    const sizes = [3, 8, 9, 13, forge.checkpointSize]
    writeFileSync(saved, [...sizes.map((size) => forge.checkpoint(size)), new Forge('b').seal().checkpoint(), forge.checkpoint(8)].join('\n\nFrom me\n\n'))
    expect(await look(forge, { saved: [saved] })).toMatchObject({ verdict: 'whole', savedConfirmed: sizes.length })
  })

  test('none in it is an error, not an answer', async () => {
    const saved = join(tempDir(), 'text')
    writeFileSync(saved, 'Dear all,\n')
    await expect(both(forge.write(tempDir()), { now: forge.now, saved: [saved] })).rejects.toThrow(/no checkpoint stands in it/)
  })
})

test('the list of what no local scheme can find stands in one place, and each of its lines is tried here', () => {
  const text = readFileSync(join(import.meta.dirname, '../../src/audit/README.md'), 'utf8')
  const section = /## What no local scheme can find\n([\s\S]*?)(?=\n## |$)/.exec(text)?.[1] ?? ''
  expect(section.split('\n').filter((line) => line.startsWith('- ')).map((line) => /^- \*\*([^*]+)\*\*/.exec(line)?.[1])).toEqual([
    'Records behind the last seal.', 'An older copy of the whole directory.', 'A new log under the old name.', 'Another history since the key of this epoch was read.', 'Lies from now on.', 'Silence.', 'Retention that root asks for.',
  ])
})
