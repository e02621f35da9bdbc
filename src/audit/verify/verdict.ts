/** What a verifier decides; FORMAT.md, "What a verifier decides". */
export type Verdict = 'whole' | 'tampered' | 'unverifiable-tail' | 'gap'

export const VERIFY_EXIT: Readonly<Record<Verdict, number>> = { 'whole': 0, 'tampered': 2, 'unverifiable-tail': 3, 'gap': 4 }

export const NOT_SHOWN = 'What root can make of a log without leaving a trace in it (an older copy put back as a whole, a new log under the old name) '
  + 'shows only against something kept elsewhere: --key, --with, --witness or --head.'

export interface Finding {
  /** The record that should have stood there; the first has seq 0. */
  readonly seq: number
  /** Relative to the log's directory. */
  readonly file: string
  /** From 1; 0: it is about the file as a whole. */
  readonly line: number
  /** Of the line's first byte. */
  readonly offset: number
  readonly problem: string
}

export interface Gap {
  readonly seq: number
  readonly time: string
  readonly reason: string
  /** The record's own `data`: counts of what is missing. */
  readonly data: unknown
}

/** A record that someone noted elsewhere: the log must still hold exactly it. */
export interface Head {
  readonly seq: number
  readonly hash: string
}

export interface SealInfo {
  readonly seq: number
  readonly epoch: number
  readonly time: string
  readonly why: string
}

export interface Witnessed {
  /** The witness's name; `verified` only if its key was given. */
  readonly name: string
  readonly size: number
  readonly time: string | null
  readonly verified: boolean
}

export interface VerifyResult {
  readonly verdict: Verdict
  /** Records that can be believed, removed ones included: up to the first finding, or the last good seal before it. */
  readonly records: number
  readonly firstBad: Finding | null
  /** Ranges of `seq`, both ends included, that should be there and are not; at most MAX_LISTED. */
  readonly missing: readonly { readonly from: number; readonly to: number }[]
  /** Records that retention removed and sealed as removed. */
  readonly pruned: { readonly from: number; readonly to: number } | null
  readonly gaps: readonly Gap[]
  readonly gapCount: number
  /** Pauses between seals of one boot that are too long: after which record, and how many seconds. */
  readonly pauses: readonly { readonly seq: number; readonly seconds: number }[]
  /** Times that the wall clock went back by more than a second; the order of records does not depend on it. */
  readonly clockSteps: number
  readonly origin: string | null
  readonly fingerprint: string | null
  /** The first key is the one that was named with --key. */
  readonly keyConfirmed: boolean
  readonly lastSealed: SealInfo | null
  readonly lastWitnessed: readonly Witnessed[]
  /** At the end, not covered by a seal. */
  readonly unsealed: { readonly records: number; readonly seconds: number }
  readonly lastTime: string | null
  readonly lastHash: string | null
  readonly headConfirmed: boolean
  /** Checkpoints out of --with and --witness that this log's key signed and that the log agrees with. */
  readonly savedConfirmed: number
  /** The largest of them. */
  readonly savedSize: number | null
  readonly notes: readonly string[]
}

export const MAX_LISTED = 1000
