import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import type { FileFacts, LogFile, LogFs } from './log-file.ts'
import { absent } from './private-dir.ts'

/**
 * A file that was deleted, moved or cut goes on taking writes through an open descriptor; nobody would ever read them.
 * @param path of both, as an operator knows them @param bytes what the segment must have @param facts of the key's file when it was made
 * @throws CordonError AUDIT_UNAVAILABLE
 */
export async function requireUntouched(fs: LogFs, segment: { readonly path: string; readonly file: LogFile; readonly bytes: number }, key: { readonly path: string; readonly facts: FileFacts | null }): Promise<void> {
  const look = (path: string): Promise<FileFacts | null> => fs.lstat(path).catch(absent)
  const [mine, there, keyNow] = await Promise.all([segment.file.stat(), look(segment.path), look(key.path)])
  const problem = mine.nlink === 0 ? 'was deleted while in use'
    : there === null ? 'was moved away while in use'
    : mine.dev !== there.dev || mine.ino !== there.ino ? 'was replaced by another file while in use'
    : mine.size !== segment.bytes ? `has ${mine.size} bytes, expected ${segment.bytes}: someone else wrote or cut it`
    : null
  if (problem !== null) throw new CordonError('AUDIT_UNAVAILABLE', `${printable(segment.path)} ${problem}`)
  if (keyNow === null || keyNow.ino !== key.facts?.ino || keyNow.dev !== key.facts.dev || keyNow.ctimeNs !== key.facts.ctimeNs) {
    throw new CordonError('AUDIT_UNAVAILABLE', `${printable(key.path)} was ${keyNow === null ? 'deleted' : 'replaced'} while in use`)
  }
}
