import { hash } from 'node:crypto'
import type { SigningKey } from './keys.ts'

/** Signature type of a signed note (c2sp.org/signed-note). */
const ED25519 = 0x01

/** @param firstKey hex @returns what an operator writes down at the first start, and compares */
export function fingerprintOf(firstKey: string): string {
  return `SHA256:${hash('sha256', Buffer.from(firstKey, 'hex'), 'base64').replace(/=+$/, '')}`
}

/** @param firstKey hex @returns the name of the log */
export function originOf(firstKey: string): string {
  return `cordon-audit/${hash('sha256', Buffer.from(firstKey, 'hex'), 'hex').slice(0, 16)}`
}

export interface CheckpointFacts {
  readonly origin: string
  readonly size: number
  /** Hex. */
  readonly root: string
}

/** A signed note (c2sp.org/tlog-checkpoint), signed by the log's key and by that of the epoch which begins. */
export function checkpointNote({ origin, size, root }: CheckpointFacts, logKey: SigningKey, epochKey: SigningKey): string {
  const text = `${origin}\n${size}\n${Buffer.from(root, 'hex').toString('base64')}\n`
  return `${text}\n${signatureLine(origin, logKey, text)}${signatureLine(`${origin}/epoch`, epochKey, text)}`
}

/** Of our own: only what tells the tree is read, and the tree must give the root. @returns null when it is none */
export function readCheckpoint(note: string): CheckpointFacts | null {
  const [, origin, size, root] = /^(cordon-audit\/[0-9a-f]{16})\n(\d{1,15})\n([A-Za-z0-9+/]{43}=)\n\n/.exec(note) ?? []
  if (origin === undefined || size === undefined || root === undefined) return null
  return { origin, size: Number(size), root: Buffer.from(root, 'base64').toString('hex') }
}

function signatureLine(name: string, key: SigningKey, text: string): string {
  const publicKey = Buffer.from(key.public, 'hex')
  const id = hash('sha256', Buffer.concat([Buffer.from(`${name}\n`), Buffer.of(ED25519), publicKey]), 'buffer').subarray(0, 4)
  return `— ${name} ${Buffer.concat([id, key.sign(Buffer.from(text))]).toString('base64')}\n`
}
