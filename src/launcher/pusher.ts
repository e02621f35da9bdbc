import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { MAX_CHECKPOINT_BYTES, parseCheckpoint } from '../audit/verify/note.ts'
import { TileHashes } from '../audit/verify/tile-hashes.ts'
import { readSmallFile } from '../audit/verify/tiles.ts'
import { printable } from '../base/printable.ts'
import type { AuditSink } from '../audit/record.ts'
import type { WitnessConfig } from '../policy/host-config.ts'
import { runUnprivileged, type Ended } from './unprivileged.ts'

const PUSH_EVERY_MS = 60_000
const CHILD_MS = 20_000

export interface PushAnswer {
  readonly state: 'answered' | 'failed' | 'refused'
  /** In words, printable; of `answered`: how many records are witnessed now. */
  readonly say: string
  readonly size: number
}

export interface PushDeps {
  /** `<stateDir>/audit` */
  readonly dir: string
  /** Runs push-child.ts with this argument. */
  readonly run: (request: string) => Promise<Ended>
  /** Sizes that witnesses are known to have seen; a wrong one costs one more question. */
  readonly seen: Map<string, number>
}

/** push-child.ts as the unprivileged process that it must be. */
export function pushChild(uid: number, script: string, signal?: AbortSignal): PushDeps['run'] {
  return (request) => runUnprivileged({ uid, script, args: [request], timeoutMs: CHILD_MS, outputBytes: MAX_CHECKPOINT_BYTES }, signal)
}

/**
 * Show one witness the newest checkpoint and keep what it answers, unread, as `witnessed/NAME`. The only thing that is taken
 * from a child's output is a size, 1 to 15 digits, for which the proof is then made.
 * @returns null when there is no checkpoint yet; never throws for what the witness did @throws TileError, errno errors of the log's own files
 */
export async function pushTo(witness: WitnessConfig, { dir, run, seen }: PushDeps): Promise<PushAnswer | null> {
  const file = readSmallFile(join(dir, 'checkpoint'), MAX_CHECKPOINT_BYTES)
  const checkpoint = Buffer.isBuffer(file) ? file.toString('utf8') : ''
  const size = parseCheckpoint(checkpoint)?.size ?? null
  if (size === null) return null
  const tiles = new TileHashes(join(dir, 'tile'))
  let old = Math.min(seen.get(witness.name) ?? 0, size)
  for (let asked = 1; ; asked++) {
    const proof = tiles.consistency(old, size).map((one) => Buffer.from(one, 'latin1').toString('base64'))
    const { status, stdout, stderr, why } = await run(JSON.stringify({ url: witness.url, key: witness.key, old, proof, checkpoint }))
    const wanted = status === 9 && /^[0-9]{1,15}\n$/.test(stdout.toString('latin1')) ? Number(stdout.toString('latin1')) : null
    if (wanted !== null && wanted <= size && asked === 1) {
      old = wanted
      continue
    }
    if (status !== 0) return { state: status === 8 ? 'refused' : 'failed', say: why ?? printable(stderr, 300), size }
    seen.set(witness.name, size)
    keep(join(dir, 'witnessed'), witness.name, stdout)
    return { state: 'answered', say: `${size} records witnessed`, size }
  }
}

function keep(folder: string, name: string, bytes: Buffer): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const path = join(folder, name)
  const fd = openSync(join(folder, `.${name}.new`), 'w', 0o600)
  try {
    writeSync(fd, bytes)
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
  renameSync(join(folder, `.${name}.new`), path)
}

/**
 * Shows every witness the newest checkpoint, each minute. Nothing waits for it; what changes is on record (first answer, first
 * failure, refusal), the failures between are counted.
 * @returns ends it
 */
export function startPusher(witnesses: readonly WitnessConfig[], deps: PushDeps, audit: Pick<AuditSink, 'note'>, log: (message: string) => void, everyMs = PUSH_EVERY_MS): () => void {
  const states = new Map<string, { state: PushAnswer['state'] | null; failures: number }>()
  let busy = false
  const round = async (): Promise<void> => {
    if (busy) return // a slow witness; the next minute comes
    busy = true
    for (const witness of witnesses) {
      const before = states.get(witness.name) ?? { state: null, failures: 0 }
      const answer = await pushTo(witness, deps).catch((error: unknown): PushAnswer => ({ state: 'failed', say: printable(error instanceof Error ? error.message : String(error), 300), size: 0 }))
      if (answer === null) continue
      const failures = answer.state === 'answered' ? 0 : before.failures + 1
      if (answer.state !== before.state) {
        audit.note({ type: 'witness.changed', witness: witness.name, state: answer.state, reason: answer.say, size: answer.size, failures: before.failures }, 'launcher')
        if (answer.state !== 'answered') log(`witness ${witness.name}: ${answer.say}`)
      }
      states.set(witness.name, { state: answer.state, failures })
    }
    busy = false
  }
  const timer = setInterval(() => void round(), everyMs)
  void round()
  return () => clearInterval(timer)
}
