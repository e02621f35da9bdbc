import { readFileSync } from 'node:fs'
import { open, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { fingerprintOf } from '../audit/checkpoint.ts'
import { NODE_FS } from '../audit/log-file.ts'
import { PrivateDir } from '../audit/private-dir.ts'
import { readFirstKey } from '../audit/first-key.ts'
import { RECORDS_DIR } from '../audit/segments.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { wrongOption } from './args.ts'
import type { RunCommand } from './context.ts'
import { qrLines } from './qr.ts'
import { prose } from './table.ts'

const CONFIRMED = 'audit-key-confirmed'
const FINGERPRINT = /^SHA256:[A-Za-z0-9+/]{43}$/

/**
 * `cordon audit key [--confirm FINGERPRINT] [--qr]`: what has to be kept on another machine, or on paper. Whoever gives it to `audit verify --key`
 * later knows that it is this log, and not one that was begun in its place. On a terminal a QR code takes it to a telephone. `--confirm` says that it was noted; `doctor` asks until then.
 * @throws CordonError USAGE_BAD_OPTION, AUDIT_NOT_FOUND, AUDIT_UNAVAILABLE; AUDIT_KEYS when another one is confirmed
 */
export const auditKey: RunCommand = async (args, io, { config: { stateDir } }) => {
  const { confirm, qr } = parseOptions(args)
  const fingerprint = await readFingerprint(stateDir)
  if (confirm !== null && confirm !== fingerprint) {
    throw new CordonError('AUDIT_KEYS', `the log begins with ${fingerprint}, not with ${confirm}: one of the two is of another log, or was not copied whole`)
  }
  if (confirm !== null) await keepConfirmed(stateDir, fingerprint)
  const confirmed = confirmedKey(stateDir)
  const state = confirmed === null ? 'not confirmed' : confirmed === fingerprint ? 'confirmed' : 'changed'
  if (io.json) {
    io.out(JSON.stringify({ fingerprint, confirmed: state }))
    return 0
  }
  if (qr || io.terminal === true) for (const line of qrLines(fingerprint, io.color)) io.out(line)
  io.out(`first key of the audit log: ${fingerprint}`)
  if (state === 'confirmed') io.out('You confirmed that it is kept elsewhere. Check the log with:')
  else if (state === 'changed') for (const line of prose(io, `CONFIRMED WAS ANOTHER ONE: ${printable(confirmed ?? '', 60)}. This is not the log that it was noted of.`)) io.out(line)
  else io.out('Note it on another machine or on paper, from where it comes back by:')
  io.out(`  cordon audit ${state === 'not confirmed' ? 'key --confirm' : 'verify --key'} ${state === 'changed' ? printable(confirmed ?? '', 60) : fingerprint}`)
  return 0
}

/** @returns null when none was */
export function confirmedKey(stateDir: string): string | null {
  try {
    return readFileSync(join(stateDir, CONFIRMED), 'utf8').trim()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw new CordonError('AUDIT_UNAVAILABLE', `cannot read ${CONFIRMED}: ${printable(String(error))}`, { cause: error })
  }
}

/** @throws CordonError AUDIT_NOT_FOUND, AUDIT_UNAVAILABLE */
export async function readFingerprint(stateDir: string): Promise<string> {
  const dir = join(stateDir, 'audit')
  const firstKey = await withDirs(dir, readFirstKey).catch((error: unknown) => {
    if (error instanceof CordonError) throw error
    const code = (error as NodeJS.ErrnoException).code
    throw new CordonError(code === 'ENOENT' ? 'AUDIT_NOT_FOUND' : 'AUDIT_UNAVAILABLE', `${printable(dir)}: ${code ?? String(error)}`, { cause: error })
  })
  if (firstKey === null) throw new CordonError('AUDIT_NOT_FOUND', `the log in ${printable(dir)} does not tell its first key: its first record is missing, or older than seals`)
  return fingerprintOf(firstKey)
}

async function withDirs<T>(dir: string, use: (top: PrivateDir, records: PrivateDir) => Promise<T>): Promise<T> {
  const top = await PrivateDir.open(NODE_FS, dir, process.getuid?.() ?? 0, false)
  try {
    const records = await top.subdir(RECORDS_DIR, false)
    return await use(top, records).finally(() => records.close())
  } finally {
    await top.close()
  }
}

async function keepConfirmed(stateDir: string, fingerprint: string): Promise<void> {
  const path = join(stateDir, CONFIRMED)
  try {
    const file = await open(`${path}.new`, 'w', 0o600)
    await file.writeFile(`${fingerprint}\n`)
    await file.sync().finally(() => file.close())
    await rename(`${path}.new`, path)
  } catch (error) {
    throw new CordonError('AUDIT_UNAVAILABLE', `${printable(path)} could not be written: ${printable(String(error))}`, { cause: error })
  }
}

function parseOptions(args: readonly string[]): { readonly confirm: string | null; readonly qr: boolean } {
  let values
  try {
    values = parseArgs({ args: [...args], strict: true, options: { confirm: { type: 'string' }, qr: { type: 'boolean' } } }).values
  } catch (error) {
    throw wrongOption('audit key', error)
  }
  const { confirm = null, qr = false } = values
  if (confirm !== null && !FINGERPRINT.test(confirm)) throw new CordonError('USAGE_BAD_OPTION', `audit key: --confirm "${printable(confirm, 60)}" is no fingerprint; expected SHA256: and 43 characters`)
  return { confirm, qr }
}
