/**
 * Which texts of three bytes a block of the log holds, as 65,536 bits: a look at 8 KiB says of most blocks that a text is not in
 * them, so that only few of the others must be read. Why no full-text index: README.md.
 */
const BITS = 16
export const GRAM_BYTES = 2 ** BITS / 8
const GOLDEN = 0x9e3779b1

const FOLD = Uint8Array.from({ length: 256 }, (_, byte) => (byte >= 0x41 && byte <= 0x5a ? byte + 0x20 : byte))

/** @param bytes one piece of a line; `bits` of GRAM_BYTES is added to */
export function addGrams(bits: Uint8Array, bytes: Uint8Array, from: number, to: number): void {
  if (to - from < 3) return
  let gram = ((FOLD[bytes[from] ?? 0] ?? 0) << 8) | (FOLD[bytes[from + 1] ?? 0] ?? 0)
  for (let at = from + 2; at < to; at++) {
    gram = ((gram << 8) | (FOLD[bytes[at] ?? 0] ?? 0)) & 0xffffff
    const hash = Math.imul(gram, GOLDEN) >>> (32 - BITS)
    bits[hash >>> 3] = (bits[hash >>> 3] ?? 0) | (1 << (hash & 7))
  }
}

/** The bits that a text needs. @returns empty for fewer than three bytes: then every block may hold it */
export function gramsOf(needle: string): readonly number[] {
  const bits = new Uint8Array(GRAM_BYTES)
  const bytes = Buffer.from(needle)
  addGrams(bits, bytes, 0, bytes.length)
  const found: number[] = []
  bits.forEach((byte, at) => {
    for (let bit = 0; bit < 8; bit++) if ((byte & (1 << bit)) !== 0) found.push(at * 8 + bit)
  })
  return found
}

export function mayHold(bits: Uint8Array, grams: readonly number[]): boolean {
  return grams.every((hash) => ((bits[hash >>> 3] ?? 0) & (1 << (hash & 7))) !== 0)
}
