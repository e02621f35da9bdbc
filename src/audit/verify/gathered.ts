import { isUtf8 } from 'node:buffer'
import { createHash } from 'node:crypto'
import { closeSync, constants, createReadStream, fstatSync, openSync, readdirSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { checkProof, MAX_PROOF_BYTES } from './proof.ts'
import { NOT_A_FILE, readSmallFile } from './tiles.ts'

/** A directory of `cordon evidence` with programs of many files; each is named once. */
const MAX_MANIFEST_BYTES = 64 * 1024 * 1024
/** They vouch for the others. */
const VOUCHING: ReadonlySet<string> = new Set(['manifest.json', 'manifest.proof'])

export interface GatheredCheck {
  readonly verdict: 'whole' | 'tampered' | 'unverifiable-tail'
  /** What is wrong; null: nothing. */
  readonly problem: string | null
  readonly files: number
  /** The record of the log that holds the hash of its manifest. */
  readonly seq: number | null
  readonly origin: string | null
}

/**
 * Is this evidence as it was gathered? Every file by its hash in the manifest, none besides, and the manifest by its record in the log.
 * @param dir everything in it may be attacker-controlled @param pin fingerprint of the first key; without it anybody could have made the whole
 * @throws errno errors
 */
export async function checkGathered(dir: string, pin: string | null): Promise<GatheredCheck> {
  const manifest = readSmallFile(join(dir, 'manifest.json'), MAX_MANIFEST_BYTES)
  const bad = (problem: string, files = 0): GatheredCheck => ({ verdict: 'tampered', problem, files, seq: null, origin: null })
  if (!Buffer.isBuffer(manifest)) return bad(`manifest.json: ${manifest ?? 'it is missing'}`)
  const listed = parseManifest(manifest)
  if (listed === null) return bad('manifest.json: it is no manifest of evidence')
  for (const path of pathsIn(dir)) if (!VOUCHING.has(path) && !listed.has(path)) return bad(`${path}: it is not in the manifest`)
  for (const [path, sha256] of listed) {
    const found = await hashOf(join(dir, path))
    if (found !== sha256) return bad(`${path}: ${found === null ? 'it is missing' : 'it is not what was gathered'}`)
  }
  const proof = readSmallFile(join(dir, 'manifest.proof'), MAX_PROOF_BYTES)
  if (proof === null) return { ...bad('manifest.proof is missing: every file is as the manifest says, and nobody vouches for the manifest', listed.size), verdict: 'unverifiable-tail' }
  const proved = typeof proof === 'string' ? proof : isUtf8(proof) ? checkProof(proof.toString('utf8'), pin) : 'it is not UTF-8'
  if (typeof proved === 'string') return bad(`manifest.proof: ${proved}`)
  const { type, data } = JSON.parse(proved.record) as { readonly type: string; readonly data: Readonly<Record<string, unknown>> }
  if (type !== 'evidence.gathered' || data['sha256'] !== createHash('sha256').update(manifest).digest('hex')) return bad('manifest.proof: its record is not that of this manifest')
  return { verdict: 'whole', problem: null, files: listed.size, seq: proved.index, origin: proved.genesis.origin }
}

function parseManifest(bytes: Buffer): Map<string, string> | null {
  let value: unknown
  try {
    value = JSON.parse(isUtf8(bytes) ? bytes.toString('utf8') : '')
  } catch {
    return null // not JSON: the verdict says that it is no manifest
  }
  const files = typeof value === 'object' && value !== null && 'files' in value ? value.files : null
  if (!Array.isArray(files)) return null
  const listed = new Map<string, string>()
  for (const file of files as unknown[]) {
    const { path, sha256 } = (typeof file === 'object' && file !== null ? file : {}) as { readonly path?: unknown; readonly sha256?: unknown }
    if (typeof path !== 'string' || typeof sha256 !== 'string' || !isBelow(path) || listed.has(path)) return null
    listed.set(path, sha256)
  }
  return listed
}

function isBelow(path: string): boolean {
  return !path.includes('\0') && path.split('/').every((part) => part !== '' && part !== '.' && part !== '..')
}

/** Everything that is no directory. A link to one is not followed. */
function* pathsIn(root: string, below = ''): Generator<string> {
  for (const entry of readdirSync(join(root, below), { withFileTypes: true })) {
    const path = below === '' ? entry.name : `${below}/${entry.name}`
    if (entry.isDirectory()) yield* pathsIn(root, path)
    else yield path
  }
}

/** As it was made: of a link, of what it says. @returns null: there is none */
async function hashOf(path: string): Promise<string | null> {
  const hash = createHash('sha256')
  let fd: number
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? ''
    if (code === 'ELOOP') return hash.update(`link:${readlinkSync(path)}`).digest('hex')
    if (code === 'ENOENT' || code === 'ENOTDIR') return null
    if (NOT_A_FILE.has(code)) return hash.update('link:').digest('hex')
    throw error
  }
  if (!fstatSync(fd).isFile()) {
    closeSync(fd)
    return hash.update('link:').digest('hex')
  }
  for await (const chunk of createReadStream(path, { fd })) hash.update(chunk as Buffer)
  return hash.digest('hex')
}
