import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { canonicalJson } from '../../src/base/canonical-json.ts'
import { GENESIS_HASH, MAX_ENTRY_BYTES, prepareEntry, type Stamp } from '../../src/audit/entry.ts'
import type { AuditEvent } from '../../src/audit/record.ts'
import { RecordScanner } from '../../src/audit/verify/scan.ts'
import { leafOf } from '../../src/audit/verify/proof.ts'
import { toHex } from '../../src/audit/verify/tree.ts'
import { chained } from './chained.ts'
import { loose } from './loose.ts'

/** The verifier's reading of a line: its seq, or null when it is no record. */
function scans(line: Buffer): number | null {
  const scanner = new RecordScanner()
  return scanner.scan(Buffer.concat([line, Buffer.from('\n')]), 0, line.length) ? scanner.seq : null
}

const STAMP: Stamp = { wallMs: Date.UTC(2026, 0, 2, 3, 4, 5, 6), monoMs: 77, boot: 'b6f1' }
const SALT = Buffer.alloc(32, 7)
const write = (event: AuditEvent) => chained(prepareEntry(event, 'launcher', STAMP, SALT), 5, 'ab'.repeat(32))

describe('one record', () => {
  test('has this layout, byte for byte', () => {
    const { bytes, hash } = write(loose({ type: 'plugin.start', plugin: 'image', run: '0011223344556677', policyDigest: 'cd'.repeat(32), pids: 3, note: undefined }))
    expect(bytes.toString()).toBe(`{"boot":"b6f1","class_uid":6002,"data":{"pids":3},"mono_ms":77,"origin":"launcher","plugin":"image","policy":"${'cd'.repeat(32)}",`
      + `"prev":"${'ab'.repeat(32)}","run":"0011223344556677","seq":5,"time":"2026-01-02T03:04:05.006Z","type":"plugin.start","v":1}`)
    expect(hash).toBe(toHex(leafOf(bytes.toString())))
  })

  test('holds no control character, bidirectional override or lone surrogate, wherever the caller put one', () => {
    const evil = 'a\u001b[2J\n\u202e\ud800\u0000'
    const text = write(loose({ type: 'plugin.failed', plugin: evil, run: evil, policyDigest: evil, reason: evil, list: [evil, { [evil]: evil }] })).bytes.toString()
    expect(text).not.toMatch(/[\u0000-\u001f\u202e\ufffd]/)
    expect(text).toContain('\\\\x1b[2J')
  })

  test('a key named __proto__ is recorded, not obeyed', () => {
    const event = JSON.parse('{"type":"admin.act","x":{"__proto__":{"a":1}}}') as AuditEvent
    expect(write(event).bytes.toString()).toContain('"x":{"__proto__":{"a":1}}')
  })

  test('a long text is cut and the record says so; a short one is not marked', () => {
    const data = JSON.parse(write(loose({ type: 'admin.act', text: 'x'.repeat(5000) })).bytes.toString()) as { data: Record<string, unknown> }
    expect(data.data['~cut']).toBe(1)
    expect(data.data['text']).toBe(`${'x'.repeat(4096)}…`)
    expect(write(loose({ type: 'admin.act', text: 'x' })).bytes.toString()).not.toContain('~cut')
  })

  test('a caller cannot write the marker itself', () => {
    expect(write(loose({ type: 'admin.act', '~cut': 9 })).bytes.toString()).toContain('"data":{"_cut":9}')
  })

  test.each<[string, AuditEvent]>([
    ['many long texts', loose({ type: 'admin.act', list: Array.from({ length: 5000 }, () => '\u0001'.repeat(9000)) })],
    ['many keys', loose({ type: 'admin.act', ...Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`key-${i}-${'k'.repeat(90)}`, 'v'.repeat(500)])) })],
    ['deep nesting', loose({ type: 'admin.act', deep: JSON.parse(`${'['.repeat(5000)}${']'.repeat(5000)}`) as [] })],
    ['wide nesting', loose({ type: 'admin.act', wide: Array.from({ length: 40 }, () => Array.from({ length: 40 }, () => Array.from({ length: 40 }, () => 'w'.repeat(99)))) })],
    ['labels that grow when they are escaped', loose({ type: 'admin.act', plugin: '\u{10ffff}\ud800'.repeat(999), run: '\u2028'.repeat(999), policyDigest: '\ufeff'.repeat(999) })],
  ])('%s still give one valid record within the limit', (_name, event) => {
    const { bytes } = write(event)
    expect(bytes.length).toBeLessThanOrEqual(MAX_ENTRY_BYTES)
    expect(scans(bytes)).toBe(5)
  })

  test('an unknown type, a float and a bigint are refused by name', () => {
    expect(() => write({ type: 'no.such' } as unknown as AuditEvent)).toThrow(expect.objectContaining({ code: 'AUDIT_BAD_EVENT' }))
    expect(() => write(loose({ type: 'admin.act', load: 0.5 }))).toThrow(/0\.5/)
    expect(() => write({ type: 'admin.act', n: 1n } as unknown as AuditEvent)).toThrow(expect.objectContaining({ code: 'AUDIT_BAD_EVENT' }))
  })

  test('any event gives canonical bytes that the verifier reads, never longer than announced', () => {
    const value = fc.jsonValue({ stringUnit: 'binary', noUnicodeString: false } as fc.JsonSharedConstraints)
    fc.assert(fc.property(fc.dictionary(fc.string({ unit: 'binary' }), value), (fields) => {
      const integers = JSON.parse(JSON.stringify(fields), (_k, v: unknown) => (typeof v === 'number' ? Math.trunc(v) % 1e9 : v)) as object
      const prepared = prepareEntry({ ...integers, type: 'gap' } as AuditEvent, 'launcher', STAMP, SALT)
      const { bytes } = chained(prepared, Number.MAX_SAFE_INTEGER, GENESIS_HASH)
      expect(bytes.length + 1).toBeLessThanOrEqual(prepared.bytes)
      expect(canonicalJson(JSON.parse(bytes.toString()))).toBe(bytes.toString())
      expect(scans(bytes)).toBeTypeOf('number')
    }), { seed: 12, numRuns: 500 })
  })
})
