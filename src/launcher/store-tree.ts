import { createHash } from 'node:crypto'
import { chmod, open, opendir, mkdir, readlink, symlink, type FileHandle } from 'node:fs/promises'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { changing, digestFile, errnoOf, identityOf, openNamed, sameIdentity } from './store-file.ts'

export interface TreeLimits {
  readonly fileBytes: number
  readonly treeBytes: number
  readonly entries: number
  readonly depth: number
}

/** Far above any program that we know, low enough that a hostile tree neither fills the disk nor holds the launcher. */
export const TREE_LIMITS: TreeLimits = { fileBytes: 2 * 1024 ** 3, treeBytes: 4 * 1024 ** 3, entries: 200_000, depth: 64 }

export interface TreeEntry {
  readonly path: string
  readonly kind: 'dir' | 'file' | 'link'
  readonly executable: boolean
  /** SHA-256 of a file, target of a link, empty for a directory. */
  readonly content: string
}

export interface TreeDigest {
  readonly sha256: string
  readonly bytes: number
  readonly entries: ReadonlyMap<string, TreeEntry>
}

/**
 * Walk a directory tree that someone else may be changing meanwhile, hash it, and copy it if `copyTo` is given.
 * Every step goes through `/proc/self/fd/N/name`, so no component can be swapped for a link to elsewhere.
 *
 * The tree hash is SHA-256 over `cordon-tree-1\n` and one line per entry, sorted by the bytes of the path:
 * `["d","PATH"]`, `["f","PATH","x" or "-","SHA256"]` or `["l","PATH","TARGET"]`, each JSON without blanks and a newline.
 * Owner, times, other mode bits, extended attributes and file capabilities are neither hashed nor copied.
 * @param root O_PATH handle of the directory
 * @param copyTo a directory that exists, is empty and belongs to us alone
 * @throws CordonError STORE_REFUSED (other file types, links that leave the tree), STORE_TOO_LARGE, STORE_CHANGING
 */
export async function digestTree(root: FileHandle, shown: string, copyTo: string | null, limits: TreeLimits = TREE_LIMITS): Promise<TreeDigest> {
  const walk: Walk = { shown, copyTo, limits, entries: new Map(), bytes: 0 }
  await walkDirectory(walk, root, '', 0)
  const hash = createHash('sha256').update('cordon-tree-1\n')
  for (const [, entry] of sortedByBytes(walk.entries)) hash.update(`${lineOf(entry)}\n`)
  return { sha256: hash.digest('hex'), bytes: walk.bytes, entries: walk.entries }
}

interface Walk {
  readonly shown: string
  readonly copyTo: string | null
  readonly limits: TreeLimits
  readonly entries: Map<string, TreeEntry>
  bytes: number
}

async function walkDirectory(walk: Walk, directory: FileHandle, path: string, depth: number): Promise<void> {
  if (depth > walk.limits.depth) throw new CordonError('STORE_TOO_LARGE', `${at(walk, path)} lies deeper than ${walk.limits.depth} directories`)
  const before = identityOf(await directory.stat({ bigint: true }))
  for (const name of await namesIn(walk, directory, path)) {
    const child = path === '' ? name : `${path}/${name}`
    const named = await openNamed(`/proc/self/fd/${directory.fd}/${name}`, `${walk.shown}/${child}`)
    try {
      await visit(walk, directory, named, name, child, depth)
    } finally {
      await named.close()
    }
  }
  if (!sameIdentity(before, identityOf(await directory.stat({ bigint: true })))) throw changing(`${walk.shown}/${path}`)
}

/** Read in steps, because a directory of a hostile owner may hold any number of names. */
async function namesIn(walk: Walk, directory: FileHandle, path: string): Promise<string[]> {
  const names: string[] = []
  const listing = await opendir(`/proc/self/fd/${directory.fd}`, { bufferSize: 256 })
  for await (const entry of listing) {
    if (walk.entries.size + names.length >= walk.limits.entries) throw new CordonError('STORE_TOO_LARGE', `${at(walk, '')} has more than ${walk.limits.entries} entries`)
    // U+FFFD is what Node makes of bytes that are not UTF-8; two such names could become one.
    if (entry.name.includes('\ufffd')) throw new CordonError('STORE_REFUSED', `${at(walk, path)} holds a name that is not UTF-8`)
    names.push(entry.name)
  }
  return names
}

async function visit(walk: Walk, directory: FileHandle, named: FileHandle, name: string, path: string, depth: number): Promise<void> {
  const stat = await named.stat()
  const target = walk.copyTo === null ? null : `${walk.copyTo}/${path}`
  if (stat.isDirectory()) {
    walk.entries.set(path, { path, kind: 'dir', executable: false, content: '' })
    if (target !== null) await mkdir(target, { mode: 0o755 })
    await walkDirectory(walk, named, path, depth + 1)
    if (target !== null) await chmod(target, 0o755)
  } else if (stat.isFile()) {
    const executable = (stat.mode & 0o111) !== 0
    const room = Math.min(walk.limits.fileBytes, walk.limits.treeBytes - walk.bytes)
    const digest = target === null ? await digestFile(named, `${walk.shown}/${path}`, null, room) : await copyFile(named, `${walk.shown}/${path}`, target, executable, room)
    walk.bytes += digest.bytes
    walk.entries.set(path, { path, kind: 'file', executable, content: digest.sha256 })
  } else if (stat.isSymbolicLink()) {
    const content = await readLink(walk, `/proc/self/fd/${directory.fd}/${name}`, path)
    walk.entries.set(path, { path, kind: 'link', executable: false, content })
    if (target !== null) await symlink(content, target)
  } else {
    throw new CordonError('STORE_REFUSED', `${at(walk, path)} is a socket, FIFO or device; files, directories and links are accepted`)
  }
}

async function copyFile(named: FileHandle, shown: string, target: string, executable: boolean, room: number) {
  const into = await open(target, 'wx', 0o600)
  try {
    const digest = await digestFile(named, shown, into, room)
    await into.chmod(executable ? 0o555 : 0o444)
    return digest
  } finally {
    await into.close()
  }
}

async function readLink(walk: Walk, source: string, path: string): Promise<string> {
  let content: string
  try {
    content = await readlink(source)
  } catch (error) {
    if (errnoOf(error) === 'EINVAL') throw changing(`${walk.shown}/${path}`)
    throw error
  }
  if (!staysInside(path, content)) {
    throw new CordonError('STORE_REFUSED', `${at(walk, path)} is a link to "${printable(content)}"; a link must stay inside the directory or begin with /usr/`)
  }
  return content
}

/**
 * A relative target may climb first and then only descend: `..` after another link would mean something else to the kernel
 * than to this arithmetic. `/usr/…` is accepted because a venv links to its interpreter so: inside the walls it names the
 * read-only /usr, and neither the hash nor the copy ever follows it.
 */
function staysInside(path: string, target: string): boolean {
  if (target === '' || target.includes('\ufffd')) return false
  const parts = target.split('/').filter((part) => part !== '' && part !== '.')
  const climb = parts.findIndex((part) => part !== '..')
  const up = climb === -1 ? parts.length : climb
  if (parts.slice(up).includes('..')) return false
  if (target.startsWith('/')) return up === 0 && parts[0] === 'usr' && parts.length > 1
  return up <= path.split('/').length - 1
}

/** The file that `entry` names, following links inside the tree only; null when there is none. */
export function resolveEntry(entry: string, entries: ReadonlyMap<string, TreeEntry>): TreeEntry | null {
  let todo = entry.split('/')
  let here: string[] = []
  for (let hops = 0; todo.length > 0; ) {
    const [part, ...rest] = todo
    todo = rest
    if (part === undefined || part === '' || part === '.') continue
    if (part === '..') {
      here = here.slice(0, -1)
      continue
    }
    const found = entries.get([...here, part].join('/'))
    if (found === undefined) return null
    if (found.kind === 'link') {
      hops += 1
      if (hops > 40 || found.content.startsWith('/')) return null // 40: the kernel's own limit, path_resolution(7)
      todo = [...found.content.split('/'), ...rest]
    } else {
      here = [...here, part]
    }
  }
  return entries.get(here.join('/')) ?? null
}

function lineOf(entry: TreeEntry): string {
  switch (entry.kind) {
    case 'dir':
      return JSON.stringify(['d', entry.path])
    case 'file':
      return JSON.stringify(['f', entry.path, entry.executable ? 'x' : '-', entry.content])
    case 'link':
      return JSON.stringify(['l', entry.path, entry.content])
  }
}

function sortedByBytes(entries: ReadonlyMap<string, TreeEntry>): [Buffer, TreeEntry][] {
  return [...entries.values()].map((entry): [Buffer, TreeEntry] => [Buffer.from(entry.path), entry]).sort(([a], [b]) => Buffer.compare(a, b))
}

function at(walk: Walk, path: string): string {
  return printable(path === '' ? walk.shown : `${walk.shown}/${path}`)
}
