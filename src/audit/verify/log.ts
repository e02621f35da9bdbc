import { lstatSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as breathe } from 'node:timers/promises'
import { collectCheckpoints, SEGMENT, type VerifyOptions } from './evidence.ts'
import { LineReader } from './lines.ts'
import { MAX_CHECKPOINT_BYTES } from './note.ts'
import { NOT_A_FILE, readSmallFile, tileLeaves } from './tiles.ts'
import type { VerifyResult } from './verdict.ts'
import { Walk } from './walk.ts'

/*
 * Walks a log as FORMAT.md lays it out and names the first thing that is wrong. Public material only: never audit-keys.
 * Shares no code with the writer: a mistake there must not hide here. Memory is bounded whatever the files hold.
 */

/** Bytes after which signals and timers get their turn. */
const SLICE_BYTES = 4 * 1024 * 1024
const SLICE_LEAVES = 50_000
/** Retention may remove a segment while we come to it; then the walk begins anew. */
const MAX_ATTEMPTS = 3

/** @param dir as `<stateDir>/audit`; everything in it may be attacker-controlled. @throws errno errors, SavedError, an abort */
export async function verifyLog(dir: string, options: VerifyOptions = {}): Promise<VerifyResult> {
  for (let attempt = 1; ; attempt++) {
    try {
      const checkpoint = readSmallFile(join(dir, 'checkpoint'), MAX_CHECKPOINT_BYTES)
      const result = await verifyOnce(dir, options)
      // A seal replaces partial tiles; who looks at one in that moment may find neither the old nor the new one.
      const moved = result.firstBad?.file.startsWith('tile/') === true && String(readSmallFile(join(dir, 'checkpoint'), MAX_CHECKPOINT_BYTES)) !== String(checkpoint)
      if (!moved || attempt === MAX_ATTEMPTS) return result
    } catch (error) {
      if (!(error instanceof SegmentGone) || attempt === MAX_ATTEMPTS) throw error
    }
  }
}

class SegmentGone extends Error {}

interface Segment {
  readonly first: number
  readonly name: string
  readonly size: number
}

async function verifyOnce(dir: string, options: VerifyOptions): Promise<VerifyResult> {
  // First what others say, then the log: it may grow meanwhile, and must not look as if they knew too much.
  const evidence = collectCheckpoints(dir, options)
  const segments = listSegments(dir)
  const total = segments.reduce((sum, { size }) => sum + size, 0)
  const kept = openKept(dir)
  try {
    const walk = new Walk(dir, evidence, options, kept)
    const first = segments[0]?.first ?? 0
    if (first > 0) await walkRemoved(walk, dir, first, options.signal)
    let before = 0
    for (const segment of segments) {
      walk.beginSegment(segment.first, `records/${segment.name}`)
      const reader = openSegment(join(dir, 'records', segment.name), segment.size)
      if (reader === null) {
        walk.notAFile()
        continue
      }
      try {
        for (let slice = SLICE_BYTES; ; ) {
          const kind = reader.next()
          if (kind === 'none') break
          walk.line(reader, kind)
          if (kind === 'long' || kind === 'rest') break
          if (reader.offset < slice) continue
          slice = reader.offset + SLICE_BYTES
          options.onProgress?.(before + reader.offset, total)
          await breathe()
          options.signal?.throwIfAborted()
        }
      } finally {
        reader.close()
      }
      walk.endSegment(segment === segments.at(-1))
      before += segment.size
    }
    return walk.end(segments.length === 0, () => hasGrown(dir, segments))
  } finally {
    if (kept instanceof LineReader) kept.close()
  }
}

/** Removed records: their hashes come from tiles, their seals from seals.jsonl. */
async function walkRemoved(walk: Walk, dir: string, first: number, signal: AbortSignal | undefined): Promise<void> {
  const leaves = tileLeaves(join(dir, 'tile'), first)
  walk.beginRemoved(first)
  for (let step = leaves.next(); ; step = leaves.next()) {
    if (step.done === true) return step.value === null ? walk.endRemoved(first) : walk.noTile(step.value, first)
    walk.removed(step.value)
    if (walk.size % SLICE_LEAVES !== 0) continue
    await breathe()
    signal?.throwIfAborted()
  }
}

function listSegments(dir: string): Segment[] {
  const segments: Segment[] = []
  for (const name of entriesOf(join(dir, 'records')).filter((one) => SEGMENT.test(one)).sort()) {
    // Not what a link leads to: a dangling one is no segment that was removed.
    const size = lstatSync(join(dir, 'records', name), { throwIfNoEntry: false })?.size
    if (size === undefined) throw new SegmentGone()
    const first = Number(name.slice(0, 16))
    if (Number.isSafeInteger(first)) segments.push({ first, name, size })
  }
  return segments
}

function entriesOf(path: string): string[] {
  try {
    return readdirSync(path)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'ENOENT' || code === 'ENOTDIR') return []
    throw error
  }
}

/** @returns null: something else than a regular file has its name */
function openSegment(path: string, size: number): LineReader | null {
  try {
    return new LineReader(path, size)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'ENOENT') throw new SegmentGone()
    if (NOT_A_FILE.has(code ?? '')) return null
    throw error
  }
}

/** @returns null: there is none; `other`: something else than a regular file has its name */
function openKept(dir: string): LineReader | 'other' | null {
  try {
    return new LineReader(join(dir, 'seals.jsonl'), Number.MAX_SAFE_INTEGER, 256 * 1024)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'ENOENT') return null
    if (NOT_A_FILE.has(code ?? '')) return 'other'
    throw error
  }
}

function hasGrown(dir: string, segments: readonly Segment[]): boolean {
  const last = segments.at(-1)
  const now = entriesOf(join(dir, 'records')).filter((one) => SEGMENT.test(one)).sort().at(-1)
  if (last === undefined || now !== last.name) return now !== undefined
  return (statSync(join(dir, 'records', now), { throwIfNoEntry: false })?.size ?? 0) > last.size
}

