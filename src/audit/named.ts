import { setTimeout as sleep } from 'node:timers/promises'
import { CordonError } from '../errors.ts'
import { CATALOGUE } from './catalogue.ts'
import { listSegments, openSegment } from './segments.ts'

/** Fields by which a record names a compiled policy or a program; in the record itself or right below `data`, and only there. */
const NAMING_FIELDS = ['policyDigest', 'policy_digest', 'previous', 'sha256'] as const
const NAMED = /"(?:policy|policy_digest|previous|sha256)":"([0-9a-f]{64})"/g
/** Types of the launcher's own that have such a field. What plugins can cause at will (`programs.seen`) is not among them. */
export const NAMING_TYPES: ReadonlySet<string> = new Set([...CATALOGUE].flatMap(([type, { source, fields }]) => (source === 'launcher' && NAMING_FIELDS.some((name) => name in fields.shape) ? [type] : [])))
/** How a line ends (FORMAT.md); the longest type has fewer than 64 letters. */
const END = /"type":"([^"]{1,64})","v":1\}$/
const END_BYTES = 96

const BLOCK_BYTES = 256 * 1024
/** A block takes about a millisecond. Nobody waits for the result, and everybody for the launcher. */
const PAUSE_MS = 4
/** An operator's acts make these: of a segment with more of them nothing is remembered, and it is read again. */
const MAX_REMEMBERED = 20_000

/** What closed segments name, by path: they change no more. */
export type NamedMemory = Map<string, ReadonlySet<string>>

/**
 * Which of these digests no record names any more. The newest segments are read first, and no more of them than it takes; lines are not
 * parsed, since what plugins wrote stands in them.
 * @param dirs logs: directories with `records/`; one that is gone names nothing
 * @throws CordonError AUDIT_UNAVAILABLE when a segment cannot be read: then nothing is known
 */
export async function unnamedBy(dirs: readonly string[], digests: Iterable<string>, memory: NamedMemory, signal: AbortSignal): Promise<Set<string>> {
  const left = new Set(digests)
  for (const dir of dirs) {
    const segments = await listSegments(dir).catch(ignoreAbsent)
    const newest = segments?.at(-1)?.path
    for (const { path } of segments?.reverse() ?? []) {
      if (left.size === 0) return left
      const names = memory.get(path) ?? (await namesIn(path, signal).catch(ignoreAbsent)) // pruned meanwhile
      for (const name of names ?? []) left.delete(name)
      if (names !== null && path !== newest && names.size <= MAX_REMEMBERED) memory.set(path, names)
    }
    forgetAbsent(memory, dir, new Set(segments?.map(({ path }) => path)))
  }
  return left
}

function forgetAbsent(memory: NamedMemory, dir: string, there: ReadonlySet<string>): void {
  for (const path of memory.keys()) if (path.startsWith(`${dir}/`) && !there.has(path)) memory.delete(path)
}

async function namesIn(path: string, signal: AbortSignal): Promise<Set<string>> {
  const names = new Set<string>()
  const file = await openSegment(path)
  try {
    const block = Buffer.alloc(BLOCK_BYTES)
    for (let offset = 0; ; ) {
      signal.throwIfAborted()
      const { bytesRead } = await file.read(block, 0, block.length, offset)
      const end = block.subarray(0, bytesRead).lastIndexOf(0x0a)
      if (end < 0 && bytesRead < block.length) return names
      // A whole block without a newline is no record (a record has at most 65,535 bytes): passed over.
      addNames(block.subarray(0, end + 1), names)
      offset += end < 0 ? bytesRead : end + 1
      await sleep(PAUSE_MS)
    }
  } finally {
    await file.close()
  }
}

/** @param lines whole ones, each with its newline */
function addNames(lines: Buffer, names: Set<string>): void {
  for (let at = 0; at < lines.length; ) {
    const end = lines.indexOf(0x0a, at)
    const type = END.exec(lines.toString('latin1', Math.max(at, end - END_BYTES), end))?.[1]
    if (type !== undefined && NAMING_TYPES.has(type)) for (const [, name = ''] of lines.toString('latin1', at, end).matchAll(NAMED)) names.add(name)
    at = end + 1
  }
}

function ignoreAbsent(error: unknown): null {
  if (error instanceof CordonError && error.code === 'AUDIT_NOT_FOUND') return null
  throw error
}
