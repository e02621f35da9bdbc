import { isUtf8 } from 'node:buffer'
import { keyId, verifies } from './keys.ts'

/** Signature types of c2sp.org/signed-note. */
export const ED25519 = 0x01
export const COSIGNATURE = 0x04

/** `NAME+ID+BASE64`, c2sp.org/signed-note "Verifier keys": what someone who checks is given. */
export interface VerifierKey {
  readonly name: string
  readonly type: number
  readonly key: Buffer
}

export interface Signature {
  readonly name: string
  /** Eight hex digits. */
  readonly id: string
  readonly bytes: Buffer
}

export interface Checkpoint {
  readonly origin: string
  readonly size: number
  /** Hex. */
  readonly root: string
  /** What is signed. */
  readonly text: string
  readonly signatures: readonly Signature[]
}

/** A note with more is not read: a log and its witnesses need far less (c2sp.org/signed-note asks for at least 16 signatures). */
export const MAX_CHECKPOINT_BYTES = 16 * 1024

/** A key's name: no spaces, no plus, no control characters. Spelled out, since each language has its own `\s`. */
const NAME = String.raw`[^\s\x00-\x1f\x85\ufeff+]{1,200}`
const CHECKPOINT = new RegExp(String.raw`^(${NAME})\n(0|[1-9][0-9]{0,15})\n([A-Za-z0-9+/]{43}=)\n\n((?:— ${NAME} [A-Za-z0-9+/]+={0,2}\n)+)$`, 'u')
const SIGNATURE = new RegExp(String.raw`^— (${NAME}) ([A-Za-z0-9+/]+={0,2})$`, 'u')
const VERIFIER_KEY = new RegExp(String.raw`^(${NAME})\+([0-9a-f]{8})\+([A-Za-z0-9+/]{44})$`, 'u')

/** @param bytes attacker-controlled; a note is UTF-8, and what is not must not become it by replacement */
export function readCheckpoint(bytes: Uint8Array): Checkpoint | null {
  return isUtf8(bytes) ? parseCheckpoint(Buffer.from(bytes).toString('utf8')) : null
}

/** @param text attacker-controlled @returns null unless it is exactly a signed note that is a checkpoint without extension lines */
export function parseCheckpoint(text: string): Checkpoint | null {
  const match = text.length > MAX_CHECKPOINT_BYTES ? null : CHECKPOINT.exec(text)
  if (match === null) return null
  const [, origin = '', digits = '', root = '', lines = ''] = match
  const size = Number(digits)
  if (!Number.isSafeInteger(size)) return null
  const signatures: Signature[] = []
  for (const line of lines.split('\n').slice(0, -1)) {
    const signature = parseSignature(line)
    if (signature === null) return null
    signatures.push(signature)
  }
  const rootBytes = strictBase64(root)
  return rootBytes === null ? null : { origin, size, root: rootBytes.toString('hex'), text: `${origin}\n${digits}\n${root}\n`, signatures }
}

/** One signature line without its newline. */
export function parseSignature(line: string): Signature | null {
  const match = SIGNATURE.exec(line)
  const bytes = strictBase64(match?.[2] ?? '')
  if (match === null || bytes === null || bytes.length < 5) return null
  return { name: match[1] ?? '', id: bytes.subarray(0, 4).toString('hex'), bytes: bytes.subarray(4) }
}

/** Did this key sign that checkpoint as type 0x01? A signature under its name and id that does not verify is no. */
export function signedBy(checkpoint: Checkpoint, name: string, key: Uint8Array): boolean {
  const id = keyId(name, ED25519, key)
  const own = checkpoint.signatures.filter((one) => one.name === name && one.id === id)
  return own.length > 0 && own.every((one) => verifies(key, Buffer.from(checkpoint.text), one.bytes))
}

/** c2sp.org/tlog-cosignature. @returns when this witness saw the checkpoint, in seconds since the epoch; null: it did not, or not verifiably */
export function cosignedAt(checkpoint: Pick<Checkpoint, 'text' | 'signatures'>, witness: VerifierKey): number | null {
  const id = keyId(witness.name, COSIGNATURE, witness.key)
  let newest: number | null = null
  for (const { name, id: found, bytes } of checkpoint.signatures) {
    if (name !== witness.name || found !== id || bytes.length !== 72) continue
    const time = bytes.readBigUInt64BE(0)
    if (time > BigInt(Number.MAX_SAFE_INTEGER)) return null
    if (!verifies(witness.key, cosignedText(checkpoint.text, Number(time)), bytes.subarray(8))) return null
    newest = Math.max(newest ?? 0, Number(time))
  }
  return newest
}

export function cosignedText(text: string, seconds: number): Buffer {
  return Buffer.from(`cosignature/v1\ntime ${seconds}\n${text}`)
}

/** @returns null unless name, id and key belong together */
export function parseVerifierKey(text: string): VerifierKey | null {
  const match = VERIFIER_KEY.exec(text)
  const bytes = strictBase64(match?.[3] ?? '')
  if (match === null || bytes === null || bytes.length !== 33) return null
  const [, name = '', id] = match
  const type = bytes[0] ?? 0
  const key = bytes.subarray(1)
  return (type === ED25519 || type === COSIGNATURE) && keyId(name, type, key) === id ? { name, type, key } : null
}

export function verifierKeyText({ name, type, key }: VerifierKey): string {
  return `${name}+${keyId(name, type, key)}+${Buffer.concat([Buffer.of(type), key]).toString('base64')}`
}

/** @returns null for what another encoder would write differently */
export function strictBase64(text: string): Buffer | null {
  const bytes = Buffer.from(text, 'base64')
  return bytes.toString('base64') === text ? bytes : null
}
