import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { parseVerifierKey } from '../audit/verify/note.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { parseListen } from '../policy/host-config-schema.ts'
import type { RunCommand } from './context.ts'

const DROP = ['--clear-groups', '--no-new-privs', '--inh-caps=-all', '--ambient-caps=-all', '--bounding-set=-all'] as const

/**
 * `cordon witness --state DIR --log KEY… [--name NAME] [--listen ADDRESS:PORT]`: becomes the witness (same pid). Root gives up its
 * privileges for the owner of the directory.
 * @throws CordonError USAGE_BAD_OPTION, WITNESS_STATE
 */
export const witnessCommand: RunCommand = async (args, _io, { tree }) => {
  const { dir, name, listen, logs } = parseOptions(args)
  if (!existsSync(dir)) mkdirSync(dir, { recursive: true, mode: 0o700 })
  const { uid, gid, mode } = statSync(dir)
  const me = process.getuid?.() ?? 0
  if (me === 0 && uid === 0) throw new CordonError('WITNESS_STATE', `${printable(dir, 300)} belongs to root, and a witness does not run as root`)
  if (me !== 0 && uid !== me) throw new CordonError('WITNESS_STATE', `${printable(dir, 300)} belongs to another user`)
  if ((mode & 0o077) !== 0) throw new CordonError('WITNESS_STATE', `${printable(dir, 300)} has mode ${(mode & 0o777).toString(8)}, expected 700`)
  if (process.execve === undefined) throw new CordonError('HOST_UNSUPPORTED', 'this Node has no process.execve; 24 is needed')
  const drop = me === 0 ? ['/usr/bin/setpriv', `--reuid=${uid}`, `--regid=${gid}`, ...DROP, '--'] : []
  const chain = [...drop, '/usr/bin/flock', '--nonblock', '--no-fork', '--conflict-exit-code', '75', `${dir}/lock`, process.execPath, '--max-old-space-size=128', `${tree}/dist/witness.cjs`, dir, name ?? keptName(dir), listen.host, String(listen.port), ...logs]
  return process.execve(chain[0] ?? '', chain, { PATH: '/usr/bin:/bin' })
}

function parseOptions(args: readonly string[]): { readonly dir: string; readonly name: string | null; readonly listen: { readonly host: string; readonly port: number }; readonly logs: readonly string[] } {
  let values
  try {
    ({ values } = parseArgs({ args: [...args], strict: true, options: { state: { type: 'string' }, log: { type: 'string', multiple: true }, name: { type: 'string' }, listen: { type: 'string' } } }))
  } catch (error) {
    throw bad(printable(error instanceof Error ? error.message : String(error)), error)
  }
  if (values.state === undefined) throw bad('--state DIR is missing: what the witness must not forget lies there')
  const logs = (values.log ?? []).flatMap((word) => (parseVerifierKey(word) === null && existsSync(word) ? readFileSync(word, 'utf8').split(/\s+/).filter((one) => one !== '') : [word]))
  if (logs.length === 0) throw bad('--log KEY is missing: `cordon audit push --log-key` on the other machine prints it')
  const wrong = logs.find((one) => parseVerifierKey(one)?.type !== 1)
  if (wrong !== undefined) throw bad(`--log "${printable(wrong, 200)}" is neither the key of a log (NAME+ID+BASE64) nor a file of such keys`)
  if (values.name !== undefined && !/^[^\s+]{1,100}$/u.test(values.name)) throw bad('--name may hold no white space and no +')
  const listen = parseListen(values.listen ?? '127.0.0.1:8481')
  if (listen === null) throw bad(`--listen "${printable(values.listen ?? '', 80)}" is no ADDRESS:PORT`)
  return { dir: resolve(values.state), name: values.name ?? null, listen, logs }
}

/** The key is bound to its name, so the name must not change with that of the host. */
function keptName(dir: string): string {
  const file = `${dir}/name`
  if (existsSync(file)) return readFileSync(file, 'utf8').trim()
  const name = `cordon-witness/${hostname().replace(/[^A-Za-z0-9.-]/g, '-').slice(0, 80)}`
  writeFileSync(file, `${name}\n`, { mode: 0o644 })
  return name
}

function bad(message: string, cause?: unknown): CordonError {
  return new CordonError('USAGE_BAD_OPTION', `witness: ${message}`, { cause })
}
