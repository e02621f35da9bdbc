import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { readGenesisOf } from '../audit/verify/evidence.ts'
import { ED25519, MAX_CHECKPOINT_BYTES, parseCheckpoint, verifierKeyText } from '../audit/verify/note.ts'
import { readSmallFile } from '../audit/verify/tiles.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { requireRoot } from '../launcher/preflight.ts'
import { pushChild, pushTo } from '../launcher/pusher.ts'
import { createUsers } from '../launcher/users.ts'
import { wrongOption } from './args.ts'
import type { RunCommand } from './context.ts'
import { prose } from './table.ts'

/**
 * `cordon audit push`: the newest checkpoint, to be sent anywhere; `--now`: to the configured witnesses at once; `--log-key`: what a witness must be told.
 * @returns 0; with --now 1 if a witness did not answer, 2 if one refused
 * @throws CordonError AUDIT_NOT_FOUND, AUDIT_NOT_SEALED, USAGE_BAD_OPTION
 */
export const auditPush: RunCommand = async (args, io, { config, signal, tree }) => {
  const values = parseOptions(args)
  const dir = join(config.stateDir, 'audit')
  if (values['log-key'] === true) {
    const genesis = readGenesisOf(dir)
    if (genesis === null) throw new CordonError('AUDIT_NOT_FOUND', `${printable(dir, 300)} holds no sealed log`)
    const key = verifierKeyText({ name: genesis.origin, type: ED25519, key: genesis.logKey })
    io.out(io.json ? JSON.stringify({ origin: genesis.origin, logKey: key, fingerprint: genesis.fingerprint }) : key)
    return 0
  }
  const file = readSmallFile(join(dir, 'checkpoint'), MAX_CHECKPOINT_BYTES)
  const text = Buffer.isBuffer(file) ? file.toString('utf8') : ''
  const checkpoint = parseCheckpoint(text)
  if (checkpoint === null) throw new CordonError('AUDIT_NOT_SEALED', `${printable(dir, 300)}: ${file === null ? 'there is no checkpoint yet' : 'its checkpoint cannot be read'}`)
  if (values.now !== true) {
    io.out(io.json ? JSON.stringify({ origin: checkpoint.origin, size: checkpoint.size, root: checkpoint.root, checkpoint: text }) : text.slice(0, -1))
    return 0
  }
  requireRoot()
  if (config.audit.witnesses.length === 0) throw new CordonError('USAGE_BAD_OPTION', 'audit push --now: cordon.yaml names no witness under `audit: witnesses:`')
  const deps = { dir, run: pushChild(createUsers(config.stateDir, config.uids).own.push, `${tree}/dist/push.cjs`, signal), seen: new Map<string, number>() }
  let worst = 0
  for (const witness of config.audit.witnesses) {
    const answer = await pushTo(witness, deps)
    if (answer === null) continue
    if (io.json) io.out(JSON.stringify({ witness: witness.name, ...answer }))
    else for (const line of prose(io, `${witness.name}: ${answer.state}: ${answer.say}`)) io.out(line)
    worst = Math.max(worst, answer.state === 'refused' ? 2 : answer.state === 'failed' ? 1 : 0)
  }
  return worst
}

function parseOptions(args: readonly string[]): { readonly now?: boolean; readonly 'log-key'?: boolean } {
  try {
    return parseArgs({ args: [...args], strict: true, options: { 'now': { type: 'boolean' }, 'log-key': { type: 'boolean' } } }).values
  } catch (error) {
    throw wrongOption('audit push', error)
  }
}
