import { readFileSync } from 'node:fs'
import { CordonError } from '../errors.ts'

/** One entry of a data directory. Path and target are the plugin's own text: bytes as latin1, so that two that differ stay different. */
export interface ListedFile {
  readonly path: string
  /** find(1) `%y`: f file, d directory, l link, p FIFO, s socket, … */
  readonly type: string
  readonly bytes: number
  readonly mtime: string
  /** The kernel's own mark of the last change; no program without root can set it. */
  readonly ctime: string
  readonly inode: string
  readonly mode: string
  readonly target: string
}

const FACTS = /^(\S) (\d{1,16}) (-?[\d.]{1,32}) (-?[\d.]{1,32}) (\d{1,20}) ([0-7]{1,5})$/

/**
 * Read a listing of launcher/data-listing.ts, at most some 64 MiB of it. A last entry that was cut off is left out.
 * @throws CordonError DATA_LISTING for anything that find(1) does not print
 */
export function readListing(file: string): Map<string, ListedFile> {
  const fields = readFileSync(file, 'latin1').split('\0')
  const files = new Map<string, ListedFile>()
  for (let at = 0; at + 3 < fields.length; at += 3) {
    const [, type, bytes, mtime, ctime, inode, mode] = FACTS.exec(fields[at] ?? '') ?? []
    const path = fields[at + 1] ?? ''
    if (type === undefined || mtime === undefined || ctime === undefined || inode === undefined || mode === undefined || path === '') throw new CordonError('DATA_LISTING', `${file} is no listing: entry ${at / 3} does not fit`)
    files.set(path, { path, type, bytes: Number(bytes), mtime, ctime, inode, mode, target: fields[at + 2] ?? '' })
  }
  return files
}

export type ChangeKind = 'added' | 'written' | 'changed' | 'removed'

export interface DataChange {
  readonly kind: ChangeKind
  readonly path: string
  readonly type: string
  readonly bytesBefore: number | null
  readonly bytes: number | null
  /** Seconds since 1970, as the kernel marked the change; null for what is gone. */
  readonly at: string | null
}

/** `written`: other content or another file; `changed`: only its mode, owner or links. In the order of their paths. */
export function compareListings(before: ReadonlyMap<string, ListedFile>, now: ReadonlyMap<string, ListedFile>): DataChange[] {
  const changes: DataChange[] = []
  for (const [path, file] of now) {
    const old = before.get(path)
    const entry = { path, type: file.type, bytesBefore: old?.bytes ?? null, bytes: file.bytes, at: file.ctime }
    if (old === undefined) changes.push({ kind: 'added', ...entry })
    else if (old.ctime !== file.ctime || old.inode !== file.inode) {
      // A directory is marked for what happens in it, which stands in lines of its own.
      if (file.type === 'd' && old.type === 'd' && old.inode === file.inode && old.mode === file.mode) continue
      const written = old.inode !== file.inode || old.bytes !== file.bytes || old.mtime !== file.mtime || old.type !== file.type || old.target !== file.target
      changes.push({ kind: written ? 'written' : 'changed', ...entry })
    }
  }
  for (const [path, old] of before) if (!now.has(path)) changes.push({ kind: 'removed', path, type: old.type, bytesBefore: old.bytes, bytes: null, at: null })
  return changes.sort((a, b) => (a.path < b.path ? -1 : 1))
}
