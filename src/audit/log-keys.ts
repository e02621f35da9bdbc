import { join } from 'node:path'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { readFirstKey } from './first-key.ts'
import { epochFile, KeyStore, type SigningKey } from './keys.ts'
import type { FileFacts } from './log-file.ts'
import type { PrivateDir } from './private-dir.ts'
import type { LastSeal } from './record-head.ts'

/** The secrets of a log that is open. */
export interface LogKeys {
  /** Of the epoch that the next seal ends, and its file as it was made. */
  readonly key: SigningKey
  readonly keyFacts: FileFacts | null
  readonly logKey: SigningKey
  /** Key of what stands for values that may be secret. */
  readonly salt: Uint8Array
  /** Hex, of epoch 0. */
  readonly firstKey: string
}

/** The epoch that the next seal ends. */
export function epochAfter(seal: LastSeal | null): number {
  return seal === null ? 0 : seal.epoch + 1
}

/**
 * The one key that the newest durable seal announced (or the first) is the current one; any other goes.
 * @param seq records that the log holds; 0: what is missing is made
 * @param held the current key as long as the log was in use
 * @throws CordonError AUDIT_KEYS, AUDIT_UNAVAILABLE; errno codes pass through
 */
export async function takeKeys(top: PrivateDir, records: PrivateDir, keys: PrivateDir, seq: number, seal: LastSeal | null, held: SigningKey | null): Promise<LogKeys> {
  const store = new KeyStore(keys)
  const epoch = epochAfter(seal)
  const firstKey = seq === 0 ? null : await readFirstKey(top, records)
  if (seq > 0 && firstKey === null) throw new CordonError('AUDIT_UNAVAILABLE', `the log in ${printable(top.path)} does not begin with its first record, nor does seals.jsonl`)
  const expected = seal?.nextKey ?? firstKey
  let key = await store.epochKey(epoch)
  if (expected === null) {
    const newest = await store.newestEpoch()
    if (newest !== null && newest > 0) throw new CordonError('AUDIT_KEYS', `${printable(keys.path)} holds the key of epoch ${newest}, but ${printable(top.path)} holds no records`)
    key ??= await store.makeEpochKey(0)
  } else if (key?.public !== expected) {
    // A key that vanished while the log was in use is still in memory; the loss is told by the `gap` record that comes next.
    if (held?.public !== expected) throw new CordonError('AUDIT_KEYS', `${printable(join(keys.path, epochFile(epoch)))} ${key === null ? 'does not exist' : 'is not the key that the log announced'}`)
    await store.keepEpochKey(epoch, held)
    key = held
  }
  await store.destroyOthers(epoch)
  const salt = await store.salt()
  const logKey = await store.logKey()
  return { key, keyFacts: await keys.facts(epochFile(epoch)), logKey, salt, firstKey: firstKey ?? key.public }
}
