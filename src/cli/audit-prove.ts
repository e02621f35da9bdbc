import { openSync, writeSync, closeSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { proveRecord, ProveError } from '../audit/verify/prove.ts'
import { TileError } from '../audit/verify/tile-hashes.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { wrongOption } from './args.ts'
import type { RunCommand } from './context.ts'
import { prose } from './table.ts'

/**
 * `cordon audit prove SEQ [--out FILE]`: a c2sp.org/tlog-proof with the record in it, for someone who has nothing but the first key's fingerprint.
 * @throws CordonError USAGE_BAD_OPTION, AUDIT_NOT_FOUND, AUDIT_NOT_SEALED, AUDIT_UNAVAILABLE
 */
export const auditProve: RunCommand = async (args, io, { config, signal }) => {
  const { seq, out } = parseOptions(args)
  const proof = await proveRecord(join(config.stateDir, 'audit'), seq, signal).catch((error: unknown) => {
    if (error instanceof ProveError) throw new CordonError(error.kind === 'absent' ? 'AUDIT_NOT_FOUND' : error.kind === 'unsealed' ? 'AUDIT_NOT_SEALED' : 'AUDIT_UNAVAILABLE', `audit prove: ${printable(error.message, 300)}`, { cause: error })
    if (error instanceof TileError) throw new CordonError('AUDIT_UNAVAILABLE', `audit prove: ${printable(error.message, 300)}`, { cause: error })
    if (error instanceof Error && 'code' in error) throw new CordonError(error.code === 'ENOENT' ? 'AUDIT_NOT_FOUND' : 'AUDIT_UNAVAILABLE', printable(error.message, 300), { cause: error })
    throw error
  })
  if (out === null) {
    io.out(io.json ? JSON.stringify({ seq, proof }) : proof.slice(0, -1))
    return 0
  }
  try {
    const fd = openSync(out, 'wx', 0o644)
    writeSync(fd, proof)
    closeSync(fd)
  } catch (error) {
    throw new CordonError('USAGE_BAD_OPTION', `audit prove: ${printable(error instanceof Error ? error.message : String(error), 300)}`, { cause: error })
  }
  if (io.json) io.out(JSON.stringify({ seq, out }))
  else for (const line of prose(io, `${printable(out, 300)}: record ${seq}, proved. It is checked by: cordon audit verify --proof ${printable(out, 300)}`)) io.out(line)
  return 0
}

function parseOptions(args: readonly string[]): { readonly seq: number; readonly out: string | null } {
  try {
    const { values, positionals } = parseArgs({ args: [...args], strict: true, allowPositionals: true, options: { out: { type: 'string' } } })
    const [seq = '', more] = positionals
    if (!/^[0-9]{1,15}$/.test(seq) || more !== undefined) throw new CordonError('USAGE_BAD_OPTION', 'audit prove: expected the number of one record, its `seq`')
    return { seq: Number(seq), out: values.out ?? null }
  } catch (error) {
    if (error instanceof CordonError) throw error
    throw wrongOption('audit prove', error)
  }
}
