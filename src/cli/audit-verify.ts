import { readFileSync, statSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { SavedError, thisMoment, type VerifyOptions } from '../audit/verify/evidence.ts'
import { checkGathered } from '../audit/verify/gathered.ts'
import { verifyLog } from '../audit/verify/log.ts'
import { COSIGNATURE, parseVerifierKey, type VerifierKey } from '../audit/verify/note.ts'
import { checkProof, MAX_PROOF_BYTES } from '../audit/verify/proof.ts'
import { readSmallFile } from '../audit/verify/tiles.ts'
import { NOT_SHOWN, VERIFY_EXIT, type Head, type VerifyResult } from '../audit/verify/verdict.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { wrongOption } from './args.ts'
import { describeVerdict } from './audit-verdict.ts'
import type { CommandIo } from './io.ts'
import { prose } from './table.ts'

/** A commit under way can look like a torn line; it is finished long before this. */
const SECOND_LOOK_MS = 300
const SLOW_MS = 2000
const MAX_KEY_FILE_BYTES = 64 * 1024

/**
 * `cordon audit verify [--key FINGERPRINT] [--witness FILE|KEY]… [--with FILE]… [--head SEQ:HASH] [--at TIME] [DIR]`: one sentence first, then details.
 * @returns 0 whole, 2 tampered, 3 unverifiable tail, 4 gap
 * @throws CordonError USAGE_BAD_OPTION, AUDIT_NOT_FOUND, AUDIT_UNAVAILABLE, AUDIT_NO_CHECKPOINT
 */
export async function auditVerify(args: readonly string[], io: CommandIo, options: { readonly dir: string; readonly signal: AbortSignal }): Promise<number> {
  const asked = parseOptions(args)
  if (asked.proof !== null) return verifyProof(asked.proof, asked.options.pin ?? null, io)
  if (asked.evidence !== null) return verifyEvidence(asked.evidence, asked.options.pin ?? null, io)
  const dir = asked.dir ?? options.dir
  const found = statSync(`${dir}/records`, { throwIfNoEntry: false })
  if (found?.isDirectory() !== true && statSync(`${dir}/checkpoint`, { throwIfNoEntry: false }) === undefined) throw new CordonError('AUDIT_NOT_FOUND', `${printable(dir, 300)} holds no audit log: no records/ in it`)
  const look = { ...asked.options, signal: options.signal }
  const result = await withPercent(io, async (onProgress) => {
    const first = await verifyLog(dir, { ...look, onProgress })
    if (first.verdict !== 'unverifiable-tail' || asked.options.now !== undefined) return first
    await sleep(SECOND_LOOK_MS, undefined, { signal: options.signal })
    return verifyLog(dir, { ...look, onProgress })
  }).catch((error: unknown) => {
    if (error instanceof SavedError) throw new CordonError('AUDIT_NO_CHECKPOINT', error.message, { cause: error })
    if (error instanceof Error && 'code' in error && 'syscall' in error) throw new CordonError('AUDIT_UNAVAILABLE', printable(error.message, 400), { cause: error })
    throw error
  })
  if (io.json) io.out(JSON.stringify({ ...result, exit: VERIFY_EXIT[result.verdict], notShown: comparedWithOutside(result) ? null : NOT_SHOWN }))
  else for (const line of describeVerdict(result, comparedWithOutside(result))) for (const piece of prose(io, line, '    ')) io.out(piece)
  return VERIFY_EXIT[result.verdict]
}

function comparedWithOutside(result: VerifyResult): boolean {
  return result.headConfirmed || result.savedConfirmed > 0 || result.lastWitnessed.some(({ verified }) => verified)
}

/** What `cordon audit prove` wrote; @returns 0 it holds, 2 it does not */
function verifyProof(path: string, pin: string | null, io: CommandIo): number {
  const bytes = readSmallFile(path, MAX_PROOF_BYTES)
  if (bytes === null || typeof bytes === 'string') throw new CordonError('AUDIT_NOT_FOUND', `${printable(path, 300)}: ${bytes ?? 'there is no such file'}`)
  const proved = checkProof(bytes.toString('utf8'), pin)
  if (typeof proved === 'string') {
    io.out(io.json ? JSON.stringify({ verdict: 'tampered', problem: proved, exit: 2 }) : `The proof is NOT valid: ${printable(proved, 400)}`)
    return 2
  }
  const { index, genesis, checkpoint, record } = proved
  if (io.json) io.out(JSON.stringify({ verdict: 'whole', index, size: checkpoint.size, origin: genesis.origin, fingerprint: genesis.fingerprint, keyConfirmed: pin !== null, record, exit: 0 }))
  else {
    io.out(`The proof holds: this is record ${index} of ${checkpoint.size} in ${genesis.origin}.`)
    for (const line of prose(io, `first key: ${genesis.fingerprint}${pin === null ? ' (compare it with the one that was noted: --key)' : ', the one that you named'}`)) io.out(line)
    io.out(printable(record, record.length))
  }
  return 0
}

/** What `cordon evidence` gathered; @returns 0 it is as it was, 2 it is not, 3 nobody vouches for it */
async function verifyEvidence(dir: string, pin: string | null, io: CommandIo): Promise<number> {
  if (statSync(dir, { throwIfNoEntry: false })?.isDirectory() !== true) throw new CordonError('AUDIT_NOT_FOUND', `${printable(dir, 300)}: there is no such directory`)
  const found = await checkGathered(dir, pin)
  const { verdict, problem, files, seq, origin } = found
  const exit = VERIFY_EXIT[verdict]
  if (io.json) io.out(JSON.stringify({ ...found, keyConfirmed: verdict === 'whole' && pin !== null, exit }))
  else if (verdict === 'tampered') io.out(`The evidence is NOT as it was gathered: ${printable(problem ?? '', 400)}`)
  else if (verdict === 'unverifiable-tail') io.out(`The evidence cannot be verified: ${printable(problem ?? '', 400)}`)
  else io.out(`The evidence is as it was gathered: ${files} files, and the hash of their manifest is record ${seq ?? ''} of ${origin ?? ''}${pin === null ? ' (name its first key with --key)' : ', whose first key you named'}.`)
  return exit
}

interface Asked {
  readonly proof: string | null
  readonly evidence: string | null
  readonly dir: string | null
  readonly options: VerifyOptions
}

function parseOptions(args: readonly string[]): Asked {
  const words = parseWords(args)
  const { values, positionals } = words
  if (positionals.length > 1) throw bad(`${positionals.length} directories were named, expected at most one`)
  if (values.key !== undefined && !/^SHA256:[A-Za-z0-9+/]{43}$/.test(values.key)) throw bad(`--key "${printable(values.key, 90)}" is no fingerprint: SHA256: and 43 characters, as \`cordon audit key\` prints it`)
  const witnesses: VerifierKey[] = []
  const saved = [...(values.with ?? [])]
  for (const word of values.witness ?? []) readWitness(word, witnesses, saved)
  const at = values.at === undefined ? null : Date.parse(values.at)
  if (at !== null && Number.isNaN(at)) throw bad(`--at "${printable(values.at ?? '', 60)}" is no time such as 2026-11-20T12:00:00Z`)
  return {
    proof: values.proof ?? null,
    evidence: values.evidence ?? null,
    dir: positionals[0] ?? null,
    options: {
      witnesses, saved,
      ...(values.head === undefined ? {} : { head: parseHead(values.head) }),
      ...(values.key === undefined ? {} : { pin: values.key }),
      ...(at === null ? {} : { now: { ...thisMoment(), wallMs: at, boot: null } }),
    },
  }
}

function parseWords(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args], strict: true, allowPositionals: true,
      options: { head: { type: 'string' }, key: { type: 'string' }, at: { type: 'string' }, proof: { type: 'string' }, evidence: { type: 'string' }, with: { type: 'string', multiple: true }, witness: { type: 'string', multiple: true } },
    })
  } catch (error) {
    throw wrongOption('audit verify', error)
  }
}

/** A witness's key as it prints it, or a file: keys in it are trusted, and checkpoints in it (the witness's own state) are compared. */
function readWitness(word: string, witnesses: VerifierKey[], saved: string[]): void {
  const key = parseVerifierKey(word)
  if (key !== null) return void witnesses.push(cosigner(key, word))
  const stats = statSync(word, { throwIfNoEntry: false })
  if (stats?.isFile() !== true) throw bad(`--witness "${printable(word, 200)}" is neither a witness's key (NAME+ID+BASE64) nor a file`)
  const text = stats.size > MAX_KEY_FILE_BYTES ? '' : readFileSync(word, 'utf8')
  const keys = [...text.matchAll(/[^\s+"']{1,200}\+[0-9a-f]{8}\+[A-Za-z0-9+/]{44}/g)].map(([found]) => parseVerifierKey(found)).filter((one) => one !== null)
  for (const one of keys) witnesses.push(cosigner(one, word))
  if (keys.length === 0 || /cordon-audit\/[0-9a-f]{16}/.test(text)) saved.push(word)
}

function cosigner(key: VerifierKey, word: string): VerifierKey {
  if (key.type !== COSIGNATURE) throw bad(`"${printable(word, 200)}" is a key for signing notes; a witness's has type 4`)
  return key
}

function parseHead(text: string): Head {
  const match = /^(\d{1,15}):([0-9a-f]{64})$/.exec(text)
  if (match === null) throw bad(`--head "${printable(text, 90)}" is not SEQ:HASH as an earlier verify printed it`)
  return { seq: Number(match[1]), hash: match[2] ?? '' }
}

function bad(message: string): CordonError {
  return new CordonError('USAGE_BAD_OPTION', `audit verify: ${message}`)
}

/** On a terminal, what lasts longer than two seconds says how far it is; a script sees nothing. */
async function withPercent<T>(io: CommandIo, work: (onProgress: (done: number, total: number) => void) => Promise<T>): Promise<T> {
  if (io.json || process.stderr.isTTY !== true) return work(() => {})
  const start = performance.now()
  let said = 0
  try {
    return await work((done, total) => {
      const now = performance.now()
      if (now - start < SLOW_MS || now - said < 200) return
      said = now
      process.stderr.write(`\r\u001b[Kreading the log: ${Math.floor((100 * done) / Math.max(1, total))} % of ${(total / 2 ** 20).toFixed(0)} MiB`)
    })
  } finally {
    if (said > 0) process.stderr.write('\r\u001b[K')
  }
}
