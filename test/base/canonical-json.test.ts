import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { canonicalJson } from '../../src/base/canonical-json.ts'
import { RecordScanner } from '../../src/audit/verify/scan.ts'

/** The verifier's reading of a line: its seq, or null when it is no record. */
function scans(line: Buffer): number | null {
  const scanner = new RecordScanner()
  return scanner.scan(Buffer.concat([line, Buffer.from('\n')]), 0, line.length) ? scanner.seq : null
}

const json = fc.letrec((tie) => ({
  value: fc.oneof({ maxDepth: 4 }, fc.string({ unit: 'binary' }), fc.maxSafeInteger(), fc.boolean(), fc.constant(null), fc.array(tie('value'), { maxLength: 5 }), tie('object')),
  object: fc.dictionary(fc.string({ unit: 'binary', maxLength: 6 }), tie('value'), { maxKeys: 6 }),
}))

describe('canonical JSON', () => {
  test('keys are ordered as in RFC 8785 section 3.2.3', () => {
    const input = { '\u20ac': 'Euro Sign', '\r': 'Carriage Return', '\ufb33': 'Hebrew Letter Dalet With Dagesh', '1': 'One', '\u{1f600}': 'Emoji: Grinning Face', '\u0080': 'Control', '\u00f6': 'Latin Small Letter O With Diaeresis' }
    expect(Object.values(JSON.parse(canonicalJson(Object.entries(input).map(([k]) => k))) as string[])).toHaveLength(7)
    expect([...canonicalJson(input).matchAll(/:"([^"]+)"/g)].map((m) => m[1])).toEqual([
      'Carriage Return', 'One', 'Control', 'Latin Small Letter O With Diaeresis', 'Euro Sign', 'Emoji: Grinning Face', 'Hebrew Letter Dalet With Dagesh',
    ])
  })

  test('the text and literals of RFC 8785 section 3.2.2 are written as given there', () => {
    expect(canonicalJson({ string: '\u20ac$\u000f\u000aA\'\u0042\u0022\u005c\\\"/', literals: [null, true, false] }))
      .toBe('{"literals":[null,true,false],"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}')
  })

  test.each([
    ['zero', 0, '0'], ['minus zero', -0, '0'], ['the largest integer', Number.MAX_SAFE_INTEGER, '9007199254740991'], ['the smallest', Number.MIN_SAFE_INTEGER, '-9007199254740991'],
    ['an empty object', {}, '{}'], ['an empty list', [], '[]'], ['nested', { b: [{ d: 1, c: 2 }], a: '' }, '{"a":"","b":[{"c":2,"d":1}]}'],
  ])('%s has one form', (_name, value, text) => {
    expect(canonicalJson(value)).toBe(text)
  })

  test.each<[string, unknown, RegExp]>([
    ['a float', { a: [1.5] }, /\$\.a\[0\] is 1.5/], ['NaN', NaN, /NaN/], ['an unsafe integer', 2 ** 53, /9007199254740992/], ['undefined', { a: undefined }, /undefined/],
    ['a hole in a list', new Array(1), /undefined/], ['a lone surrogate', '\ud800', /surrogate/], ['a lone surrogate in a key', { '\udead': 1 }, /surrogate/], ['a date', new Date(0), /plain/],
    ['a map', new Map(), /plain/], ['a bigint', 1n, /bigint/], ['a function', () => 1, /function/],
  ])('%s is refused, with its place', (_name, value, message) => {
    expect(() => canonicalJson(value)).toThrow(message)
  })

  test('a value that contains itself is refused instead of recursing for ever', () => {
    const loop: unknown[] = []
    loop.push(loop)
    expect(() => canonicalJson(loop)).toThrow(/nested deeper/)
  })

  test('what is written reads back as the same value, and writing it again gives the same bytes', () => {
    fc.assert(fc.property(json.value, (value) => {
      const text = canonicalJson(value)
      expect(canonicalJson(JSON.parse(text))).toBe(text)
      expect(JSON.stringify(JSON.parse(text))).toHaveLength(JSON.stringify(value).length)
    }), { seed: 8785, numRuns: 1000 })
  })

  test('the order in which keys were set does not show', () => {
    fc.assert(fc.property(json.object, (value) => {
      const reversed = Object.fromEntries(Object.entries(value as object).reverse())
      expect(canonicalJson(reversed)).toBe(canonicalJson(value))
    }), { seed: 8785, numRuns: 300 })
  })

  test('the verifier, which has a serialiser of its own, accepts exactly these bytes', () => {
    fc.assert(fc.property(json.object, (data) => {
      const record = { boot: 'b', class_uid: 6002, data, mono_ms: 1, origin: 'launcher', plugin: null, policy: null, prev: '0'.repeat(64), run: null, seq: 0, time: '2026-01-01T00:00:00.000Z', type: 'daemon.started', v: 1 }
      const text = canonicalJson(record)
      expect(scans(Buffer.from(text))).toBeTypeOf('number')
      expect(scans(Buffer.from(text.replace(',"mono_ms"', ', "mono_ms"')))).toBeNull()
    }), { seed: 8785, numRuns: 500 })
  })
})
