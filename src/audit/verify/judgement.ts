import { printable } from '../../base/printable.ts'
import type { Claims } from './claims.ts'
import type { Evidence, Now, VerifyOptions } from './evidence.ts'
import type { Findings } from './findings.ts'
import type { Moment, OwnRecords } from './own-records.ts'
import type { TileCheck } from './tiles.ts'
import { toHex, type Hash, type Tree } from './tree.ts'
import type { Finding, SealInfo, Verdict, VerifyResult } from './verdict.ts'

/** What the walk has come to know when the log has ended. */
export interface Walked {
  readonly evidence: Evidence
  readonly options: VerifyOptions
  readonly now: Now
  readonly tree: Tree
  readonly tiles: TileCheck
  readonly own: OwnRecords
  readonly claims: Claims
  readonly findings: Findings
  readonly notes: readonly string[]
  /** Records whose segments were removed, and the hash of the last of them. */
  readonly removed: number
  readonly removedLeaf: Hash | null
  readonly lastLeaf: Hash | null
  /** Of the last record in a segment; null: there is none. */
  readonly lastAt: Omit<Finding, 'seq' | 'problem'> | null
  readonly lastTimeMs: number | null
  /** Where the log ends: the byte behind it, in the segment that is last. */
  readonly end: Omit<Finding, 'problem'>
  readonly firstUnsealed: Moment | null
  readonly clockSteps: number
  readonly headConfirmed: boolean
  /** Its last line is not finished. */
  readonly tail: Finding | null
  /** No segment is there. */
  readonly empty: boolean
}

/** The questions that only the whole log answers: FORMAT.md, "What a verifier decides". @param grown the log went on while it was read */
export function judge(walked: Walked, grown: () => boolean): VerifyResult {
  const { evidence: { genesis, witnessed }, options, own, claims, findings, removed, firstUnsealed, lastTimeMs, lastLeaf } = walked
  if (!findings.any) judgeWhole(walked, grown)
  const tail = walked.tail ?? (findings.any ? null : tailOf(walked))
  const gap = own.gapCount > 0 || own.pauses.length > 0
  const verdict: Verdict = findings.any ? 'tampered' : tail !== null ? 'unverifiable-tail' : gap ? 'gap' : 'whole'
  const { size } = walked.tree
  const unsealed = Math.max(0, size - (own.seal === null ? removed : own.seal.seq + 1))
  return {
    verdict, records: findings.any ? findings.believed : size, firstBad: findings.first ?? tail, missing: findings.missing,
    pruned: removed > 0 ? { from: 0, to: removed - 1 } : null,
    gaps: own.gaps, gapCount: own.gapCount, pauses: own.pauses, clockSteps: walked.clockSteps,
    origin: genesis?.origin ?? null, fingerprint: genesis?.fingerprint ?? null, keyConfirmed: options.pin !== undefined && genesis?.fingerprint === options.pin,
    lastSealed: sealInfo(own), lastWitnessed: witnessed,
    unsealed: { records: unsealed, seconds: firstUnsealed === null ? 0 : Math.max(0, seconds(ageMs(walked.now, firstUnsealed))) },
    lastTime: lastTimeMs === null ? null : new Date(lastTimeMs).toISOString(), lastHash: lastLeaf === null ? null : toHex(lastLeaf),
    headConfirmed: walked.headConfirmed, savedConfirmed: claims.savedConfirmed, savedSize: claims.savedSize, notes: walked.notes,
  }
}

function judgeWhole({ evidence, options, tree, tiles, own, claims, findings, removed, removedLeaf, end, headConfirmed, empty }: Walked, grown: () => boolean): void {
  const { head } = options
  const { unmet } = claims
  if (unmet !== null) {
    findings.miss(tree.size, unmet.size - 1)
    return findings.bad({ ...end, problem: `the log ends here, but ${unmet.saved ? `a checkpoint in ${unmet.source}` : unmet.source} was made for ${unmet.size} records: newer records were cut off` })
  }
  if (head !== undefined && !headConfirmed) {
    findings.bad({ ...end, problem: head.seq < removed ? `record ${head.seq}, which was remembered, was removed by retention` : `the log ends here, but record ${head.seq} was remembered: newer records were cut off` })
  }
  if (evidence.diskFault !== null) findings.bad({ seq: tree.size, file: 'checkpoint', line: 0, offset: 0, problem: evidence.diskFault })
  if (removed > 0) judgeRemoved(own, removed, removedLeaf, findings)
  judgeTiles(tree, tiles, grown)
  if (tiles.fault !== null) findings.bad({ line: 0, offset: 0, ...tiles.fault }, tree.size)
  if (empty && evidence.genesis !== null) findings.bad({ ...end, problem: 'every segment is gone' })
}

/** Every removed record must be covered by `log.pruned` records, each followed by a seal. */
function judgeRemoved({ prunes, seal }: OwnRecords, removed: number, removedLeaf: Hash | null, findings: Findings): void {
  let covered = 0
  const sealed = seal === null ? -1 : seal.seq
  for (const { next, lastLeaf, seq } of prunes) {
    if (next !== removed || seq > sealed || removedLeaf === null || lastLeaf === toHex(removedLeaf)) continue
    return findings.bad({ seq, file: 'records', line: 0, offset: 0, problem: 'its last_leaf is not the hash of the last removed record' })
  }
  for (const { first, next, seq } of [...prunes].sort((a, b) => a.first - b.first)) {
    if (first <= covered && seq <= sealed) covered = Math.max(covered, next)
  }
  if (covered >= removed) return // what it covers beyond is still to be removed
  findings.miss(covered, removed - 1)
  findings.bad({ seq: covered, file: 'records', line: 0, offset: 0, problem: `records ${covered} to ${removed - 1} are gone, and no sealed log.pruned record says so` })
}

function judgeTiles(tree: Tree, tiles: TileCheck, grown: () => boolean): void {
  if (tiles.fault !== null) return
  const before = grown()
  comparePartialTiles(tree, tiles, before)
  // A seal made in this very moment: its tiles are no trace of records that are gone.
  if (tiles.fault === null || before || !grown()) return
  tiles.fault = null
  comparePartialTiles(tree, tiles, true)
}

function comparePartialTiles(tree: Tree, tiles: TileCheck, grown: boolean): void {
  const partial = tree.partialTiles()
  for (const { level, index, hashes } of partial) {
    tiles.compare(level, index, hashes, grown)
    if (!grown && hashes.length > 0) tiles.beyond(level, index + 1)
  }
  if (!grown) tiles.beyond(partial.length, 0)
}

/** @returns null: the end can be relied on as well */
function tailOf({ evidence, options, now, tree, own, lastAt, firstUnsealed }: Walked): Finding | null {
  const { size } = tree
  const at = lastAt ?? { file: 'records', line: 0, offset: 0 }
  const { seal } = own
  if (size === 0) return { seq: 0, ...at, problem: 'there is no record at all' }
  const limit = seal?.limitMs ?? own.genesisLimitMs
  const old = (moment: Moment): boolean => ageMs(now, moment) > limit
  if (firstUnsealed !== null && old(firstUnsealed)) {
    return { seq: seal === null ? 0 : seal.seq + 1, ...at, problem: `no seal covers the records from here on, although one should have been made ${seconds(ageMs(now, firstUnsealed) - limit)} s ago` }
  }
  if (seal !== null && seal.why !== 'close' && old(seal)) {
    return { seq: size, ...at, problem: `the writer ended without closing: the newest seal is ${seconds(ageMs(now, seal))} s old` }
  }
  if (seal !== null && old(seal) && evidence.disk?.size !== seal.seq + 1) return { seq: size, ...at, file: 'checkpoint', problem: 'the checkpoint of the newest seal is missing' }
  const wanted = options.witnesses ?? []
  if (wanted.length === 0 || evidence.witnessed.some(({ verified }) => verified)) return null
  return { seq: size, file: 'witnessed', line: 0, offset: 0, problem: `no checkpoint carries a cosignature of ${wanted.map(({ name }) => printable(name, 80)).join(' or ')}` }
}

function sealInfo({ seal }: OwnRecords): SealInfo | null {
  return seal === null ? null : { seq: seal.seq, epoch: seal.epoch, time: new Date(seal.timeMs).toISOString(), why: seal.why }
}

function ageMs(now: Now, moment: Moment): number {
  return moment.boot === now.boot ? now.monoMs - moment.monoMs : now.wallMs - moment.timeMs
}

function seconds(ms: number): number {
  return Math.round(ms / 1000)
}
