import { createPrivateKey, createPublicKey, hash, randomBytes, sign, type KeyObject } from 'node:crypto'
import { closeSync, constants, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { keyId } from '../audit/verify/keys.ts'
import { COSIGNATURE, cosignedText, parseCheckpoint, verifierKeyText, type Checkpoint } from '../audit/verify/note.ts'
import type { Seen } from './add-checkpoint.ts'

/** DER of a PrivateKeyInfo for Ed25519 up to the 32 bytes of the seed (RFC 8410 section 7). */
const PKCS8 = Buffer.from('302e020100300506032b657004220420', 'hex')

/**
 * What a witness must not forget: its key (0600) and, for each log, the newest checkpoint that it cosigned. A file is
 * replaced and on the disk before its cosignature leaves, so no crash lets it contradict itself.
 */
export class WitnessState {
  readonly name: string
  readonly verifierKey: string
  readonly #dir: string
  readonly #secret: KeyObject
  readonly #id: string
  /** The notes as they were written, by origin. */
  readonly #notes = new Map<string, { readonly seen: Seen; readonly note: string }>()

  /** @param dir exists, belongs to this user, 0700 @throws Error in words, errno errors */
  constructor(dir: string, name: string, origins: Iterable<string>) {
    const { mode, uid } = statSync(dir)
    if (uid !== process.getuid?.() || (mode & 0o077) !== 0) throw new Error(`${dir} must belong to the user of the witness, with mode 0700`)
    mkdirSync(join(dir, 'logs'), { recursive: true, mode: 0o700 })
    mkdirSync(join(dir, 'refused'), { recursive: true, mode: 0o700 })
    this.#dir = dir
    this.name = name
    this.#secret = createPrivateKey({ key: Buffer.concat([PKCS8, loadSeed(join(dir, 'witness.key'))]), format: 'der', type: 'pkcs8' })
    const key = createPublicKey(this.#secret).export({ format: 'der', type: 'spki' }).subarray(-32)
    this.#id = keyId(name, COSIGNATURE, key)
    this.verifierKey = verifierKeyText({ name, type: COSIGNATURE, key })
    for (const origin of origins) this.#load(origin)
  }

  seen(origin: string): Seen | null {
    return this.#notes.get(origin)?.seen ?? null
  }

  notes(): string[] {
    return [...this.#notes.values()].map(({ note }) => note)
  }

  /** Remember, durably, then sign. @returns the signature line @throws errno errors; nothing was remembered or signed then */
  cosign(checkpoint: Checkpoint, nowMs: number): string {
    const seconds = Math.floor(nowMs / 1000)
    const time = Buffer.alloc(8)
    time.writeBigUInt64BE(BigInt(seconds))
    const signature = Buffer.concat([Buffer.from(this.#id, 'hex'), time, sign(null, cosignedText(checkpoint.text, seconds), this.#secret)])
    const line = `— ${this.name} ${signature.toString('base64')}\n`
    // Cosignatures of others in the submission stay out: only what was checked is kept.
    const note = `${checkpoint.text}\n${checkpoint.signatures.filter(({ name }) => name === checkpoint.origin).map(({ name, id, bytes }) => `— ${name} ${Buffer.concat([Buffer.from(id, 'hex'), bytes]).toString('base64')}\n`).join('')}${line}`
    this.#replace('logs', checkpoint.origin, note)
    this.#notes.set(checkpoint.origin, { seen: { size: checkpoint.size, root: checkpoint.root }, note })
    return line
  }

  /** What a log signed and must not have: evidence, the newest per log. */
  keepRefused(checkpoint: Checkpoint): void {
    const lines = checkpoint.signatures.map(({ name, id, bytes }) => `— ${name} ${Buffer.concat([Buffer.from(id, 'hex'), bytes]).toString('base64')}\n`)
    this.#replace('refused', checkpoint.origin, `${checkpoint.text}\n${lines.join('')}`)
  }

  #load(origin: string): void {
    let note: string
    try {
      note = readFileSync(this.#file('logs', origin), 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
      throw error
    }
    const checkpoint = parseCheckpoint(note)
    // Never begin anew because a file is broken: that would let history be cosigned twice.
    if (checkpoint === null || checkpoint.origin !== origin) throw new Error(`${this.#file('logs', origin)} is damaged; put back a copy, or remove it to forget this log`)
    this.#notes.set(origin, { seen: { size: checkpoint.size, root: checkpoint.root }, note })
  }

  #file(folder: 'logs' | 'refused', origin: string): string {
    return join(this.#dir, folder, hash('sha256', origin, 'hex'))
  }

  #replace(folder: 'logs' | 'refused', origin: string, text: string): void {
    const path = this.#file(folder, origin)
    const fd = openSync(`${path}.new`, 'w', 0o600)
    try {
      writeSync(fd, text)
      fsyncSync(fd)
    } finally {
      closeSync(fd)
    }
    renameSync(`${path}.new`, path)
    syncDirectory(join(this.#dir, folder))
  }
}

function loadSeed(path: string): Buffer {
  try {
    const fd = openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600)
    try {
      writeSync(fd, randomBytes(32))
      fsyncSync(fd)
    } finally {
      closeSync(fd)
    }
    syncDirectory(join(path, '..'))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
  const seed = readFileSync(path)
  if (seed.length !== 32 || (statSync(path).mode & 0o077) !== 0) throw new Error(`${path} must hold 32 bytes that only its owner can read`)
  return seed
}

function syncDirectory(path: string): void {
  const fd = openSync(path, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}
