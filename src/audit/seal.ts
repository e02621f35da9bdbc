import { prepareEntry, type PreparedEntry, type Stamp } from './entry.ts'
import type { SigningKey } from './keys.ts'

export type SealReason = 'open' | 'interval' | 'count' | 'rotate' | 'close' | 'ask'

/** Nothing in it is secret. */
const NO_SALT = new Uint8Array()
/** No other value of a seal can hold it: they are numbers, hex, and one of a few words. */
const NO_SIG = ',"sig":""'
const CONTEXT = 'cordon-seal/v1\n'

/** What a seal says (FORMAT.md), but for its signature. Hashes and keys are hex. */
export interface SealFacts {
  readonly epoch: number
  readonly interval_s: number
  readonly next_key: string
  readonly prev_seal: string
  readonly root: string
  /** Records that it covers, and its own `seq`. */
  readonly size: number
  readonly why: SealReason
}

/** The record that seals all records before it. @param prev leaf hash of the record before @param key of this epoch */
export function sealRecord(facts: SealFacts, stamp: Stamp, prev: string, key: SigningKey): PreparedEntry {
  const { parts: [head, middle, tail], bytes } = prepareEntry({ type: 'seal', ...facts, sig: '' }, 'launcher', stamp, NO_SALT)
  const text = `${CONTEXT}${head.replace(NO_SIG, '')}${prev}${middle}${facts.size}${tail}`
  const sig = key.sign(Buffer.from(text)).toString('hex')
  return { parts: [head.replace(NO_SIG, `,"sig":"${sig}"`), middle, tail], bytes: bytes + sig.length }
}
