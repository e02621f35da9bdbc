/** One condition on an argument, as libseccomp takes it: `(argument & mask) == value`. Both fit 32 bits. */
export interface MaskedValue {
  readonly mask: number
  readonly value: number
}

/** All 32 low bits. The kernel cuts an `int` argument there; a full-width compare is passed by setting bit 32. */
export const INT_MASK = 0xffff_ffff

export function exactly(value: number): MaskedValue {
  return { mask: INT_MASK, value }
}

/**
 * Conditions that together match every 32-bit value except the given ones, and none of those. libseccomp has "masked equal"
 * but no "masked not equal", so the rest of the range is cut into aligned blocks, as CIDR prefixes would. Blocks do not
 * overlap: libseccomp tries siblings in its own order and does not come back from one that matched.
 */
export function othersThan(values: readonly number[]): readonly MaskedValue[] {
  const blocks: MaskedValue[] = []
  const descend = (prefix: number, bits: number, inside: readonly number[]): void => {
    if (inside.length === 0) {
      blocks.push({ mask: highMask(bits), value: prefix })
      return
    }
    if (bits === 32) return
    const half = 2 ** (31 - bits)
    descend(prefix, bits + 1, inside.filter((value) => value < prefix + half))
    descend(prefix + half, bits + 1, inside.filter((value) => value >= prefix + half))
  }
  descend(0, 0, [...new Set(values)])
  return blocks
}

/** The `bits` highest of 32 bits, as an unsigned number. */
function highMask(bits: number): number {
  return 2 ** 32 - 2 ** (32 - bits)
}
