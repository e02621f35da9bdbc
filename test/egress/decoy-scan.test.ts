import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { DecoyScan, namesSecret } from '../../src/egress/decoy-scan.ts'

const SECRET = '0123456789abcdef0123456789abcdef01234567'
const SEED = 20261120

/** Fed in pieces that end at these places. */
function found(bytes: Buffer, cuts: readonly number[]): boolean {
  const scan = new DecoyScan([SECRET])
  const ends = [...new Set([...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length])].sort((a, b) => a - b)
  return ends.map((end, at) => scan.feed(bytes.subarray(at === 0 ? 0 : ends[at - 1], end))).some((hit) => hit)
}

describe('a decoy secret in what is sent', () => {
  test('is found as it is and inside base64, wherever it stands and however it is cut', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), fc.uint8Array({ maxLength: 200 }), fc.array(fc.nat(), { maxLength: 12 }), fc.boolean(), (before, after, cuts, encoded) => {
      const bytes = Buffer.concat([before, Buffer.from(SECRET), after])
      return found(encoded ? Buffer.from(bytes.toString('base64')) : bytes, cuts)
    }), { seed: SEED, numRuns: 2000 })
  })

  test('byte by byte too, with its last byte', () => {
    const scan = new DecoyScan([SECRET])
    expect([...Buffer.from(`x${SECRET}`)].map((byte) => scan.feed(Buffer.from([byte]))).indexOf(true)).toBe(SECRET.length)
  })

  test('is not found in anything else, nor in all but its last letter', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 2000 }), fc.array(fc.nat(), { maxLength: 12 }), (bytes, cuts) => !found(Buffer.from(bytes), cuts)), { seed: SEED, numRuns: 500 })
    expect(found(Buffer.from(SECRET.slice(0, -1)), [])).toBe(false)
  })

  test('in a name may be cut into labels', () => {
    expect([`${SECRET}.example`, `${SECRET.slice(0, 7)}.${SECRET.slice(7)}.example`, `x${SECRET}`, SECRET.slice(1), 'example.org', ''].map((name) => namesSecret(name, [SECRET]))).toEqual([true, true, true, false, false, false])
    expect(namesSecret('example.org', [])).toBe(false)
  })
})
