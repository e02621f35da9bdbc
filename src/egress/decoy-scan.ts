/**
 * Finds decoy secrets in bytes that a plugin sends, also across the borders of chunks: as they are, and inside base64, as in Basic credentials. What is
 * hidden any other way (encrypted, compressed, spelled otherwise) is not found: a tripwire catches the curious, not the careful.
 */
export class DecoyScan {
  readonly #needles: readonly Buffer[]
  readonly #overlap: number
  #tail: Buffer = EMPTY

  constructor(secrets: readonly string[]) {
    this.#needles = secrets.flatMap(spellings)
    this.#overlap = Math.max(0, ...this.#needles.map((needle) => needle.length - 1))
  }

  /** @returns whether a secret has been in what came so far, as far as it is remembered: true once at least, at its last byte */
  feed(bytes: Buffer): boolean {
    const seam = Buffer.concat([this.#tail, bytes.subarray(0, this.#overlap)])
    const found = this.#needles.some((needle) => seam.includes(needle) || bytes.includes(needle))
    this.#tail = bytes.length >= this.#overlap ? Buffer.from(bytes.subarray(bytes.length - this.#overlap)) : seam.subarray(Math.max(0, seam.length - this.#overlap))
    return found
  }
}

/** @param name in lower case; labels may cut the secret in pieces */
export function namesSecret(name: string, secrets: readonly string[]): boolean {
  if (secrets.length === 0) return false
  const joined = name.replaceAll('.', '')
  return secrets.some((secret) => joined.includes(secret.toLowerCase()))
}

const EMPTY = Buffer.alloc(0)

/** In base64 three bytes are four letters, so what stands before a text gives it three spellings; letters that share bits with neighbours are cut off. */
function spellings(secret: string): Buffer[] {
  return [Buffer.from(secret), ...[0, 1, 2].map((before) => {
    const text = Buffer.from('\0'.repeat(before) + secret).toString('base64')
    const whole = Math.floor(((before + secret.length) * 4) / 3)
    return Buffer.from(text.slice(before === 0 ? 0 : before + 1, whole))
  })]
}
