import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { sign } from 'node:crypto'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { COSIGNATURE } from '../../src/audit/verify/note.ts'
import type { VerifyOptions } from '../../src/audit/verify/evidence.ts'
import { askPython, both } from './both.ts'
import { canonical, Forge, keyOf, leaf, treeHash, writeFiles } from './forge.ts'
import { tempDir } from './kit.ts'

/*
 * Small logs, changed at random in ways that keep most of them almost right, before both verifiers: that they agree is the promise, whatever
 * the verdict. The changes that once told them apart stand in attack.test.ts by name.
 */

const SEED = 20261120
const ROUNDS = 240
const WITNESS = keyOf('witness')

class Dice {
  #state: number
  constructor(seed: number) {
    this.#state = seed
  }

  /** xorshift32 */
  below(n: number): number {
    this.#state ^= this.#state << 13
    this.#state >>>= 0
    this.#state ^= this.#state >>> 17
    this.#state ^= this.#state << 5
    this.#state >>>= 0
    return this.#state % n
  }

  of<T>(things: readonly T[]): T {
    return things[this.below(things.length)] as T
  }
}

function someLog(dice: Dice): Forge {
  const forge = new Forge(dice.of(['log', 'other'])).record('log.opened', { pid: 7 }).seal('open').pass(20).records(dice.below(5))
  if (dice.below(3) === 0) forge.record('gap', { reason: 'x' })
  forge.pass(40).seal().records(dice.below(3)).rotate().pass(5).records(dice.below(4))
  if (dice.below(3) === 0) forge.seal('close').reboot().record('log.opened', { pid: 8 }).seal('open')
  if (dice.below(2) === 0) forge.rotate().prune()
  if (dice.below(2) === 0) forge.pass(20).seal(dice.of(['close', 'interval', 'ask']))
  return forge.pass(5).records(dice.below(3))
}

type Files = Map<string, Buffer>

function someBytes(dice: Dice, files: Files): void {
  const path = dice.of([...files.keys()])
  const bytes = files.get(path) ?? Buffer.alloc(0)
  const at = dice.below(bytes.length + 1)
  const [before, after] = [bytes.subarray(0, at), bytes.subarray(at)]
  files.set(path, dice.of<() => Buffer>([
    () => Buffer.concat([before, Buffer.from(dice.of(['\0', '\n', '\r', ' ', '\ufeff', '"', '{', '\\', '\u00a0', '\u001c', 'é'])), after]),
    () => Buffer.concat([before, Buffer.of(0x80 + dice.below(128)), after]),
    () => Buffer.concat([before, after.subarray(1 + dice.below(200))]),
    () => Buffer.concat([before, after.subarray(0, 1 + dice.below(300)), after]),
    () => before,
    () => Buffer.concat([after, before]),
    () => Buffer.concat([bytes, Buffer.from(dice.of(['\n', '\0', 'x', '{}\n']))]),
  ])())
}

const EDITS: readonly ((line: string, dice: Dice) => string)[] = [
  (line, dice) => line.replace(/"seq":\d+/, `"seq":${dice.of(['-1', '-0', '1e400', '9007199254740993', '00', '1.0', '1E2', '18446744073709551616', '9'.repeat(400)])}`),
  (line, dice) => line.replace('{', dice.of(['{ ', '{"a":1,', '{"boot":"x",', '[{'])),
  (line, dice) => line.replace('"type":"', dice.of(['"type":"\\u0041', '"type":"\0', '"type":"\\ud800', '"type": "'])),
  (line, dice) => line.replace('"v":1', dice.of(['"v":true', '"v":1.0', '"v":2', '"v":1,"v":1', '"v":1,"w":1'])),
  (line, dice) => line.replace('"data":{', dice.of(['"data":{"é":1,"z":1,', '"data":{"\ufb00":1,"\u{1f600}":2,', '"data":{"a":1,"a":1,', '"data":{"__proto__":1,', '"data":{"a":-0,', `"data":{"0":${'['.repeat(5000)}${']'.repeat(5000)},`])),
  (line, dice) => line.replace(/"time":"[^"]*"/, `"time":"${dice.of(['0000-01-01T00:00:00.000Z', '2026-13-01T00:00:00.000Z', '2026-11-20T24:00:00.000Z', '２０26-11-20T10:00:00.000Z'])}"`),
  (line, dice) => line + dice.of([' ', '\r', '\0', ',', '}']),
]

function someLines(dice: Dice, forge: Forge): void {
  const at = dice.below(forge.lines.length)
  const other = someLog(dice).lines
  const line = forge.lines[at] ?? ''
  forge.lines = dice.of<() => string[]>([
    () => forge.lines.with(at, dice.of(EDITS)(line, dice)),
    () => forge.lines.with(at, dice.of(EDITS)(line, dice)),
    () => forge.lines.toSpliced(at, 1),
    () => forge.lines.toSpliced(at, 0, dice.of(forge.lines)),
    () => [...forge.lines.slice(0, at), ...other.slice(at)],
    () => forge.lines.slice(0, at + 1),
  ])()
}

const VALUES: readonly unknown[] = [null, true, false, 0, 1, -1, 2 ** 53 - 1, '', 'x', 'é', '\0', [], {}, [1], '0'.repeat(64), 'F'.repeat(64), 'f'.repeat(64), '01'.padEnd(64, '0'),
  'close', 'seal', 'gap', 'log.pruned', 'log.created', '0000-01-01T00:00:00.000Z', '9999-12-31T23:59:59.999Z', '2026-02-29T00:00:00.000Z', 86_400, 86_401]

/** One field of one record, and all from there chained and signed anew with the right keys: as deep as a verifier can be led. */
function someField(dice: Dice, forge: Forge): void {
  const at = dice.below(forge.lines.length)
  const record = JSON.parse(forge.lines[at] ?? '') as Record<string, unknown>
  const data = record['data'] as Record<string, unknown>
  const target = dice.below(2) === 0 ? data : record
  const key = dice.of([...Object.keys(target), 'extra'])
  if (dice.below(6) === 0) delete target[key]
  else target[key] = dice.of(VALUES)
  const old = forge.lines
  forge.lines = old.slice(0, at)
  const isSeal = (line: string): boolean => /"type":"seal","v":1\}$/.test(line)
  for (const [index, line] of old.entries()) {
    if (index < at) continue
    const one = index === at ? record : JSON.parse(line) as Record<string, unknown>
    const claims = one['data']
    if (one['type'] !== 'seal' || typeof claims !== 'object' || claims === null || Array.isArray(claims)) {
      forge.lines.push(canonical({ ...one, prev: forge.prev() }))
      continue
    }
    const { sig: _, ...rest } = claims as Record<string, unknown>
    const before = forge.lines.findLast(isSeal)
    const bare = { ...one, prev: forge.prev(), data: { ...rest, root: treeHash(forge.lines.map(leaf)).toString('hex'), prev_seal: before === undefined ? '0'.repeat(64) : leaf(before).toString('hex') } }
    const sig = sign(null, Buffer.from(`cordon-seal/v1\n${canonical(bare)}`), forge.epochKey(forge.lines.filter(isSeal).length).secret).toString('hex')
    forge.lines.push(canonical({ ...bare, data: { ...bare.data, sig } }))
  }
  if (dice.below(2) === 0) forge.checkpointSize = forge.lines.length
}

function someCheckpoint(dice: Dice, forge: Forge): Buffer {
  const body = forge.body(forge.checkpointSize)
  const good = forge.checkpoint()
  const own = forge.note(body, forge.origin, 1, forge.log)
  const epoch = forge.note(body, `${forge.origin}/epoch`, 1, forge.epochKey(forge.epoch))
  return Buffer.from(dice.of<() => string>([
    () => good + forge.note(body, dice.of(['a', 'a\u00a0b', 'a\ufeffb', 'a\u0085b', 'a\u001cb', 'a\u200bb', 'é', 'x'.repeat(201), '😀'.repeat(150), forge.origin]), dice.of([1, 4, 2]), keyOf('x')),
    () => good.replace('\n', '\r\n'), () => good.slice(0, -1), () => `${good}\n`, () => good.replace('\n\n', '\nmore\n\n'), () => good.replace('—', '-'),
    () => good.replace(/\n(\d+)\n/, `\n${dice.of(['9007199254740992', '9007199254740991', '0', '1', '-1', '01'])}\n`),
    () => `${body}\n${own}${own}${epoch}`, () => `${body}\n${epoch}${own}`, () => `${body}\n${own}`, () => `${body}\n`, () => `${good}— x AAAAAAB=\n`, () => good + 'x'.repeat(20_000),
    () => { const size = dice.below(forge.lines.length + 3); const text = forge.body(size); return `${text}\n${forge.note(text, forge.origin, 1, forge.log)}${forge.note(text, `${forge.origin}/epoch`, 1, forge.epochKey(dice.below(forge.epoch + 1)))}` },
  ])())
}

/** Something else, somewhere. */
function someOther(dice: Dice, dir: string, files: Files): void {
  const path = join(dir, dice.of([...files.keys(), 'seals.jsonl', 'witnessed/w', 'tile/0/001', 'records/0000000000000099.jsonl', 'records/x', 'records', 'tile', 'witnessed']))
  rmSync(path, { recursive: true, force: true })
  mkdirSync(dirname(path), { recursive: true })
  dice.of([() => undefined, () => mkdirSync(path), () => symlinkSync('/nowhere', path), () => symlinkSync(path, path), () => writeFileSync(path, '')])()
}

test(`both verifiers say the same of ${ROUNDS} logs that were changed at random`, async () => {
  const dice = new Dice(SEED)
  const verdicts = new Map<string, number>()
  const dir = tempDir()
  const mail = join(tempDir(), 'mail')
  for (let round = 0; round < ROUNDS; round++) {
    const forge = someLog(dice)
    const act = dice.of(['bytes', 'lines', 'field', 'field', 'checkpoint', 'other', 'none'])
    const now = { ...forge.now, ...dice.of([{}, {}, { wallMs: forge.wallMs + 1e6, monoMs: forge.monoMs + 1e6 }, { boot: null, wallMs: forge.wallMs + 1e7 }]) }
    if (act === 'lines') someLines(dice, forge)
    if (act === 'field') someField(dice, forge)
    const files = forge.files()
    if (act === 'bytes') someBytes(dice, files)
    if (act === 'checkpoint') files.set(dice.of(['checkpoint', 'checkpoint', 'witnessed/w']), someCheckpoint(dice, forge))
    writeFiles(dir, files)
    if (act === 'other') someOther(dice, dir, files)
    const saved: Files = new Map([['mail', Buffer.from(`${forge.checkpoint(1 + dice.below(forge.lines.length))}${dice.of(['\n', 'x'])}${forge.cosigned('w.example/w', WITNESS)}`)]])
    someBytes(dice, saved)
    writeFileSync(mail, saved.get('mail') ?? '')
    const options: VerifyOptions = {
      now, ...(dice.below(5) === 0 ? { pin: dice.of([forge.fingerprint, new Forge('log').fingerprint]) } : {}), ...(dice.below(5) === 0 ? { saved: [mail] } : {}),
      ...(dice.below(5) === 0 ? { witnesses: [{ name: 'w.example/w', type: COSIGNATURE, key: WITNESS.raw }] } : {}),
      ...(dice.below(8) === 0 ? { head: { seq: dice.below(forge.lines.length + 2), hash: leaf(forge.lines.at(-1) ?? '').toString('hex') } } : {}),
    }
    const verdict = await both(dir, options).then((result) => result.verdict, async (error: unknown) => {
      // No verdict of ours (a text without a checkpoint): then none of theirs. A difference is an error of another kind.
      if (!(error instanceof Error) || error.name === 'AssertionError') throw new Error(`round ${round}, ${act}`, { cause: error })
      return `no verdict of either: ${(await askPython({ dir, with: options.saved, witness: [], key: options.pin, now })).verdict}`
    })
    verdicts.set(verdict, (verdicts.get(verdict) ?? 0) + 1)
  }
  // It is worth something only if all of them come up.
  for (const verdict of ['whole', 'tampered', 'unverifiable-tail', 'gap']) expect(verdicts.get(verdict), verdict).toBeGreaterThan(3)
  expect([...verdicts.keys()].filter((one) => one.startsWith('no verdict') && !one.endsWith('unusable'))).toEqual([])
}, 120_000)
