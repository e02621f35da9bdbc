import { createHmac } from 'node:crypto'
import { canonicalJson } from '../base/canonical-json.ts'

/** More entries of one list are left out by the encoder anyway. */
const MAX_ENTRIES = 1024
const MAX_DEPTH = 8

export const HASHED = /^hmac-sha256:[0-9a-f]{64}$/

/**
 * What stands in a record for a value that may be secret: whoever has the log and knows (or guesses) the value can compare it only with
 * the salt, which never leaves the keys directory. Lists and objects keep their shape, and each value in them is hashed, numbers and
 * booleans too, or a short PIN would stand there in the clear. `null` says that there was no value, and stays.
 * @param value attacker-controlled
 * @param salt 32 bytes, one per log
 * @throws TypeError for a value that JSON does not have
 */
export function hashSecret(value: unknown, salt: Uint8Array, depth = 0): unknown {
  if (value === null || value === undefined) return value
  if (typeof value === 'object' && depth < MAX_DEPTH) {
    if (Array.isArray(value)) return value.slice(0, MAX_ENTRIES + 1).map((item: unknown) => hashSecret(item, salt, depth + 1)) // one more, so that the cut is seen
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, hashSecret(item, salt, depth + 1)]))
  }
  const text = typeof value === 'string' ? value : canonicalJson(value)
  return `hmac-sha256:${createHmac('sha256', salt).update(text, 'utf8').digest('hex')}`
}
