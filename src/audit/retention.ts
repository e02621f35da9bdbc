import { createHash } from 'node:crypto'
import type { LogFs } from './log-file.ts'
import { PrivateDir, writeAll } from './private-dir.ts'
import type { AuditEvent } from './record.ts'
import { scanLines } from './scan-lines.ts'
import { RECORDS_DIR, segmentFirst, segmentName } from './segments.ts'
import { TileStore } from './tiles.ts'
import { leafHash } from './tree.ts'

/** How long records are kept. Seals, tiles and the first record stay for ever: they are small, and proofs need them. */
export interface Retention {
  readonly keepMs: number
  /** Of all segments together. */
  readonly maxBytes: number
}

export interface PrunedSegment {
  readonly first: number
  readonly next: number
  readonly bytes: number
}

/** What pruning asks of the writer. */
export interface Recorder {
  append(event: AuditEvent, origin: 'launcher'): Promise<unknown>
  seal(): Promise<void>
}

const SEALS = 'seals.jsonl'
/** The types whose lines stay when their segment goes (FORMAT.md). */
const KEPT = /"type":"(?:log\.created|seal|log\.pruned)","v":1\}$/

/**
 * Remove whole segments, from the oldest on, that are too old or too much; never the newest two. Of each: its tiles are durable; what goes is
 * told by a record, and that is sealed; its seals are kept; then it is removed. Killed in between, it goes on where it was.
 * @throws what the calls throw: nothing is removed that was not told and sealed
 */
export async function prune(log: Recorder, { fs, dir, owner, retention, nowMs, signal }: {
  readonly fs: LogFs
  readonly dir: string
  readonly owner: number
  readonly retention: Retention
  readonly nowMs: number
  readonly signal: AbortSignal
}): Promise<PrunedSegment[]> {
  const top = await PrivateDir.open(fs, dir, owner, false)
  try {
    const records = await top.subdir(RECORDS_DIR, false)
    const tiles = await top.subdir('tile', false)
    try {
      const pruned: PrunedSegment[] = []
      for (const due of await dueSegments(records, retention, nowMs)) {
        if (signal.aborted) break
        await pruneOne(log, top, records, new TileStore(tiles), due)
        pruned.push(due)
      }
      return pruned
    } finally {
      await tiles.close()
      await records.close()
    }
  } finally {
    await top.close()
  }
}

async function dueSegments(records: PrivateDir, { keepMs, maxBytes }: Retention, nowMs: number): Promise<PrunedSegment[]> {
  const firsts = (await records.list()).flatMap((name) => segmentFirst(name) ?? []).sort((a, b) => a - b)
  const sizes = await Promise.all(firsts.map(async (first) => (await records.facts(segmentName(first)))?.size ?? 0))
  let total = sizes.reduce((sum, size) => sum + size, 0)
  const due: PrunedSegment[] = []
  for (let at = 0; at + 2 < firsts.length; at++) {
    const first = firsts[at] ?? 0
    const next = firsts[at + 1] ?? 0
    // Its newest record is older than the first of the segment after it.
    const tooOld = nowMs - (await firstTime(records, next)) > keepMs
    if (!tooOld && total <= maxBytes) break
    due.push({ first, next, bytes: sizes[at] ?? 0 })
    total -= sizes[at] ?? 0
  }
  return due
}

async function firstTime(records: PrivateDir, first: number): Promise<number> {
  const file = await records.openAppend(segmentName(first), false)
  try {
    const time = /"time":"([^"]{24})","type":"[^"]{1,64}","v":1\}\n/.exec((await file.read(0, 65_536)).toString('latin1'))?.[1]
    return time === undefined ? Infinity : Date.parse(time)
  } finally {
    await file.close()
  }
}

async function pruneOne(log: Recorder, top: PrivateDir, records: PrivateDir, tiles: TileStore, { first, next, bytes }: PrunedSegment): Promise<void> {
  const { kept, lastLeaf, sha256, lastSeq } = await readSegment(records, first)
  const already = await lastKept(top)
  if (already < lastSeq) {
    await tiles.makeDurable(first, next)
    await log.append({ type: 'log.pruned', first, next, bytes, sha256, last_leaf: lastLeaf }, 'launcher')
    await log.seal()
    await keep(top, kept)
  }
  await records.remove(segmentName(first))
  await records.sync()
}

async function readSegment(records: PrivateDir, first: number): Promise<{ kept: Buffer; lastLeaf: string; sha256: string; lastSeq: number }> {
  const file = await records.openAppend(segmentName(first), false)
  try {
    const digest = createHash('sha256')
    const kept: Buffer[] = []
    let last: Buffer = Buffer.alloc(0)
    for await (const { bytes } of scanLines(file, (await file.stat()).size, 'forward')) {
      digest.update(bytes).update(NEWLINE)
      last = bytes
      if (KEPT.test(bytes.toString('latin1', Math.max(0, bytes.length - 40)))) kept.push(Buffer.from(bytes), NEWLINE)
    }
    return { kept: Buffer.concat(kept), lastLeaf: leafHash(last), sha256: digest.digest('hex'), lastSeq: seqOf(last) }
  } finally {
    await file.close()
  }
}

/** `seq` of the last line in seals.jsonl: a segment ends with a seal, so its lines are there when that one is. */
async function lastKept(top: PrivateDir): Promise<number> {
  const file = await top.openAppend(SEALS, true)
  try {
    for await (const { bytes } of scanLines(file, (await file.stat()).size, 'backward')) return seqOf(bytes)
    return -1
  } finally {
    await file.close()
  }
}

async function keep(top: PrivateDir, lines: Buffer): Promise<void> {
  const file = await top.openAppend(SEALS, true)
  try {
    // Half of what an earlier attempt wrote goes: it is written again as a whole.
    const { size } = await file.stat()
    let whole = 0
    const from = seqOf(lines.subarray(0, lines.indexOf(0x0a)))
    for await (const { bytes, end } of scanLines(file, size, 'forward')) {
      if (seqOf(bytes) >= from) break
      whole = end
    }
    if (whole < size) await file.truncate(whole)
    await writeAll(lines, (rest) => file.append(rest))
    await top.sync()
  } finally {
    await file.close()
  }
}

function seqOf(line: Buffer): number {
  return Number(/"seq":(\d{1,15}),"time":"[^"]{24}","type":"[^"]{1,64}","v":1\}$/.exec(line.toString('latin1'))?.[1] ?? -1)
}

const NEWLINE = Buffer.from('\n')
