import { createPublicKey, hash, verify } from 'node:crypto'

/** DER of a SubjectPublicKeyInfo for Ed25519 up to the 32 bytes of the key (RFC 8410 section 4). */
const SPKI = Buffer.from('302a300506032b6570032100', 'hex')

/** @param key 32 bytes @param signature 64 bytes; both may be attacker-controlled */
export function verifies(key: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  if (key.length !== 32 || signature.length !== 64) return false
  try {
    return verify(null, message, createPublicKey({ key: Buffer.concat([SPKI, key]), format: 'der', type: 'spki' }), signature)
  } catch {
    return false // 32 bytes that are no point of the curve
  }
}

/** As an operator pins it: `SHA256:` and 43 characters. */
export function fingerprint(key: Uint8Array): string {
  return `SHA256:${Buffer.from(hash('sha256', key, 'buffer')).toString('base64').replace(/=+$/, '')}`
}

export function originOf(firstKey: Uint8Array): string {
  return `cordon-audit/${hash('sha256', firstKey, 'hex').slice(0, 16)}`
}

/** c2sp.org/signed-note, "Signatures": the first four bytes, as hex. */
export function keyId(name: string, type: number, key: Uint8Array): string {
  return hash('sha256', Buffer.concat([Buffer.from(`${name}\n`), Buffer.of(type), key]), 'hex').slice(0, 8)
}
